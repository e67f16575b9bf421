// SPDX-License-Identifier: Apache-2.0
//! How processes end: `Kill`, `Wait`, and what is told of their starts and ends.

use std::os::fd::AsFd;

use containerd_shim_protos::api::{KillRequest, WaitRequest, WaitResponse};
use containerd_shim_protos::events::task::{TaskExecStarted, TaskExit, TaskOOM, TaskStart};
use corten_sys::{Errno, process, signal};
use protobuf::MessageField;

use super::{Answer, Answered, done, now, written};
use crate::children::{Errand, Key, Purpose};
use crate::clock;
use crate::container::State;
use crate::error::{Code, Error, Result};
use crate::log;
use crate::order::{Exit, Who};
use crate::shim::{Shim, name_of};
use crate::ttrpc::server::Call;

pub(super) const SIGKILL: i32 = 9;

impl Shim {
    pub(super) fn kill(&mut self, call: Call, request: &KillRequest) -> Answered {
        let key = Key::of(&request.id, &request.exec_id);
        let number = i32::try_from(request.signal).unwrap_or(-1);
        if !(0..=signal::LAST).contains(&number) {
            let text = format!("there is no signal {}", request.signal);
            return Err(Error::invalid(text));
        }
        let container = self.container(&request.id)?;
        let target = container.process(&request.id, &key.who)?;
        if target.exit.is_some() {
            return Err(finished());
        }
        if target.pid == 0 {
            return Err(Error::precondition("process not created"));
        }
        if key.who.is_some() {
            return send(target.pid, number).and_then(|()| done());
        }
        if let Some(direct) = &container.direct {
            return match direct.kill(number, request.all) {
                Ok(()) => done(),
                Err(error) => Err(as_finished(error.into())),
            };
        }
        // Init is this process's child: it needs no runtime to be reached, unless all are meant.
        let ends_all = number == SIGKILL && container.order.outlives_init();
        if !request.all && !ends_all {
            return send(target.pid, number).and_then(|()| done());
        }
        let mut words = vec!["kill".to_owned()];
        if request.all {
            words.push("--all".to_owned());
        }
        words.extend([request.id.clone(), number.to_string()]);
        self.call_runtime(&key, Purpose::Kill, &words, None, Some(call))?;
        Ok(Answer::Later)
    }

    /// `kill` has ended.
    pub(super) fn killed(&mut self, errand: &Errand, outcome: Result<String>) {
        let answer = outcome.map_err(as_finished).map(|_| Vec::new());
        if let Some(call) = errand.call {
            self.answer(call, answer);
        }
    }

    /// Init has ended, and the others would not by that.
    pub(crate) fn kill_rest(&mut self, id: &str) {
        let Ok(container) = self.container(id) else {
            return;
        };
        let killed = match &container.direct {
            Some(direct) => direct.kill(SIGKILL, true).map_err(Error::from),
            None => {
                let words = ["kill", "--all", id, "9"].map(str::to_owned);
                self.call_runtime(&Key::init(id), Purpose::KillRest, &words, None, None)
            }
        };
        if let Err(error) = killed {
            log::warn(format_args!("kill what is left of {id}: {error}"));
        }
    }

    pub(super) fn wait(&mut self, call: Call, request: &WaitRequest) -> Answered {
        let key = Key::of(&request.id, &request.exec_id);
        let server = &self.server;
        let container = self.containers.get_mut(&request.id);
        let container = container.ok_or_else(|| Error::not_found(&request.id))?;
        let process = container.process_mut(&request.id, &key.who)?;
        match &process.exit {
            Some(exit) => now(&waited(exit)),
            None => {
                // Those who have gone meanwhile don't count: a client may ask again and again.
                process.waiters.retain(|waiter| server.is_open(*waiter));
                process.waiters.push(call);
                Ok(Answer::Later)
            }
        }
    }

    /// A process runs.
    pub(crate) fn tell_start(&mut self, id: &str, who: &Who) {
        let pid = self
            .container(id)
            .and_then(|container| container.process(id, who));
        let Ok(pid) = pid.map(|process| process.pid.unsigned_abs()) else {
            return;
        };
        match who {
            None => {
                let event = TaskStart {
                    container_id: id.to_owned(),
                    pid,
                    ..TaskStart::default()
                };
                self.publisher.publish(&event, &self.reactor);
            }
            Some(name) => {
                let event = TaskExecStarted {
                    container_id: id.to_owned(),
                    exec_id: name.clone(),
                    pid,
                    ..TaskExecStarted::default()
                };
                self.publisher.publish(&event, &self.reactor);
            }
        }
    }

