// SPDX-License-Identifier: Apache-2.0
//! What the container's standard descriptors are outside of it, by the names that CRIU has for them: a restored container
//! has its restorer's in their place.
//!
//! Asked by whoever makes the container, of its own three: what the container makes of them later (a pipe to a process of
//! its own) is the container's and goes into the images.

use std::os::fd::AsFd;

use corten_sys::fs::{self, FileType};

use crate::error::Result;

/// The major numbers of terminals whose other side is a master (Documentation/admin-guide/devices.txt).
const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

/// The magic number of the file system of pipes without a path (linux/magic.h).
const PIPEFS_MAGIC: u32 = 0x5049_5045;

/// The names of this process' three; empty for one that CRIU knows no name for, or finds by itself (a terminal).
pub fn names() -> Result<Vec<String>> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
        .into_iter()
        .map(|fd| {
            // A caller may have closed its own.
            let Ok(opened) = fs::opened(fd) else {
                return Ok(String::new());
            };
            let inode = opened.inode;
            let is_slave = SLAVES.contains(&opened.major);
            Ok(match opened.kind {
                FileType::Fifo if fs::filesystem(fd)? == PIPEFS_MAGIC => format!("pipe:[{inode}]"),
                FileType::CharacterDevice if is_slave => String::new(),
                FileType::CharacterDevice | FileType::Fifo | FileType::RegularFile => {
                    format!("file[{:x}:{inode:x}]", opened.mount)
                }
                _ => String::new(),
            })
        })
        .collect()
}

/// Those that are outside the container's mounts, of which CRIU has to be told before it looks for their paths.
pub fn files(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| name.starts_with("file["))
}

/// Which of CRIU's own descriptors take the place of which: the first of those that are one. Only names of this kind, as
/// whoever has the images may have written anything there.
pub fn inherited(names: &[String]) -> Vec<(String, i32)> {
    let mut inherited: Vec<(String, i32)> = Vec::new();
    for (number, name) in (0..3).zip(names) {
        let is_outside = name.starts_with("pipe:[") || name.starts_with("file[");
        if is_outside && !inherited.iter().any(|(known, _)| known == name) {
            inherited.push((name.clone(), number));
        }
    }
    inherited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_whose_place() {
        type Case = (&'static [&'static str], &'static [(&'static str, i32)]);
        let cases: [Case; 4] = [
            (&[], &[]),
            (&["/dev/null", "", "socket:[3]"], &[]),
            (
                &["file[1b:4]", "pipe:[7]", "pipe:[7]"],
                &[("file[1b:4]", 0), ("pipe:[7]", 1)],
            ),
            (&["", "", "pipe:[1]", "pipe:[2]"], &[("pipe:[1]", 2)]),
        ];
        for (names, wanted) in cases {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let found = inherited(&names);
            let found: Vec<_> = found
                .iter()
                .map(|(name, number)| (name.as_str(), *number))
                .collect();
            assert_eq!(found, wanted, "{names:?}");
        }
    }
}
