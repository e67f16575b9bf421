// SPDX-License-Identifier: Apache-2.0
//! Options of a mount, in the words of fstab(5), as what mount(2) takes. Pure.

use corten_sys::loop_device::Transfer;
use corten_sys::mount::{Attr, Propagation, Reach};
use rustix::mount::MountFlags;

/// MS_REMOUNT, for which rustix has a call of its own (linux/mount.h).
const REMOUNT: MountFlags = MountFlags::from_bits_retain(32);

/// What containerd tells itself by an option.
const CONTAINERDS_OWN: &str = "X-containerd.";

/// An option's effect on the flags.
#[derive(Clone, Copy)]
enum Effect {
    Set,
    Clear,
}
use Effect::{Clear, Set};

/// Flags of mount(2).
const FLAGS: [(&str, Effect, MountFlags); 22] = [
    ("async", Clear, MountFlags::SYNCHRONOUS),
    ("atime", Clear, MountFlags::NOATIME),
    ("dev", Clear, MountFlags::NODEV),
    ("diratime", Clear, MountFlags::NODIRATIME),
    ("dirsync", Set, MountFlags::DIRSYNC),
    ("exec", Clear, MountFlags::NOEXEC),
    ("mand", Set, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
    ("noatime", Set, MountFlags::NOATIME),
    ("nodev", Set, MountFlags::NODEV),
    ("nodiratime", Set, MountFlags::NODIRATIME),
    ("noexec", Set, MountFlags::NOEXEC),
    ("nomand", Clear, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
    ("norelatime", Clear, MountFlags::RELATIME),
    ("nostrictatime", Clear, MountFlags::STRICTATIME),
    ("nosuid", Set, MountFlags::NOSUID),
    ("relatime", Set, MountFlags::RELATIME),
    ("remount", Set, REMOUNT),
    ("ro", Set, MountFlags::RDONLY),
    ("rw", Clear, MountFlags::RDONLY),
    ("strictatime", Set, MountFlags::STRICTATIME),
    ("suid", Clear, MountFlags::NOSUID),
    ("sync", Set, MountFlags::SYNCHRONOUS),
];

/// The flags that are attributes of a mount, not of its file system.
const ATTRIBUTES: [(MountFlags, Attr); 6] = [
    (MountFlags::NOATIME, Attr::NOATIME),
    (MountFlags::NODEV, Attr::NODEV),
    (MountFlags::NODIRATIME, Attr::NODIRATIME),
    (MountFlags::NOEXEC, Attr::NOEXEC),
    (MountFlags::NOSUID, Attr::NOSUID),
    (MountFlags::RDONLY, Attr::RDONLY),
];

const PROPAGATION: [(&str, Propagation, Reach); 8] = [
    ("private", Propagation::Private, Reach::Single),
    ("rprivate", Propagation::Private, Reach::Recursive),
    ("rshared", Propagation::Shared, Reach::Recursive),
    ("rslave", Propagation::Slave, Reach::Recursive),
    ("runbindable", Propagation::Unbindable, Reach::Recursive),
    ("shared", Propagation::Shared, Reach::Single),
    ("slave", Propagation::Slave, Reach::Single),
    ("unbindable", Propagation::Unbindable, Reach::Single),
];

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Mount a file system.
    New,
    /// Show what is at the source at the target too.
    Bind(Reach),
    /// Change the file system that is there.
    Remount,
    /// Change the attributes of the mount that is there.
    RemountBind,
}

impl Request {
    /// Whether the mount alone is meant, not its file system.
    pub fn is_bind(self) -> bool {
        matches!(self, Self::Bind(_) | Self::RemountBind)
    }
}

/// The options of one mount, sorted.
#[derive(Debug, PartialEq)]
pub struct Options<'a> {
    /// What is to be done.
    pub request: Request,
    /// What mount(2) takes for that.
    pub flags: MountFlags,
    /// The same, where the mount alone is meant.
    pub attributes: Attr,
    /// Set afterwards.
    pub propagation: Option<(Propagation, Reach)>,
    /// The file system's own options.
    pub data: Vec<&'a str>,
    /// How the source is read, where that is an image in a file.
    pub image: Option<Transfer>,
    /// The maps of user and group ids that its owners are seen through.
    pub id_map: Option<[&'a str; 2]>,
}

impl<'a> Options<'a> {
    /// What nobody here knows is the file system's. Of what excludes each other, the last is taken.
    pub fn parse(options: &'a [String]) -> Self {
        let mut flags = MountFlags::empty();
        let (mut bind, mut propagation, mut data) = (None, None, Vec::new());
        let (mut is_image, mut uids, mut gids) = (false, None, None);
        for option in options.iter().map(String::as_str) {
            let known = FLAGS.iter().find(|(name, ..)| *name == option);
            let kind = PROPAGATION.iter().find(|(name, ..)| *name == option);
            match (option, known, kind) {
                (_, Some((_, Set, flag)), _) => flags.insert(*flag),
                (_, Some((_, Clear, flag)), _) => flags.remove(*flag),
                (_, _, Some((_, kind, reach))) => propagation = Some((*kind, *reach)),
                ("bind", ..) => bind = Some(Reach::Single),
                ("rbind", ..) => bind = Some(Reach::Recursive),
                ("loop", ..) => is_image = true,
                ("" | "defaults", ..) => {}
                (own, ..) if own.starts_with(CONTAINERDS_OWN) => {}
                (other, ..) => match other.split_once('=') {
                    Some(("uidmap", map)) => uids = Some(map),
                    Some(("gidmap", map)) => gids = Some(map),
                    _ => data.push(other),
                },
            }
        }
        let request = match (flags.contains(REMOUNT), bind) {
            (false, None) => Request::New,
            (false, Some(reach)) => Request::Bind(reach),
            (true, None) => Request::Remount,
            (true, Some(_)) => Request::RemountBind,
        };
        let attributes = ATTRIBUTES.iter().filter(|(flag, _)| flags.contains(*flag));
        let attributes = attributes.fold(Attr::empty(), |all, (_, attr)| all | *attr);
        if let Request::Bind(reach) = request {
            flags = MountFlags::BIND;
            if reach == Reach::Recursive {
                flags |= MountFlags::REC;
            }
        }
        Self {
            request,
            flags,
            attributes,
            propagation,
            image: is_image.then(|| transfer(&mut data)),
            data,
            // As containerd has it, one alone is none.
            id_map: uids.zip(gids).map(|(uids, gids)| [uids, gids]),
        }
    }
}

/// An image is read as its own option says, which the file system in it doesn't know.
fn transfer(data: &mut Vec<&str>) -> Transfer {
    let before = data.len();
    data.retain(|option| *option != "direct-io");
    match data.len() == before {
        true => Transfer::Cached,
        false => Transfer::Direct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T>(text: &str, look: impl FnOnce(&Options<'_>) -> T) -> T {
        let options: Vec<String> = text.split(' ').map(str::to_owned).collect();
        look(&Options::parse(&options))
    }

    #[test]
    fn words_become_flags() {
        let none = MountFlags::empty();
        let cases = [
            ("", Request::New, none),
            ("defaults", Request::New, none),
            (
                "ro nosuid nodev",
                Request::New,
                MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
            ),
            ("ro rw noexec exec", Request::New, none),
            ("bind ro", Request::Bind(Reach::Single), MountFlags::BIND),
            (
                "rbind rw",
                Request::Bind(Reach::Recursive),
                MountFlags::BIND | MountFlags::REC,
            ),
            ("remount ro", Request::Remount, REMOUNT | MountFlags::RDONLY),
            (
                "remount ro bind",
                Request::RemountBind,
                REMOUNT | MountFlags::RDONLY,
            ),
            (
                "sync strictatime dirsync",
                Request::New,
                MountFlags::SYNCHRONOUS | MountFlags::STRICTATIME | MountFlags::DIRSYNC,
            ),
        ];
        for (text, request, flags) in cases {
            let found = parsed(text, |options| (options.request, options.flags));
            assert_eq!(found, (request, flags), "{text}");
        }
    }

    #[test]
    fn a_bind_has_attributes() {
        for (text, wanted) in [
            ("rbind", Attr::empty()),
            ("rbind rw suid", Attr::empty()),
            ("bind ro", Attr::RDONLY),
            (
                "bind ro nosuid nodev noexec",
                Attr::RDONLY | Attr::NOSUID | Attr::NODEV | Attr::NOEXEC,
            ),
            ("bind noatime nodiratime", Attr::NOATIME | Attr::NODIRATIME),
        ] {
            assert_eq!(parsed(text, |options| options.attributes), wanted, "{text}");
        }
    }

    #[test]
    fn propagation_is_apart() {
        for (text, wanted) in [
            ("ro", None),
            (
                "rbind rprivate",
                Some((Propagation::Private, Reach::Recursive)),
            ),
            ("shared slave", Some((Propagation::Slave, Reach::Single))),
            ("unbindable", Some((Propagation::Unbindable, Reach::Single))),
        ] {
            assert_eq!(
                parsed(text, |options| options.propagation),
                wanted,
                "{text}"
            );
        }
    }

    #[test]
    fn the_rest_is_the_file_systems() {
        let cases: [(&str, &[&str]); 5] = [
            (
                "workdir=/w upperdir=/u lowerdir=/a:/b index=off",
                &["workdir=/w", "upperdir=/u", "lowerdir=/a:/b", "index=off"],
            ),
            ("size=1m X-containerd.mkfs.size=5 ro", &["size=1m"]),
            ("uidmap=0:1:1 gidmap=0:1:1 volatile", &["volatile"]),
            ("loop direct-io noload", &["noload"]),
            ("direct-io", &["direct-io"]),
        ];
        for (text, wanted) in cases {
            parsed(text, |options| assert_eq!(options.data, wanted, "{text}"));
        }
    }

    #[test]
    fn images_and_maps() {
        for (text, image, id_map) in [
            ("ro", None, None),
            ("loop ro", Some(Transfer::Cached), None),
            ("direct-io loop", Some(Transfer::Direct), None),
            ("uidmap=0:1:2 gidmap=0:3:4", None, Some(["0:1:2", "0:3:4"])),
            ("uidmap=0:1:2", None, None),
        ] {
            parsed(text, |options| {
                assert_eq!((options.image, options.id_map), (image, id_map), "{text}");
            });
        }
    }
}
