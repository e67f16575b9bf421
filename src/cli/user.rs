// SPDX-License-Identifier: Apache-2.0
//! `UID[:GID]`, as `exec --user` takes it.
//!
//! Pure. SECURITY: CVE-2026-30892 was a parser that returned early with the id left at 0, so root. Here an id is a value
//! that exists only when the whole text was understood; there is nothing to leave at 0.

use crate::error::{Error, Kind, Result};

/// Whom a program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's id in the container.
    pub uid: u32,
    /// The group's; the container's own where it was not given.
    pub gid: Option<u32>,
}

/// Reads `UID` or `UID:GID`.
pub fn user(text: &str) -> Result<User> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let read = |part| id(part).ok_or_else(|| wrong(text, "user", "UID or UID:GID"));
    Ok(User {
        uid: read(uid)?,
        gid: gid.map(read).transpose()?,
    })
}

/// Reads the id of a group.
pub fn group(text: &str) -> Result<u32> {
    id(text).ok_or_else(|| wrong(text, "group", "GID"))
}

fn wrong(text: &str, what: &str, form: &str) -> Error {
    Error::new(
        Kind::Invalid,
        format!(
            "invalid {what} {text:?}: want {form}, in decimal numbers below {}",
            u32::MAX
        ),
    )
}

/// A decimal number as the kernel prints it: no sign, no space, no leading zero (others read that as octal), and not
/// 2^32-1, which means "leave as it is" to setresuid(2).
fn id(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.starts_with('0') && text != "0") {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        for (text, uid, gid) in [
            ("0", 0, None),
            ("1", 1, None),
            ("1:2", 1, Some(2)),
            ("0:0", 0, Some(0)),
            ("1000:0", 1000, Some(0)),
            ("4294967294:4294967294", 4294967294, Some(4294967294)),
        ] {
            assert_eq!(user(text).unwrap(), User { uid, gid }, "{text}");
        }
        for text in [
            "",
            ":",
            ":5",
            "1:",
            "-1",
            "+1",
            "-0",
            "1:-1",
            "1:2:3",
            "1,2",
            "4294967295",
            "1:4294967295",
            "4294967296",
            "18446744073709551616",
            " 1",
            "1 ",
            "1\n",
            "0x1",
            "01",
            "00",
            "1e3",
            "١",
            "root",
            "0root",
        ] {
            let error = user(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{text:?}");
        }
    }

    #[test]
    fn every_number_is_itself() {
        for shift in 0..32 {
            for near in [-1_i64, 0, 1] {
                let Ok(number) = u32::try_from((1_i64 << shift) + near) else {
                    continue;
                };
                assert_eq!(user(&number.to_string()).unwrap().uid, number);
                let pair = user(&format!("7:{number}")).unwrap();
                assert_eq!((pair.uid, pair.gid), (7, Some(number)));
                assert_eq!(group(&number.to_string()).unwrap(), number);
            }
        }
    }
}
