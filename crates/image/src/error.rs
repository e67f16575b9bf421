// SPDX-License-Identifier: Apache-2.0
//! The one error of this crate: a chain of what was being done, outermost first, and a remedy where there is one.
//! Printed once, by the program's report module.

use std::fmt;

use corten_sys::Errno;

/// What most functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may branch on; everything else is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or a file that the user names is wrong.
    Invalid,
    /// No such image, blob or layer.
    NotFound,
    /// There is one of that name already.
    Exists,
    /// Content is not what its digest, size or format says.
    Corrupt,
    /// Content is larger than what is accepted.
    Limit,
    /// Known, and not supported by this build or host.
    Unsupported,
    /// A registry refused, or can't be reached.
    Remote,
    /// The kernel or the host refused.
    System,
    /// Nobody reads standard output any more.
    Unread,
    /// A container lacks the program that it shall run.
    NoProgram,
    /// It has it, and can't execute it.
    NotExecutable,
}

/// An error with its chain of contexts.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    /// Outermost first; never empty.
    chain: Vec<String>,
    remedy: Option<String>,
    errno: Option<Errno>,
}

impl Error {
    /// An error of `kind` that says `text`.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            chain: vec![text.into()],
            remedy: None,
            errno: None,
        }
    }

    /// What the user gave is wrong.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, text)
    }

    /// Content is not what its digest, size or format says.
    pub fn corrupt(text: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, text)
    }

    /// Known, and not supported by this build or host.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, text)
    }

    /// Puts what was being done in front.
    #[must_use]
    pub fn context(mut self, text: impl Into<String>) -> Self {
        self.chain.insert(0, text.into());
        self
    }

    /// Says what the user can do; the innermost advice stays.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy.get_or_insert_with(|| text.into());
        self
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the kernel said, where a system call is the cause.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain.join(": "))?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<corten_sys::Error> for Error {
    fn from(error: corten_sys::Error) -> Self {
        Self {
            errno: Some(error.errno()),
            ..Self::new(Kind::System, error.to_string())
        }
    }
}

impl From<std::io::Error> for Error {
    /// An error of this crate that travelled through `std::io` comes out as it went in.
    fn from(error: std::io::Error) -> Self {
        if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Self::clone(inner);
        }
        match error.raw_os_error() {
            Some(raw) => {
                let errno = Errno::from_raw_os_error(raw);
                Self {
                    errno: Some(errno),
                    ..Self::new(Kind::System, corten_sys::describe(errno))
                }
            }
            None => Self::new(Kind::Corrupt, error.to_string()),
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Adds context to a failure, on the way up.
pub trait Context<T> {
    /// `text` says what was being done, as "verb object".
    fn context(self, text: impl Into<String>) -> Result<T>;
    /// The same, made only on failure.
    fn with_context(self, text: impl FnOnce() -> String) -> Result<T>;
    /// Says what the user can do.
    fn remedy(self, text: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, text: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().context(text))
    }

    fn with_context(self, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.into().context(text()))
    }

    fn remedy(self, text: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().remedy(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_is_printed_outermost_first() {
        let error = Error::corrupt("bad checksum")
            .context("read layer sha256:00")
            .remedy("import it again");
        assert_eq!(
            error.to_string(),
            "read layer sha256:00: bad checksum; import it again"
        );
    }

    #[test]
    fn survives_a_passage_through_io() {
        let error = Error::new(Kind::Limit, "too large");
        let back = Error::from(std::io::Error::from(error));
        assert_eq!(back.kind(), Kind::Limit);
        assert_eq!(back.to_string(), "too large");
    }
}
