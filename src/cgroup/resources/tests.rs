// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` in, files out: one line per case, for cgroup v2 and for a host with everything on v1.

use super::*;
use crate::host::V1;

/// Both kinds of host.
fn hosts() -> [Layout; 2] {
    let v1 = |names: &str| V1 {
        controllers: names.split(',').map(str::to_owned).collect(),
        path: format!("/cg/{names}").into(),
    };
    let names = [
        "blkio",
        "cpu,cpuacct",
        "cpuset",
        "hugetlb",
        "memory",
        "net_cls,net_prio",
        "pids",
        "rdma",
    ];
    [
        Layout {
            unified: "/cg".into(),
            v1: Vec::new(),
        },
        Layout {
            unified: "/cg/unified".into(),
            v1: names.map(v1).to_vec(),
        },
    ]
}

/// The settings as `file=value`, with a `?` after those whose file may be missing.
fn planned(json: &str, host: &Layout) -> Result<String> {
    let wanted: LinuxResources = serde_json::from_str(json).unwrap();
    let settings = settings(&wanted, host)?;
    let shown = settings.iter().map(|setting| {
        let expected = match host.v1_with(&setting.controller) {
            Some(index) => Hierarchy::V1(index),
            None => Hierarchy::Unified,
        };
        assert_eq!(setting.hierarchy, expected, "{setting:?}");
        assert!(
            setting.pointer.starts_with("/linux/resources/"),
            "{setting:?}"
        );
        let missing = match &setting.missing {
            Missing::Refuse => String::new(),
            Missing::Accept => "?".to_owned(),
            Missing::Instead { file, value } => format!(" or {file}={value}"),
        };
        format!("{}={}{missing}", setting.file, setting.value)
    });
    Ok(shown.collect::<Vec<_>>().join("; "))
}

