// SPDX-License-Identifier: Apache-2.0
//! Becoming another program.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Errno, Error, Result};

/// What a program is started with: every string NUL-terminated once, before the point of no return.
#[derive(Debug)]
pub struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// `path` is what is executed; `args` includes the name.
    pub fn new(path: &Path, args: &[impl AsRef<OsStr>], env: &[impl AsRef<OsStr>]) -> Result<Self> {
        let args = args.iter().map(|text| c_string(text.as_ref()));
        let env = env.iter().map(|text| c_string(text.as_ref()));
        Ok(Self {
            path: c_string(path.as_os_str())?,
            args: args.collect::<Result<_>>()?,
            env: env.collect::<Result<_>>()?,
        })
    }

    /// Replaces this process (execve(2)); returns only with the error.
    pub fn exec(&self) -> Error {
        let args = pointers(&self.args);
        let env = pointers(&self.env);
        // SAFETY: `path` and every string behind `args` and `env` are NUL-terminated and owned by `self`, which is
        // borrowed through the call; both arrays end with a null pointer (`pointers`).
        unsafe { libc::execve(self.path.as_ptr(), args.as_ptr(), env.as_ptr()) };
        Error::last("execve", format!("{:?}", self.path))
    }

    /// The same with the program behind `fd` (execveat(2), AT_EMPTY_PATH).
    pub fn exec_descriptor(&self, fd: BorrowedFd<'_>) -> Error {
        let args = pointers(&self.args);
        let env = pointers(&self.env);
        // SAFETY: as in `exec`; the path is an empty literal, and `fd` is borrowed, hence open.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                fd.as_raw_fd(),
                c"".as_ptr(),
                args.as_ptr(),
                env.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        Error::last("execveat", format!("{:?}", self.path))
    }
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Error::new("execve", "a NUL byte", Errno::INVAL))
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let all = strings.iter().map(|s| s.as_ptr());
    all.chain([std::ptr::null()]).collect()
}
