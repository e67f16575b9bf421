// SPDX-License-Identifier: Apache-2.0
//! Every rule of the spec, one line for each way to break it: what is changed in a good document, which field is named,
//! and what the user reads. No root.

#![allow(clippy::unwrap_used)] // what fails here is a failing test

use corten::bundle::finding::{Finding, Report, Severity, Unknown};
use corten::bundle::validate::{HEAD_RULES, PROCESS_RULES, REST_RULES};
use corten::bundle::{self, judge, spec::Spec};
use corten::error::Kind;
use serde_json::{Value, json};

/// (what is set, to what, the field that is named, what is said); no field and no words: nothing is wrong.
type Case = (&'static str, Value, &'static str, &'static str);

/// A document that breaks no rule, with what most of the rules look at.
fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {
            "cwd": "/", "args": ["sh"], "env": ["A=1"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {
                "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": [], "permitted": ["CAP_KILL"],
                "ambient": []
            }
        },
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"},
                {"type": "cgroup"}, {"type": "time"}
            ],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]}
        }
    })
}

/// Sets the value at `pointer`, with the objects on the way; `null` takes it away.
fn set(document: &mut Value, pointer: &str, value: &Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let mut place = document;
    for part in parent.split('/').skip(1) {
        place = match place {
            Value::Array(items) => &mut items[part.parse::<usize>().unwrap()],
            other => &mut other[part],
        };
    }
    match place {
        Value::Array(items) if last == "-" => items.push(value.clone()),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value.clone(),
        other if value.is_null() => {
            other.as_object_mut().unwrap().remove(last);
        }
        other => other[last] = value.clone(),
    }
}

fn changed(pointer: &str, value: &Value) -> Value {
    let mut document = base();
    set(&mut document, pointer, value);
    document
}

fn findings(document: &Value) -> Vec<Finding> {
    judge(document.to_string().as_bytes(), Unknown::Ignored)
        .unwrap()
        .1
}

fn check(cases: &[Case]) {
    for (set, value, pointer, message) in cases {
        let found = findings(&changed(set, value));
        let first = found
            .first()
            .map(|one| (one.pointer.as_str(), one.message.as_str()));
        let wanted = (!message.is_empty()).then_some((*pointer, *message));
        assert_eq!(first, wanted, "{set} = {value}: {found:#?}");
    }
}

#[test]
fn the_base_breaks_no_rule() {
    assert_eq!(findings(&base()), []);
}

#[test]
fn document() {
    check(&document_cases());
}

fn document_cases() -> Vec<Case> {
    vec![
        (
            "/ociVersion",
            Value::Null,
            "/ociVersion",
            "the version of the spec is missing",
        ),
        (
            "/ociVersion",
            json!("1"),
            "/ociVersion",
            "`1` is no version like 1.3.0",
        ),
        (
            "/ociVersion",
            json!("1.0"),
            "/ociVersion",
            "`1.0` is no version like 1.3.0",
        ),
        (
            "/ociVersion",
            json!("1.02.0"),
            "/ociVersion",
            "`1.02.0` is no version like 1.3.0",
        ),
        (
            "/ociVersion",
            json!("1.0.0-"),
            "/ociVersion",
            "`1.0.0-` is no version like 1.3.0",
        ),
        (
            "/ociVersion",
            json!("v1.0.0"),
            "/ociVersion",
            "`v1.0.0` is no version like 1.3.0",
        ),
        (
            "/ociVersion",
            json!("2.0.0"),
            "/ociVersion",
            "version 2.0.0 of the spec is not supported, only 1.x is",
        ),
        (
            "/ociVersion",
            json!("0.9.0"),
            "/ociVersion",
            "version 0.9.0 of the spec is not supported, only 1.x is",
        ),
        ("/ociVersion", json!("1.0.2-dev"), "", ""),
        ("/ociVersion", json!("1.0.0-rc5+dev-1.2"), "", ""),
        ("/ociVersion", json!("1.99.0"), "", ""),
        (
            "/root",
            Value::Null,
            "/root",
            "the root filesystem is missing",
        ),
        (
            "/root/path",
            json!(""),
            "/root/path",
            "the path of the root filesystem is missing",
        ),
        ("/root/path", json!("/absolute"), "", ""),
        (
            "/process",
            Value::Null,
            "/process",
            "the process is missing",
        ),
        (
            "/annotations",
            json!({"": "x"}),
            "/annotations/",
            "the key of an annotation must not be empty",
        ),
        ("/annotations", json!({"a": ""}), "", ""),
        (
            "/annotations",
            json!({"run.oci.handler": "krun"}),
            "/annotations/run.oci.handler",
            "run.oci.handler is not supported: a handler's code would run in the runtime, with its privileges",
        ),
        (
            "/annotations",
            json!({"run.oci.new/one": ""}),
            "/annotations/run.oci.new~1one",
            "run.oci.new/one is not supported: it is no annotation that is known",
        ),
        (
            "/annotations",
            json!({"run.oci.keep_original_groups": "0"}),
            "/annotations/run.oci.keep_original_groups",
            "run.oci.keep_original_groups is `0`: want 1, or the annotation left out",
        ),
        (
            "/annotations",
            json!({"run.oci.hooks.stderr": "log"}),
            "/annotations/run.oci.hooks.stderr",
            "run.oci.hooks.stderr is `log`: want an absolute path",
        ),
        (
            "/annotations",
            json!({"run.oci.timens_offset": "realtime 1 0"}),
            "/annotations/run.oci.timens_offset",
            "`realtime 1 0` is no offset of a clock, like `monotonic 3600 0`",
        ),
        (
            "/annotations",
            json!({"run.oci.timens_offset": "7 -1 0"}),
            "",
            "",
        ),
        (
            "/annotations",
            json!({
                "run.oci.keep_original_groups": "1", "run.oci.hooks.stdout": "/log",
                "run.oci.mount_context_type": "context", "run.oci.systemd.subgroup": "",
                "run.oci.seccomp_fail_unknown_syscall": "1"
            }),
            "",
            "",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX32", "flags": ["X"]}),
            "/linux/personality/flags/0",
            "the spec defines no flags, so `X` means nothing",
        ),
        ("/linux/personality", json!({"domain": "LINUX32"}), "", ""),
    ]
}

#[test]
fn process() {
    check(&process_cases());
}

