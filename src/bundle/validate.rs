// SPDX-License-Identifier: Apache-2.0
//! Every rule that config.json must obey before anything is done with it, as one table in the document's order. Pure:
//! what only the host can answer (is the root there, is a joined namespace the host's) is asked where it is used, by
//! descriptor. Called by `bundle/mod.rs`; the checks themselves are in `rules/`.

use super::finding::Report;
use super::rules::{
    crun, devices, hooks, idmaps, lsm, memory_policy, mounts, namespaces, network, process, rdt,
    resources, root, schedule, seccomp, sysctl,
};
use super::spec::{Process, Spec};

/// One rule.
pub struct Rule<T> {
    /// The field that it is about, below the part that it judges; `*` stands for every item.
    pub pointer: &'static str,
    /// Where the spec, or the man page of the call, says so.
    pub section: &'static str,
    /// The rule in one sentence.
    pub says: &'static str,
    check: fn(&T, &mut Report),
}

const fn rule<T>(
    pointer: &'static str,
    section: &'static str,
    says: &'static str,
    check: fn(&T, &mut Report),
) -> Rule<T> {
    Rule {
        pointer,
        section,
        says,
        check,
    }
}

/// The rules before the process's.
pub static HEAD_RULES: &[Rule<Spec>] = &[
    rule(
        "/ociVersion",
        "config.md#specification-version",
        "the version is 1.x in SemVer's form",
        root::version,
    ),
    rule(
        "/root",
        "config.md#root",
        "a root is there and has a path",
        root::path,
    ),
    rule(
        "/process",
        "config.md#process",
        "create needs a process",
        root::process,
    ),
];

/// The rules of a process: config.json's `/process`, or exec's whole document.
pub static PROCESS_RULES: &[Rule<Process>] = &[
    rule(
        "/consoleSize",
        "config.md#process",
        "a terminal's sides are below 65536",
        process::console_size,
    ),
    rule(
        "/user",
        "config.md#posix-platform-user",
        "ids are below 4294967295, the umask has permission bits only",
        process::user,
    ),
    rule(
        "/args",
        "config.md#posix-process",
        "there is a program to run",
        process::args,
    ),
    rule(
        "/env/*",
        "config.md#process",
        "every entry is NAME=value",
        process::env,
    ),
    rule(
        "/cwd",
        "config.md#process",
        "the working directory is absolute",
        process::cwd,
    ),
    rule(
        "/capabilities/*/*",
        "config.md#linux-process",
        "names are those of capabilities(7)",
        process::capability_names,
    ),
    rule(
        "/capabilities/effective/*",
        "capabilities(7)",
        "what is effective is permitted",
        process::effective,
    ),
    rule(
        "/capabilities/ambient/*",
        "capabilities(7)",
        "what is ambient is permitted",
        process::ambient,
    ),
    rule(
        "/capabilities/ambient",
        "capabilities(7)",
        "what is ambient is inheritable, or it is not raised",
        process::not_inheritable,
    ),
    rule(
        "/rlimits/*/type",
        "config.md#posix-process",
        "limits are known, and each is there once",
        process::rlimit_types,
    ),
    rule(
        "/rlimits/*/soft",
        "getrlimit(2)",
        "no soft limit is above its hard one",
        process::rlimit_order,
    ),
    rule(
        "/apparmorProfile",
        "config.md#linux-process",
        "a profile's name has no control characters",
        lsm::apparmor,
    ),
    rule(
        "/oomScoreAdj",
        "proc(5)",
        "the score is from -1000 to 1000",
        process::oom_score_adj,
    ),
    rule(
        "/scheduler",
        "config.md#linux-process",
        "every attribute fits the policy",
        schedule::scheduler,
    ),
    rule(
        "/selinuxLabel",
        "config.md#linux-process",
        "a label is user:role:type, with or without a level",
        lsm::selinux,
    ),
    rule(
        "/ioPriority/priority",
        "config.md#linux-process",
        "a priority is from 0 to 7",
        schedule::io_priority,
    ),
    rule(
        "/execCPUAffinity",
        "config.md#linux-process",
        "CPUs are a list of numbers and ranges",
        schedule::cpu_affinity,
    ),
];