#[test]
fn limits_become_files() {
    let [unified, v1] = hosts();
    for (json, on_unified, on_v1) in [
        ("{}", "", ""),
        (r#"{"memory": {}}"#, "", ""),
        (
            r#"{"memory": {"limit": 1048576}}"#,
            "memory.max=1048576",
            "memory.limit_in_bytes=1048576",
        ),
        (
            r#"{"memory": {"limit": 100, "reservation": 50, "swap": 150}}"#,
            "memory.swap.max=50; memory.max=100; memory.low=50",
            "memory.limit_in_bytes=100; memory.memsw.limit_in_bytes=150; memory.soft_limit_in_bytes=50",
        ),
        (
            r#"{"memory": {"limit": 100, "swap": 100}}"#,
            "memory.swap.max=0?; memory.max=100",
            "memory.limit_in_bytes=100; memory.memsw.limit_in_bytes=100",
        ),
        (
            r#"{"memory": {"limit": -1}}"#,
            "memory.swap.max=max?; memory.max=max?",
            "memory.limit_in_bytes=-1?; memory.memsw.limit_in_bytes=-1?",
        ),
        (
            r#"{"memory": {"limit": 100, "swap": -1, "disableOOMKiller": false, "useHierarchy": true}}"#,
            "memory.swap.max=max?; memory.max=100",
            "memory.limit_in_bytes=100; memory.memsw.limit_in_bytes=-1?",
        ),
        (
            r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": 0}}"#,
            "",
            "",
        ),
        (
            r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 200000, "burst": 1000}}"#,
            "cpu.weight=100; cpu.max=50000 200000; cpu.max.burst=1000",
            "cpu.shares=1024; cpu.cfs_period_us=200000; cpu.cfs_quota_us=50000; cpu.cfs_burst_us=1000",
        ),
        (
            r#"{"cpu": {"quota": 50000}}"#,
            "cpu.max=50000 100000",
            "cpu.cfs_quota_us=50000",
        ),
        (
            r#"{"cpu": {"quota": -1, "period": 50000}}"#,
            "cpu.max=max 50000?",
            "cpu.cfs_period_us=50000; cpu.cfs_quota_us=-1?",
        ),
        (
            r#"{"cpu": {"period": 50000}}"#,
            "cpu.max=max 50000?",
            "cpu.cfs_period_us=50000",
        ),
        (
            r#"{"cpu": {"shares": 512, "idle": 1}}"#,
            "cpu.idle=0?; cpu.weight=59; cpu.idle=1",
            "cpu.idle=0?; cpu.shares=512; cpu.idle=1",
        ),
        (r#"{"cpu": {"idle": 1}}"#, "cpu.idle=1", "cpu.idle=1"),
        (
            r#"{"cpu": {"quota": 1000, "period": 1000, "burst": 1000}}"#,
            "cpu.max=1000 1000; cpu.max.burst=1000",
            "cpu.cfs_period_us=1000; cpu.cfs_quota_us=1000; cpu.cfs_burst_us=1000",
        ),
        (
            r#"{"cpu": {"quota": -1, "period": 1000000, "burst": 0}}"#,
            "cpu.max=max 1000000?; cpu.max.burst=0",
            "cpu.cfs_period_us=1000000; cpu.cfs_quota_us=-1?; cpu.cfs_burst_us=0",
        ),
        (
            r#"{"cpu": {"shares": 512, "idle": 0}}"#,
            "cpu.idle=0?; cpu.weight=59",
            "cpu.idle=0?; cpu.shares=512",
        ),
        (
            r#"{"cpu": {"cpus": "0-1", "mems": "0", "shares": 0, "quota": 0, "period": 0}}"#,
            "cpuset.cpus=0-1; cpuset.mems=0",
            "cpuset.cpus=0-1; cpuset.mems=0",
        ),
        (r#"{"cpu": {"cpus": "", "mems": ""}}"#, "", ""),
        (r#"{"pids": {"limit": 10}}"#, "pids.max=10", "pids.max=10"),
        (
            r#"{"pids": {"limit": -1}}"#,
            "pids.max=max?",
            "pids.max=max?",
        ),
        (r#"{"pids": {"limit": 0}}"#, "pids.max=1", "pids.max=1"),
        (
            r#"{"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}"#,
            "io.bfq.weight=500 or io.weight=default 4950; io.bfq.weight=8:0 10 or io.weight=8:0 1",
            "blkio.bfq.weight=500 or blkio.weight=500; blkio.bfq.weight_device=8:0 10 or blkio.weight_device=8:0 10",
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 100}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 0}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]}}"#,
            "io.max=8:0 rbps=100; io.max=8:16 wbps=max; io.max=8:0 riops=3; io.max=8:0 wiops=4",
            "blkio.throttle.read_bps_device=8:0 100; blkio.throttle.write_bps_device=8:16 0; \
             blkio.throttle.read_iops_device=8:0 3; blkio.throttle.write_iops_device=8:0 4",
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#,
            "hugetlb.2MB.max=4194304; hugetlb.2MB.rsvd.max=4194304?",
            "hugetlb.2MB.limit_in_bytes=4194304; hugetlb.2MB.rsvd.limit_in_bytes=4194304?",
        ),
        (
            r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}, "x": {}}}"#,
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10",
        ),
        (
            r#"{"unified": {"misc.max": "a 1\nb 2\n", "cgroup.max.depth": "3"}, "pids": {"limit": 4}}"#,
            "pids.max=4; cgroup.max.depth=3; misc.max=a 1; misc.max=b 2",
            "pids.max=4; cgroup.max.depth=3; misc.max=a 1; misc.max=b 2",
        ),
        (
            r#"{"unified": {"misc.max": "", "cgroup.pressure": "0"}}"#,
            "cgroup.pressure=0; misc.max=\n",
            "cgroup.pressure=0; misc.max=\n",
        ),
    ] {
        assert_eq!(planned(json, &unified).unwrap(), on_unified, "v2: {json}");
        assert_eq!(planned(json, &v1).unwrap(), on_v1, "v1: {json}");
    }
}

#[test]
fn what_only_v1_has_is_refused_on_v2() {
    let [unified, v1] = hosts();
    for (json, on_v1, pointer) in [
        (
            r#"{"memory": {"kernelTCP": 100}}"#,
            "memory.kmem.tcp.limit_in_bytes=100",
            "memory/kernelTCP",
        ),
        (
            r#"{"memory": {"swappiness": 60}}"#,
            "memory.swappiness=60",
            "memory/swappiness",
        ),
        (
            r#"{"memory": {"disableOOMKiller": true}}"#,
            "memory.oom_control=1",
            "memory/disableOOMKiller",
        ),
        (
            r#"{"cpu": {"realtimePeriod": 1000}}"#,
            "cpu.rt_period_us=1000",
            "cpu/realtimePeriod",
        ),
        (
            r#"{"cpu": {"realtimeRuntime": 950, "realtimePeriod": 1000}}"#,
            "cpu.rt_period_us=1000; cpu.rt_runtime_us=950",
            "cpu/realtimeRuntime",
        ),
        (
            r#"{"network": {"classID": 1048577}}"#,
            "net_cls.classid=1048577",
            "network/classID",
        ),
        (
            r#"{"network": {"priorities": [{"name": "eth0", "priority": 5}]}}"#,
            "net_prio.ifpriomap=eth0 5",
            "network/priorities/0",
        ),
    ] {
        assert_eq!(planned(json, &v1).unwrap(), on_v1, "{json}");
        let error = planned(json, &unified).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Unsupported, "{json}");
        let wanted = format!("/linux/resources/{pointer}");
        assert_eq!(error.pointer(), Some(&*wanted), "{json}");
    }
}

