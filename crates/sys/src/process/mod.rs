// SPDX-License-Identifier: Apache-2.0
//! Processes: made, moved between namespaces, given credentials, turned into programs, waited for.

mod clone;
mod credentials;
mod descriptors;
mod executable;
mod program;
mod scheduling;
mod wait;

use clone::threads;

use crate::error::{Call, Result};

pub use clone::*;
pub use credentials::*;
pub use descriptors::*;
pub use executable::*;
pub use program::*;
pub use scheduling::*;
pub use wait::*;

/// Starts a session of its own.
pub fn new_session() -> Result<()> {
    rustix::process::setsid()
        .call("setsid", String::new)
        .map(drop)
}

/// Sets the mask of permission bits that new files don't get, and returns the one before.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Sets the host name of this UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).call("sethostname", || format!("{name:?}"))
}

/// Sets the NIS domain name of this UTS namespace.
pub fn set_domainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).call("setdomainname", || format!("{name:?}"))
}

/// The id of this process in its PID namespace.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
