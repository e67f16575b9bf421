// SPDX-License-Identifier: Apache-2.0
//! The messages between the runtime (parent) and the process that becomes the container's init (child), over one
//! SEQPACKET pair; then, for a created container, between `start` and init over the gate.
//!
//! ```text
//!   parent                                     child
//!     │ clone3 into the cgroup and namespaces    │
//!     │ id maps, v1 controllers, hard limits     │ waits
//!     ├──────── Proceed, if init waits ─────────▶│ session, mounts, devices
//!     │◀─────────────── RunHooks ────────────────┤
//!     │ prestart, createRuntime hooks            │ waits
//!     ├──────────────── HooksRan ───────────────▶│ createContainer hooks, pivot_root, sysctls, masks, credentials,
//!     │                                          │ for `create` the sweep of its descriptors
//!     │◀──────────────── Watch ──────────────────┤ where an agent is asked: loads the filter
//!     │ the listener to the agent                │ waits
//!     ├─────────────── Watched ─────────────────▶│
//!     │◀─────────────── Ready ───────────────────┤
//!     │ commit the state record                  │ waits
//!     ├──────────────── Release ────────────────▶│ `run`: startContainer hooks, execve
//!     │                                          │ `create`: waits at the gate
//!     ⋮                                          ⋮
//!   start ─────────────── Start ────────────────▶│ startContainer hooks, execve
//! ```
//!
//! At any point the child may send `Failed` instead, with the step and the error; that is then the error that the user
//! reads. Both ends of the connection are close-on-exec: its end without a `Failed` is execve's success. The end of the
//! parent before `Release` ends the child.

mod step;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use corten_sys::shared::{SharedNumber, SharedTable};
use corten_sys::socket;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::timings;
pub use step::{ORDER, Rule, Step};

/// What one side says to the other.
pub trait Word: for<'de> Deserialize<'de> {
    /// The longest there is, in bytes: its receiver has room for no more.
    const LONGEST: usize;
}

/// What the runtime says to the container's init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// The id maps are written and the cgroups joined.
    Proceed,
    /// The hooks of the runtime's namespaces ran.
    HooksRan,
    /// The agent has the listener.
    Watched,
    /// The state record is on disk.
    Release,
    /// `start`: become the user's program.
    Start,
}

impl Word for ToChild {
    /// A name alone. Room that init doesn't need would count against the container's memory limit.
    const LONGEST: usize = 64;
}

/// What the container's init says to the runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToParent {
    /// Namespaces and mounts are there, pivot_root is still to come.
    RunHooks,
    /// A filter that asks an agent is loaded next: look for its listener where [`Handover`] says. Where that one is to be
    /// carried, a pidfd of its carrier follows, and then, from that, the listener.
    Watch,
    /// All is set up; only the user's program is missing.
    Ready,
    /// To `start`: execve is next.
    Executing,
    /// A step failed, and nothing comes after it.
    Failed {
        /// Where.
        step: Step,
        /// Why.
        error: Error,
    },
}

impl Word for ToParent {
    /// A failure with its chain.
    const LONGEST: usize = 64 << 10;
}

/// One end of a connection on which `Out` is sent and `In` received.
#[derive(Debug)]
pub struct Channel<Out, In> {
    socket: OwnedFd,
    kinds: std::marker::PhantomData<(Out, In)>,
}

/// The runtime's end.
pub type ParentEnd = Channel<ToChild, ToParent>;
/// The container's end.
pub type ChildEnd = Channel<ToParent, ToChild>;

/// Both ends.
pub fn pair() -> Result<(ParentEnd, ChildEnd)> {
    let (parent, child) = socket::pair()?;
    Ok((Channel::over(parent), Channel::over(child)))
}

impl<Out: Serialize, In: Word> Channel<Out, In> {
    /// Over a connected socket.
    pub fn over(socket: OwnedFd) -> Self {
        let kinds = std::marker::PhantomData;
        Self { socket, kinds }
    }

    /// The socket itself.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Sends one message.
    pub fn send(&self, message: &Out) -> Result<()> {
        let bytes = serde_json::to_vec(message)
            .map_err(|error| Error::new(Kind::System, format!("write a message: {error}")))?;
        socket::send(self.socket.as_fd(), &bytes).context("send to the other side")
    }

    /// The next message; `None` when the other side has ended the connection.
    pub fn receive(&self) -> Result<Option<In>> {
        let bytes = match socket::receive(self.socket.as_fd(), In::LONGEST) {
            Ok(message) => message.bytes,
            // The other side went away with something of ours unread.
            Err(error) if error.errno() == corten_sys::Errno::CONNRESET => return Ok(None),
            Err(error) => return Err(error).context("receive from the other side"),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        decode(&bytes).map(Some)
    }
}

/// The message that `bytes` are.
pub fn decode<In: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<In> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::new(Kind::System, format!("read a message: {error}")))
}