fn process_cases() -> Vec<Case> {
    let no_id = "4294967295 is the kernel's sign for no id, nobody can have it";
    let no_entry = "an entry of the environment needs a `=`";
    vec![
        (
            "/process/consoleSize",
            json!({"height": 65536, "width": 1}),
            "/process/consoleSize/height",
            "a terminal can't be 65536 characters long, at most 65535",
        ),
        (
            "/process/consoleSize",
            json!({"height": 65535, "width": 65535}),
            "",
            "",
        ),
        (
            "/process/user/uid",
            json!(4294967295_u32),
            "/process/user/uid",
            no_id,
        ),
        ("/process/user/uid", json!(4294967294_u32), "", ""),
        (
            "/process/user/gid",
            json!(4294967295_u32),
            "/process/user/gid",
            no_id,
        ),
        (
            "/process/user/additionalGids",
            json!([0, 4294967295_u32]),
            "/process/user/additionalGids/1",
            no_id,
        ),
        (
            "/process/user/umask",
            json!(0o1022),
            "/process/user/umask",
            "a umask has permission bits only, 530 (01022) has others",
        ),
        ("/process/user/umask", json!(0o777), "", ""),
        (
            "/process/args",
            Value::Null,
            "/process/args",
            "there is no program to run",
        ),
        (
            "/process/args",
            json!([]),
            "/process/args",
            "there is no program to run",
        ),
        (
            "/process/args",
            json!([""]),
            "/process/args/0",
            "the program's name is empty",
        ),
        ("/process/args", json!(["sh", ""]), "", ""),
        ("/process/env/-", json!("B"), "/process/env/1", no_entry),
        ("/process/env/-", json!(""), "/process/env/1", no_entry),
        (
            "/process/env/-",
            json!("=x"),
            "/process/env/1",
            "an entry of the environment needs a name before its `=`",
        ),
        ("/process/env/-", json!("B="), "", ""),
        (
            "/process/cwd",
            Value::Null,
            "/process/cwd",
            "the working directory is missing",
        ),
        (
            "/process/cwd",
            json!("tmp"),
            "/process/cwd",
            "the working directory `tmp` is not absolute",
        ),
        ("/process/capabilities", Value::Null, "", ""),
        (
            "/process/capabilities/bounding",
            json!(["CAP_KILL", "CAP_FLY"]),
            "/process/capabilities/bounding/1",
            "`CAP_FLY` is no capability that corten knows: left out",
        ),
        (
            "/process/capabilities/bounding",
            json!(["KILL"]),
            "/process/capabilities/bounding/0",
            "`KILL` is no capability",
        ),
        (
            "/process/capabilities/bounding",
            json!(["CAP_"]),
            "/process/capabilities/bounding/0",
            "`CAP_` is no capability",
        ),
        (
            "/process/capabilities/bounding",
            json!(["cap_kill"]),
            "/process/capabilities/bounding/0",
            "`cap_kill` is no capability",
        ),
        (
            "/process/capabilities/inheritable",
            json!([" CAP_KILL"]),
            "/process/capabilities/inheritable/0",
            "` CAP_KILL` is no capability",
        ),
        (
            "/process/capabilities/ambient",
            json!(["CAP_KILL", "CAP_CHOWN"]),
            "/process/capabilities/ambient/1",
            "CAP_CHOWN is not permitted, so it can't be ambient",
        ),
        (
            "/process/capabilities/ambient",
            json!(["CAP_CHOWN"]),
            "/process/capabilities/ambient/0",
            "CAP_CHOWN is not permitted, so it can't be ambient",
        ),
        (
            "/process/capabilities/effective",
            json!(["CAP_KILL", "CAP_CHOWN"]),
            "/process/capabilities/effective/1",
            "CAP_CHOWN is not permitted, so it can't be effective",
        ),
        (
            "/process/capabilities/ambient",
            json!(["CAP_KILL"]),
            "/process/capabilities/ambient",
            "not inheritable, so not made ambient by the kernel: CAP_KILL",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "hard": 1, "soft": 1}, {"type": "RLIMIT_FILES"}]),
            "/process/rlimits/1/type",
            "`RLIMIT_FILES` is no resource limit",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU"}, {"type": "RLIMIT_AS"}, {"type": "RLIMIT_CPU"}]),
            "/process/rlimits/2/type",
            "RLIMIT_CPU is there twice",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "hard": 1, "soft": 2}]),
            "/process/rlimits/0/soft",
            "the soft RLIMIT_CPU 2 is above the hard one, 1",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "hard": u64::MAX, "soft": u64::MAX}]),
            "",
            "",
        ),
        (
            "/process/apparmorProfile",
            json!("a\nb"),
            "/process/apparmorProfile",
            "control characters have no place in a security label",
        ),
        ("/process/apparmorProfile", json!(":ns:a//&b c"), "", ""),
        (
            "/process/selinuxLabel",
            json!("user:role"),
            "/process/selinuxLabel",
            "`user:role` is no label like user:role:type:level",
        ),
        (
            "/process/selinuxLabel",
            json!("user::type"),
            "/process/selinuxLabel",
            "`user::type` is no label like user:role:type:level",
        ),
        (
            "/process/selinuxLabel",
            json!("u:r:t:"),
            "/process/selinuxLabel",
            "`u:r:t:` is no label like user:role:type:level",
        ),
        (
            "/process/selinuxLabel",
            json!("u:r:t\n"),
            "/process/selinuxLabel",
            "control characters have no place in a security label",
        ),
        ("/process/selinuxLabel", json!("u:r:t:s0:c1,c2"), "", ""),
        (
            "/process/oomScoreAdj",
            json!(-1001),
            "/process/oomScoreAdj",
            "-1001 is not from -1000 to 1000",
        ),
        (
            "/process/oomScoreAdj",
            json!(1001),
            "/process/oomScoreAdj",
            "1001 is not from -1000 to 1000",
        ),
        ("/process/oomScoreAdj", json!(1000), "", ""),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "/process/ioPriority/priority",
            "8 is not from 0 to 7",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": -1}),
            "/process/ioPriority/priority",
            "-1 is not from 0 to 7",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 7}),
            "",
            "",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_ISO"}),
            "/process/scheduler/policy",
            "Linux has reserved SCHED_ISO and never made it",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "/process/scheduler/nice",
            "20 is not from -20 to 19",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": -20}),
            "",
            "",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "priority": 1}),
            "/process/scheduler/priority",
            "only SCHED_FIFO and SCHED_RR have a priority",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO"}),
            "/process/scheduler/priority",
            "SCHED_FIFO and SCHED_RR need a priority from 1 to 99, not 0",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "priority": 100}),
            "/process/scheduler/priority",
            "SCHED_FIFO and SCHED_RR need a priority from 1 to 99, not 100",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "priority": 99}),
            "",
            "",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "period": 9}),
            "/process/scheduler/period",
            "only SCHED_DEADLINE has a period",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 8}),
            "/process/scheduler/runtime",
            "SCHED_DEADLINE needs a runtime above zero, up to the deadline, which is up to the period",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 10, "period": 9}),
            "/process/scheduler/runtime",
            "SCHED_DEADLINE needs a runtime above zero, up to the deadline, which is up to the period",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 10}),
            "",
            "",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK", "X"]}),
            "/process/scheduler/flags/1",
            "`X` is no flag of a scheduler",
        ),
    ]
}

#[test]
fn mounts_and_hooks() {
    check(&mount_cases());
}

