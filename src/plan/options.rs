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
    /// Owners are shown through a map.
    pub id_map: Option<IdMapWord>,
    /// A bind's source that is a link.
    pub source_link: SourceLink,
    /// A link where the mount goes to.
    pub target_link: TargetLink,
}

/// `idmap` or `ridmap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMapWord {
    /// Its place among the options.
    pub index: usize,
    /// `ridmap` is for the mounts below, too.
    pub reach: Reach,
    /// The maps, where the word has them: `idmap=uids=0-1000-1;gids=0-1000-1`.
    pub maps: Option<String>,
}

/// What becomes of a bind's source that is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceLink {
    /// What it leads to is bound.
    #[default]
    Followed,
    /// The link itself is bound (`src-nofollow`).
    Bound,
    /// A link of the same content is made instead of a mount (`copy-symlink`).
    Copied,
}

/// What becomes of a symbolic link in the place of a mount's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetLink {
    /// What it leads to is mounted over, or made.
    #[default]
    Followed,
    /// It is mounted over itself; the target has to be there (`dest-nofollow`).
    Covered,
}

/// A word that is not carried out.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place among the options.
    pub index: usize,
    /// Why.
    pub text: String,
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
        let kinds = [Attr::NOATIME, Attr::STRICTATIME];
        if kinds.contains(&attr) || attr == RELATIME {
            let asked = kinds.into_iter().find(|&kind| self.set.contains(kind));
            // Taking back a kind that isn't asked for leaves the one that is; without any it is RELATIME.
            if on || (attr != RELATIME && asked.is_none_or(|kind| kind == attr)) {
                self.set = self.set.without(Attr::ATIME);
                self.clear |= Attr::ATIME;
            }
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

/// The parameter of ext4 for `iversion`, which other file systems always do or never can.
pub const IVERSION: &str = "i_version";

/// Flags of the superblock: (word, set or cleared, what fsconfig takes). The empty ones are the default, or have no
/// meaning for a container.
const SUPERBLOCK: &[(&str, bool, &str)] = &[
    ("async", false, "sync"),
    ("defaults", false, ""),
    ("dirsync", true, "dirsync"),
    ("iversion", true, IVERSION),
    ("lazytime", true, "lazytime"),
    ("loud", false, ""),
    ("mand", true, "mand"),
    ("noiversion", false, IVERSION),
    ("nolazytime", false, "lazytime"),
    ("nomand", false, "mand"),
    ("silent", false, ""),
    ("sync", true, "sync"),
];

const NOT_BELOW: &str = "it belongs to file systems, those below a mount keep theirs";

/// Words that other runtimes know, and why they are not carried out.
const REFUSED: &[(&str, &str)] = &[
    ("rasync", NOT_BELOW),
    ("rdirsync", NOT_BELOW),
    ("remount", "every mount of a container is a new one"),
    ("rmand", NOT_BELOW),
    ("rnomand", NOT_BELOW),
    ("rsync", NOT_BELOW),
];

/// Reads the words of `options`, in order. What no table knows belongs to the file system.
pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Options, Refusal> {
    let mut all = Options::default();
    for (index, word) in options.into_iter().enumerate() {
        let added = all.add(index, word);
        added.map_err(|text| Refusal { index, text })?;
    }
    Ok(all)
}

impl Options {
    fn add(&mut self, index: usize, word: &str) -> Result<(), String> {
        if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == word) {
            return Err(format!("the option {word} is not supported: {why}"));
        }
        match word {
            // Engines write it where they have nothing to say: buildah for a volume without options.
            "" => {}
            "bind" => self.bind = self.bind.or(Some(Reach::Single)),
            "rbind" => self.bind = Some(Reach::Recursive),
            "tmpcopyup" => self.copy_up = true,
            "dest-nofollow" => self.target_link = TargetLink::Covered,
            "src-nofollow" => self.source_link = SourceLink::Bound,
            "copy-symlink" => self.source_link = SourceLink::Copied,
            _ if self.add_id_map(index, word)
                || self.add_attribute(word)
                || self.add_propagation(word)
                || self.add_flag(word) => {}
            _ => self.add_data(word),
        }
        Ok(())
    }

    fn add_id_map(&mut self, index: usize, word: &str) -> bool {
        let (name, maps) = match word.split_once('=') {
            Some((name, maps)) => (name, Some(maps.to_owned())),
            None => (word, None),
        };
        let reach = match name {
            "idmap" => Reach::Single,
            "ridmap" => Reach::Recursive,
            _ => return false,
        };
        self.id_map = Some(IdMapWord { index, reach, maps });
        true
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

    fn add_flag(&mut self, word: &str) -> bool {
        let found = SUPERBLOCK.iter().find(|(name, ..)| *name == word);
        if let Some(&(_, on, flag)) = found {
            self.flags.retain(|is| *is != flag);
            if on {
                self.flags.push(flag);
            }
        }
        found.is_some()
    }

    fn add_data(&mut self, word: &str) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word, None),
        };
        self.data.push((key.to_owned(), value));
    }
}

/// The words of no table.
const OTHERS: [&str; 8] = [
    "bind",
    "copy-symlink",
    "dest-nofollow",
    "idmap",
    "rbind",
    "ridmap",
    "src-nofollow",
    "tmpcopyup",
];

/// Every word that is carried out, sorted.
pub fn known() -> Vec<String> {
    let mut words: Vec<String> = OTHERS.map(String::from).into();
    words.extend(ATTRIBUTES.iter().map(|(name, ..)| (*name).to_owned()));
    words.extend(ATTRIBUTES.iter().map(|(name, ..)| format!("r{name}")));
    words.extend(PROPAGATIONS.iter().map(|(name, ..)| (*name).to_owned()));
    words.extend(SUPERBLOCK.iter().map(|(name, ..)| (*name).to_owned()));
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests;