impl<Out, In> AsFd for Channel<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl ChildEnd {
    /// The next message; the end of the connection is the runtime's death.
    pub fn wait(&self) -> Result<ToChild> {
        self.receive()?
            .ok_or_else(|| Error::new(Kind::System, "the runtime died"))
    }
}

/// A message that the picture above does not allow here.
pub fn out_of_order(got: &impl std::fmt::Debug, wanted: &str) -> Error {
    Error::new(
        Kind::System,
        format!("received {got:?} instead of {wanted}"),
    )
}

/// Which step the child is at, seen by both sides: what there is to say when it dies without a word.
#[derive(Debug)]
pub struct Progress {
    number: SharedNumber,
    /// When each was begun, where somebody has asked for that.
    times: Option<SharedTable>,
}

impl Progress {
    /// Shared with the next clone.
    pub fn new() -> Result<Self> {
        let times = timings::is_on().then(SharedTable::new).transpose()?;
        let number = SharedNumber::new()?;
        Ok(Self { number, times })
    }

    /// The child begins `step`.
    pub fn begin(&self, step: Step) {
        self.number.set(step as u32);
        // A kernel may have to be called for its clock, which a filter would answer that is loaded by then.
        if step != Step::Exec {
            self.date(step);
        }
    }

    /// Dates the beginning of `step`.
    pub fn date(&self, step: Step) {
        if let Some(times) = &self.times {
            times.set(step as usize, timings::now());
        }
    }

    /// The step that was begun last.
    pub fn step(&self) -> Step {
        Step::from_number(self.number.get())
    }

    /// The steps that were dated, by their names, with their times.
    pub fn dated(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let steps = Step::ALL.iter();
        steps.filter_map(|&step| {
            let began = self.times.as_ref()?.get(step as usize);
            (began != 0).then(|| (step.text(), began))
        })
    }
}

/// The number of the listener's descriptor in the child, which says it without a call: the filter that was just loaded
/// may leave every call to an agent that the parent has yet to tell.
#[derive(Debug)]
pub struct Handover {
    number: SharedNumber,
    /// How the parent comes by the descriptor.
    pub way: HandoverWay,
}

/// How the parent comes by the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoverWay {
    /// It takes a copy, with the right to trace any process.
    Taken,
    /// It takes a copy as the owner of the child's user namespace; the child lets that be, which it had lost with its ids.
    /// Nobody else can name the first process of a new PID namespace.
    Shown,
    /// A second child, which has the same descriptors and no filter, sends it: the first one is among the processes of a
    /// container, and lets nobody look into it.
    Carried,
}

impl Handover {
    /// Shared with the next clone.
    pub fn new(way: HandoverWay) -> Result<Self> {
        let number = SharedNumber::new()?;
        Ok(Self { number, way })
    }

    /// The child has `listener`. A listener is never one of the standard three: those are open.
    pub fn publish(&self, listener: BorrowedFd<'_>) {
        self.number.set(listener.as_raw_fd().unsigned_abs());
    }

    /// The parent has a copy: the child may close its own.
    pub fn taken(&self) {
        self.number.set(0);
    }

    /// The number, once the child has said it and until the parent has taken it.
    pub fn number(&self) -> Option<RawFd> {
        let number = RawFd::try_from(self.number.get()).ok();
        number.filter(|&number| number != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_whole() {
        let (parent, child) = pair().unwrap();
        let error = Error::invalid("/mounts/3", "no such file or directory").context("mount /x");
        let step = Step::Mounts;
        child
            .send(&ToParent::Failed {
                step,
                error: error.clone(),
            })
            .unwrap();
        match parent.receive().unwrap() {
            Some(ToParent::Failed {
                step: Step::Mounts,
                error: got,
            }) => {
                assert_eq!(got.to_string(), error.to_string());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_child_has_room_for_every_word() {
        let (parent, child) = pair().unwrap();
        for word in [
            ToChild::Proceed,
            ToChild::HooksRan,
            ToChild::Watched,
            ToChild::Release,
            ToChild::Start,
        ] {
            parent.send(&word).unwrap();
            assert_eq!(child.wait().unwrap(), word);
        }
    }

    #[test]
    fn the_end_of_the_runtime_is_no_message() {
        let (parent, child) = pair().unwrap();
        drop(parent);
        assert!(child.receive().unwrap().is_none());
        let error = child.wait().unwrap_err();
        assert_eq!(error.to_string(), "the runtime died");
    }
}
