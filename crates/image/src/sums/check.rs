// SPDX-License-Identifier: Apache-2.0
//! A tree beside what it should be.

use std::fmt;

use super::{Node, Nodes, What, shown};

/// What is wrong with one path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Below the tree's root; empty for the root itself.
    pub path: Vec<u8>,
    /// How it differs.
    pub how: How,
}

/// How a path differs from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is gone.
    Missing,
    /// No layer has it.
    Extra,
    /// It is of another type, or leads elsewhere.
    Type,
    /// It has other bytes, or not as many.
    Content {
        /// Bytes that it has.
        has: u64,
        /// Bytes that it should have.
        should: u64,
    },
    /// Mode, owner, time or attributes.
    Metadata(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown(&self.path);
        match self.how {
            How::Missing => write!(f, "{path} is missing"),
            How::Extra => write!(f, "{path} should not be there"),
            How::Type => write!(f, "{path} is of another type, or leads elsewhere"),
            How::Content { has, should } if has != should => {
                write!(f, "{path} has {has} bytes and should have {should}")
            }
            How::Content { .. } => write!(f, "{path} has other content"),
            How::Metadata(what) => write!(f, "{path} has another {what}"),
        }
    }
}

/// How `found` differs from what it `should` be, in byte order of the paths.
pub fn differences(should: &Nodes, found: &Nodes) -> Vec<Damage> {
    let mut damages: Vec<Damage> = Vec::new();
    for (path, node) in should {
        let how = match found.get(path) {
            None => Some(How::Missing),
            Some(there) => differs(node, there),
        };
        damages.extend(how.map(|how| Damage {
            path: path.clone(),
            how,
        }));
    }
    let extra = found.keys().filter(|path| !should.contains_key(*path));
    damages.extend(extra.map(|path| Damage {
        path: path.clone(),
        how: How::Extra,
    }));
    damages.sort_by(|a, b| a.path.cmp(&b.path));
    damages
}

fn differs(should: &Node, found: &Node) -> Option<How> {
    match (&should.what, &found.what) {
        (
            What::File { size, sum },
            What::File {
                size: has,
                sum: other,
            },
        ) if (size, sum) != (has, other) => {
            return Some(How::Content {
                has: *has,
                should: *size,
            });
        }
        (a, b) if a != b => return Some(How::Type),
        _ => {}
    }
    // A file's other names have the looks of the first.
    if matches!(should.what, What::Same(_)) {
        return None;
    }
    // A link's mode is the kernel's own.
    let is_link = matches!(should.what, What::Symlink(_));
    let looks = [
        (should.mode != found.mode && !is_link, "mode"),
        ((should.uid, should.gid) != (found.uid, found.gid), "owner"),
        (should.mtime != found.mtime, "modification time"),
        (should.xattrs != found.xattrs, "set of extended attributes"),
    ];
    let wrong = looks.iter().find(|(wrong, _)| *wrong);
    wrong.map(|(_, what)| How::Metadata(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Time;

    fn node(what: What) -> Node {
        Node {
            what,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        }
    }

    fn file(size: u64, sum: u8) -> Node {
        node(What::File {
            size,
            sum: [sum; 32],
        })
    }

    #[test]
    fn each_difference_has_its_name() {
        let should = file(3, 1);
        for (found, how) in [
            (file(3, 1), None),
            (file(0, 2), Some(How::Content { has: 0, should: 3 })),
            (file(3, 2), Some(How::Content { has: 3, should: 3 })),
            (node(What::Fifo), Some(How::Type)),
            (
                Node {
                    mode: 0o600,
                    ..file(3, 1)
                },
                Some(How::Metadata("mode")),
            ),
            (
                Node {
                    gid: 1,
                    ..file(3, 1)
                },
                Some(How::Metadata("owner")),
            ),
            (
                Node {
                    mtime: Time {
                        seconds: 1,
                        nanos: 0,
                    },
                    ..file(3, 1)
                },
                Some(How::Metadata("modification time")),
            ),
            (
                Node {
                    xattrs: vec![(b"user.a".to_vec(), Vec::new())],
                    ..file(3, 1)
                },
                Some(How::Metadata("set of extended attributes")),
            ),
        ] {
            let shoulds = Nodes::from([(b"a".to_vec(), should.clone())]);
            let founds = Nodes::from([(b"a".to_vec(), found)]);
            let damages = differences(&shoulds, &founds);
            assert_eq!(damages.first().map(|damage| damage.how), how);
            assert_eq!(differences(&shoulds, &Nodes::new())[0].how, How::Missing);
            assert_eq!(differences(&Nodes::new(), &founds)[0].how, How::Extra);
        }
    }
}
