// SPDX-License-Identifier: Apache-2.0
//! Questions about calls, namespaces and kernel parameters. Part of `check`; reads only.

use std::os::fd::{AsFd, BorrowedFd};

use corten_sys::cgroup_fs::filesystem_at;
use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::process::{Namespaces as Kinds, effective_gid, effective_uid};
use corten_sys::{Errno, probe};

use super::Asked;
use crate::bundle::finding::Report;
use crate::bundle::{pointer_part, spec::LinuxNamespaceType as Type};
use crate::host::kernel;
use crate::plan::namespaces::IdMap;

pub(super) fn calls(_: &Asked<'_>, report: &mut Report) {
    for call in probe::missing_calls() {
        report.lacks(
            "",
            format!("this kernel has no {call}"),
            "corten needs Linux 5.14, and no seccomp filter around it that hides its calls",
        );
    }
}

/// (type, name below /proc/self/ns, name in /proc/sys/user/max_*_namespaces)
const KINDS: [(Type, &str, &str); 8] = [
    (Type::Cgroup, "cgroup", "cgroup"),
    (Type::Ipc, "ipc", "ipc"),
    (Type::Mount, "mnt", "mnt"),
    (Type::Network, "net", "net"),
    (Type::Pid, "pid", "pid"),
    (Type::Time, "time", "time"),
    (Type::User, "user", "user"),
    (Type::Uts, "uts", "uts"),
];

pub(super) fn namespaces(asked: &Asked<'_>, report: &mut Report) {
    let Some(linux) = asked.linux() else { return };
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let found = KINDS.iter().find(|(typ, ..)| *typ == namespace.typ);
        let Some((_, name, limit)) = found else {
            continue;
        };
        let pointer = format!("/linux/namespaces/{index}");
        if !kernel::has_namespace(&asked.proc, name) {
            report.lacks(pointer, format!("this kernel has no {name} namespaces"), "");
            continue;
        }
        let file = format!("user/max_{limit}_namespaces");
        let is_new = namespace.path.as_deref().unwrap_or_default().is_empty();
        if is_new && kernel::number(&asked.proc, &format!("sys/{file}")) == Some(0) {
            report.lacks(
                pointer,
                format!("/proc/sys/{file} is 0, no more can be made"),
                "raise it with sysctl(8)",
            );
        }
    }
}

pub(super) fn joined(asked: &Asked<'_>, report: &mut Report) {
    for join in &asked.plan.namespaces.join {
        let opened = fs::open(
            fs::CWD,
            &join.path,
            OFlags::RDONLY | OFlags::NONBLOCK,
            Mode::empty(),
        );
        let path = join.path.display();
        let kind = opened.and_then(|file| Ok((probe::namespace_kind(file.as_fd())?, file)));
        let wrong = match kind {
            Ok((kind, file)) if kind == join.kind => match asked.plan.change_in(kind) {
                Some((own, change)) if is_own(asked, own, file.as_fd()) => {
                    format!("it is the host's own namespace, and {change} would change the host")
                }
                _ => continue,
            },
            Ok(_) => format!("{path} is a namespace of another kind"),
            Err(error) if error.errno() == Errno::NOTTY => format!("{path} is no namespace"),
            Err(error) => format!("open the namespace {path}: {error}"),
        };
        report.lacks(&join.pointer, wrong, "");
    }
}

/// Whether `file` is the namespace of the caller's own that is linked as `name`.
fn is_own(asked: &Asked<'_>, name: &str, file: BorrowedFd<'_>) -> bool {
    let kind = name.trim_start_matches("ns/");
    let own = asked.proc.namespace(corten_sys::process::own_pid(), kind);
    let identity = |fd: BorrowedFd<'_>| fs::stat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    own.is_ok_and(|own| identity(own.as_fd()) == identity(file))
}

/// Without CAP_SYS_ADMIN a container needs a user namespace of its own, and a user maps just the own ids.
pub(super) fn privileges(asked: &Asked<'_>, report: &mut Report) {
    let namespaces = &asked.plan.namespaces;
    if asked.has("CAP_SYS_ADMIN") {
        return;
    }
    if !namespaces.has_user() {
        report.lacks(
            "/linux/namespaces",
            "making namespaces takes CAP_SYS_ADMIN, which the caller lacks",
            "run corten as root, or give the container a user namespace",
        );
    }
    for file in [
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ] {
        let forbids = i64::from(file.contains("restrict"));
        if namespaces.create.contains(Kinds::USER)
            && kernel::number(&asked.proc, &format!("sys/{file}")) == Some(forbids)
        {
            report.lacks(
                "/linux/namespaces",
                format!(
                    "this host forbids user namespaces to users: /proc/sys/{file} is {forbids}"
                ),
                "change it with sysctl(8), or run corten as root",
            );
        }
    }
    let Some(maps) = &namespaces.maps else { return };
    let own = |maps: &[IdMap], id: u32| matches!(maps, [map] if map.size == 1 && map.outside == id);
    for (field, helper, good) in [
        ("uid", "newuidmap", own(&maps.uids, effective_uid())),
        ("gid", "newgidmap", own(&maps.gids, effective_gid())),
    ] {
        if !good && !is_in_path(helper) {
            report.lacks(
                format!("/linux/{field}Mappings"),
                format!("mapping other ids than the own one takes {helper}, which is not in PATH"),
                "install uidmap, and give the user ranges in /etc/subuid and /etc/subgid",
            );
        }
    }
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| fs::may_execute(&dir.join(program)).is_ok())
}

/// A new network namespace has no parameter that this one lacks.
pub(super) fn sysctls(asked: &Asked<'_>, report: &mut Report) {
    for (path, _, name) in &asked.plan.sysctls {
        let found = asked.proc.file(&format!("sys/{path}"), OFlags::PATH);
        if found.is_err_and(|error| error.errno() == Errno::NOENT) {
            let pointer = format!("/linux/sysctl/{}", pointer_part(name));
            report.lacks(pointer, format!("this kernel has no parameter {name}"), "");
        }
    }
}

pub(super) fn resctrl(asked: &Asked<'_>, report: &mut Report) {
    /// statfs(2)'s `f_type` of resctrl.
    const RDTGROUP_SUPER_MAGIC: u32 = 0x0765_5821;
    let place = "/sys/fs/resctrl";
    let wanted = asked.linux().is_some_and(|linux| linux.intel_rdt.is_some());
    let found = filesystem_at(std::path::Path::new(place));
    if wanted && !matches!(found, Ok(Some(RDTGROUP_SUPER_MAGIC))) {
        report.lacks(
            "/linux/intelRdt",
            format!("no resctrl is mounted at {place}"),
            "it takes a processor with RDT; mount it: mount -t resctrl resctrl /sys/fs/resctrl",
        );
    }
}