fn mount_cases() -> Vec<Case> {
    let bind = |destination: &str| json!({"destination": destination, "source": "/x", "options": ["bind"]});
    let hook = |point: &str, hook: Value| json!({ point: [{"path": "/bin/true"}, hook] });
    vec![
        (
            "/mounts/-",
            json!({"type": "tmpfs"}),
            "/mounts/1/destination",
            "the destination of a mount is missing",
        ),
        (
            "/mounts/-",
            json!({"destination": "data", "type": "tmpfs"}),
            "/mounts/1/destination",
            "`data` is not absolute, and is taken from the root; the spec deprecates that",
        ),
        (
            "/mounts/-",
            json!({"destination": "/data"}),
            "/mounts/1/type",
            "a mount needs a type, or the option bind or rbind",
        ),
        (
            "/mounts/-",
            json!({"destination": "/data", "options": ["rbind"]}),
            "/mounts/1/source",
            "a bind mount needs a source",
        ),
        (
            "/mounts/-",
            json!({"destination": "/data", "type": "bind"}),
            "/mounts/1/source",
            "a bind mount needs a source",
        ),
        ("/mounts/-", bind("/data"), "", ""),
        (
            "/mounts/-",
            json!({"destination": "/data", "type": "tmpfs", "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
            "/mounts/1/uidMappings",
            "only a bind mount can be idmapped",
        ),
        (
            "/mounts/-",
            json!({"destination": "/data", "type": "bind", "source": "/x",
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 0}],
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
            "/mounts/1/uidMappings/0/size",
            "a mapping of no ids maps nothing",
        ),
        (
            "/mounts/-",
            json!({"destination": "/data", "type": "bind", "source": "/x",
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
            "/mounts/1",
            "uidMappings and gidMappings of a mount come together",
        ),
        (
            "/linux/mountLabel",
            json!("x"),
            "/linux/mountLabel",
            "`x` is no label like user:role:type:level",
        ),
        (
            "/mounts/-",
            json!({"destination": "/data", "source": "/x", "options": ["rbind", "ridmap"],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                "gidMappings": [{"containerID": 7, "hostID": 7, "size": 9}]}),
            "",
            "",
        ),
        (
            "/mounts/-",
            json!({"destination": "/proc", "type": "tmpfs"}),
            "/mounts/1/destination",
            "only a procfs can be mounted on /proc, not type `tmpfs`",
        ),
        (
            "/mounts/-",
            json!({"destination": "//x/../proc/.", "type": "tmpfs"}),
            "/mounts/1/destination",
            "only a procfs can be mounted on /proc, not type `tmpfs`",
        ),
        (
            "/mounts/-",
            json!({"destination": "/../../proc", "type": "tmpfs"}),
            "/mounts/1/destination",
            "only a procfs can be mounted on /proc, not type `tmpfs`",
        ),
        ("/mounts/-", bind("/proc"), "", ""),
        (
            "/mounts/-",
            bind("/proc/sys"),
            "/mounts/1/destination",
            "`/proc/sys` is inside /proc, where only few files may be mounted over",
        ),
        (
            "/mounts/-",
            bind("/proc/self/attr"),
            "/mounts/1/destination",
            "`/proc/self/attr` is inside /proc, where only few files may be mounted over",
        ),
        (
            "/mounts/-",
            bind("/proc/uptime/../sys"),
            "/mounts/1/destination",
            "`/proc/uptime/../sys` is inside /proc, where only few files may be mounted over",
        ),
        ("/mounts/-", bind("/proc/uptime"), "", ""),
        ("/mounts/-", bind("/proc//sys/./kernel/ns_last_pid"), "", ""),
        ("/mounts/-", bind("/procfs/x"), "", ""),
        (
            "/hooks",
            hook("prestart", json!({})),
            "/hooks/prestart/1/path",
            "the path of a hook is missing",
        ),
        (
            "/hooks",
            hook("createRuntime", json!({"path": "bin/x"})),
            "/hooks/createRuntime/1/path",
            "the path of a hook, `bin/x`, is not absolute",
        ),
        (
            "/hooks",
            hook("createContainer", json!({"path": "/x", "env": ["A=", "A"]})),
            "/hooks/createContainer/1/env/1",
            "an entry of the environment needs a `=`",
        ),
        (
            "/hooks",
            hook("startContainer", json!({"path": "/x", "timeout": 0})),
            "/hooks/startContainer/1/timeout",
            "the timeout of a hook must be above zero",
        ),
        (
            "/hooks",
            hook("poststart", json!({"path": "/x", "timeout": -1})),
            "/hooks/poststart/1/timeout",
            "the timeout of a hook must be above zero",
        ),
        (
            "/hooks",
            hook("poststop", json!({"path": "x"})),
            "/hooks/poststop/1/path",
            "the path of a hook, `x`, is not absolute",
        ),
        (
            "/hooks",
            hook("poststop", json!({"path": "/x", "timeout": 1})),
            "",
            "",
        ),
        (
            "/linux/rootfsPropagation",
            json!("public"),
            "/linux/rootfsPropagation",
            "`public` is no propagation: shared, slave, private or unbindable, each with or without an r",
        ),
        ("/linux/rootfsPropagation", json!("runbindable"), "", ""),
        (
            "/linux/maskedPaths",
            json!(["/a", "b"]),
            "/linux/maskedPaths/1",
            "`b` is not absolute",
        ),
        (
            "/linux/readonlyPaths",
            json!([""]),
            "/linux/readonlyPaths/0",
            "`` is not absolute",
        ),
    ]
}

#[test]
fn namespaces() {
    check(&namespace_cases());
}

fn namespace_cases() -> Vec<Case> {
    let long = "x".repeat(65);
    vec![
        (
            "/hostname",
            json!(long),
            "/hostname",
            "a name has at most 64 bytes, this one has 65",
        ),
        (
            "/domainname",
            json!(long),
            "/domainname",
            "a name has at most 64 bytes, this one has 65",
        ),
        ("/hostname", json!("x".repeat(64)), "", ""),
        (
            "/linux/namespaces/-",
            json!({"type": "pid", "path": "/x"}),
            "/linux/namespaces/7",
            "the pid namespace is there twice",
        ),
        (
            "/linux/namespaces/1",
            json!({"type": "pid", "path": "proc/1/ns/pid"}),
            "/linux/namespaces/1/path",
            "the path of a namespace, `proc/1/ns/pid`, is not absolute",
        ),
        (
            "/linux/namespaces/0",
            json!({"type": "mount", "path": "/proc/1/ns/mnt"}),
            "/linux/namespaces/0/path",
            "a container in a mount namespace that exists already is not supported",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}]),
            "/linux/namespaces",
            "a container without a mount namespace is not supported",
        ),
        (
            "/linux",
            Value::Null,
            "/linux/namespaces",
            "a container without a mount namespace is not supported",
        ),
        (
            "/linux/timeOffsets",
            json!({"realtime": {"secs": 1}}),
            "/linux/timeOffsets/realtime",
            "`realtime` is no clock of a time namespace: monotonic and boottime are",
        ),
        (
            "/linux/timeOffsets",
            json!({"boottime": {"nanosecs": 1_000_000_000}}),
            "/linux/timeOffsets/boottime/nanosecs",
            "nanoseconds are below 1000000000",
        ),
        (
            "/linux/timeOffsets",
            json!({"boottime": {"secs": -1, "nanosecs": 999_999_999}}),
            "",
            "",
        ),
    ]
}

/// What needs a namespace is refused without it, and names of the host stay the host's.
#[test]
fn what_needs_a_namespace() {
    let cases: [(&str, &str, Value, &str, &str); 14] = [
        (
            "uts",
            "/hostname",
            json!("x"),
            "/hostname",
            "without a UTS namespace this would name the host",
        ),
        (
            "uts",
            "/domainname",
            json!("x"),
            "/domainname",
            "without a UTS namespace this would name the host",
        ),
        (
            "time",
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 1}}),
            "/linux/timeOffsets",
            "without a time namespace there are no offsets",
        ),
        (
            "network",
            "/linux/netDevices",
            json!({"eth0": {}}),
            "/linux/netDevices",
            "without a network namespace there is nowhere to move devices to",
        ),
        (
            "network",
            "/linux/sysctl",
            json!({"net.core.somaxconn": "1"}),
            "/linux/sysctl/net.core.somaxconn",
            "without a namespace of type network, net.core.somaxconn would change the host",
        ),
        (
            "network",
            "/linux/sysctl",
            json!({"net/core/somaxconn": "1"}),
            "/linux/sysctl/net~1core~1somaxconn",
            "without a namespace of type network, net/core/somaxconn would change the host",
        ),
        (
            "ipc",
            "/linux/sysctl",
            json!({"kernel.msgmax": "1"}),
            "/linux/sysctl/kernel.msgmax",
            "without a namespace of type ipc, kernel.msgmax would change the host",
        ),
        (
            "ipc",
            "/linux/sysctl",
            json!({"kernel.shm_rmid_forced": "1"}),
            "/linux/sysctl/kernel.shm_rmid_forced",
            "without a namespace of type ipc, kernel.shm_rmid_forced would change the host",
        ),
        (
            "ipc",
            "/linux/sysctl",
            json!({"fs.mqueue.msg_max": "1"}),
            "/linux/sysctl/fs.mqueue.msg_max",
            "without a namespace of type ipc, fs.mqueue.msg_max would change the host",
        ),
        (
            "ipc",
            "/linux/sysctl",
            json!({"fs/mqueue/msg_max": "1"}),
            "/linux/sysctl/fs~1mqueue~1msg_max",
            "without a namespace of type ipc, fs/mqueue/msg_max would change the host",
        ),
        (
            "uts",
            "/linux/sysctl",
            json!({"kernel.domainname": "x"}),
            "/linux/sysctl/kernel.domainname",
            "without a namespace of type uts, kernel.domainname would change the host",
        ),
        (
            "none",
            "/linux/sysctl",
            json!({"user.max_user_namespaces": "1"}),
            "/linux/sysctl/user.max_user_namespaces",
            "without a namespace of type user, user.max_user_namespaces would change the host",
        ),
        (
            "pid",
            "/linux/sysctl",
            json!({"net.core.somaxconn": "1", "kernel.sem": "1 2 3 4", "fs.mqueue.msg_max": "1", "kernel.domainname": "x"}),
            "",
            "",
        ),
        (
            "none",
            "/linux/sysctl",
            json!({"net/ipv4/conf/eth0.100/forwarding": "1", "net.ipv4.conf.eth0/200.forwarding": "1"}),
            "",
            "",
        ),
    ];
    for (without, pointer, value, named, message) in cases {
        let mut document = changed(pointer, &value);
        let namespaces = document["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != without);
        let found = findings(&document);
        let first = found
            .first()
            .map(|one| (one.pointer.as_str(), one.message.as_str()));
        assert_eq!(
            first,
            (!message.is_empty()).then_some((named, message)),
            "{without}: {value}"
        );
    }
}

