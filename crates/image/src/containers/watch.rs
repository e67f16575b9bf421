// SPDX-License-Identifier: Apache-2.0
//! Waiting for news of a container: inotify on its directory, and its supervisor's end.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use corten_sys::{Call, Errno, signal};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::{Container, lost};
use crate::error::Result;

/// The longest time between two looks: news of a supervisor whose number is not known yet.
const LOOK: Duration = Duration::from_secs(1);

/// A watch on a container's directory.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Begins now: what happens from here on is news.
    pub fn new(container: &Container) -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .call("inotify_init1", String::new)?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, container.path(), events).call("inotify_add_watch", || {
            container.path().display().to_string()
        })?;
        Ok(Self(fd))
    }

    /// Waits until something was written in the directory, or the supervisor has ended.
    pub fn wait(&self, container: &Container) -> Result<()> {
        let pidfd = lost::supervisor(container)?;
        let limit = match pidfd {
            Some(_) => None,
            None => Some(LOOK),
        };
        let fds: Vec<_> = [Some(self.0.as_fd()), pidfd.as_ref().map(AsFd::as_fd)]
            .into_iter()
            .flatten()
            .collect();
        signal::wait_readable(&fds, limit)?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(corten_sys::Error::new("read", "inotify", errno).into());
                }
            }
        }
    }
}
