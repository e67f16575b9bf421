// SPDX-License-Identifier: Apache-2.0
//! The security modules that a bundle's labels are for: held against those that the kernel has active, before anything is
//! made. Called by the verbs that start a process.

use corten_sys::fs::Procfs;

use crate::error::{Error, Result};
use crate::host::lsm;
use crate::plan::process::Process;

/// The profile that confines nothing; without AppArmor every process has it.
const UNCONFINED: &str = "unconfined";

/// Refuses labels for a module that isn't active. What asks for nothing is never looked up.
pub fn settle(process: &mut Process, mount_label: Option<&str>) -> Result<()> {
    let field = |name: &str| format!("{}/{name}", process.pointer);
    let mut profile = process.apparmor.as_deref();
    if profile.is_some() && !lsm::has_apparmor(&Procfs::open()?)? {
        if profile != Some(UNCONFINED) {
            return Err(Error::unsupported(field("apparmorProfile"), "AppArmor is not active on this host")
                .remedy("enable it (apparmor in lsm= on the kernel's command line) and load the profile, or leave the field out"));
        }
        profile = None;
    }
    let labels = [
        process.selinux.as_ref().map(|_| field("selinuxLabel")),
        mount_label.map(|_| "/linux/mountLabel".to_owned()),
    ];
    if let Some(pointer) = labels.into_iter().flatten().next()
        && !lsm::has_selinux(&Procfs::open()?)?
    {
        return Err(
            Error::unsupported(pointer, "SELinux is not active on this host").remedy(
                "enable it (selinux in lsm= on the kernel's command line), or leave the field out",
            ),
        );
    }
    process.apparmor = profile.map(str::to_owned);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::spec;

    fn process(apparmor: Option<&str>, selinux: Option<&str>) -> Process {
        let mut process =
            crate::plan::process::plan(&spec::Process::default(), "/process").unwrap();
        process.apparmor = apparmor.map(str::to_owned);
        process.selinux = selinux.map(str::to_owned);
        process
    }

    #[test]
    fn nothing_is_asked_of_a_host_where_nothing_is_asked_for() {
        let mut plain = process(None, None);
        settle(&mut plain, None).unwrap();
        assert_eq!(plain, process(None, None));
    }

    /// On a host with neither, each field is named with the remedy; on one with them there is nothing to refuse.
    #[test]
    fn names_the_field_that_asks() {
        let proc = Procfs::open().unwrap();
        let apparmor = lsm::has_apparmor(&proc).unwrap();
        let selinux = lsm::has_selinux(&proc).unwrap();
        let label = Some("u:r:t:s0");
        let cases = [
            (
                process(Some("corten"), None),
                None,
                apparmor,
                "/process/apparmorProfile",
            ),
            (process(None, label), None, selinux, "/process/selinuxLabel"),
            (process(None, None), label, selinux, "/linux/mountLabel"),
        ];
        for (mut process, mount_label, is_active, pointer) in cases {
            match (settle(&mut process, mount_label), is_active) {
                (Ok(()), true) => {}
                (Err(error), false) => {
                    assert_eq!(error.pointer(), Some(pointer));
                    assert!(error.to_string().contains("is not active on this host"));
                }
                (answer, _) => panic!("{pointer}: {answer:?}"),
            }
        }
        let mut unconfined = process(Some(UNCONFINED), None);
        settle(&mut unconfined, None).unwrap();
        assert_eq!(unconfined.apparmor.is_some(), apparmor);
    }
}
