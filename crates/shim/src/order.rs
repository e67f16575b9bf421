// SPDX-License-Identifier: Apache-2.0
//! In which order it is told what has become of a container's processes, whatever order it is heard in. Pure.
//!
//! - A process has started before it ends, though its end may be heard of while its runtime has not yet said that it runs.
//! - Init ends last: those that were executed beside it have all ended, and were told of, before.
//! - Each ends once.
//!
//! ```text
//!            launching          launched             exited
//!   New ───────────────▶ Launching ─────▶ Running ───────────▶ Ended
//!                         │ exited: kept until it is launched
//!                         └ failed ─▶ New (init), forgotten (others)
//! ```

use std::collections::BTreeMap;

/// A process of a container: init, or the name of one that was executed beside it.
pub type Who = Option<String>;

/// How a process ended, and when; what is kept and handed on, and not looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    /// Its status as a shell has it.
    pub status: u32,
    /// When it was reaped.
    pub at: protobuf::well_known_types::timestamp::Timestamp,
}

/// What is to be told, or done, now.
#[derive(Debug, Clone, PartialEq)]
pub enum Tell {
    /// It runs.
    Started(Who),
    /// It has ended.
    Ended(Who, Exit),
    /// Init has ended, and those beside it don't end by that: they are to be killed.
    KillRest,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    New,
    Launching(Option<Exit>),
    Running,
    Ended,
}

/// What was heard of a container's processes.
#[derive(Debug)]
pub struct Order {
    init: Stage,
    /// Those that are neither forgotten nor new.
    others: BTreeMap<String, Stage>,
    /// That init has ended, which waits for the others.
    last: Option<Exit>,
    /// Whether the others outlive init.
    shares_pid_namespace: bool,
}

impl Order {
    /// Of a container that was created, and not started.
    pub fn new(shares_pid_namespace: bool) -> Self {
        Self {
            init: Stage::New,
            others: BTreeMap::new(),
            last: None,
            shares_pid_namespace,
        }
    }

    /// Its runtime was called to start it.
    pub fn launching(&mut self, who: &Who) {
        match who {
            None => self.init = Stage::Launching(None),
            Some(name) => {
                self.others.insert(name.clone(), Stage::Launching(None));
            }
        }
    }

    /// Its runtime says that it runs.
    pub fn launched(&mut self, who: &Who) -> Vec<Tell> {
        let mut told = Vec::new();
        let Some(stage) = self.stage(who) else {
            return told;
        };
        if let Stage::Launching(kept) = std::mem::replace(stage, Stage::Running) {
            told.push(Tell::Started(who.clone()));
            if let Some(exit) = kept {
                self.end(who, exit, &mut told);
            }
        }
        told
    }

    /// Its runtime says that it could not be started.
    pub fn failed(&mut self, who: &Who) -> Vec<Tell> {
        let mut told = Vec::new();
        match who {
            None => {
                if let Stage::Launching(kept) = std::mem::replace(&mut self.init, Stage::New)
                    && let Some(exit) = kept
                {
                    self.end(who, exit, &mut told);
                }
            }
            Some(name) => {
                self.others.remove(name);
                self.end_of_last(&mut told);
            }
        }
        told
    }

    /// It has ended.
    pub fn exited(&mut self, who: &Who, exit: Exit) -> Vec<Tell> {
        let mut told = Vec::new();
        match self.stage(who) {
            Some(Stage::Launching(kept)) => {
                kept.get_or_insert(exit);
            }
            Some(Stage::New | Stage::Running) => self.end(who, exit, &mut told),
            Some(Stage::Ended) | None => {}
        }
        told
    }

    /// Its end was fetched.
    pub fn forget(&mut self, name: &str) {
        self.others.remove(name);
    }

    /// Whether its processes outlive init.
    pub fn outlives_init(&self) -> bool {
        self.shares_pid_namespace
    }

    /// Whether init's end was heard, told or not: nothing more can be started.
    pub fn is_over(&self) -> bool {
        self.last.is_some() || self.init == Stage::Ended
    }

    fn stage(&mut self, who: &Who) -> Option<&mut Stage> {
        match who {
            None => Some(&mut self.init),
            Some(name) => self.others.get_mut(name),
        }
    }

    fn end(&mut self, who: &Who, exit: Exit, told: &mut Vec<Tell>) {
        if let Some(stage) = self.stage(who) {
            *stage = Stage::Ended;
        }
        match who {
            Some(_) => told.push(Tell::Ended(who.clone(), exit)),
            None => {
                self.last = Some(exit);
                if self.shares_pid_namespace {
                    told.push(Tell::KillRest);
                }
            }
        }
        self.end_of_last(told);
    }

