// SPDX-License-Identifier: Apache-2.0
//! What this kernel has: namespaces, file systems, loaded profiles, numbers of processors. Read from procfs and sysfs
//! when somebody asks; needs no privilege. Called by `check`, which has the time: a start finds out by doing.

use corten_sys::fs::Procfs;

/// The number in a file of procfs; `None` where there is no such file.
pub fn number(proc: &Procfs, path: &str) -> Option<i64> {
    let text = proc.read(path).ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// Whether the kernel was built with the namespaces that are called `name` below /proc/self/ns.
pub fn has_namespace(proc: &Procfs, name: &str) -> bool {
    let flags = corten_sys::fs::OFlags::PATH | corten_sys::fs::OFlags::NOFOLLOW;
    // O_PATH alone takes the link itself, which is no walk through it.
    proc.own_file(&format!("ns/{name}"), flags).is_ok()
}

/// Whether the file system `name` is there now; one that is not may still be a module.
pub fn has_filesystem(proc: &Procfs, name: &str) -> bool {
    let text = proc.read("filesystems").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .any(|line| line.split_whitespace().last() == Some(name))
}

/// Whether the file system `name` is known to come with a module of this kernel.
pub fn has_module(proc: &Procfs, name: &str) -> bool {
    let release = proc.read("sys/kernel/osrelease").unwrap_or_default();
    let release = String::from_utf8_lossy(&release);
    let release = release.trim();
    let aliases = std::fs::read_to_string(format!("/lib/modules/{release}/modules.alias"));
    let alias = format!("alias fs-{name} ");
    aliases.is_ok_and(|text| text.lines().any(|line| line.starts_with(&alias)))
}

/// Whether the AppArmor profile `name` is loaded; `None` where the list can't be read.
pub fn has_apparmor_profile(name: &str) -> Option<bool> {
    let text = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").ok()?;
    let profile = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_owned());
    Some(
        text.lines()
            .any(|line| profile(line).as_deref() == Some(name)),
    )
}

/// The highest number of a processor (`cpu`) or memory node (`node`) that this machine can ever have.
pub fn highest(kind: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/sys/devices/system/{kind}/possible")).ok()?;
    highest_in(&text)
}

/// The highest number of a list like `0-3,7`.
pub fn highest_in(list: &str) -> Option<u32> {
    let numbers = list.split([',', '-']).map(|number| number.trim().parse());
    numbers.filter_map(Result::ok).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_kernel() {
        let proc = Procfs::open().unwrap();
        assert!(has_namespace(&proc, "mnt") && has_namespace(&proc, "user"));
        assert!(!has_namespace(&proc, "dream"));
        assert!(has_filesystem(&proc, "tmpfs") && has_filesystem(&proc, "proc"));
        assert!(!has_filesystem(&proc, "nodev") && !has_filesystem(&proc, "nosuchfs"));
        assert!(number(&proc, "sys/fs/nr_open").unwrap() >= 1024);
        assert_eq!(number(&proc, "sys/fs/nothing"), None);
        assert!(highest("cpu").is_some());
        assert_eq!(highest("nothing"), None);
    }

    #[test]
    fn lists_have_a_highest_number() {
        for (list, wanted) in [
            ("0-3,7\n", Some(7)),
            ("5", Some(5)),
            ("8,0-2", Some(8)),
            ("", None),
        ] {
            assert_eq!(highest_in(list), wanted, "{list}");
        }
    }
}
