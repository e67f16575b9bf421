// SPDX-License-Identifier: Apache-2.0
//! What a directory shall look like in the end: until then its content is still made, which changes its time, and may not be
//! allowed afterwards.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::tar::Entry;

/// Attributes of directories that wait may be so many bytes.
const WAITING: usize = 64 << 20;
/// All that was there before the extractor began.
const BELOW: usize = 0;

/// The last word on a directory.
pub struct Finished {
    /// Which one was meant.
    pub inode: u64,
    /// What was said.
    pub entry: Entry,
    /// The layer that said so.
    layer: usize,
}

impl Finished {
    /// Whether it only keeps what it had.
    pub fn is_from_below(&self) -> bool {
        self.layer == BELOW
    }

    /// Bytes that its attributes take.
    fn weight(&self) -> usize {
        let attributes = self.entry.xattrs.iter();
        attributes
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

/// All that was said, by path without links.
#[derive(Default)]
pub struct Later {
    dirs: BTreeMap<Vec<u8>, Finished>,
    /// Bytes of their attributes.
    waiting: usize,
}

impl Later {
    /// The last word counts.
    pub fn say(&mut self, path: Vec<u8>, inode: u64, layer: usize, entry: &Entry) -> Result<()> {
        let dir = Finished {
            inode,
            entry: entry.clone(),
            layer,
        };
        self.waiting += dir.weight();
        if let Some(before) = self.dirs.insert(path, dir) {
            self.waiting -= before.weight();
        }
        match self.waiting > WAITING {
            true => Err(Error::new(
                Kind::Limit,
                format!("directories have more than {WAITING} bytes of attributes"),
            )),
            false => Ok(()),
        }
    }

    /// As it was before the extractor began, unless this layer has said something else.
    pub fn keep(&mut self, path: Vec<u8>, inode: u64, entry: &Entry) -> Result<()> {
        match self.dirs.contains_key(&path) {
            true => Ok(()),
            false => self.say(path, inode, BELOW, entry),
        }
    }

    /// What has this path is replaced: nothing holds for it, nor for what was below.
    pub fn replaced(&mut self, path: &[u8]) {
        self.forget(path);
        self.forget_below(path, usize::MAX);
    }

    /// `layer` deletes what has this path below it. What is made there now may be given the same inode.
    pub fn deleted(&mut self, path: &[u8], layer: usize) {
        if self.dirs.get(path).is_some_and(|dir| dir.layer < layer) {
            self.forget(path);
        }
        self.forget_below(path, layer);
    }

    /// `layer` deletes what is below this path.
    pub fn emptied(&mut self, path: &[u8], layer: usize) {
        self.forget_below(path, layer);
    }

    /// All of it, in byte order: what is below comes after what is above.
    pub fn into_dirs(self) -> BTreeMap<Vec<u8>, Finished> {
        self.dirs
    }

    /// What layers before `layer` have said of directories below `path`.
    fn forget_below(&mut self, path: &[u8], layer: usize) {
        let inside = match path {
            b"" => Vec::new(),
            path => [path, b"/"].concat(),
        };
        let gone: Vec<Vec<u8>> = self
            .dirs
            .range(inside.clone()..)
            .take_while(|(dir, _)| dir.starts_with(&inside))
            .filter(|(dir, said)| said.layer < layer && !dir.is_empty())
            .map(|(dir, _)| dir.clone())
            .collect();
        for dir in gone {
            self.forget(&dir);
        }
    }

    fn forget(&mut self, path: &[u8]) {
        if let Some(dir) = self.dirs.remove(path) {
            self.waiting -= dir.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::EntryKind;

    fn said(paths: &[(&str, usize)]) -> Later {
        let mut later = Later::default();
        for (path, layer) in paths {
            let entry = Entry::new(*path, EntryKind::Dir, 0o700);
            later
                .say(path.as_bytes().to_vec(), 1, *layer, &entry)
                .unwrap();
        }
        later
    }

    fn left(later: Later) -> Vec<String> {
        let dirs = later.into_dirs().into_keys();
        dirs.map(|path| String::from_utf8(path).unwrap()).collect()
    }

    const PATHS: [(&str, usize); 6] = [
        ("", 1),
        ("a", 1),
        ("a-b", 1),
        ("a/b", 1),
        ("a/c", 2),
        ("ab", 1),
    ];

    #[test]
    fn what_goes_away_takes_what_was_said_with_it() {
        let mut later = said(&PATHS);
        later.deleted(b"a", 2);
        assert_eq!(left(later), ["", "a-b", "a/c", "ab"]);
        let mut later = said(&PATHS);
        later.replaced(b"a");
        assert_eq!(left(later), ["", "a-b", "ab"]);
        let mut later = said(&PATHS);
        later.emptied(b"a", 2);
        assert_eq!(left(later), ["", "a", "a-b", "a/c", "ab"]);
        let mut later = said(&PATHS);
        later.emptied(b"", 2);
        assert_eq!(left(later), ["", "a/c"]);
    }

    #[test]
    fn attributes_are_counted_and_bounded() {
        let mut later = Later::default();
        let mut entry = Entry::new("a", EntryKind::Dir, 0o700);
        entry.xattrs = vec![(b"user.a".to_vec(), vec![0; WAITING / 2])];
        // Said again is not said twice.
        for _ in 0..4 {
            later.say(b"a".to_vec(), 1, 1, &entry).unwrap();
        }
        later.replaced(b"a");
        later.say(b"b".to_vec(), 1, 1, &entry).unwrap();
        assert!(later.say(b"c".to_vec(), 1, 1, &entry).is_err());
    }
}
