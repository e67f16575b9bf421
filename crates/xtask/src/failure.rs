// SPDX-License-Identifier: Apache-2.0
//! Why a verb of `cargo xtask` failed: what was tried, and the cause below it. Printed once, by `report`.

use std::error::Error;
use std::fmt;

/// The result of everything that can fail in here.
pub type Result<T> = std::result::Result<T, Failure>;

/// What was tried, and what came in the way.
#[derive(Debug)]
pub struct Failure {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure that is its own cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn Error + 'static))
    }
}

/// Says what was tried when a call below failed.
pub trait Context<T> {
    /// Wraps the error; `what` is "verb object".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Failure {
            what: what(),
            source: Some(source.into()),
        })
    }
}
