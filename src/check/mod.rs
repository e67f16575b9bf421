// SPDX-License-Identifier: Apache-2.0
//! What would become of a bundle on this host, without starting or changing anything: every rule of the document, then
//! every question to the kernel and the host, as one table in the order in which `create` comes to each.
//!
//! Runs in the runtime's own process with the caller's privileges, and opens for reading only; but for idmapped mounts, which
//! take a user namespace, and that a child which does nothing. What a start alone can tell (whether a hook succeeds, whether
//! a limit leaves room to live) is not guessed. Called by `command/check.rs`.

mod cgroup;
mod kernel;
mod mounts;
mod process;
mod program;
mod seccomp;

use std::os::fd::OwnedFd;
use std::path::Path;

use corten_sys::fs::Procfs;

use crate::bundle::finding::{Finding, Report, Unknown};
use crate::bundle::spec::{Linux, Spec};
use crate::bundle::{Bundle, validate};
use crate::cgroup::place::{self, Asker, Location};
use crate::cgroup::resources::Resources;
use crate::cgroup::{Entry, Paths};
use crate::error::Result;
use crate::host;
use crate::plan::namespaces::Caller;
use crate::plan::rootfs::Pivot;
use crate::plan::{Keyring, Options, Plan};

/// A question to the host.
pub struct Probe {
    /// The field that it is about; `*` stands for every item. Empty where every container needs it.
    pub pointer: &'static str,
    /// Where the spec, or the man page of the call, says so.
    pub section: &'static str,
    /// What has to be so, in one sentence.
    pub says: &'static str,
    look: fn(&Asked<'_>, &mut Report),
}

const fn probe(
    pointer: &'static str,
    section: &'static str,
    says: &'static str,
    look: fn(&Asked<'_>, &mut Report),
) -> Probe {
    Probe {
        pointer,
        section,
        says,
        look,
    }
}

/// All of them, in the order in which `create` would fail.
pub static PROBES: &[Probe] = &[
    probe(
        "",
        "syscalls(2)",
        "the kernel has the calls of Linux 5.14",
        kernel::calls,
    ),
    probe(
        "/process/apparmorProfile",
        "config.md#linux-process",
        "AppArmor is active, and the profile is loaded",
        process::apparmor,
    ),
    probe(
        "/process/selinuxLabel",
        "config.md#linux-process",
        "SELinux is active; for `/linux/mountLabel`, too",
        process::selinux,
    ),
    probe(
        "/linux/intelRdt",
        "config-linux.md#intelrdt",
        "resctrl is mounted",
        kernel::resctrl,
    ),
    probe(
        "/linux",
        "config-linux.md#control-groups",
        "the caller may make a cgroup where one is needed",
        cgroup::needed,
    ),
    probe(
        "/linux/cgroupsPath",
        "config-linux.md#cgroups-path",
        "the cgroup holds no processes and is not frozen",
        cgroup::unused,
    ),
    probe(
        "/linux/resources",
        "config-linux.md#control-groups",
        "the controllers of every limit are there and can be enabled",
        cgroup::controllers,
    ),
    probe(
        "/linux/resources",
        "config-linux.md#control-groups",
        "the kernel has the file of every limit",
        cgroup::files,
    ),
    probe(
        "/linux/resources/cpu",
        "config-linux.md#cpu",
        "processors and memory nodes exist",
        cgroup::cpu,
    ),
    probe(
        "/linux/resources/hugepageLimits/*",
        "config-linux.md#huge-page-limits",
        "the kernel has pages of that size",
        cgroup::hugepages,
    ),
    probe(
        "/root/path",
        "config.md#root",
        "the root filesystem is a directory",
        mounts::root,
    ),
    probe(
        "/linux/namespaces",
        "user_namespaces(7)",
        "the caller may make namespaces",
        kernel::privileges,
    ),
    probe(
        "/linux/namespaces/*",
        "config-linux.md#namespaces",
        "the kernel has every kind, and its limit leaves room",
        kernel::namespaces,
    ),
    probe(
        "/linux/namespaces/*/path",
        "config-linux.md#namespaces",
        "what is joined is a namespace of that kind",
        kernel::joined,
    ),
    probe(
        "/mounts/*",
        "config.md#mounts",
        "the source of a bind mount is there, and a procfs where it covers /proc",
        mounts::sources,
    ),
    probe(
        "/mounts/*",
        "config.md#mounts",
        "the target can be what the mount needs, and no link leads it to /proc",
        mounts::targets,
    ),
    probe(
        "/mounts/*",
        "config.md#mounts",
        "the kernel has the filesystem and takes its options",
        mounts::filesystems,
    ),
    probe(
        "/linux/uidMappings",
        "user_namespaces(7)",
        "the kernel takes so many mappings",
        mounts::containers_id_maps,
    ),
    probe(
        "/mounts/*/uidMappings",
        "user_namespaces(7)",
        "the mappings of a mount don't overlap, and the kernel takes so many",
        mounts::id_maps,
    ),
    probe(
        "/mounts/*/uidMappings",
        "mount_setattr(2)",
        "the file system there can be idmapped",
        mounts::idmapped,
    ),
    probe(
        "/linux/devices/*",
        "config-linux.md#devices",
        "nothing else is in a device's place",
        mounts::devices,
    ),
    probe(
        "/hooks/*/*",
        "config.md#posix-platform-hooks",
        "every hook is there and executable",
        program::hooks,
    ),
    probe(
        "/linux/sysctl/*",
        "config-linux.md#sysctl",
        "the kernel has the parameter",
        kernel::sysctls,
    ),
    probe(
        "/linux/memoryPolicy",
        "config-linux.md#memory-policy",
        "memory nodes exist",
        process::memory_policy,
    ),
    probe(
        "/process/rlimits/*",
        "getrlimit(2)",
        "no hard limit is raised without CAP_SYS_RESOURCE, nor above what the kernel allows",
        process::limits,
    ),
    probe(
        "/process/oomScoreAdj",
        "proc(5)",
        "the score is not lowered without CAP_SYS_RESOURCE",
        process::oom_score_adj,
    ),
    probe(
        "/process/capabilities",
        "capabilities(7)",
        "what the caller lacks the process is not given",
        process::capabilities,
    ),
    probe(
        "/linux/seccomp",
        "config-linux.md#seccomp",
        "the kernel knows every action and flag",
        seccomp::actions,
    ),
    probe(
        "/linux/seccomp",
        "config-linux.md#seccomp",
        "the profile makes one program, and somebody has its agent's socket",
        seccomp::agent,
    ),
    probe(
        "/process/cwd",
        "config.md#process",
        "the working directory is a directory or can be made",
        program::cwd,
    ),
    probe(
        "/process/args/0",
        "config.md#posix-process",
        "the program is there, its user and its mount let it be executed, and what interprets it is there",
        program::program,
    ),
];

/// A bundle that is understood, and what the questions need.
struct Asked<'a> {
    spec: &'a Spec,
    plan: &'a Plan,
    resources: &'a Resources,
    /// The place of its cgroup, if one could be decided on.
    place: Option<&'a Location>,
    proc: Procfs,
    /// The rootfs, if it can be opened.
    root: Option<OwnedFd>,
    /// The caller's effective capabilities, by number.
    capable: u64,
}

impl Asked<'_> {
    fn linux(&self) -> Option<&Linux> {
        self.spec.linux.as_ref()
    }

