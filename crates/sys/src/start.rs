// SPDX-License-Identifier: Apache-2.0
//! The way from the C library's start into a program, without the standard library's runtime.
//!
//! That runtime makes some twenty system calls before `main`: it reads /proc/self/maps to find the end of the stack and
//! installs handlers that print a message when the stack overflows. A program that lives for a millisecond has better
//! things to do. Of the rest, what others rely on is done here: descriptors 0 to 2 are open, and a closed pipe is an
//! error of write(2) rather than a signal. Arguments and environment need no runtime.

use std::os::fd::IntoRawFd;

use rustix::io::FdFlags;

use crate::fs::{self, Mode, OFlags};
use crate::{Call, Error, Result};

/// Makes `$main`, a `fn() -> u8` that returns the status, the program's entry. The crate says `#![no_main]`.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[global_allocator]
        static HEAP: $crate::heap::Heap = $crate::heap::Heap;

        // SAFETY: `main` is the name by which the C library's start calls the program; no other item has it, as the
        // crate says `no_main`, and C allows the signature: arguments that are not looked at.
        #[unsafe(no_mangle)]
        extern "C" fn main() -> ::std::ffi::c_int {
            $crate::start::run($main)
        }
    };
}

/// What a program ends with where it can't even open /dev/null.
const NO_DESCRIPTORS: i32 = 127;

/// Runs `main` as a program should run. A panic aborts (the build profile), so none leaves here.
pub fn run(main: fn() -> u8) -> i32 {
    if let Err(error) = open_standard_descriptors() {
        // 2 is the caller's stderr or closed: nothing else has been opened yet. Where it is closed nobody hears it.
        let _ = rustix::io::write(
            rustix::stdio::stderr(),
            format!("open the standard descriptors: {error}\n").as_bytes(),
        );
        return NO_DESCRIPTORS;
    }
    // SAFETY: ignoring a signal runs no code of ours, and nothing has set another disposition yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    i32::from(main())
}

/// Opens /dev/null for those of 0 to 2 that the caller has closed. SECURITY: else the next file that is opened becomes
/// stderr, and messages are written into it.
fn open_standard_descriptors() -> Result<()> {
    let mut standard = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: poll(2) reads and writes the three entries of the array, which outlives the call; without a timeout it
    // does not wait. It may name numbers that are not open: that is what is asked.
    let answer = unsafe { libc::poll(standard.as_mut_ptr(), 3, 0) };
    if answer < 0 {
        return Err(Error::last("poll", "0 to 2"));
    }
    for entry in standard {
        if entry.revents & libc::POLLNVAL != 0 {
            // The lowest free number: this one, as those below it are open by now.
            let null = fs::open(fs::CWD, "/dev/null".as_ref(), OFlags::RDWR, Mode::empty())?;
            rustix::io::fcntl_setfd(&null, FdFlags::empty()).call("fcntl", String::new)?;
            // It belongs to the process from now on.
            let _fd = null.into_raw_fd();
        }
    }
    Ok(())
}
