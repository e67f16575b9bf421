// SPDX-License-Identifier: Apache-2.0
//! Which stages a build needs, and their building: those that need nothing of each other at the same time. The first
//! failure stops the others.
//!
//! Runs as root; called by `mod`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Builder;
use super::named::From;
use crate::dockerfile::{Instruction, Step, mount};
use crate::error::{Context, Error, Result};

/// The stages that are not built yet.
#[derive(Default)]
struct Plan {
    /// Each with those that it waits for.
    waiting: BTreeMap<usize, BTreeSet<usize>>,
    /// The first failure and its stage.
    failure: Option<(usize, Error)>,
}

impl Builder<'_> {
    /// Builds the stage `target` and all that it needs.
    pub(super) fn build_stages(&self, target: usize) -> Result<()> {
        let mut needs = BTreeMap::new();
        self.collect_needs(target, &mut needs)?;
        let threads = self.jobs.min(needs.len());
        let plan = Mutex::new(Plan {
            waiting: needs,
            failure: None,
        });
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| self.work_off(&plan, &changed));
            }
            self.work_off(&plan, &changed);
        });
        let plan = plan.into_inner().unwrap_or_else(PoisonError::into_inner);
        match plan.failure {
            None => Ok(()),
            Some((stage, error)) => {
                self.settle_status(stage);
                Err(error)
            }
        }
    }

    /// Builds stages that are ready until none is left, or one failed.
    fn work_off(&self, plan: &Mutex<Plan>, changed: &Condvar) {
        let mut own = lock(plan);
        loop {
            if own.failure.is_some() || own.waiting.is_empty() {
                changed.notify_all();
                return;
            }
            let ready = own.waiting.iter().find(|(_, needs)| needs.is_empty());
            let Some(stage) = ready.map(|(stage, _)| *stage) else {
                // Others work on what the rest waits for; their end is told here.
                own = changed.wait(own).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // Nobody else takes it: it waits for itself until it is built.
            own.waiting.insert(stage, BTreeSet::from([stage]));
            drop(own);
            let built = self.require(stage);
            own = lock(plan);
            match built {
                Ok(_) => {
                    own.waiting.remove(&stage);
                    for needs in own.waiting.values_mut() {
                        needs.remove(&stage);
                    }
                }
                Err(error) => {
                    own.failure.get_or_insert((stage, error));
                    self.halt.stop();
                }
            }
            changed.notify_all();
        }
    }

    /// Notes what stage `number` needs, and what those need.
    fn collect_needs(
        &self,
        number: usize,
        needs: &mut BTreeMap<usize, BTreeSet<usize>>,
    ) -> Result<()> {
        if needs.contains_key(&number) {
            return Ok(());
        }
        let stage = self.stage(number)?;
        let base = self
            .base(number)
            .with_context(|| format!("{}:{}: FROM {}", self.file, stage.line, stage.base))?;
        let mut own = BTreeSet::new();
        if let From::Stage(earlier) = self.base_of(number, &base) {
            own.insert(earlier);
        }
        for step in &stage.steps {
            let name = step.instruction.name();
            let at = || format!("{}:{}: {name}", self.file, step.line);
            for from in sources(step) {
                if let From::Stage(earlier) = self.source_of(number, from).with_context(at)? {
                    own.insert(earlier);
                }
            }
        }
        // Set before going down; a stage needs earlier ones alone, so that this ends.
        needs.insert(number, own.clone());
        own.into_iter()
            .try_for_each(|earlier| self.collect_needs(earlier, needs))
    }
}

/// The names of stages, images and contexts that `step` reads.
fn sources(step: &Step) -> Vec<&str> {
    match &step.instruction {
        Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
        Instruction::Run(run) => run.mounts.iter().filter_map(mount::from).collect(),
        _ => Vec::new(),
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    // A thread that panics here has changed nothing halfway; the scope reports the panic.
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}
