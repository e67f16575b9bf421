// SPDX-License-Identifier: Apache-2.0
//! What the shim knows of a container and its processes. Data; `service` acts on it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use containerd_shim_protos::api::Status;
use containerd_shim_protos::types::mount::Mount;
use corten::cgroup::OomWatch;
use corten::supervise::Supervised;

use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::order::{Exit, Order, Who};
use crate::runtime::Runtime;
use crate::stdio::{ConsoleSocket, Names, Opened, Stream};
use crate::ttrpc::server::Call;

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its bundle.
    pub bundle: Bundle,
    /// How its runtime is called.
    pub runtime: Runtime,
    /// What containerd has said of that.
    pub options: Options,
    /// Its first process.
    pub init: Process,
    /// Those that were added to be executed beside it.
    pub others: BTreeMap<String, Process>,
    /// What may be told of them.
    pub order: Order,
    /// The door to it that needs no process, where the runtime is corten.
    pub direct: Option<Supervised>,
    /// What the shim has mounted as its root file system.
    pub rootfs: Vec<Mount>,
    /// From which checkpoint it is to be started.
    pub checkpoint: Option<PathBuf>,
    /// The watch on its memory, and the number that the reactor knows it by.
    pub memory: Option<(u32, OomWatch)>,
}

impl Container {
    /// One of its processes.
    pub fn process(&self, id: &str, who: &Who) -> Result<&Process> {
        match who {
            None => Ok(&self.init),
            Some(name) => self.others.get(name).ok_or_else(|| missing(id, name)),
        }
    }

    /// The same, to be changed.
    pub fn process_mut(&mut self, id: &str, who: &Who) -> Result<&mut Process> {
        match who {
            None => Ok(&mut self.init),
            Some(name) => self.others.get_mut(name).ok_or_else(|| missing(id, name)),
        }
    }
}

fn missing(id: &str, name: &str) -> Error {
    Error::not_found(format!("process {name} of container {id}"))
}

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing was begun.
    New,
    /// The runtime makes it.
    Creating,
    /// It waits to be started.
    Created,
    /// The runtime starts it.
    Starting,
    /// It runs.
    Running,
    /// It is stopped with all others of the container.
    Paused,
    /// It has ended.
    Stopped,
    /// The runtime removes it.
    Deleting,
}

impl State {
    /// As messages have it.
    pub fn status(self) -> Status {
        match self {
            Self::New | Self::Creating | Self::Created | Self::Starting => Status::CREATED,
            Self::Running => Status::RUNNING,
            Self::Paused => Status::PAUSED,
            Self::Stopped | Self::Deleting => Status::STOPPED,
        }
    }

    /// As errors have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Creating => "being created",
            Self::Created => "created",
            Self::Starting => "being started",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleting => "being deleted",
        }
    }
}

/// A process.
#[derive(Debug)]
pub struct Process {
    /// How far it is.
    pub state: State,
    /// Its number; 0 where it has none.
    pub pid: i32,
    /// How it has ended.
    pub exit: Option<Exit>,
    /// Who waits for that.
    pub waiters: Vec<Call>,
    /// Its streams, as they were named.
    pub names: Names,
    /// The pumps that move them.
    pub pumps: Vec<(Stream, u32)>,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
    /// The number of the logger of its output.
    pub logger: Option<u32>,
    /// What it is executed with, for one that is not init: a document of its own.
    pub spec: Vec<u8>,
    /// What is open until the runtime has it.
    pub launch: Option<Launch>,
}

/// A process between its request and its runtime's answer.
#[derive(Debug)]
pub struct Launch {
    /// Who waits.
    pub call: Call,
    /// Its streams.
    pub opened: Opened,
    /// Where its terminal comes.
    pub console: Option<ConsoleSocket>,
}

impl Process {
    /// One that nothing was begun of.
    pub fn new(names: Names, spec: Vec<u8>) -> Self {
        Self {
            state: State::New,
            pid: 0,
            exit: None,
            waiters: Vec::new(),
            names,
            pumps: Vec::new(),
            terminal: None,
            logger: None,
            spec,
            launch: None,
        }
    }

    /// Its status for messages: 0 while it has none.
    pub fn exit_status(&self) -> u32 {
        self.exit.as_ref().map_or(0, |exit| exit.status)
    }
}