#[test]
fn nonsense_is_refused_on_every_host() {
    for (json, pointer, text) in [
        (r#"{"memory": {"limit": -2}}"#, "memory/limit", "nor -1"),
        (
            r#"{"memory": {"reservation": -5}}"#,
            "memory/reservation",
            "nor -1",
        ),
        (
            r#"{"memory": {"swap": 100}}"#,
            "memory/swap",
            "without a limit of memory",
        ),
        (
            r#"{"memory": {"limit": 100, "swap": 99}}"#,
            "memory/swap",
            "less than memory",
        ),
        (
            r#"{"memory": {"swappiness": 101}}"#,
            "memory/swappiness",
            "over 100",
        ),
        (
            r#"{"memory": {"kernel": 100}}"#,
            "memory/kernel",
            "since Linux 5.16",
        ),
        (
            r#"{"memory": {"useHierarchy": false}}"#,
            "memory/useHierarchy",
            "always counted",
        ),
        (r#"{"cpu": {"quota": 1}}"#, "cpu/quota", "less than 1000"),
        (r#"{"cpu": {"quota": 999}}"#, "cpu/quota", "less than 1000"),
        (r#"{"cpu": {"period": 999}}"#, "cpu/period", "from 1000"),
        (
            r#"{"cpu": {"quota": -1, "period": 1000001}}"#,
            "cpu/period",
            "to 1000000",
        ),
        (
            r#"{"cpu": {"quota": 5000, "burst": 5001}}"#,
            "cpu/burst",
            "more than the quota 5000",
        ),
        (
            r#"{"blockIO": {"weight": 9}}"#,
            "blockIO/weight",
            "between 10 and 1000",
        ),
        (
            r#"{"blockIO": {"leafWeight": 10}}"#,
            "blockIO/leafWeight",
            "Linux 5.0",
        ),
        (
            r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1001}]}}"#,
            "blockIO/weightDevice/0/weight",
            "between 10 and 1000",
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}"#,
            "hugepageLimits/0/pageSize",
            "not of the form",
        ),
        (
            r#"{"rdma": {"a b": {"hcaHandles": 1}}}"#,
            "rdma/a b",
            "no name",
        ),
        (
            r#"{"unified": {"../x.y": "1"}}"#,
            "unified/..~1x.y",
            "no file's name",
        ),
        (
            r#"{"unified": {"memory": "1"}}"#,
            "unified/memory",
            "no file of a controller",
        ),
        (
            r#"{"unified": {"cgroup.procs": "1"}}"#,
            "unified/cgroup.procs",
            "runtime's to write",
        ),
        (
            r#"{"unified": {"cgroup.kill": "1"}}"#,
            "unified/cgroup.kill",
            "runtime's to write",
        ),
    ] {
        for host in hosts() {
            let error = planned(json, &host).unwrap_err();
            assert!(error.to_string().contains(text), "{json}: {error}");
            let wanted = format!("/linux/resources/{pointer}");
            assert_eq!(error.pointer(), Some(&*wanted), "{json}");
        }
    }
}

#[test]
fn files_of_a_controller_that_is_on_v1_are_refused() {
    let [unified, v1] = hosts();
    for (file, controller) in [("memory.high", "memory"), ("io.max", "blkio")] {
        let json = format!(r#"{{"unified": {{"{file}": "1"}}}}"#);
        assert_eq!(planned(&json, &unified).unwrap(), format!("{file}=1"));
        let error = planned(&json, &v1).unwrap_err();
        let text = format!("controller {controller} on cgroup v1");
        assert!(error.to_string().contains(&text), "{error}");
    }
}

#[test]
fn every_container_gets_the_default_device_rules_last() {
    let [unified, _] = hosts();
    let none = Resources::plan(None, &unified).unwrap();
    assert_eq!(none.devices, default_rules());
    let wanted = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;
    let wanted: LinuxResources = serde_json::from_str(wanted).unwrap();
    let some = Resources::plan(Some(&wanted), &unified).unwrap();
    assert_eq!(some.devices[0].verdict, Verdict::Deny);
    assert_eq!(some.devices[1..], default_rules());
}
