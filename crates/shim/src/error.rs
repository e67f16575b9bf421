// SPDX-License-Identifier: Apache-2.0
//! What a call is answered with when it can't be done: a status code, on which containerd branches, and a text.

use std::fmt;

use corten::error::Kind;
use corten_sys::Errno;

/// What most functions of the shim return.
pub type Result<T> = std::result::Result<T, Error>;

/// gRPC's codes, as far as they are answered (google.rpc.Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// The runtime or the kernel failed.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// Something that was waited for did not come.
    DeadlineExceeded = 4,
    /// There is no such container or process.
    NotFound = 5,
    /// There is one already.
    AlreadyExists = 6,
    /// Its state does not allow it.
    FailedPrecondition = 9,
    /// Nobody here knows how.
    Unimplemented = 12,
}

/// An error of a call. The text is a chain, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: Code,
    text: String,
}

impl Error {
    /// An error that says `text`.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// There is no `what`.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("{what}: not found"))
    }

    /// The state does not allow it.
    pub fn precondition(text: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, text)
    }

    /// The request makes no sense.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, text)
    }

    /// Puts what was being done in front.
    #[must_use]
    pub fn context(mut self, text: impl fmt::Display) -> Self {
        self.text = format!("{text}: {}", self.text);
        self
    }

    /// What a caller branches on.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The words.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl From<corten::error::Error> for Error {
    fn from(error: corten::error::Error) -> Self {
        let code = match error.kind() {
            Kind::NotFound => Code::NotFound,
            Kind::Exists => Code::AlreadyExists,
            Kind::Status => Code::FailedPrecondition,
            Kind::Invalid => Code::InvalidArgument,
            Kind::Unsupported => Code::Unimplemented,
            Kind::TimedOut => Code::DeadlineExceeded,
            Kind::Unknown | Kind::System | Kind::Unborn => Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

impl From<corten_sys::Error> for Error {
    fn from(error: corten_sys::Error) -> Self {
        let code = match error.errno() {
            Errno::NOENT => Code::NotFound,
            Errno::EXIST => Code::AlreadyExists,
            _ => Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

/// Adds what was being done.
pub trait Context<T> {
    /// `text` is made only on a failure.
    fn context<C: fmt::Display>(self, text: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<C: fmt::Display>(self, text: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().context(text()))
    }
}
