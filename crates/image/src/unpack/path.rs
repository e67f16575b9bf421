// SPDX-License-Identifier: Apache-2.0
//! Names of entries as components.

use crate::error::{Error, Kind, Result};

/// Deeper than this is refused: every level costs a walk, and on removal a descriptor.
pub const DEEPEST: usize = 256;

/// The components of a name, without empty ones and `.`; none for the root itself. A leading slash means the root of
/// the tree. `..` is an error: no writer of layers has a use for it.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path
        .split(|&byte| byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::corrupt("the name has a \"..\" component"));
    }
    if parts.len() > DEEPEST {
        return Err(Error::new(
            Kind::Limit,
            format!("the name has more than {DEEPEST} components"),
        ));
    }
    Ok(parts)
}

/// Components as one relative path.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b'/')
}

/// Directory and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_components() {
        for (name, expected) in [
            (&b"a/b"[..], &b"a/b"[..]),
            (b"/a//b/./c/", b"a/b/c"),
            (b".", b""),
            (b"./", b""),
            (b"/", b""),
            (b"/.", b""),
            (b"...", b"..."),
            (b"a/..b", b"a/..b"),
        ] {
            assert_eq!(
                join(&components(name).unwrap()),
                expected,
                "{}",
                String::from_utf8_lossy(name)
            );
        }
        for bad in [
            &b".."[..],
            b"../a",
            b"a/..",
            b"a/../b",
            b"/..",
            b"a/b/../../..",
        ] {
            assert!(components(bad).is_err());
        }
        assert!(components(&b"d/".repeat(256)).is_ok());
        assert!(components(&b"d/".repeat(257)).is_err());
    }
}