/// The rules after the process's.
pub static REST_RULES: &[Rule<Spec>] = &[
    rule(
        "/hostname",
        "config.md#hostname",
        "a host name needs a UTS namespace and has at most 64 bytes",
        namespaces::hostname,
    ),
    rule(
        "/domainname",
        "config.md#domainname",
        "a domain name needs a UTS namespace and has at most 64 bytes",
        namespaces::domainname,
    ),
    rule(
        "/mounts/*/destination",
        "config.md#mounts",
        "a destination is there, and absolute or about to be an error",
        mounts::destination,
    ),
    rule(
        "/mounts/*/destination",
        "config.md#mounts",
        "nothing is mounted inside /proc but the files that containers replace",
        mounts::inside_proc,
    ),
    rule(
        "/mounts/*/type",
        "config.md#mounts",
        "a mount has a type or is a bind mount",
        mounts::kind,
    ),
    rule(
        "/mounts/*/source",
        "config.md#mounts",
        "a bind mount has a source",
        mounts::source,
    ),
    rule(
        "/mounts/*/uidMappings",
        "config.md#posix-platform-mounts",
        "mappings of a bind mount come in pairs and don't overlap",
        mounts::mappings,
    ),
    rule(
        "/hooks/*/*/path",
        "config.md#posix-platform-hooks",
        "a hook's path is absolute",
        hooks::path,
    ),
    rule(
        "/hooks/*/*/env/*",
        "config.md#posix-platform-hooks",
        "every entry is NAME=value",
        hooks::env,
    ),
    rule(
        "/hooks/*/*/timeout",
        "config.md#posix-platform-hooks",
        "a timeout is above zero",
        hooks::timeout,
    ),
    rule(
        "/annotations/*",
        crun::SECTION,
        "an annotation `run.oci.*` is one that is carried out, with a value that it may have",
        crun::annotations,
    ),
    rule(
        "/annotations/*",
        "config.md#annotations",
        "no key is empty",
        root::annotations,
    ),
    rule(
        "/linux/namespaces/*",
        "config-linux.md#namespaces",
        "no kind of namespace is there twice",
        namespaces::unique,
    ),
    rule(
        "/linux/namespaces/*/path",
        "config-linux.md#namespaces",
        "the path of a namespace is absolute",
        namespaces::path,
    ),
    rule(
        "/linux/namespaces",
        "config-linux.md#namespaces",
        "a container has a mount namespace of its own",
        namespaces::mount,
    ),
    rule(
        "/linux/uidMappings",
        "config-linux.md#user-namespace-mappings",
        "a new user namespace has mappings, and mappings have a user namespace",
        idmaps::presence,
    ),
    rule(
        "/linux/uidMappings/*",
        "user_namespaces(7)",
        "mappings are not empty, don't wrap and don't overlap",
        idmaps::ranges,
    ),
    rule(
        "/process/user",
        "user_namespaces(7)",
        "the process's ids are mapped",
        idmaps::process_ids,
    ),
    rule(
        "/linux/timeOffsets/*",
        "config-linux.md#offset-for-time-namespace",
        "clocks are known and have a new time namespace",
        namespaces::time_offsets,
    ),
    rule(
        "/linux/devices/*/path",
        "config-linux.md#devices",
        "a device's path is absolute and there once",
        devices::path,
    ),
    rule(
        "/linux/devices/*/type",
        "config-linux.md#devices",
        "a node is of type b, c, u or p",
        devices::kind,
    ),
    rule(
        "/linux/devices/*/major",
        "config-linux.md#devices",
        "a device has numbers that the kernel can hold",
        devices::numbers,
    ),
    rule(
        "/linux/devices/*/fileMode",
        "config-linux.md#devices",
        "modes and owners are the kernel's",
        devices::ownership,
    ),
    rule(
        "/linux/netDevices",
        "config-linux.md#network-devices",
        "devices that move have a network namespace to move to",
        network::namespace_of_devices,
    ),
    rule(
        "/linux/netDevices/*",
        "config-linux.md#network-devices",
        "names of devices are the kernel's, each there once",
        network::device_names,
    ),
    rule(
        "/linux/cgroupsPath",
        "config-linux.md#cgroups-path",
        "the path stays below its root and is not the root",
        resources::cgroups_path,
    ),
    rule(
        "/linux/resources/devices/*",
        "config-linux.md#allowed-device-list",
        "rules are of type a, b or c, for any of r, w and m",
        devices::rules,
    ),
    rule(
        "/linux/resources/memory",
        "config-linux.md#memory",
        "limits are -1 or more, swappiness at most 100",
        resources::memory,
    ),
    rule(
        "/linux/resources/cpu",
        "config-linux.md#cpu",
        "sets are lists, idle is 0 or 1",
        resources::cpu,
    ),
    rule(
        "/linux/resources/pids",
        "config-linux.md#pids",
        "a limit is -1 or more",
        resources::pids,
    ),
    rule(
        "/linux/resources/blockIO",
        "config-linux.md#block-io",
        "weights are from 10 to 1000",
        resources::block_io,
    ),
    rule(
        "/linux/resources/hugepageLimits/*",
        "config-linux.md#huge-page-limits",
        "page sizes are the kernel's words, each once",
        resources::hugepages,
    ),
    rule(
        "/linux/resources/rdma/*",
        "config-linux.md#rdma",
        "an RDMA limit says something",
        resources::rdma,
    ),
    rule(
        "/linux/resources/unified/*",
        "config-linux.md#unified",
        "keys are names of limit files",
        resources::unified,
    ),
    rule(
        "/linux/seccomp",
        "config-linux.md#seccomp",
        "words are those of the tables, an errno goes with an action that returns one, an agent has a socket",
        seccomp::profile,
    ),
    rule(
        "/linux/rootfsPropagation",
        "config-linux.md#rootfs-mount-propagation",
        "the value is one of mount(8)'s propagations",
        mounts::propagation,
    ),
    rule(
        "/linux/maskedPaths/*",
        "config-linux.md#masked-paths",
        "masked paths are absolute",
        mounts::masked_paths,
    ),
    rule(
        "/linux/readonlyPaths/*",
        "config-linux.md#readonly-paths",
        "read-only paths are absolute",
        mounts::readonly_paths,
    ),
    rule(
        "/linux/mountLabel",
        "config-linux.md#mount-label",
        "a label is user:role:type, with or without a level",
        lsm::mount_label,
    ),
    rule(
        "/linux/memoryPolicy",
        "config-linux.md#memory-policy",
        "mode and flags are known, and fit each other and the nodes",
        memory_policy::check,
    ),
    rule(
        "/linux/intelRdt/closID",
        "config-linux.md#intelrdt",
        "a class of service is a name that resctrl has no file of",
        rdt::clos_id,
    ),
    rule(
        "/linux/intelRdt/schemata/*",
        "config-linux.md#intelrdt",
        "schemata are lines of a resource and its domains, memory bandwidth one of MB",
        rdt::schemata,
    ),
    rule(
        "/linux/personality/flags",
        "config-linux.md#personality",
        "the spec defines no flags",
        root::personality,
    ),
    rule(
        "/linux/sysctl/*",
        "config-linux.md#sysctl",
        "only parameters of the container's own namespaces are set",
        sysctl::keys,
    ),
    rule(
        "/linux/sysctl/*",
        "config-linux.md#sysctl",
        "a value is one line",
        sysctl::values,
    ),
];

