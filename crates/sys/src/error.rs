// SPDX-License-Identifier: Apache-2.0
//! The error of a system call: which call, with which arguments, and what the kernel said.

use std::fmt;

pub use rustix::io::Errno;

/// What a wrapper in this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A system call that failed. Displays as `openat2 "proc/self" (O_PATH): no such file or directory`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    args: String,
    errno: Errno,
}

impl Error {
    /// An error of `call` with `args` (those that matter to a reader, or empty).
    pub fn new(call: &'static str, args: impl Into<String>, errno: Errno) -> Self {
        Self {
            call,
            args: args.into(),
            errno,
        }
    }

    /// The last error of the C library's `errno`, for calls made through `libc`.
    pub fn last(call: &'static str, args: impl Into<String>) -> Self {
        let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        Self::new(call, args, Errno::from_raw_os_error(raw))
    }

    /// The name of the call.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// What the kernel answered.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if !self.args.is_empty() {
            write!(f, " {}", self.args)?;
        }
        write!(f, ": {}", describe(self.errno))
    }
}

impl std::error::Error for Error {}

/// The kernel's words for `errno`, lower-case as the rest of a message: callers match on "no such file or directory".
pub fn describe(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// Adds the call's name and arguments to a bare errno.
pub trait Call<T> {
    /// `args` is only made when the call failed.
    fn call(self, name: &'static str, args: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Call<T> for rustix::io::Result<T> {
    fn call(self, name: &'static str, args: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(name, args(), errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_call_arguments_and_cause() {
        let error = Error::new("openat2", "\"etc/x\"", Errno::NOENT);
        assert_eq!(
            error.to_string(),
            "openat2 \"etc/x\": no such file or directory"
        );
    }
}