#[test]
fn seccomp() {
    check(&seccomp_cases());
}

/// A profile with one entry.
fn profile(entry: &Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]})
}

fn seccomp_cases() -> Vec<Case> {
    let entry = |change: Value| {
        let mut entry = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"});
        entry
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        profile(&entry)
    };
    let arg = |arg: Value| entry(json!({"args": [arg]}));
    let with = |key: &str, value: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        profile[key] = value;
        profile
    };
    let asks = entry(json!({"action": "SCMP_ACT_NOTIFY"}));
    let mut told = asks.clone();
    told["listenerPath"] = json!("/run/agent");
    let at = "/linux/seccomp";
    let cases = [
        (with("defaultAction", json!("SCMP_ACT_ALLOW")), "", ""),
        (
            with("defaultAction", json!("")),
            "/defaultAction",
            "`` is no action of the spec",
        ),
        (
            with("defaultAction", json!("ALLOW")),
            "/defaultAction",
            "`ALLOW` is no action of the spec",
        ),
        (
            with("defaultAction", json!("SCMP_ACT_NOTIFY")),
            "/defaultAction",
            "SCMP_ACT_NOTIFY is for named calls: as the default the agent would be asked about its own start",
        ),
        (
            with("defaultErrnoRet", json!(1)),
            "/defaultErrnoRet",
            "SCMP_ACT_ALLOW returns no errno",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}),
            "/defaultErrnoRet",
            "4096 is no errno: the kernel's end at 4095",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4095}),
            "",
            "",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65536}),
            "/defaultErrnoRet",
            "a tracer is told a number up to 65535, not 65536",
        ),
        (
            with(
                "architectures",
                json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86_64"]),
            ),
            "",
            "",
        ),
        (
            with("architectures", json!(["SCMP_ARCH_X86_64", "x86"])),
            "/architectures/1",
            "`x86` is no architecture of the spec",
        ),
        (with("flags", json!([])), "", ""),
        (
            with("flags", json!(["SECCOMP_FILTER_FLAG_NEW_LISTENER"])),
            "/flags/0",
            "`SECCOMP_FILTER_FLAG_NEW_LISTENER` is no flag of a filter",
        ),
        (
            with("flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
            "/flags/0",
            "the flag means nothing without an agent, and is left out",
        ),
        (
            entry(json!({"names": []})),
            "/syscalls/0/names",
            "a rule is about at least one call",
        ),
        (
            entry(json!({"names": ["mkdir", "no_such_call"]})),
            "/syscalls/0/names/1",
            "no architecture has a call `no_such_call`: nothing is done about it",
        ),
        (
            entry(json!({"action": "errno"})),
            "/syscalls/0/action",
            "`errno` is no action of the spec",
        ),
        (
            entry(json!({"action": "SCMP_ACT_KILL", "errnoRet": 1})),
            "/syscalls/0/errnoRet",
            "SCMP_ACT_KILL returns no errno",
        ),
        (
            arg(json!({"index": 5, "value": 0, "op": "SCMP_CMP_EQ"})),
            "",
            "",
        ),
        (
            arg(json!({"index": 6, "value": 0, "op": "SCMP_CMP_EQ"})),
            "/syscalls/0/args/0/index",
            "a call has arguments 0 to 5, not 6",
        ),
        (
            arg(json!({"index": 0, "value": 0, "op": "=="})),
            "/syscalls/0/args/0/op",
            "`==` is no operator of the spec",
        ),
        (
            asks,
            "/listenerPath",
            "SCMP_ACT_NOTIFY needs the path of the agent's socket",
        ),
        (told, "", ""),
        (
            with("listenerPath", json!("agent")),
            "/listenerPath",
            "the path of the agent's socket, `agent`, is not absolute",
        ),
        (
            with("listenerPath", json!("/run/agent")),
            "/listenerPath",
            "no rule asks the agent, so it is not told of the container",
        ),
        (
            with("listenerMetadata", json!("x")),
            "/listenerMetadata",
            "metadata is for an agent, and there is no listenerPath",
        ),
    ];
    let whole = |pointer: &'static str| -> &'static str {
        if pointer.is_empty() {
            ""
        } else {
            format!("{at}{pointer}").leak()
        }
    };
    cases
        .into_iter()
        .map(|(value, pointer, message)| (at, value, whole(pointer), message))
        .collect()
}

