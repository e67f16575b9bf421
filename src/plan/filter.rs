// SPDX-License-Identifier: Apache-2.0
//! The seccomp filter of a process: the compiled program, how it is loaded, and when. Pure.

use corten_sys::seccomp::Flags;

use crate::plan::process::Process;
use crate::seccomp::Program;
use crate::seccomp::model::Listener;

/// A filter that is ready to be loaded.
#[derive(Debug, Clone)]
pub struct Filter {
    /// What the kernel runs for every call.
    pub program: Program,
    /// How it is loaded, the listener's flag left out.
    pub flags: Flags,
    /// Who is asked, where any rule asks.
    pub listener: Option<Listener>,
}

/// When a filter is loaded: as late as it can be, so that it meets few calls of the runtime's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// While there is a runtime, which gives the listener to the agent; and where loading takes a capability, that one is
    /// dropped afterwards, and nothing else is left to be dropped.
    BeforeReady,
    /// Right before execve.
    BeforeExec,
}

impl Filter {
    /// When `process` loads it.
    pub fn moment(&self, process: &Process) -> Moment {
        match process.no_new_privileges && self.listener.is_none() {
            true => Moment::BeforeExec,
            false => Moment::BeforeReady,
        }
    }
}
