// SPDX-License-Identifier: Apache-2.0
//! Mount options as words, and what each means (runtime-spec, config.md, Linux mount options). Pure.

use corten_sys::mount::{Attr, Propagation, Reach};

/// What the options of one mount come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `bind` or `rbind`.
    pub bind: Option<Reach>,
    /// Attributes that are set, and those cleared, on the mount itself.
    pub attr: Change,
    /// The same for the mount and all below it (the r* options).
    pub recursive: Change,
    /// Propagations, in the order given.
    pub propagation: Vec<(Propagation, Reach)>,
    /// Flags of the superblock, for a new file system.
    pub flags: Vec<&'static str>,
    /// What the file system itself understands: `key` or `key=value`.
    pub data: Vec<(String, Option<String>)>,
    /// Copy what the rootfs has there into the new tmpfs.
    pub copy_up: bool,
}

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Set these.
    pub set: Attr,
    /// Clear these (before setting).
    pub clear: Attr,
}

impl Change {
    /// Whether nothing changes.
    pub fn is_empty(self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }

    /// A later word takes back what an earlier one said; a kind of access time replaces the other kinds.
    fn apply(&mut self, on: bool, attr: Attr) {
        let is_atime = attr == Attr::NOATIME || attr == Attr::STRICTATIME || attr == RELATIME;
        if is_atime {
            self.set = self.set.without(Attr::ATIME);
            self.clear |= Attr::ATIME;
            if on {
                self.set |= attr;
            }
        } else if on {
            self.set |= attr;
            self.clear = self.clear.without(attr);
        } else {
            self.set = self.set.without(attr);
            self.clear |= attr;
        }
    }
}

/// The kind of access times that is no bit of its own.
const RELATIME: Attr = Attr::empty();

/// (word, set or cleared, attribute); each has a recursive twin with an `r` in front.
const ATTRIBUTES: &[(&str, bool, Attr)] = &[
    ("atime", false, Attr::NOATIME),
    ("dev", false, Attr::NODEV),
    ("diratime", false, Attr::NODIRATIME),
    ("exec", false, Attr::NOEXEC),
    ("noatime", true, Attr::NOATIME),
    ("nodev", true, Attr::NODEV),
    ("nodiratime", true, Attr::NODIRATIME),
    ("noexec", true, Attr::NOEXEC),
    ("norelatime", false, RELATIME),
    ("nostrictatime", false, Attr::STRICTATIME),
    ("nosuid", true, Attr::NOSUID),
    ("nosymfollow", true, Attr::NOSYMFOLLOW),
    ("relatime", true, RELATIME),
    ("ro", true, Attr::RDONLY),
    ("rw", false, Attr::RDONLY),
    ("strictatime", true, Attr::STRICTATIME),
    ("suid", false, Attr::NOSUID),
    ("symfollow", false, Attr::NOSYMFOLLOW),
];

const PROPAGATIONS: &[(&str, Propagation, Reach)] = &[
    ("private", Propagation::Private, Reach::Single),
    ("rprivate", Propagation::Private, Reach::Recursive),
    ("rshared", Propagation::Shared, Reach::Recursive),
    ("rslave", Propagation::Slave, Reach::Recursive),
    ("runbindable", Propagation::Unbindable, Reach::Recursive),
    ("shared", Propagation::Shared, Reach::Single),
    ("slave", Propagation::Slave, Reach::Single),
    ("unbindable", Propagation::Unbindable, Reach::Single),
];

/// Flags of the superblock: (word, what fsconfig takes). The empty ones are the default, or have no meaning any more.
const SUPERBLOCK: &[(&str, &str)] = &[
    ("acl", "posixacl"),
    ("async", ""),
    ("defaults", ""),
    ("dirsync", "dirsync"),
    ("iversion", ""),
    ("lazytime", "lazytime"),
    ("loud", ""),
    ("mand", "mand"),
    ("noiversion", ""),
    ("nolazytime", ""),
    ("nomand", ""),
    ("silent", ""),
    ("sync", "sync"),
];

/// Reads the words of `options`, in order. What no table knows belongs to the file system.
pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Options {
    let mut all = Options::default();
    for word in options {
        all.add(word);
    }
    all
}

