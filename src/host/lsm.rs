// SPDX-License-Identifier: Apache-2.0
//! Which security modules this kernel has active. Called by the verbs whose bundle asks for one, before anything is made;
//! needs no privilege. Asked in procfs, which is always there, not in securityfs or selinuxfs, which a host may not have
//! mounted.

use std::os::fd::AsFd;

use corten_sys::Errno;
use corten_sys::fs::{self, OFlags, Procfs};

use crate::error::Result;

/// Whether AppArmor is active: its files are there in any kernel that was built with it, and can be read only then.
pub fn has_apparmor(proc: &Procfs) -> Result<bool> {
    let read = proc
        .own_file("attr/apparmor/current", OFlags::RDONLY)
        .and_then(|file| fs::read_to_end(file.as_fd(), 4096));
    match read {
        Ok(_) => Ok(true),
        Err(error) if [Errno::NOENT, Errno::INVAL].contains(&error.errno()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether SELinux is active: only then its file system is there to be mounted.
pub fn has_selinux(proc: &Procfs) -> Result<bool> {
    let text = proc.read("filesystems")?;
    Ok(lists(&String::from_utf8_lossy(&text), "selinuxfs"))
}

/// Whether `name` is in the text of /proc/filesystems.
fn lists(text: &str, name: &str) -> bool {
    text.lines()
        .any(|line| line.split_whitespace().last() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_file_system_by_its_whole_name() {
        let text = "nodev\tsysfs\nnodev\tselinuxfs\n\text4\n";
        let cases = [
            ("selinuxfs", true),
            ("ext4", true),
            ("selinux", false),
            ("nodev", false),
        ];
        for (name, wanted) in cases {
            assert_eq!(lists(text, name), wanted, "{name}");
        }
    }
}
