// SPDX-License-Identifier: Apache-2.0
//! The descriptors that the caller means to pass on: sockets by systemd's protocol (sd_listen_fds(3)) from 3 on, then as
//! many as --preserve-fds says. All others end with the runtime.

use crate::error::{Error, Kind, Result};

/// The first after the standard three.
const FIRST: u32 = 3;

/// How many listening sockets were passed to this process.
pub(super) fn listening() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let (Some(count), Some(pid)) = (number("LISTEN_FDS"), number("LISTEN_PID")) else {
        return 0;
    };
    let is_ours = u32::try_from(corten_sys::process::own_pid()) == Ok(pid);
    if is_ours { count } else { 0 }
}

/// What tells the container's program of `count` listening sockets: it will be process 1, or not know its number.
pub(super) fn environment(count: u32) -> Vec<String> {
    if count == 0 {
        return Vec::new();
    }
    let mut env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
    if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
        env.push(format!("LISTEN_FDNAMES={names}"));
    }
    env
}

/// Sees that all `count` are open and marks every other one to be closed. SECURITY: what the caller left open by mistake
/// is a way out of the container (CVE-2024-21626).
pub(super) fn check(count: u32) -> Result<()> {
    let end = FIRST.saturating_add(count);
    for number in FIRST..end {
        if !corten_sys::process::is_open(number) {
            let text = format!("descriptor {number} is to be preserved, and is not open");
            return Err(Error::new(Kind::Invalid, text));
        }
    }
    Ok(corten_sys::process::seal_descriptors(end)?)
}