    fn end_of_last(&mut self, told: &mut Vec<Tell>) {
        let is_alive = |stage: &Stage| *stage != Stage::Ended;
        if !self.others.values().any(is_alive)
            && let Some(exit) = self.last.take()
        {
            told.push(Tell::Ended(None, exit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: u32) -> Exit {
        Exit {
            status,
            at: protobuf::well_known_types::timestamp::Timestamp::new(),
        }
    }

    fn name(text: &str) -> Who {
        Some(text.to_owned())
    }

    #[test]
    fn an_end_waits_for_its_start() {
        let mut order = Order::new(false);
        order.launching(&None);
        assert_eq!(order.exited(&None, exit(3)), []);
        let told = order.launched(&None);
        assert_eq!(told, [Tell::Started(None), Tell::Ended(None, exit(3))]);
        assert_eq!(order.exited(&None, exit(4)), [], "once");
    }

    #[test]
    fn init_ends_last() {
        let mut order = Order::new(true);
        order.launching(&None);
        order.launched(&None);
        order.launching(&name("a"));
        order.launching(&name("b"));
        order.launched(&name("a"));
        assert_eq!(order.exited(&None, exit(1)), [Tell::KillRest]);
        assert!(order.is_over());
        let told = order.exited(&name("a"), exit(137));
        assert_eq!(told, [Tell::Ended(name("a"), exit(137))]);
        // The other one could not be started any more.
        assert_eq!(order.failed(&name("b")), [Tell::Ended(None, exit(1))]);
        assert!(order.is_over());
    }

    #[test]
    fn a_created_one_may_end_without_a_start() {
        let mut order = Order::new(false);
        assert_eq!(
            order.exited(&None, exit(137)),
            [Tell::Ended(None, exit(137))]
        );
        let mut order = Order::new(false);
        order.launching(&None);
        order.exited(&None, exit(1));
        // `start` says so, too.
        assert_eq!(order.failed(&None), [Tell::Ended(None, exit(1))]);
    }

    /// Linear congruential: every run is the same.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) as usize % sides
        }
    }

    /// Whatever the delays between a process's end, its runtime's word, and those of others: the rules hold.
    #[test]
    fn random_delays_change_no_order() {
        for seed in 0..20_000 {
            let mut dice = Dice(seed);
            let shares = dice.roll(2) == 0;
            let mut order = Order::new(shares);
            let mut told: Vec<Tell> = Vec::new();
            // What is still to be heard, of each process in its own order where there is one.
            let count = dice.roll(6);
            let names: Vec<Who> = (0..count).map(|n| Some(n.to_string())).collect();
            order.launching(&None);
            let mut heard: Vec<(Who, bool)> = vec![(None, true), (None, false)];
            let mut failed = Vec::new();
            for who in &names {
                order.launching(who);
                heard.push((who.clone(), true));
                if dice.roll(5) == 0 {
                    failed.push(who.clone());
                } else {
                    heard.push((who.clone(), false));
                }
            }
            while !heard.is_empty() {
                let (who, is_word) = heard.swap_remove(dice.roll(heard.len()));
                told.extend(match is_word {
                    true if failed.contains(&who) => order.failed(&who),
                    true => order.launched(&who),
                    false => order.exited(&who, exit(7)),
                });
                // Somebody may hear of an end twice.
                if !is_word && dice.roll(4) == 0 {
                    told.extend(order.exited(&who, exit(8)));
                }
            }
            let at = |wanted: &Tell| told.iter().position(|tell| tell == wanted);
            for who in names.iter().chain([&None]) {
                let started = at(&Tell::Started(who.clone()));
                let ended = at(&Tell::Ended(who.clone(), exit(7)));
                if failed.contains(who) {
                    assert_eq!((started, ended), (None, None), "{seed}: {told:?}");
                } else {
                    assert!(started.unwrap() < ended.unwrap(), "{seed}: {told:?}");
                }
            }
            let count = count - failed.len() + 1;
            let ends = told.iter().filter(|tell| matches!(tell, Tell::Ended(..)));
            assert_eq!(ends.count(), count, "{seed}: {told:?}");
            assert!(
                matches!(told.last(), Some(Tell::Ended(None, _))),
                "{seed}: {told:?}"
            );
            let kills = told.iter().filter(|tell| **tell == Tell::KillRest).count();
            assert_eq!(kills, usize::from(shares), "{seed}");
        }
    }
}