#[test]
fn sysctls() {
    check(&sysctl_cases());
    let mut document = changed("/linux/sysctl", &json!({"kernel.domainname": "x"}));
    set(&mut document, "/domainname", &json!("y"));
    assert_eq!(
        findings(&document)[0].message,
        "kernel.domainname says again what the field domainname says"
    );
}

fn sysctl_cases() -> Vec<Case> {
    let host = |key: &str| json!({ key: "1" });
    vec![
        (
            "/linux/sysctl",
            host("kernel.core_pattern"),
            "/linux/sysctl/kernel.core_pattern",
            "kernel.core_pattern belongs to no namespace, it would change the host",
        ),
        (
            "/linux/sysctl",
            host("kernel/core_pattern"),
            "/linux/sysctl/kernel~1core_pattern",
            "kernel/core_pattern belongs to no namespace, it would change the host",
        ),
        (
            "/linux/sysctl",
            host("vm.swappiness"),
            "/linux/sysctl/vm.swappiness",
            "vm.swappiness belongs to no namespace, it would change the host",
        ),
        (
            "/linux/sysctl",
            host("fs.mqueue"),
            "/linux/sysctl/fs.mqueue",
            "fs.mqueue belongs to no namespace, it would change the host",
        ),
        (
            "/linux/sysctl",
            host("kernel.sem.x"),
            "/linux/sysctl/kernel.sem.x",
            "kernel.sem.x belongs to no namespace, it would change the host",
        ),
        (
            "/linux/sysctl",
            host("kernel.hostname"),
            "/linux/sysctl/kernel.hostname",
            "kernel.hostname is what the field hostname is for",
        ),
        (
            "/linux/sysctl",
            host("network.x"),
            "/linux/sysctl/network.x",
            "network.x belongs to no namespace, it would change the host",
        ),
        (
            "/linux/sysctl",
            host("net"),
            "/linux/sysctl/net",
            "`net` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            host(""),
            "/linux/sysctl/",
            "`` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            host("net."),
            "/linux/sysctl/net.",
            "`net.` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            host(".net.x"),
            "/linux/sysctl/.net.x",
            "`.net.x` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            host("net/../kernel/core_pattern"),
            "/linux/sysctl/net~1..~1kernel~1core_pattern",
            "`net/../kernel/core_pattern` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            host("net.//.kernel.core_pattern"),
            "/linux/sysctl/net.~1~1.kernel.core_pattern",
            "`net.//.kernel.core_pattern` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            host("net./.x"),
            "/linux/sysctl/net.~1.x",
            "`net./.x` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            host("net..core"),
            "/linux/sysctl/net..core",
            "`net..core` is no name of a kernel parameter",
        ),
        (
            "/linux/sysctl",
            json!({"net.core.somaxconn": "1", "net/core/somaxconn": "2"}),
            "/linux/sysctl/net~1core~1somaxconn",
            "net/core/somaxconn is there twice, written in two ways",
        ),
        (
            "/linux/sysctl",
            json!({"net.core.somaxconn": "1\n2"}),
            "/linux/sysctl/net.core.somaxconn",
            "the value of net.core.somaxconn is more than one line",
        ),
        (
            "/linux/sysctl",
            json!({"net.ipv4.ip_local_port_range": "1024\t65535"}),
            "",
            "",
        ),
    ]
}

#[test]
fn network_devices() {
    check(&network_device_cases());
}

fn network_device_cases() -> Vec<Case> {
    vec![
        (
            "/linux",
            json!({"namespaces": [{"type": "mount"}], "netDevices": {"eth0": {}}}),
            "/linux/netDevices",
            "without a network namespace there is nowhere to move devices to",
        ),
        (
            "/linux/netDevices",
            json!({"eth0/x": {}}),
            "/linux/netDevices/eth0~1x",
            "`eth0/x` is no name of a network device",
        ),
        (
            "/linux/netDevices",
            json!({"..": {}}),
            "/linux/netDevices/..",
            "`..` is no name of a network device",
        ),
        (
            "/linux/netDevices",
            json!({"eth 0": {}}),
            "/linux/netDevices/eth 0",
            "`eth 0` is no name of a network device",
        ),
        (
            "/linux/netDevices",
            json!({"": {}}),
            "/linux/netDevices/",
            "`` is no name of a network device",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "eth0:1"}}),
            "/linux/netDevices/eth0/name",
            "`eth0:1` is no name of a network device",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "sixteen-letters-"}}),
            "/linux/netDevices/eth0/name",
            "`sixteen-letters-` is longer than the 15 bytes of a network device's name",
        ),
        (
            "/linux/netDevices",
            json!({"eth%d": {}}),
            "/linux/netDevices/eth%d",
            "`eth%d` is the name of no device",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "eth%s"}}),
            "/linux/netDevices/eth0/name",
            "the only `%` that `eth%s` may have is one `%d`",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "e%dh%d"}}),
            "/linux/netDevices/eth0/name",
            "the only `%` that `e%dh%d` may have is one `%d`",
        ),
        (
            "/linux/netDevices",
            json!({"lo": {"name": "eth0"}}),
            "/linux/netDevices/lo",
            "the loopback device can't leave its network namespace",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "lo"}}),
            "/linux/netDevices/eth0/name",
            "every network namespace has a loopback device `lo`",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "x"}, "eth1": {"name": "x"}}),
            "/linux/netDevices/eth1/name",
            "two devices can't both be `x` in the container",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {}, "eth1": {"name": "eth0"}}),
            "/linux/netDevices/eth1/name",
            "two devices can't both be `eth0` in the container",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "eth1"}, "eth1": {"name": "eth0"}, "a": {"name": "x%d"}, "b": {"name": "x%d"}}),
            "",
            "",
        ),
        (
            "/linux/netDevices",
            json!({"fifteen-letters": {"name": ""}}),
            "",
            "",
        ),
    ]
}

#[test]
fn devices_and_resources() {
    check(&resource_cases());
}

