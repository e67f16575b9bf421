// SPDX-License-Identifier: Apache-2.0
//! The name of a container.
//!
//! Pure: no process, no privileges. Made by the command line and by the store when it reads its own directory.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The longest id: a file name of 255 bytes less the prefix under which a removed container waits for its end.
pub const MAX_LEN: usize = 255 - super::TRASH_PREFIX.len();

/// A container's id. Holding one proves that it is one harmless file name: letters, digits, `_`, `+`, `-` and, not at
/// the start, `.`; so it is no `.`, no `..`, no hidden file of the store, and names nothing outside a directory. It
/// does not prove that such a container exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let wrong = |why: &str| {
            let shown: String = text.chars().take(64).collect();
            Err(Error::new(
                Kind::Invalid,
                format!("invalid container ID {shown:?}: {why}"),
            ))
        };
        if text.is_empty() {
            return wrong("it is empty");
        }
        if text.len() > MAX_LEN {
            return wrong(&format!("it is longer than {MAX_LEN} bytes"));
        }
        if text.starts_with('.') {
            return wrong("it starts with a dot");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if !text.bytes().all(plain) {
            return wrong("only letters, digits, '_', '+', '-' and '.' are allowed");
        }
        Ok(Self(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let longest = "a".repeat(MAX_LEN);
        for good in [
            "a",
            "0",
            "_",
            "-",
            "+",
            "a.b",
            "a..",
            "A-b_c+d.e",
            "-x",
            &longest,
        ] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(MAX_LEN + 1);
        for bad in [
            "", ".", "..", ".a", "a/b", "/", "a b", "a\n", "a\0", "ä", "a,b", "a:b", "~", &too_long,
        ] {
            let error = ContainerId::new(bad).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn a_deserialized_id_is_checked_too() {
        assert!(serde_json::from_str::<ContainerId>("\"ok\"").is_ok());
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
    }
}
