// SPDX-License-Identifier: Apache-2.0
//! The shim's children: calls of runtimes that have not ended, and the containers' processes, which become its own when the
//! call that has made them ends (it is their subreaper). Whoever ends is looked up here.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use corten_sys::process::Exit as Status;
use rustix::process::{WaitOptions, wait};

use crate::clock;
use crate::order::{Exit, Who};
use crate::ttrpc::server::Call;

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The container.
    pub container: String,
    /// Which of its processes.
    pub who: Who,
}

impl Key {
    /// Init of `container`.
    pub fn init(container: &str) -> Self {
        Self::of(container, "")
    }

    /// As requests have it: an empty name is init's.
    pub fn of(container: &str, exec: &str) -> Self {
        Self {
            container: container.to_owned(),
            who: Some(exec)
                .filter(|exec| !exec.is_empty())
                .map(str::to_owned),
        }
    }

    /// Whether it is an init.
    pub fn is_init(&self) -> bool {
        self.who.is_none()
    }
}

/// What a child was begun for; but for the last, a runtime was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To create the container.
    Create,
    /// To start its init.
    Start,
    /// To start its init from a checkpoint.
    Restore,
    /// To execute a process beside it.
    Exec,
    /// To remove the container.
    Delete,
    /// To send a signal.
    Kill,
    /// To kill all that is left of it, which nobody has asked for.
    KillRest,
    /// To pause it.
    Pause,
    /// To have it go on.
    Resume,
    /// To list its processes.
    Pids,
    /// To change its limits.
    Update,
    /// To write it down.
    Checkpoint,
    /// To unmount its root file system, which is the shim's own work: it may take as long as a disk does.
    Unmount,
}

/// A call of a runtime.
#[derive(Debug)]
pub struct Errand {
    /// Of which process.
    pub key: Key,
    /// For what.
    pub purpose: Purpose,
    /// Who waits for it.
    pub call: Option<Call>,
    /// Where it logs errors.
    pub log: Option<PathBuf>,
    /// What it says and what it complains of, where its streams are not the container's.
    pub said: Option<[OwnedFd; 2]>,
    /// Where it writes a process's number.
    pub pid_file: Option<PathBuf>,
    /// What it reads, to be removed.
    pub file: Option<PathBuf>,
}

/// Who has ended.
#[derive(Debug)]
pub enum Ended {
    /// A call of a runtime, with this status.
    Errand(Errand, i32),
    /// A process of a container.
    Process(Key, Exit),
    /// A logger of this number.
    Logger(u32),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Children {
    errands: BTreeMap<i32, (Errand, u64)>,
    processes: BTreeMap<i32, Key>,
    loggers: BTreeMap<i32, u32>,
    /// Who has ended and is nobody's: a process of which the call that makes it has not told yet, or an orphan. Kept for
    /// as long as there are such calls.
    early: Vec<(u64, i32, Exit)>,
    /// Counts both.
    clock: u64,
}

impl Children {
    /// A call that was just begun as `pid`.
    pub fn began(&mut self, pid: i32, errand: Errand) {
        self.clock += 1;
        self.errands.insert(pid, (errand, self.clock));
    }

    /// A logger.
    pub fn logs(&mut self, pid: i32, number: u32) {
        self.loggers.insert(pid, number);
    }

    /// The process `pid` is `key`'s; how it has ended, where it has already.
    pub fn is(&mut self, pid: i32, key: Key) -> Option<Exit> {
        // The last one, where a number was given twice: it is the one that the runtime has told of.
        let early = self.early.iter().rposition(|(_, ended, _)| *ended == pid);
        match early {
            Some(at) => Some(self.early.swap_remove(at).2),
            None => {
                self.processes.insert(pid, key);
                None
            }
        }
    }

    /// Forgets the processes of `container`, which is gone: another one may have its name.
    pub fn forget(&mut self, container: &str) {
        self.processes.retain(|_, key| key.container != container);
    }

    /// The next child that has ended.
    pub fn reap(&mut self) -> Option<Ended> {
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => (pid.as_raw_nonzero().get(), status),
                Err(rustix::io::Errno::INTR) => continue,
                // None that has ended; none at all.
                Ok(None) | Err(_) => return None,
            };
            let status = Status::from_status(status.as_raw()).shell_code();
            if let Some((errand, _)) = self.errands.remove(&pid) {
                return Some(Ended::Errand(errand, status));
            }
            if let Some(number) = self.loggers.remove(&pid) {
                return Some(Ended::Logger(number));
            }
            let exit = Exit {
                status: u32::try_from(status).unwrap_or(255),
                at: clock::now(),
            };
            if let Some(key) = self.processes.remove(&pid) {
                return Some(Ended::Process(key, exit));
            }
            self.clock += 1;
            self.early.push((self.clock, pid, exit));
        }
    }

    /// Forgets those that no call can be about any more: it would have begun before they ended. Called when what has ended
    /// was seen to.
    pub fn forget_orphans(&mut self) {
        let first = self.errands.values().map(|(_, began)| *began).min();
        match first {
            None => self.early = Vec::new(),
            Some(first) => self.early.retain(|(ended, _, _)| *ended > first),
        }
    }
}