fn resource_cases() -> Vec<Case> {
    let device = |change: &str, value: Value| {
        let mut device = json!({"path": "/dev/x", "type": "c", "major": 10, "minor": 229});
        set(&mut device, &format!("/{change}"), &value);
        json!([{"path": "/dev/y", "type": "b", "major": 1, "minor": 2}, device])
    };
    vec![
        (
            "/linux/devices",
            device("path", json!("")),
            "/linux/devices/1/path",
            "the path of a device is missing",
        ),
        (
            "/linux/devices",
            device("path", json!("dev/x")),
            "/linux/devices/1/path",
            "the path of a device, `dev/x`, is not absolute",
        ),
        (
            "/linux/devices",
            device("path", json!("/dev/y")),
            "/linux/devices/1/path",
            "/dev/y is there twice, and not the same",
        ),
        (
            "/linux/devices",
            device("path", json!("//dev/./y")),
            "/linux/devices/1/path",
            "//dev/./y is there twice, and not the same",
        ),
        (
            "/linux/devices",
            device("type", json!("a")),
            "/linux/devices/1/type",
            "a device node is of type b, c, u or p, not a",
        ),
        (
            "/linux/devices",
            device("major", Value::Null),
            "/linux/devices/1/major",
            "a device of type c needs a major number from 0 to 4095",
        ),
        (
            "/linux/devices",
            device("major", json!(4096)),
            "/linux/devices/1/major",
            "a device of type c needs a major number from 0 to 4095",
        ),
        (
            "/linux/devices",
            device("minor", json!(-1)),
            "/linux/devices/1/minor",
            "a device of type c needs a minor number from 0 to 1048575",
        ),
        (
            "/linux/devices",
            device("fileMode", json!(0o200_666)),
            "/linux/devices/1/fileMode",
            "65974 (0200666) has bits that no mode has",
        ),
        (
            "/linux/devices",
            device("fileMode", json!(0o020_666)),
            "",
            "",
        ),
        (
            "/linux/devices",
            device("uid", json!(u32::MAX)),
            "/linux/devices/1/uid",
            "4294967295 is the kernel's sign for no id, nobody can have it",
        ),
        (
            "/linux/devices",
            json!([{"path": "/p", "type": "p"}, {"path": "/u", "type": "u", "major": 1, "minor": 3}]),
            "",
            "",
        ),
        (
            "/linux/resources/devices/-",
            json!({"allow": true, "type": "p"}),
            "/linux/resources/devices/1/type",
            "a device rule is of type a, b or c",
        ),
        (
            "/linux/resources/devices/-",
            json!({"allow": true, "major": -2}),
            "/linux/resources/devices/1/major",
            "-2 is no major number, and -1 means all",
        ),
        (
            "/linux/resources/devices/-",
            json!({"allow": true, "access": "rx"}),
            "/linux/resources/devices/1/access",
            "`rx` is not made of r, w and m",
        ),
        (
            "/linux/resources/devices/-",
            json!({"allow": true, "type": "c", "major": -1, "minor": -1, "access": "mwr"}),
            "",
            "",
        ),
        (
            "/linux/cgroupsPath",
            json!("/a/../b"),
            "/linux/cgroupsPath",
            "`/a/../b` leaves its place with `..`",
        ),
        (
            "/linux/cgroupsPath",
            json!("/"),
            "/linux/cgroupsPath",
            "the root of the cgroups can't be a container's",
        ),
        (
            "/linux/cgroupsPath",
            json!("."),
            "/linux/cgroupsPath",
            "the root of the cgroups can't be a container's",
        ),
        (
            "/linux/cgroupsPath",
            json!("a\nb"),
            "/linux/cgroupsPath",
            "control characters have no place in the path of a cgroup",
        ),
        (
            "/linux/cgroupsPath",
            json!("system.slice:corten:x..y"),
            "",
            "",
        ),
        (
            "/linux/resources/memory",
            json!({"limit": -2}),
            "/linux/resources/memory/limit",
            "-2 is no number of bytes, and only -1 means no limit",
        ),
        (
            "/linux/resources/memory",
            json!({"limit": 10, "swap": 9}),
            "/linux/resources/memory/swap",
            "memory and swap together, 9, are less than memory alone, 10",
        ),
        (
            "/linux/resources/memory",
            json!({"limit": 10, "swap": -1, "swappiness": 100}),
            "",
            "",
        ),
        (
            "/linux/resources/memory",
            json!({"swappiness": 101}),
            "/linux/resources/memory/swappiness",
            "101 is not from 0 to 100",
        ),
        (
            "/linux/resources/cpu",
            json!({"cpus": "0-"}),
            "/linux/resources/cpu/cpus",
            "`0-` is no list of numbers and ranges like 0-3,7",
        ),
        (
            "/linux/resources/cpu",
            json!({"cpus": "3-1"}),
            "/linux/resources/cpu/cpus",
            "`3-1` is no list of numbers and ranges like 0-3,7",
        ),
        (
            "/linux/resources/cpu",
            json!({"mems": "+1"}),
            "/linux/resources/cpu/mems",
            "`+1` is no list of numbers and ranges like 0-3,7",
        ),
        (
            "/linux/resources/cpu",
            json!({"cpus": "0-3,7, 9", "quota": -1, "idle": 1}),
            "",
            "",
        ),
        (
            "/linux/resources/cpu",
            json!({"quota": -2}),
            "/linux/resources/cpu/quota",
            "-2 is no time, and only -1 means no limit",
        ),
        (
            "/linux/resources/cpu",
            json!({"idle": 2}),
            "/linux/resources/cpu/idle",
            "2 is neither 0 nor 1",
        ),
        (
            "/linux/resources/pids",
            json!({"limit": -2}),
            "/linux/resources/pids/limit",
            "-2 is no number of tasks, and only -1 means no limit",
        ),
        ("/linux/resources/pids", json!({"limit": -1}), "", ""),
        ("/linux/resources/pids", json!({}), "", ""),
        (
            "/linux/resources/blockIO",
            json!({"weight": 9}),
            "/linux/resources/blockIO/weight",
            "the weight 9 is not from 10 to 1000",
        ),
        (
            "/linux/resources/blockIO",
            json!({"weightDevice": [{"major": 8, "minor": 0, "weight": 1001}]}),
            "/linux/resources/blockIO/weightDevice/0/weight",
            "the weight 1001 is not from 10 to 1000",
        ),
        (
            "/linux/resources/blockIO",
            json!({"weight": 0, "leafWeight": 1000}),
            "",
            "",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2M"}]),
            "/linux/resources/hugepageLimits/0/pageSize",
            "`2M` is no page size like 64KB, 2MB or 1GB",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "../2MB"}]),
            "/linux/resources/hugepageLimits/0/pageSize",
            "`../2MB` is no page size like 64KB, 2MB or 1GB",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2MB"}, {"pageSize": "2MB"}]),
            "/linux/resources/hugepageLimits/1/pageSize",
            "2MB is there twice",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2MB"}, {"pageSize": "1GB"}]),
            "",
            "",
        ),
        (
            "/linux/resources/rdma",
            json!({"mlx5_0": {}}),
            "/linux/resources/rdma/mlx5_0",
            "an RDMA limit needs hcaHandles or hcaObjects",
        ),
        (
            "/linux/resources/rdma",
            json!({"a b": {"hcaObjects": 1}}),
            "/linux/resources/rdma/a b",
            "the name of an RDMA device is one word",
        ),
        (
            "/linux/resources/unified",
            json!({"../x.y": "1"}),
            "/linux/resources/unified/..~1x.y",
            "`../x.y` is no name of a cgroup's file like memory.high",
        ),
        (
            "/linux/resources/unified",
            json!({"memory": "1"}),
            "/linux/resources/unified/memory",
            "`memory` is no name of a cgroup's file like memory.high",
        ),
        (
            "/linux/resources/unified",
            json!({"..": "1"}),
            "/linux/resources/unified/..",
            "`..` is no name of a cgroup's file like memory.high",
        ),
        (
            "/linux/resources/unified",
            json!({"cgroup.procs": "1"}),
            "/linux/resources/unified/cgroup.procs",
            "`cgroup.procs` is no limit",
        ),
        (
            "/linux/resources/unified",
            json!({"cgroup.kill": "1"}),
            "/linux/resources/unified/cgroup.kill",
            "`cgroup.kill` is no limit",
        ),
        (
            "/linux/resources/unified",
            json!({"memory.high": "max", "cgroup.max.depth": "3", "hugetlb.2MB.max": "0"}),
            "",
            "",
        ),
    ]
}