impl Options {
    fn add(&mut self, word: &str) {
        match word {
            "bind" => self.bind = self.bind.or(Some(Reach::Single)),
            "rbind" => self.bind = Some(Reach::Recursive),
            "tmpcopyup" => self.copy_up = true,
            _ if self.add_attribute(word) || self.add_propagation(word) => {}
            _ => self.add_data(word),
        }
    }

    fn add_attribute(&mut self, word: &str) -> bool {
        if let Some(&(_, on, attr)) = ATTRIBUTES.iter().find(|(name, ..)| *name == word) {
            self.attr.apply(on, attr);
            return true;
        }
        let twin = word.strip_prefix('r').unwrap_or_default();
        if let Some(&(_, on, attr)) = ATTRIBUTES.iter().find(|(name, ..)| *name == twin) {
            self.recursive.apply(on, attr);
            return true;
        }
        false
    }

    fn add_propagation(&mut self, word: &str) -> bool {
        let found = PROPAGATIONS.iter().find(|(name, ..)| *name == word);
        if let Some(&(_, kind, reach)) = found {
            self.propagation.push((kind, reach));
        }
        found.is_some()
    }

    fn add_data(&mut self, word: &str) {
        if let Some((_, flag)) = SUPERBLOCK.iter().find(|(name, _)| *name == word) {
            if !flag.is_empty() {
                self.flags.push(flag);
            }
            return;
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word, None),
        };
        self.data.push((key.to_owned(), value));
    }
}

/// Every word that the tables know.
#[cfg(test)]
fn known() -> Vec<String> {
    let mut words: Vec<String> = ["bind", "rbind", "tmpcopyup"].map(String::from).into();
    words.extend(ATTRIBUTES.iter().map(|(name, ..)| (*name).to_owned()));
    words.extend(ATTRIBUTES.iter().map(|(name, ..)| format!("r{name}")));
    words.extend(PROPAGATIONS.iter().map(|(name, ..)| (*name).to_owned()));
    words.extend(SUPERBLOCK.iter().map(|(name, _)| (*name).to_owned()));
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Options {
        parse(text.split(',').filter(|word| !word.is_empty()))
    }

    #[test]
    fn attributes() {
        let cases = [
            ("", Attr::empty(), Attr::empty()),
            ("ro", Attr::RDONLY, Attr::empty()),
            ("ro,rw", Attr::empty(), Attr::RDONLY),
            ("rw,ro", Attr::RDONLY, Attr::empty()),
            ("nosuid,nodev", Attr::NOSUID | Attr::NODEV, Attr::empty()),
            ("noatime", Attr::NOATIME, Attr::ATIME),
            ("noatime,strictatime", Attr::STRICTATIME, Attr::ATIME),
            ("noatime,relatime", Attr::empty(), Attr::ATIME),
            ("atime", Attr::empty(), Attr::ATIME),
        ];
        for (text, set, clear) in cases {
            assert_eq!(words(text).attr, Change { set, clear }, "{text}");
            let twin: Vec<_> = text
                .split(',')
                .filter(|w| !w.is_empty())
                .map(|w| format!("r{w}"))
                .collect();
            assert_eq!(
                words(&twin.join(",")).recursive,
                Change { set, clear },
                "{text}"
            );
        }
    }

    #[test]
    fn the_rest() {
        let all = words("rbind,rslave,private,sync,mode=755,size=64k,newinstance,tmpcopyup");
        assert_eq!(all.bind, Some(Reach::Recursive));
        assert_eq!(
            all.propagation,
            [
                (Propagation::Slave, Reach::Recursive),
                (Propagation::Private, Reach::Single)
            ]
        );
        assert_eq!(all.flags, ["sync"]);
        assert!(all.copy_up);
        let data = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        assert_eq!(
            all.data,
            [
                data("mode", Some("755")),
                data("size", Some("64k")),
                data("newinstance", None)
            ]
        );
    }

    #[test]
    fn a_recursive_twin_is_no_other_word() {
        let mut known = known();
        let before = known.len();
        known.dedup();
        assert_eq!(known.len(), before);
    }
}
