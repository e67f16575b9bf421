// SPDX-License-Identifier: Apache-2.0
//! The one error of the runtime: a chain of what was being done, outermost first, the field of config.json that asked
//! for it, and a remedy where the host's setup is the usual cause. Printed once, by `cli/report.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What most functions of the runtime return.
pub type Result<T> = std::result::Result<T, Error>;

/// How many characters a part of an error may have on its way out of a container.
const LONGEST_PART: usize = 1024;

/// What a caller may branch on; everything else is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The command line, config.json or a file that the user names is wrong.
    Invalid,
    /// The container does not exist.
    NotFound,
    /// A container with this id exists already.
    Exists,
    /// The container's status does not allow the verb (`kill` of a stopped one).
    Status,
    /// Known, and not supported by this build or host.
    Unsupported,
    /// The program has ended, and nobody knows how.
    Unknown,
    /// The kernel or the host refused.
    System,
    /// The kernel killed a process in its clone into a cgroup. It does so while somebody writes cgroup.kill, and in Linux
    /// 6.13 and later, by mistake, whenever that was done more often in one of the caller's cgroup and the target than in
    /// the other (`kill_seq` in kernel/cgroup/cgroup.c). Such a process can be cloned first and moved then.
    Unborn,
    /// What was waited for did not come in time: whoever can wait longer may try again.
    TimedOut,
}

/// An error with its chain of contexts. It travels from the container's side to the runtime's as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    kind: Kind,
    /// Outermost first; never empty.
    chain: Vec<String>,
    pointer: Option<String>,
    /// What the pointer points into, where it is not config.json.
    document: Option<String>,
    remedy: Option<String>,
    /// What the kernel answered, where a call failed.
    errno: Option<i32>,
}

impl Error {
    /// An error of `kind` that says `text`.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            chain: vec![text.into()],
            pointer: None,
            document: None,
            remedy: None,
            errno: None,
        }
    }

    /// The field at `pointer` (a JSON pointer into config.json, `/mounts/3`) is wrong.
    pub fn invalid(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, text).at(pointer)
    }

    /// The field at `pointer` asks for what this build or host does not support.
    pub fn unsupported(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, text).at(pointer)
    }

    /// Puts what was being done in front.
    #[must_use]
    pub fn context(mut self, text: impl Into<String>) -> Self {
        self.chain.insert(0, text.into());
        self
    }

    /// Names the field of config.json that asked for it; the innermost name stays.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer.get_or_insert_with(|| pointer.into());
        self
    }

    /// The pointer points into the document `name`, not into config.json.
    #[must_use]
    pub fn in_document(mut self, name: impl Into<String>) -> Self {
        self.document.get_or_insert_with(|| name.into());
        self
    }

    /// The pointer starts below `prefix`: what it points into is that part of config.json as a document of its own.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        let shorter = self.pointer.as_deref().and_then(|p| p.strip_prefix(prefix));
        self.pointer = shorter.map(str::to_owned).or(self.pointer);
        self
    }

    /// Says what the user can do; the innermost advice stays.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy.get_or_insert_with(|| text.into());
        self
    }

    /// Changes the kind, where a caller knows better what a failed call means.
    #[must_use]
    pub fn kind_is(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with no part longer than a reader bears: names in it may be anybody's.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        for part in &mut self.chain {
            if let Some((end, _)) = part.char_indices().nth(LONGEST_PART) {
                part.truncate(end);
                part.push('…');
            }
        }
        self
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the kernel answered, where a call failed.
    pub fn errno(&self) -> Option<corten_sys::Errno> {
        self.errno.map(corten_sys::Errno::from_raw_os_error)
    }

    /// The chain, without pointer and remedy.
    pub fn message(&self) -> String {
        self.chain.join(": ")
    }

    /// What the user can do.
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The JSON pointer into config.json, if a field asked for what failed.
    pub fn pointer(&self) -> Option<&str> {
        self.pointer.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        if let Some(pointer) = &self.pointer {
            let document = self.document.as_deref().unwrap_or("config.json");
            write!(f, " ({document} {pointer})")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<corten_sys::Error> for Error {
    fn from(error: corten_sys::Error) -> Self {
        let errno = Some(error.errno().raw_os_error());
        Self {
            errno,
            ..Self::new(Kind::System, error.to_string())
        }
    }
}

/// Adds context to a failure, on the way up.
pub trait Context<T> {
    /// `text` says what was being done, as "verb object".
    fn context(self, text: impl Into<String>) -> Result<T>;
    /// The same, made only on failure.
    fn with_context(self, text: impl FnOnce() -> String) -> Result<T>;
    /// Names the field of config.json that asked for it.
    fn at(self, pointer: impl FnOnce() -> String) -> Result<T>;
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

    fn at(self, pointer: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.into().at(pointer()))
    }

    fn remedy(self, text: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().remedy(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_chain_once_with_pointer_and_remedy() {
        let error = Error::invalid("/mounts/3/source", "no such file or directory")
            .context("open /nowhere")
            .context("mount /data")
            .remedy("create it on the host");
        assert_eq!(
            error.to_string(),
            "mount /data: open /nowhere: no such file or directory (config.json /mounts/3/source); create it on the host"
        );
        assert_eq!(error.kind(), Kind::Invalid);
    }
}