/// A document with a user namespace and these maps.
fn with_user(uids: Value, gids: Value) -> Value {
    let mut document = changed("/linux/namespaces/-", &json!({"type": "user"}));
    set(&mut document, "/linux/uidMappings", &uids);
    set(&mut document, "/linux/gidMappings", &gids);
    document
}

#[test]
fn nodes_of_a_user_namespace_keep_the_host_s_owners() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let mut document = with_user(map.clone(), map);
    let devices = json!([
        {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "gid": 0},
        {"path": "/dev/y", "type": "p", "fileMode": 0o600, "uid": 1, "gid": 1}
    ]);
    set(&mut document, "/linux/devices", &devices);
    let found = findings(&document);
    let pointers: Vec<_> = found.iter().map(|one| one.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/linux/devices/0/fileMode", "/linux/devices/0/gid"]
    );
    assert!(found.iter().all(|one| one.severity == Severity::Note));
}

#[test]
fn user_namespaces() {
    let map = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    let good = || json!([map(0, 100_000, 65536)]);
    let missing = "a new user namespace needs mappings, without them nobody is anybody in it";
    let many: Vec<Value> = (0..341).map(|id| map(id, 1000 + id, 1)).collect();
    let cases = [
        (good(), good(), "", ""),
        (Value::Null, good(), "/linux/uidMappings", missing),
        (good(), json!([]), "/linux/gidMappings", missing),
        (
            json!([map(0, 0, 0)]),
            good(),
            "/linux/uidMappings/0/size",
            "a mapping of no ids maps nothing",
        ),
        (
            json!([map(0, u32::MAX, 2)]),
            good(),
            "/linux/uidMappings/0/size",
            "2 ids from hostID 4294967295 on end above 4294967295",
        ),
        (
            json!([map(2, 0, u32::MAX)]),
            good(),
            "/linux/uidMappings/0/size",
            "4294967295 ids from containerID 2 on end above 4294967295",
        ),
        (json!([map(0, 0, u32::MAX)]), good(), "", ""),
        (
            json!([map(0, 1000, 10), map(9, 5000, 1)]),
            good(),
            "/linux/uidMappings/1",
            "this mapping overlaps /linux/uidMappings/0",
        ),
        (
            json!([map(0, 1000, 10), map(10, 1009, 1)]),
            good(),
            "/linux/uidMappings/1",
            "this mapping overlaps /linux/uidMappings/0",
        ),
        (json!([map(0, 1000, 10), map(10, 1010, 1)]), good(), "", ""),
        (
            json!(many),
            good(),
            "/linux/uidMappings",
            "the kernel takes 340 mappings, these are 341",
        ),
        (
            json!([map(1, 1000, 10)]),
            good(),
            "/process/user/uid",
            "0 is not mapped into the user namespace",
        ),
        (
            good(),
            json!([map(1, 1000, 10)]),
            "/process/user/gid",
            "0 is not mapped into the user namespace",
        ),
    ];
    for (uids, gids, pointer, message) in cases {
        let found = findings(&with_user(uids.clone(), gids.clone()));
        let first = found
            .first()
            .map(|one| (one.pointer.as_str(), one.message.as_str()));
        assert_eq!(
            first,
            (!message.is_empty()).then_some((pointer, message)),
            "{uids} {gids}"
        );
    }
    let around_nothing = json!([map(0, 1000, 10), map(20, 3000, 0), map(15, 2995, 10)]);
    let found = findings(&with_user(around_nothing, good()));
    assert_eq!(
        found.len(),
        1,
        "a mapping of nothing overlaps nothing: {found:?}"
    );
    let without = findings(&changed("/linux/gidMappings", &good()));
    assert_eq!(
        without[0].warning(),
        "/linux/gidMappings: without a user namespace there are no mappings"
    );
    let mut joined = with_user(good(), good());
    set(
        &mut joined,
        "/linux/namespaces/7",
        &json!({"type": "user", "path": "/proc/1/ns/user"}),
    );
    assert_eq!(findings(&joined)[0].severity, Severity::Ignored);
    let mut groups = with_user(good(), good());
    set(
        &mut groups,
        "/process/user/additionalGids",
        &json!([1, 65536]),
    );
    assert_eq!(
        findings(&groups)[0].warning(),
        "/process/user/additionalGids/1: 65536 is not mapped into the user namespace"
    );
}

#[test]
fn placement() {
    check(&placement_cases());
}

/// CPUs of exec, and memory nodes.
fn placement_cases() -> Vec<Case> {
    let policy = |mode: &str, nodes: &str, flags: &[&str]| json!({"mode": mode, "nodes": nodes, "flags": flags});
    let (cpus, memory) = ("/process/execCPUAffinity", "/linux/memoryPolicy");
    vec![
        (
            cpus,
            json!({"initial": "x"}),
            "/process/execCPUAffinity/initial",
            "`x` is no list of numbers and ranges like 0-3,7",
        ),
        (
            cpus,
            json!({"final": "1,"}),
            "/process/execCPUAffinity/final",
            "`1,` is no list of numbers and ranges like 0-3,7",
        ),
        (
            cpus,
            json!({"final": "0-8192"}),
            "/process/execCPUAffinity/final",
            "8192 is too high: Linux counts from 0 to 8191",
        ),
        (cpus, json!({"initial": "0-3,7", "final": ""}), "", ""),
        (cpus, json!({"initial": "0 , 2-2"}), "", ""),
        (
            memory,
            json!({"nodes": "0"}),
            "/linux/memoryPolicy/mode",
            "the mode is missing",
        ),
        (
            memory,
            policy("BIND", "0", &[]),
            "/linux/memoryPolicy/mode",
            "`BIND` is no mode of a memory policy",
        ),
        (
            memory,
            policy("MPOL_DEFAULT", "0", &[]),
            "/linux/memoryPolicy/nodes",
            "MPOL_DEFAULT takes no nodes",
        ),
        (
            memory,
            policy("MPOL_LOCAL", "0", &[]),
            "/linux/memoryPolicy/nodes",
            "MPOL_LOCAL takes no nodes",
        ),
        (
            memory,
            policy("MPOL_BIND", "", &[]),
            "/linux/memoryPolicy/nodes",
            "MPOL_BIND needs nodes",
        ),
        (
            memory,
            policy("MPOL_WEIGHTED_INTERLEAVE", "", &[]),
            "/linux/memoryPolicy/nodes",
            "MPOL_WEIGHTED_INTERLEAVE needs nodes",
        ),
        (
            memory,
            policy("MPOL_BIND", "1-0", &[]),
            "/linux/memoryPolicy/nodes",
            "`1-0` is no list of numbers and ranges like 0-3,7",
        ),
        (
            memory,
            policy("MPOL_BIND", "0-1024", &[]),
            "/linux/memoryPolicy/nodes",
            "1024 is too high: Linux counts from 0 to 1023",
        ),
        (
            memory,
            policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "X"]),
            "/linux/memoryPolicy/flags/1",
            "`X` is no flag of a memory policy",
        ),
        (
            memory,
            policy(
                "MPOL_BIND",
                "0",
                &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
            ),
            "/linux/memoryPolicy/flags/1",
            "nodes are either relative or static",
        ),
        (
            memory,
            policy("MPOL_PREFERRED", "", &["MPOL_F_STATIC_NODES"]),
            "/linux/memoryPolicy/flags/0",
            "MPOL_F_STATIC_NODES is about nodes, and there are none",
        ),
        (
            memory,
            policy("MPOL_INTERLEAVE", "0", &["MPOL_F_NUMA_BALANCING"]),
            "/linux/memoryPolicy/flags/0",
            "MPOL_INTERLEAVE knows no MPOL_F_NUMA_BALANCING, MPOL_BIND and MPOL_PREFERRED_MANY do",
        ),
        (memory, policy("MPOL_DEFAULT", "", &[]), "", ""),
        (memory, policy("MPOL_PREFERRED", "", &[]), "", ""),
        (
            memory,
            policy(
                "MPOL_BIND",
                "0,2-3",
                &["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"],
            ),
            "",
            "",
        ),
    ]
}