    /// Whether the caller has the capability `name`.
    fn has(&self, name: &str) -> bool {
        let number = crate::bundle::names::capability(name);
        number.is_some_and(|number| self.capable & (1 << number) != 0)
    }
}

/// What stands for the id of a container that has none yet: no container's can have it.
pub const NOBODY: &str = ":";

/// Everything that is to be said of the bundle in the directory `path`.
pub fn check(path: &Path, unknown: Unknown, asker: Asker<'_>) -> Vec<Finding> {
    let mut findings = match Bundle::examine(path, unknown) {
        Ok((bundle, mut findings)) => {
            let mut report = Report::default();
            ask(&bundle, asker, &mut report);
            let found = report.finish();
            // The plan stumbles over what the rules have named already.
            let known = |new: &Finding| {
                findings
                    .iter()
                    .any(|old| old.severity.refuses() && old.covers(new))
            };
            let new: Vec<_> = found.into_iter().filter(|new| !known(new)).collect();
            findings.extend(new);
            findings
        }
        Err(error) => vec![Finding::of(&error)],
    };
    for finding in &mut findings {
        if finding.section.is_empty() {
            finding.section = validate::section(&finding.pointer);
        }
    }
    findings
}

/// Makes the plan that `create` would make, and asks the host about it.
fn ask(bundle: &Bundle, asker: Asker<'_>, report: &mut Report) {
    let (place, resources) = match layout(bundle, asker, report) {
        Ok(both) => both,
        Err(error) => {
            report.fail(&error);
            (None, Resources::default())
        }
    };
    let (cgroup, entry) = match &place {
        Some(place) => (place.paths.clone(), place.entry),
        None => (Paths::default(), Entry::None),
    };
    let options = Options {
        id: String::new(),
        pivot: Pivot::PivotRoot,
        keyring: Keyring::New,
        preserved: 0,
        env: Vec::new(),
        cgroup,
        entry,
        caller: Caller::Host,
        filter: None,
    };
    let plan = match Plan::new(bundle, options) {
        Ok(plan) => plan,
        Err(error) => return report.fail(&error),
    };
    let looked = Procfs::open().and_then(|proc| Ok((proc, corten_sys::process::capabilities()?)));
    let (proc, (_, capable)) = match looked {
        Ok(looked) => looked,
        Err(error) => return report.fail(&error.into()),
    };
    let asked = Asked {
        spec: &bundle.spec,
        plan: &plan,
        resources: &resources,
        place: place.as_ref(),
        root: corten_sys::fs::open_dir(&plan.rootfs.path).ok(),
        proc,
        capable,
    };
    for probe in PROBES {
        report.enter("", probe.section);
        (probe.look)(&asked, report);
    }
    report.enter("", "");
}

/// Where its cgroup would be, and what would be written there. Without a path of its own that depends on the id.
fn layout(
    bundle: &Bundle,
    asker: Asker<'_>,
    report: &mut Report,
) -> Result<(Option<Location>, Resources)> {
    let mut layout = host::cgroups()?;
    let linux = bundle.spec.linux.as_ref();
    let wanted = linux.and_then(|linux| linux.cgroups_path.as_deref());
    let place = place::locate(asker, wanted, &mut layout)
        .map_err(|error| report.fail(&error))
        .ok();
    let resources = linux.and_then(|linux| linux.resources.as_ref());
    let planned = Resources::plan(resources, &layout).and_then(|mut resources| {
        if place
            .as_ref()
            .is_some_and(|place| place.paths.scope.is_some())
        {
            resources.annotate(&bundle.spec.annotations)?;
        }
        Ok(resources)
    });
    let resources = planned.unwrap_or_else(|error| {
        report.fail(&error);
        Resources::default()
    });
    Ok((place, resources))
}

/// Whether the container would run.
pub fn runs(findings: &[Finding]) -> bool {
    !findings.iter().any(|finding| finding.severity.refuses())
}
