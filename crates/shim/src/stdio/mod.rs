// SPDX-License-Identifier: Apache-2.0
//! What a process reads and writes, on its way to and from where containerd wants it.
//!
//! ```text
//! place.rs      a name that containerd sends → which kind of place it is: pure
//! streams.rs    the places, opened: what the process gets, and what is to be pumped
//! pump.rs       one stream, moved when there is something to move and room for it
//! pumps.rs      all of them, and whose they are
//! logger.rs     a program that takes a container's output
//! terminal.rs   the socket on which a runtime hands over a terminal
//! ```
//!
//! Nothing here waits, and nothing is buffered beyond what the kernel's pipes hold: who writes to a reader that does not
//! read is stopped by the kernel, as without a shim in between.

mod logger;
mod place;
mod pump;
mod pumps;
mod streams;
mod terminal;

pub use logger::{FINISH, LAST_MOMENT, Logger, READY, TERMINATE, Word};
pub use place::Place;
pub use pump::{Pump, Wants};
pub use pumps::{Pumps, Stream};
pub use streams::{Names, Opened, Owner};
pub use terminal::ConsoleSocket;
