// SPDX-License-Identifier: Apache-2.0
//! The descriptor table of this process as a whole: sweeping it, and putting descriptors at given numbers.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Call, Errno, Error, Result};

/// Marks every descriptor from `first` on close-on-exec.
pub fn seal_descriptors(first: u32) -> Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` on. Whoever still holds an `OwnedFd` in that range must forget it.
pub fn close_descriptors(first: u32) -> Result<()> {
    close_range(first, u32::MAX, 0)
}

/// The same of all but the `kept`.
pub fn close_descriptors_but(first: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    // In order, by insertion: they mostly are already, as they were opened one after the other.
    let mut numbers: Vec<u32> = Vec::with_capacity(kept.len());
    for fd in kept {
        let number = fd.as_raw_fd() as u32;
        let mut place = numbers.len();
        while place > 0 && numbers[place - 1] > number {
            place -= 1;
        }
        numbers.insert(place, number);
    }
    let mut from = first;
    for number in numbers {
        if number < from {
            continue;
        }
        if number > from {
            close_range(from, number - 1, 0)?;
        }
        from = number + 1;
    }
    close_range(from, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> Result<()> {
    // SAFETY: close_range(2) takes three numbers. That a descriptor which an OwnedFd still names is closed breaks no
    // memory; the callers' contract (in their docs) keeps such values from being used.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if answer == 0 {
        Ok(())
    } else {
        let args = format!("{first} {last} {flags:#x}");
        Err(Error::last("close_range", args))
    }
}

/// Whether this process has a descriptor of that number.
pub fn is_open(number: u32) -> bool {
    let Ok(number) = RawFd::try_from(number) else {
        return false;
    };
    // SAFETY: F_GETFD only asks; a number that is no descriptor is answered with EBADF.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// What becomes of a descriptor at execve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExec {
    /// The program has it.
    Keep,
    /// It is closed.
    Close,
}

/// Puts a copy of `fd` at exactly the number `target`, replacing what was there.
pub fn place_descriptor(fd: BorrowedFd<'_>, target: RawFd, on_exec: OnExec) -> Result<()> {
    let flags = match on_exec {
        OnExec::Keep => 0,
        OnExec::Close => libc::O_CLOEXEC,
    };
    if fd.as_raw_fd() == target {
        return Ok(());
    }
    // SAFETY: dup3(2) takes numbers; replacing the descriptor `target` is what the caller asks for.
    let answer = unsafe { libc::dup3(fd.as_raw_fd(), target, flags) };
    if answer == target {
        Ok(())
    } else {
        Err(Error::last("dup3", format!("{} {target}", fd.as_raw_fd())))
    }
}

/// Moves `fd` to exactly the number `target`, close-on-exec, replacing what was there.
pub fn move_descriptor(fd: OwnedFd, target: u32) -> Result<OwnedFd> {
    let target =
        RawFd::try_from(target).map_err(|_| Error::new("dup3", target.to_string(), Errno::BADF))?;
    if fd.as_raw_fd() == target {
        return Ok(fd);
    }
    place_descriptor(fd.as_fd(), target, OnExec::Close)?;
    drop(fd);
    // SAFETY: dup3 made `target` a new descriptor of ours; whoever owned the number before has lost it to that call.
    Ok(unsafe { OwnedFd::from_raw_fd(target) })
}

/// Moves `fds` to the numbers from `first` on, in their order, close-on-exec, replacing what was there.
pub fn gather_descriptors<const N: usize>(first: u32, fds: [OwnedFd; N]) -> Result<[OwnedFd; N]> {
    let args = || format!("{N} from {first}");
    let count = RawFd::try_from(N).unwrap_or(RawFd::MAX);
    let beyond = RawFd::try_from(first)
        .ok()
        .and_then(|first| first.checked_add(count));
    let beyond = beyond.ok_or_else(|| Error::new("dup3", args(), Errno::BADF))?;
    // Out of the way first: one may stand where another is to go.
    let mut clear = Vec::with_capacity(N);
    for fd in fds {
        let copy = rustix::io::fcntl_dupfd_cloexec(&fd, beyond).call("fcntl", args)?;
        clear.push(copy);
    }
    let mut placed = Vec::with_capacity(N);
    for (target, fd) in (first..).zip(clear) {
        placed.push(move_descriptor(fd, target)?);
    }
    <[OwnedFd; N]>::try_from(placed).map_err(|_| Error::new("dup3", args(), Errno::BADF))
}

/// A copy of the descriptor that has this `number`, whoever owns it, with a number from `first` on; EBADF where none has.
pub fn copy_descriptor(number: RawFd, first: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes two numbers; one that is no descriptor is answered with EBADF.
    let answer = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, first) };
    if answer < 0 {
        return Err(Error::last("fcntl", format!("{number} F_DUPFD_CLOEXEC")));
    }
    // SAFETY: the kernel has just made it for this process, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// Puts copies of `fds` at the numbers from `first` on, in their order, for the next program to have, and marks all others
/// above them close-on-exec. For a child right before execve: what was at those numbers is replaced.
pub fn hand_on(first: u32, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let args = || format!("{} from {first}", fds.len());
    let beyond = first.saturating_add(u32::try_from(fds.len()).unwrap_or(u32::MAX));
    let above = RawFd::try_from(beyond).map_err(|_| Error::new("dup3", args(), Errno::BADF))?;
    // Out of the way first: one may stand where another is to go.
    let copies = fds
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, above).call("fcntl", args));
    let copies: Vec<_> = copies.collect::<Result<_>>()?;
    for (target, copy) in (first..beyond).zip(copies) {
        place_descriptor(copy.as_fd(), target as RawFd, OnExec::Keep)?;
    }
    seal_descriptors(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_those_that_are_kept_are_closed() {
        let in_a_table_of_its_own = || {
            // SAFETY: takes a flag; this thread has a copy of the table from here on, of which no other thread hears.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            let file = std::fs::File::open("/dev/null").unwrap();
            let copy = |number| copy_descriptor(file.as_raw_fd(), number).unwrap();
            let owned = [905, 900, 903, 901, 902, 904].map(copy);
            let kept = [&owned[2], &owned[5], &owned[4]].map(AsFd::as_fd);
            close_descriptors_but(900, &kept).unwrap();
            let left: Vec<u32> = (900..=906).filter(|number| is_open(*number)).collect();
            // Whose numbers were closed.
            owned.into_iter().for_each(std::mem::forget);
            left
        };
        let thread = std::thread::spawn(in_a_table_of_its_own);
        assert_eq!(thread.join().unwrap(), [902, 903, 904]);
    }
}