/// Where the spec has the fields that no rule is about.
const SECTIONS: &[(&str, &str)] = &[
    ("", "config.md"),
    ("/hooks", "config.md#posix-platform-hooks"),
    ("/linux", "config-linux.md"),
    ("/linux/intelRdt", "config-linux.md#intelrdt"),
    ("/linux/memoryPolicy", "config-linux.md#memory-policy"),
    ("/linux/netDevices", "config-linux.md#network-devices"),
    ("/linux/resources", "config-linux.md#control-groups"),
    ("/linux/resources/network", "config-linux.md#network"),
    ("/linux/seccomp", "config-linux.md#seccomp"),
    ("/mounts", "config.md#mounts"),
    ("/process", "config.md#process"),
    ("/process/user", "config.md#posix-platform-user"),
];

/// Where the spec has the field at `pointer`, as near as the rules and the table above know it.
pub fn section(pointer: &str) -> &'static str {
    let process = PROCESS_RULES
        .iter()
        .map(|rule| ("/process", rule.pointer, rule.section));
    let rules = HEAD_RULES.iter().chain(REST_RULES);
    let rules = rules.map(|rule| ("", rule.pointer, rule.section));
    let plain = SECTIONS
        .iter()
        .map(|(pointer, section)| ("", *pointer, *section));
    let all = plain.chain(rules).chain(process);
    let fits = all.filter_map(|(base, pattern, section)| {
        let mut parts = pointer.split('/').skip(1);
        let pattern = [base, pattern].concat();
        let mut wanted = pattern.split('/').skip(1).peekable();
        let mut length = 0;
        while wanted.peek().is_some() {
            let (wanted, part) = (wanted.next()?, parts.next()?);
            if wanted != "*" && wanted != part {
                return None;
            }
            length += 1;
        }
        Some((length, section))
    });
    fits.max_by_key(|(length, _)| *length)
        .map_or("", |(_, section)| section)
}

/// Runs every rule on a whole config.json.
pub fn check(spec: &Spec, report: &mut Report) {
    run(HEAD_RULES, "", spec, report);
    if let Some(process) = &spec.process {
        check_process("/process", process, report);
    }
    run(REST_RULES, "", spec, report);
}

/// Runs the rules of a process that stands at `base` of its document.
pub fn check_process(base: &'static str, process: &Process, report: &mut Report) {
    run(PROCESS_RULES, base, process, report);
}

fn run<T>(rules: &[Rule<T>], base: &'static str, subject: &T, report: &mut Report) {
    for rule in rules {
        rule.apply(base, subject, report);
    }
    report.enter("", "");
}

impl<T> Rule<T> {
    /// Reports every breach of this rule in `subject`, which stands at `base` of its document.
    pub fn apply(&self, base: &'static str, subject: &T, report: &mut Report) {
        report.enter(base, self.section);
        (self.check)(subject, report);
    }
}
