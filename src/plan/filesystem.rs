// SPDX-License-Identifier: Apache-2.0
//! File systems that are made for the container: which flags, options and labels they get. Pure.

use corten_sys::mount::Attr;

use crate::bundle::spec;
use crate::plan::options::{self, Options};

/// A file system to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFilesystem {
    /// `proc`, `tmpfs` …
    pub fstype: String,
    /// What the file system takes for its device; a mere name for most.
    pub source: Option<String>,
    /// Flags of the superblock.
    pub flags: Vec<&'static str>,
    /// The file system's own options.
    pub data: Vec<(String, Option<String>)>,
    /// Copy what is below it up into it.
    pub copy_up: bool,
    /// The SELinux label that its root is given, where the file system takes none as an option.
    pub label: Option<String>,
}

/// File systems that have no read-only superblock, or only one for the whole host: the mount alone is read-only.
const PSEUDO: &[&str] = &[
    "cgroup", "cgroup2", "devpts", "mqueue", "overlay", "proc", "sysfs", "tmpfs",
];

/// Decides. What `options` has for the file system is taken out of it.
pub fn plan(
    mount: &spec::Mount,
    fstype: &str,
    options: &mut Options,
    label: Option<&str>,
) -> NewFilesystem {
    let mut flags = std::mem::take(&mut options.flags);
    if fstype != "ext4" {
        flags.retain(|flag| *flag != options::IVERSION);
    }
    let readonly = options.attr.set.contains(Attr::RDONLY);
    if readonly && !PSEUDO.contains(&fstype) {
        flags.push("ro");
    }
    let mut data = std::mem::take(&mut options.data);
    let label = label.filter(|_| !data.iter().any(|(key, _)| key.ends_with("context")));
    let labelled = labelling(fstype);
    if let (Some(label), Labelling::Option) = (label, labelled) {
        data.push(("context".to_owned(), Some(label.to_owned())));
    }
    NewFilesystem {
        fstype: fstype.to_owned(),
        source: mount.source.clone(),
        flags,
        data,
        copy_up: options.copy_up,
        label: label
            .filter(|_| labelled == Labelling::Root)
            .map(str::to_owned),
    }
}

/// How `linux.mountLabel` gets to a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Labelling {
    /// The policy labels what the kernel shows of itself.
    None,
    /// As the option `context`, for every file in it.
    Option,
    /// As an attribute of its root.
    Root,
}

/// As runc and crun have it.
fn labelling(fstype: &str) -> Labelling {
    match fstype {
        "proc" | "sysfs" => Labelling::None,
        "mqueue" => Labelling::Root,
        _ => Labelling::Option,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn planned(fstype: &str, words: &[&str], label: Option<&str>) -> NewFilesystem {
        let mut options = options::parse(words.iter().copied()).unwrap();
        plan(&spec::Mount::default(), fstype, &mut options, label)
    }

    #[test]
    fn labels() {
        let context = |label: &str| ("context".to_owned(), Some(label.to_owned()));
        let cases: [(&str, &[&str], Vec<_>, Option<&str>); 8] = [
            ("tmpfs", &["nosuid"], vec![context(LABEL)], None),
            ("devpts", &[], vec![context(LABEL)], None),
            ("overlay", &[], vec![context(LABEL)], None),
            ("ramfs", &["context=u:r:t"], vec![context("u:r:t")], None),
            (
                "ramfs",
                &["rootcontext=u:r:t"],
                vec![("rootcontext".into(), Some("u:r:t".into()))],
                None,
            ),
            ("mqueue", &[], vec![], Some(LABEL)),
            ("proc", &[], vec![], None),
            ("sysfs", &[], vec![], None),
        ];
        for (fstype, words, data, root) in cases {
            let labelled = planned(fstype, words, Some(LABEL));
            assert_eq!(labelled.data, data, "{fstype} {words:?}");
            assert_eq!(labelled.label.as_deref(), root, "{fstype}");
            let plain = planned(fstype, &[], None);
            assert_eq!((plain.data, plain.label), (vec![], None), "{fstype}");
        }
    }

    #[test]
    fn flags() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("ext4", &["iversion", "sync"], &["i_version", "sync"]),
            ("xfs", &["iversion", "sync"], &["sync"]),
            ("tmpfs", &["ro"], &[]),
            ("ext4", &["ro"], &["ro"]),
            ("ext4", &["ro", "rw"], &[]),
            ("proc", &["ro", "silent"], &[]),
        ];
        for (fstype, words, wanted) in cases {
            assert_eq!(
                planned(fstype, words, None).flags,
                wanted,
                "{fstype} {words:?}"
            );
        }
    }
}
