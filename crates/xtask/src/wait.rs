// SPDX-License-Identifier: Apache-2.0
//! Waiting for processes and pipes, each wait with an end.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::failure::{Context, Failure, Result};

/// Waits until `fd` has something to say: data, an end, or, for a pidfd, that its process has ended.
pub fn readable(fd: impl AsFd, deadline: Instant) -> Result<()> {
    either(&fd, &fd, deadline).map(|_| ())
}

/// The same of two; says whether the first one has something.
pub fn either(first: impl AsFd, second: impl AsFd, deadline: Instant) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec::try_from(left).context(|| "turn a deadline into a timeout".into())?;
        let mut fds = [
            PollFd::new(&first, PollFlags::IN),
            PollFd::new(&second, PollFlags::IN),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(Failure::new("it took too long")),
            Ok(_) => return Ok(!fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "poll".into()),
        }
    }
}

/// Waits for a child of ours; one that takes longer than `patience` is killed, and that is a failure.
pub fn child(child: &mut Child, patience: Duration) -> Result<ExitStatus> {
    let pidfd = of(child)?;
    if let Err(failure) = readable(&pidfd, Instant::now() + patience) {
        child.kill().context(|| "kill it".into())?;
        child.wait().context(|| "wait for it".into())?;
        return Err(failure);
    }
    child.wait().context(|| "wait for it".into())
}

/// A descriptor of a child of ours, readable when it has ended.
pub fn of(child: &Child) -> Result<OwnedFd> {
    pidfd_open(pid(child.id())?, PidfdFlags::empty()).context(|| "pidfd_open".into())
}

/// Somebody else's process, named in a pid file, held so that its number can't be reused under us.
pub struct Process(OwnedFd);

impl Process {
    /// The process that a runtime's pid file names.
    pub fn from_pid_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context(|| format!("read {}", path.display()))?;
        let number: u32 = text
            .trim()
            .parse()
            .context(|| format!("read {}: {text:?}", path.display()))?;
        pidfd_open(pid(number)?, PidfdFlags::empty())
            .context(|| format!("pidfd_open {number}"))
            .map(Self)
    }

    /// Waits for its end.
    pub fn ended(&self, patience: Duration) -> Result<()> {
        readable(&self.0, Instant::now() + patience)
            .context(|| "wait for the container's process to end".into())
    }
}

fn pid(number: u32) -> Result<Pid> {
    i32::try_from(number)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::new(format!("no process id: {number}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_that_takes_too_long_is_killed() {
        let mut slow = Command::new("sleep").arg("100").spawn().unwrap();
        assert!(child(&mut slow, Duration::from_millis(20)).is_err());
        let mut quick = Command::new("true").spawn().unwrap();
        assert!(
            child(&mut quick, Duration::from_secs(20))
                .unwrap()
                .success()
        );
    }
}