fn rdt_cases() -> Vec<Case> {
    let mut cases: Vec<Case> = vec![
        ("/linux/intelRdt", json!({}), "", ""),
        (
            "/linux/intelRdt",
            json!({"closID": "/", "enableMonitoring": true}),
            "",
            "",
        ),
        (
            "/linux/intelRdt",
            json!({"closID": "gold-1", "schemata": ["L3:0=f;1=f0", "MB:0=20"], "enableCMT": true, "enableMBM": true}),
            "",
            "",
        ),
        (
            "/linux/intelRdt",
            json!({"l3CacheSchema": "L3:0=f\nL3CODE:0=3;\n", "memBwSchema": "MB:0=20\n"}),
            "",
            "",
        ),
        (
            "/linux/intelRdt",
            json!({"memBwSchema": "L3:0=f"}),
            "/linux/intelRdt/memBwSchema",
            "\"L3:0=f\" is no single line of `MB:`",
        ),
        (
            "/linux/intelRdt",
            json!({"memBwSchema": "MB:0=1\nMB:1=1"}),
            "/linux/intelRdt/memBwSchema",
            "\"MB:0=1\\nMB:1=1\" is no single line of `MB:`",
        ),
        (
            "/linux/intelRdt",
            json!({"memBwSchema": "MB:0"}),
            "/linux/intelRdt/memBwSchema",
            "\"MB:0\" is no schema like L3:0=f;1=f",
        ),
        (
            "/linux/intelRdt",
            json!({"l3CacheSchema": "L3:0=f\n0=f"}),
            "/linux/intelRdt/l3CacheSchema",
            "\"L3:0=f\\n0=f\" is no schema like L3:0=f;1=f",
        ),
        (
            "/linux/intelRdt",
            json!({"schemata": ["L3:0=f", "\n"]}),
            "/linux/intelRdt/schemata/1",
            "\"\\n\" is no schema like L3:0=f;1=f",
        ),
        (
            "/linux/intelRdt",
            json!({"schemata": ["L3:=f"]}),
            "/linux/intelRdt/schemata/0",
            "\"L3:=f\" is no schema like L3:0=f;1=f",
        ),
    ];
    for name in [
        ".",
        "..",
        "a/b",
        "../up",
        "/a",
        "info",
        "tasks",
        "mon_groups",
        "a\nb",
    ] {
        cases.push((
            "/linux/intelRdt",
            json!({"closID": name}),
            "/linux/intelRdt/closID",
            format!("`{name}` is no name of a class of service").leak(),
        ));
    }
    cases
}

#[test]
fn classes_of_service() {
    check(&rdt_cases());
}

#[test]
fn every_rule_is_broken_by_some_case() {
    let mut documents: Vec<Value> = [
        document_cases(),
        process_cases(),
        mount_cases(),
        namespace_cases(),
        rdt_cases(),
        seccomp_cases(),
        sysctl_cases(),
        network_device_cases(),
        resource_cases(),
        placement_cases(),
    ]
    .concat()
    .iter()
    .map(|(set, value, ..)| changed(set, value))
    .collect();
    documents.push(with_user(Value::Null, Value::Null));
    documents.push(with_user(
        json!([{"containerID": 1, "hostID": 1, "size": 0}]),
        Value::Null,
    ));
    let specs: Vec<Spec> = documents
        .iter()
        .map(|document| {
            judge(document.to_string().as_bytes(), Unknown::Ignored)
                .unwrap()
                .0
        })
        .collect();
    let broken = |apply: &dyn Fn(&Spec, &mut Report)| {
        specs.iter().any(|spec| {
            let mut report = Report::default();
            apply(spec, &mut report);
            !report.finish().is_empty()
        })
    };
    for rule in HEAD_RULES.iter().chain(REST_RULES) {
        assert!(
            broken(&|spec, report| rule.apply("", spec, report)),
            "{}: {}",
            rule.pointer,
            rule.says
        );
    }
    for rule in PROCESS_RULES {
        let apply = |spec: &Spec, report: &mut Report| {
            if let Some(process) = &spec.process {
                rule.apply("/process", process, report);
            }
        };
        assert!(broken(&apply), "{}: {}", rule.pointer, rule.says);
    }
}

#[test]
fn the_first_fault_is_the_error_and_a_check_has_all() {
    let directory = std::env::temp_dir().join(format!("corten-validate-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut document = changed("/process/cwd", &json!("x"));
    set(&mut document, "/process/args", &json!([]));
    set(&mut document, "/vm", &json!({}));
    set(&mut document, "/unknown", &json!(7));
    std::fs::write(directory.join("config.json"), document.to_string()).unwrap();
    let error = bundle::Bundle::open(&directory, Unknown::Ignored).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(
        error.to_string(),
        format!(
            "bundle {}: virtual machines are not supported (config.json /vm)",
            directory.display()
        )
    );
    let all: Vec<String> = bundle::Bundle::examine(&directory, Unknown::Ignored)
        .unwrap()
        .1
        .iter()
        .map(Finding::warning)
        .collect();
    assert_eq!(
        all,
        [
            "/unknown: this field is unknown and ignored",
            "/vm: virtual machines are not supported",
            "/process/args: there is no program to run",
            "/process/cwd: the working directory `x` is not absolute",
        ]
    );
    std::fs::remove_dir_all(&directory).unwrap();
}
