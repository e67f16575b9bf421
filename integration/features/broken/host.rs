// SPDX-License-Identifier: Apache-2.0
//! Broken namespaces, id maps, sysctls, hooks, resources, and what no build or host supports.

use serde_json::json;

use super::Case;
use super::Flaw::{Draft, Set};

const MAP: &str = "/linux/uidMappings";

fn hook<'t>(
    draft: corten_integration::Draft<'t>,
    path: &str,
    args: &[&str],
) -> corten_integration::Draft<'t> {
    draft.with(
        "/hooks/createRuntime/-",
        json!({"path": path, "args": args}),
    )
}

fn probe_hook<'t>(
    draft: corten_integration::Draft<'t>,
    steps: &str,
) -> corten_integration::Draft<'t> {
    let args: Vec<&str> = std::iter::once("probe").chain(steps.split(' ')).collect();
    let path = corten_integration::probe().to_string_lossy();
    hook(draft, &path, &args)
}

/// Cases about what lies between the container and the host.
pub const CASES: &[Case] = &[
    (
        "namespace twice",
        Set("/linux/namespaces/-", "{\"type\": \"pid\"}"),
    ),
    (
        "namespace of an unknown type",
        Set("/linux/namespaces/-", "{\"type\": \"dream\"}"),
    ),
    ("namespace without a type", Set("/linux/namespaces/-", "{}")),
    (
        "namespace at a missing path",
        Draft(|draft| draft.namespace("network", Some("/nothing/like/it"))),
    ),
    (
        "namespace at a relative path",
        Draft(|draft| draft.namespace("network", Some("proc/self/ns/net"))),
    ),
    (
        "namespace at a plain file",
        Draft(|draft| draft.namespace("network", Some("/proc/version"))),
    ),
    (
        "namespace of another type at the path",
        Draft(|draft| draft.namespace("network", Some("/proc/self/ns/ipc"))),
    ),
    (
        "namespaces wrong type",
        Set("/linux/namespaces", "[\"pid\"]"),
    ),
    (
        "user namespace without maps",
        Set("/linux/namespaces/-", "{\"type\": \"user\"}"),
    ),
    (
        "maps without a user namespace",
        Draft(|draft| draft.with(MAP, json!([{"containerID": 0, "hostID": 1000, "size": 1}]))),
    ),
    (
        "maps that overlap inside",
        Draft(|draft| {
            draft.user_namespace(100_000, 10).with(MAP, json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 5, "hostID": 200_000, "size": 10}]))
        }),
    ),
    (
        "maps that overlap outside",
        Draft(|draft| {
            draft.user_namespace(100_000, 10).with(MAP, json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 20, "hostID": 100_005, "size": 10}]))
        }),
    ),
    (
        "map of no size",
        Draft(|draft| {
            draft.user_namespace(100_000, 10).with(
                MAP,
                json!([{"containerID": 0, "hostID": 100_000, "size": 0}]),
            )
        }),
    ),
    (
        "map beyond 32 bits",
        Draft(|draft| {
            draft.user_namespace(100_000, 10).with(
                MAP,
                json!([{"containerID": 4_294_967_290_u32, "hostID": 100_000, "size": 100}]),
            )
        }),
    ),
    (
        "map negative",
        Draft(|draft| {
            draft
                .user_namespace(100_000, 10)
                .with(MAP, json!([{"containerID": 0, "hostID": -1, "size": 1}]))
        }),
    ),
    (
        "maps of more than 340 ranges",
        Draft(|draft| {
            let ranges: Vec<_> = (0..341)
                .map(|n| json!({"containerID": n, "hostID": 100_000 + 2 * n, "size": 1}))
                .collect();
            draft.user_namespace(100_000, 10).with(MAP, json!(ranges))
        }),
    ),
    (
        "user that the maps do not know",
        Draft(|draft| {
            draft
                .user_namespace(100_000, 10)
                .with("/process/user", json!({"uid": 5000, "gid": 0}))
        }),
    ),
    (
        "time offsets without a time namespace",
        Set("/linux/timeOffsets", "{\"monotonic\": {\"secs\": 1}}"),
    ),
    (
        "time offsets of an unknown clock",
        Draft(|draft| {
            draft
                .namespace("time", None)
                .with("/linux/timeOffsets", json!({"wall": {"secs": 1}}))
        }),
    ),
    (
        "time offset of a second of nanoseconds",
        Draft(|draft| {
            draft.namespace("time", None).with(
                "/linux/timeOffsets",
                json!({"monotonic": {"nanosecs": 1_000_000_000}}),
            )
        }),
    ),
    (
        "class of service that climbs",
        Set("/linux/intelRdt", "{\"closID\": \"../up\"}"),
    ),
    (
        "schema without a domain",
        Set("/linux/intelRdt", "{\"schemata\": [\"L3\"]}"),
    ),
    (
        "memory bandwidth of two lines",
        Set(
            "/linux/intelRdt",
            "{\"memBwSchema\": \"MB:0=10\\nMB:1=10\"}",
        ),
    ),
    (
        "sysctl of the host",
        Set("/linux/sysctl", "{\"kernel.panic\": \"0\"}"),
    ),
    (
        "sysctl unknown",
        Set("/linux/sysctl", "{\"net.nothing.like.it\": \"1\"}"),
    ),
    (
        "sysctl without its namespace",
        Draft(|draft| {
            draft
                .without_namespace("network")
                .with("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
        }),
    ),
    (
        "sysctl with a bad value",
        Set("/linux/sysctl", "{\"net.ipv4.ip_forward\": \"banana\"}"),
    ),
    (
        "sysctl with two lines",
        Set("/linux/sysctl", "{\"net.ipv4.ip_forward\": \"1\\n0\"}"),
    ),
    (
        "sysctl with nul",
        Set("/linux/sysctl", "{\"net.ipv4.ip_forward\": \"1\\u0000\"}"),
    ),
    (
        "sysctl that climbs",
        Set("/linux/sysctl", "{\"net/../kernel/panic\": \"0\"}"),
    ),
    (
        "sysctl wrong type",
        Set("/linux/sysctl", "{\"net.ipv4.ip_forward\": 1}"),
    ),
    (
        "sysctl of the host name",
        Set("/linux/sysctl", "{\"kernel.hostname\": \"other\"}"),
    ),
    (
        "hook missing",
        Draft(|draft| hook(draft, "/nothing/like/it", &[])),
    ),
    ("hook relative", Draft(|draft| hook(draft, "bin/true", &[]))),
    (
        "hook without a path",
        Set("/hooks/createRuntime/-", "{\"args\": [\"x\"]}"),
    ),
    (
        "hook not executable",
        Draft(|draft| hook(draft, "/proc/version", &[])),
    ),
    (
        "hook is a directory",
        Draft(|draft| hook(draft, "/proc", &[])),
    ),
    ("hook fails", Draft(|draft| probe_hook(draft, "exit 7"))),
    (
        "hook fails and says why",
        Draft(|draft| probe_hook(draft, "eprint because + exit 7")),
    ),
    ("hook killed", Draft(|draft| probe_hook(draft, "raise 9"))),
    (
        "hook without time",
        Draft(|draft| probe_hook(draft, "exit 0").with("/hooks/createRuntime/0/timeout", json!(0))),
    ),
    (
        "hook with a negative timeout",
        Draft(|draft| {
            probe_hook(draft, "exit 0").with("/hooks/createRuntime/0/timeout", json!(-1))
        }),
    ),
    (
        "hook that takes too long",
        Draft(|draft| probe_hook(draft, "pause").with("/hooks/createRuntime/0/timeout", json!(1))),
    ),
    (
        "hook with a bad environment",
        Draft(|draft| {
            probe_hook(draft, "exit 0").with("/hooks/createRuntime/0/env", json!(["NAME"]))
        }),
    ),
    (
        "hooks wrong type",
        Set("/hooks", "{\"createRuntime\": {\"path\": \"/bin/true\"}}"),
    ),
    (
        "cgroup path climbs",
        Set("/linux/cgroupsPath", "\"/../../corten-escape\""),
    ),
    (
        "cgroup path climbs in the middle",
        Set("/linux/cgroupsPath", "\"/a/../../corten-escape\""),
    ),
    (
        "cgroup path with nul",
        Set("/linux/cgroupsPath", "\"/a\\u0000b\""),
    ),
    ("cgroup path wrong type", Set("/linux/cgroupsPath", "7")),
    (
        "memory limit garbage",
        Set("/linux/resources/memory", "{\"limit\": \"much\"}"),
    ),
    (
        "memory limit negative",
        Set("/linux/resources/memory", "{\"limit\": -5}"),
    ),
    (
        "memory limit too low",
        Set("/linux/resources/memory", "{\"limit\": 4096}"),
    ),
    (
        "memory swap below the limit",
        Set(
            "/linux/resources/memory",
            "{\"limit\": 67108864, \"swap\": 33554432}",
        ),
    ),
    (
        "pids limit garbage",
        Set("/linux/resources/pids", "{\"limit\": \"many\"}"),
    ),
    (
        "cpus garbage",
        Set("/linux/resources/cpu", "{\"cpus\": \"banana\"}"),
    ),
    (
        "cpus beyond the machine's",
        Set("/linux/resources/cpu", "{\"cpus\": \"99999\"}"),
    ),
    (
        "cpu quota too small",
        Set("/linux/resources/cpu", "{\"quota\": 1, \"period\": 100000}"),
    ),
    (
        "cpu shares negative",
        Set("/linux/resources/cpu", "{\"shares\": -1}"),
    ),
    (
        "block io weight out of range",
        Set("/linux/resources/blockIO", "{\"weight\": 5}"),
    ),
    (
        "huge pages of an unknown size",
        Set(
            "/linux/resources/hugepageLimits",
            "[{\"pageSize\": \"3KB\", \"limit\": 1}]",
        ),
    ),
    (
        "unified file that climbs",
        Set("/linux/resources/unified", "{\"../cgroup.procs\": \"1\"}"),
    ),
    (
        "unified file unknown",
        Set("/linux/resources/unified", "{\"nothing.like.it\": \"1\"}"),
    ),
    (
        "network class without its controller",
        Set("/linux/resources/network", "{\"classID\": 1048577}"),
    ),
    (
        "rdma without its controller",
        Set("/linux/resources/rdma", "{\"mlx5_1\": {\"hcaHandles\": 3}}"),
    ),
    ("resources wrong type", Set("/linux/resources", "[]")),
    (
        "seccomp with an errno for an action without one",
        Set(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"defaultErrnoRet\": 1}",
        ),
    ),
    (
        "seccomp with an unknown architecture",
        Set(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_Z80\"]}",
        ),
    ),
    (
        "seccomp with an unknown flag",
        Set(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"SECCOMP_FILTER_FLAG_NONE\"]}",
        ),
    ),
    (
        "seccomp with a seventh argument",
        Set(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": \"SCMP_ACT_KILL\", \"args\": [{\"index\": 6, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}]}]}",
        ),
    ),
    (
        "seccomp that asks nobody",
        Set(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": \"SCMP_ACT_NOTIFY\"}]}",
        ),
    ),
    (
        "seccomp that asks about everything",
        Set(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_NOTIFY\", \"listenerPath\": \"/run/agent\"}",
        ),
    ),
    (
        "seccomp whose agent is not there",
        Set(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"listenerPath\": \"/nowhere/agent\", \"syscalls\": [{\"names\": [\"mkdir\"], \"action\": \"SCMP_ACT_NOTIFY\"}]}",
        ),
    ),
    (
        "seccomp with an unknown action",
        Set("/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_MAYBE\"}"),
    ),
    (
        "network device that is not there",
        Set("/linux/netDevices", "{\"no-such-dev0\": {}}"),
    ),
    (
        "network device without a network namespace",
        Draft(|draft| {
            draft
                .without_namespace("network")
                .with("/linux/netDevices", json!({"no-such-dev0": {}}))
        }),
    ),
    (
        "network device to the runtime's own namespace",
        Draft(|draft| {
            draft
                .namespace("network", Some("/proc/self/ns/net"))
                .with("/linux/netDevices", json!({"no-such-dev0": {}}))
        }),
    ),
    (
        "network device with a bad name",
        Set(
            "/linux/netDevices",
            "{\"no-such-dev0\": {\"name\": \"a/b\"}}",
        ),
    ),
    (
        "network device with a name too long",
        Set(
            "/linux/netDevices",
            "{\"no-such-dev0\": {\"name\": \"sixteen-letters-\"}}",
        ),
    ),
    (
        "network device loopback",
        Set("/linux/netDevices", "{\"lo\": {\"name\": \"eth0\"}}"),
    ),
    (
        "network devices of one name",
        Set(
            "/linux/netDevices",
            "{\"no-such-dev0\": {\"name\": \"x\"}, \"no-such-dev1\": {\"name\": \"x\"}}",
        ),
    ),
    (
        "network devices wrong type",
        Set("/linux/netDevices", "[\"no-such-dev0\"]"),
    ),
    (
        "intel rdt without its file system",
        Set(
            "/linux/intelRdt",
            "{\"closID\": \"x\", \"l3CacheSchema\": \"L3:0=f\"}",
        ),
    ),
    (
        "sysctl of a namespace that is the host's",
        Draft(|draft| {
            let value = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            draft.namespace("network", Some("/proc/self/ns/net")).with(
                "/linux/sysctl",
                json!({"net.ipv4.ip_forward": value.trim()}),
            )
        }),
    ),
    (
        "hostname of a namespace that is the host's",
        Draft(|draft| {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            draft
                .namespace("uts", Some("/proc/self/ns/uts"))
                .with("/hostname", name.trim().into())
        }),
    ),
    (
        "memory policy without a mode",
        Set("/linux/memoryPolicy", "{\"nodes\": \"0\"}"),
    ),
    (
        "memory policy of an unknown mode",
        Set(
            "/linux/memoryPolicy",
            "{\"mode\": \"BIND\", \"nodes\": \"0\"}",
        ),
    ),
    (
        "memory policy without nodes",
        Set("/linux/memoryPolicy", "{\"mode\": \"MPOL_BIND\"}"),
    ),
    (
        "memory policy with nodes that it takes none of",
        Set(
            "/linux/memoryPolicy",
            "{\"mode\": \"MPOL_DEFAULT\", \"nodes\": \"0-7\"}",
        ),
    ),
    (
        "memory policy with a node beyond the kernel's",
        Set(
            "/linux/memoryPolicy",
            "{\"mode\": \"MPOL_BIND\", \"nodes\": \"0-9876\"}",
        ),
    ),
    (
        "memory policy with a node beyond the machine's",
        Set(
            "/linux/memoryPolicy",
            "{\"mode\": \"MPOL_BIND\", \"nodes\": \"1023\"}",
        ),
    ),
    (
        "memory policy with an unknown flag",
        Set(
            "/linux/memoryPolicy",
            "{\"mode\": \"MPOL_BIND\", \"nodes\": \"0\", \"flags\": [\"X\"]}",
        ),
    ),
    (
        "memory policy with flags at odds",
        Set(
            "/linux/memoryPolicy",
            "{\"mode\": \"MPOL_BIND\", \"nodes\": \"0\", \"flags\": [\"MPOL_F_STATIC_NODES\", \"MPOL_F_RELATIVE_NODES\"]}",
        ),
    ),
    (
        "personality with a flag",
        Set(
            "/linux/personality",
            "{\"domain\": \"LINUX\", \"flags\": [\"ADDR_NO_RANDOMIZE\"]}",
        ),
    ),
    (
        "personality unknown",
        Set("/linux/personality", "{\"domain\": \"CP/M\"}"),
    ),
];