    /// A process has ended: whoever waits for that hears of it.
    pub(crate) fn tell_end(&mut self, id: &str, who: &Who, exit: Exit) {
        if who.is_none() {
            self.ask_memory(id);
        }
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Ok(process) = container.process_mut(id, who) else {
            return;
        };
        let event = TaskExit {
            container_id: id.to_owned(),
            id: name_of(id, who).to_owned(),
            pid: process.pid.unsigned_abs(),
            exit_status: exit.status,
            exited_at: MessageField::some(exit.at.clone()),
            ..TaskExit::default()
        };
        self.publisher.publish(&event, &self.reactor);
        self.set_exit(
            &Key {
                container: id.to_owned(),
                who: who.clone(),
            },
            exit,
        );
    }

    /// A process that was added could not be started: it has an end, of which no event tells, as it had no start.
    pub(super) fn never_ran(&mut self, key: &Key) {
        let exit = Exit {
            status: 255,
            at: clock::now(),
        };
        self.set_exit(key, exit);
    }

    fn set_exit(&mut self, key: &Key, exit: Exit) {
        let Some(container) = self.containers.get_mut(&key.container) else {
            return;
        };
        let Ok(process) = container.process_mut(&key.container, &key.who) else {
            return;
        };
        if process.state != State::Deleting {
            process.state = State::Stopped;
        }
        process.launch = None;
        let answer = waited(&exit);
        process.exit = Some(exit);
        for waiter in std::mem::take(&mut process.waiters) {
            self.answer(waiter, written(&answer));
        }
    }

    /// The memory of a container's cgroup may have run out.
    pub(crate) fn memory_ran_out(&mut self, number: u32) -> Result<()> {
        let is_its = |(own, _): &(u32, _)| *own == number;
        let mut all = self.containers.iter_mut();
        let found = all.find(|(_, container)| container.memory.as_ref().is_some_and(is_its));
        let Some((id, container)) = found else {
            return Ok(());
        };
        let Some((_, mut watch)) = container.memory.take() else {
            return Ok(());
        };
        let happened = watch.happened();
        let goes_on = match &happened {
            Ok(true) => true,
            // The end of a cgroup is told in the same way, again and again.
            Ok(false) => container.init.exit.is_none(),
            // So is what can't be read.
            Err(_) => false,
        };
        match goes_on {
            true => container.memory = Some((number, watch)),
            false => self.reactor.remove(watch.wanted().0),
        }
        if happened? {
            let event = TaskOOM {
                container_id: id.clone(),
                ..TaskOOM::default()
            };
            self.publisher.publish(&event, &self.reactor);
        }
        Ok(())
    }

    /// Asks before init's end is told: its cause comes first, though both were heard of at once.
    fn ask_memory(&mut self, id: &str) {
        let watched = self
            .container(id)
            .ok()
            .and_then(|container| container.memory.as_ref());
        if let Some(number) = watched.map(|(number, _)| *number)
            && let Err(error) = self.memory_ran_out(number)
        {
            log::debug(format_args!("the memory of {id}: {error}"));
        }
    }
}

fn waited(exit: &Exit) -> WaitResponse {
    WaitResponse {
        exit_status: exit.status,
        exited_at: MessageField::some(exit.at.clone()),
        ..WaitResponse::default()
    }
}

/// Signals a child of the shim's: its number is its own until it is reaped, which only the shim does.
pub(super) fn send(pid: i32, number: i32) -> Result<()> {
    let sent = process::pidfd(pid).and_then(|pidfd| signal::send(pidfd.as_fd(), number));
    match sent {
        Err(error) if error.errno() == Errno::SRCH => Err(finished()),
        sent => Ok(sent?),
    }
}

/// containerd looks for these words, and for the code.
fn finished() -> Error {
    Error::new(Code::NotFound, "process already finished: not found")
}

/// The same, where a runtime says it in words of its own.
fn as_finished(error: Error) -> Error {
    let words = [
        "process already finished",
        "container not running",
        "no such process",
        "does not exist",
    ];
    let text = error.text().to_lowercase();
    if words.iter().any(|words| text.contains(words)) {
        finished()
    } else {
        error
    }
}
