// SPDX-License-Identifier: Apache-2.0
//! Limits, read back from where they were written.

use super::*;
use crate::error::Kind;

fn settings(ground: &Ground, json: &str) -> Vec<Setting> {
    let wanted: crate::bundle::spec::LinuxResources = serde_json::from_str(json).unwrap();
    resources::settings(&wanted, &ground.layout).unwrap()
}

#[test]
fn limits_are_read_back_on_v1() {
    let Some(ground) = Ground::new("limits", View::Host) else {
        return;
    };
    if ground.layout.v1_with("memory").is_none() {
        eprintln!("skipped: this host has no memory controller on v1");
        return;
    }
    let settings = settings(
        &ground,
        r#"{"memory": {"limit": 67108864, "reservation": 33554432, "swap": 100663296, "swappiness": 10},
            "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 42}}"#,
    );
    ground
        .create_with(settings, default_rules())
        .unwrap()
        .keep()
        .unwrap();
    let read = |controller: &str, file: &str| {
        let place = ground
            .paths
            .v1
            .iter()
            .find(|place| place.controllers.contains(&controller.to_owned()));
        let text = std::fs::read_to_string(place.unwrap().path().join(file)).unwrap();
        text.trim().to_owned()
    };
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "42"),
    ] {
        assert_eq!(read(controller, file), value, "{file}");
    }
}

#[test]
fn cpusets_start_with_what_is_above_them() {
    let Some(mut ground) = Ground::new("cpuset", View::Host) else {
        return;
    };
    let Some(index) = ground.layout.v1_with("cpuset") else {
        eprintln!("skipped: this host has no cpuset controller on v1");
        return;
    };
    let mount = ground.layout.v1[index].path.clone();
    let wanted = format!("/test-{}-cpuset/inner", std::process::id());
    ground.paths = Paths::plan(Some(&wanted), "id", &ground.layout, Path::new("")).unwrap();
    let reservation = ground.create();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).unwrap();
        let here = read(&ground.paths.v1[index].path());
        assert_eq!(here, read(&mount), "{file}");
        assert_ne!(here.trim(), "", "{file}");
    }
    drop(reservation);
}

#[test]
fn limits_are_read_back_on_v2() {
    let Some(ground) = Ground::new("limits2", View::Unified) else {
        return;
    };
    let mount = ground.paths.unified.mount.clone();
    let read = |file: &str| std::fs::read_to_string(mount.join(file)).unwrap();
    let lists = |file: &str| read(file).split_whitespace().any(|name| name == "hugetlb");
    if !lists("cgroup.controllers") {
        eprintln!("skipped: cgroup2 has no hugetlb controller here");
        return;
    }
    let was_enabled = lists("cgroup.subtree_control");
    let settings = settings(
        &ground,
        r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
            "unified": {"cgroup.max.depth": "7", "cgroup.max.descendants": "9"}}"#,
    );
    ground
        .create_with(settings, default_rules())
        .unwrap()
        .keep()
        .unwrap();
    for (file, value) in [
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("cgroup.max.depth", "7"),
        ("cgroup.max.descendants", "9"),
    ] {
        let text = std::fs::read_to_string(ground.path().join(file)).unwrap();
        assert_eq!(text.trim(), value, "{file}");
    }
    drop(ground);
    if !was_enabled {
        // The machine is left as it was; somebody else's cgroup may need it by now (EBUSY).
        std::fs::write(mount.join("cgroup.subtree_control"), "-hugetlb").ok();
    }
}

/// The v1 controllers that this test's own machine has: the file of `ground`'s cgroup, and one level above it.
fn nested(ground: &mut Ground, name: &str, controller: &str) -> Option<(PathBuf, PathBuf)> {
    let index = ground.layout.v1_with(controller)?;
    let above = format!("/test-{}-{name}", std::process::id());
    let wanted = format!("{above}/inner");
    ground.paths = Paths::plan(Some(&wanted), "id", &ground.layout, Path::new("")).unwrap();
    let here = ground.paths.v1[index].path();
    Some((here.parent().unwrap().to_owned(), here))
}

#[test]
fn realtime_comes_down_from_above() {
    let Some(mut ground) = Ground::new("realtime", View::Host) else {
        return;
    };
    let Some((above, here)) = nested(&mut ground, "realtime", "cpu") else {
        eprintln!("skipped: this host has no cpu controller on v1");
        return;
    };
    let file = ground.layout.v1[ground.layout.v1_with("cpu").unwrap()]
        .path
        .join("cpu.rt_runtime_us");
    if !file.exists() {
        eprintln!("skipped: this kernel has no RT_GROUP_SCHED");
        return;
    }
    let wanted = settings(
        &ground,
        r#"{"cpu": {"realtimePeriod": 500000, "realtimeRuntime": 1000}}"#,
    );
    let read = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
    let reservation = ground.create_with(wanted, default_rules()).unwrap();
    for dir in [&above, &here] {
        assert_eq!(read(dir, "cpu.rt_runtime_us"), "1000\n", "{dir:?}");
        assert_eq!(read(dir, "cpu.rt_period_us"), "500000\n", "{dir:?}");
    }
    drop(reservation);

    // What the level above has is somebody's decision: it is not raised, and the refusal says whose it is.
    std::fs::create_dir(&above).unwrap();
    std::fs::write(above.join("cpu.rt_runtime_us"), "500").unwrap();
    let wanted = settings(&ground, r#"{"cpu": {"realtimeRuntime": 1000}}"#);
    let error = ground.create_with(wanted, default_rules()).unwrap_err();
    assert_eq!(
        error.pointer(),
        Some("/linux/resources/cpu/realtimeRuntime"),
        "{error}"
    );
    assert!(error.to_string().contains("the one above"), "{error}");
    assert_eq!(read(&above, "cpu.rt_runtime_us"), "500\n");
    assert!(!here.exists());
    std::fs::remove_dir(&above).unwrap();
}

/// Each value is fine by itself and with the others, and the kernel refuses it beside what is there before: whatever the
/// order, the second attempt takes it.
#[test]
fn limits_that_depend_on_each_other_change_both_ways() {
    let Some(ground) = Ground::new("both-ways", View::Host) else {
        return;
    };
    let [Some(memory), Some(cpu)] = ["memory", "cpu"].map(|name| ground.layout.v1_with(name))
    else {
        eprintln!("skipped: this host has not both controllers on v1");
        return;
    };
    let reservation = ground.create();
    let read = |index: usize, file: &str| {
        let file = ground.paths.v1[index].path().join(file);
        let text = std::fs::read_to_string(file).unwrap();
        text.trim().parse::<i64>().unwrap()
    };
    for (limit, swap, quota, burst) in [
        (64, 96, 50_000, 50_000),
        (128, 192, 90_000, 90_000),
        (32, 32, 20_000, 10_000),
        (16, 32, 20_000, 0),
        (-1, -1, -1, 0),
        (8, 8, 1000, 1000),
    ] {
        let bytes = |mebibytes: i64| if mebibytes < 0 { -1 } else { mebibytes << 20 };
        let json = serde_json::json!({
            "memory": {"limit": bytes(limit), "swap": bytes(swap)},
            "cpu": {"quota": quota, "burst": burst, "period": 100_000},
        });
        let wanted = settings(&ground, &json.to_string());
        let applied = reservation.cgroup().apply(&wanted);
        applied.unwrap_or_else(|error| panic!("{json}: {error}"));
        let shown = |limit| {
            if limit < 0 {
                i64::MAX & !0xfff
            } else {
                bytes(limit)
            }
        };
        let found = [
            read(memory, "memory.limit_in_bytes"),
            read(memory, "memory.memsw.limit_in_bytes"),
            read(cpu, "cpu.cfs_quota_us"),
            read(cpu, "cpu.cfs_burst_us"),
        ];
        assert_eq!(found, [shown(limit), shown(swap), quota, burst], "{json}");
    }
}

#[test]
fn an_idle_cgroup_takes_a_weight() {
    let Some(ground) = Ground::new("idle", View::Host) else {
        return;
    };
    let Some(cpu) = ground.layout.v1_with("cpu") else {
        eprintln!("skipped: this host has no cpu controller on v1");
        return;
    };
    let reservation = ground.create();
    for (shares, idle) in [(512, 1), (600, 1), (700, 0)] {
        let json = format!(r#"{{"cpu": {{"shares": {shares}, "idle": {idle}}}}}"#);
        let applied = reservation.cgroup().apply(&settings(&ground, &json));
        applied.unwrap_or_else(|error| panic!("{json}: {error}"));
        let dir = ground.paths.v1[cpu].path();
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read("cpu.idle"), format!("{idle}\n"), "{json}");
        // An idle cgroup shows the least weight there is.
        let shown = if idle == 1 { 3 } else { shares };
        assert_eq!(read("cpu.shares"), format!("{shown}\n"), "{json}");
    }
}

#[test]
fn a_limit_without_its_controller_is_refused_by_name() {
    let Some(ground) = Ground::new("missing", View::Unified) else {
        return;
    };
    if ground.layout.unified != Path::new("/sys/fs/cgroup/unified") {
        eprintln!("skipped: cgroup2 has all controllers here");
        return;
    }
    for (json, controller, pointer) in [
        (
            r#"{"memory": {"limit": 67108864}}"#,
            "memory",
            "memory/limit",
        ),
        (r#"{"pids": {"limit": 5}}"#, "pids", "pids/limit"),
        (r#"{"cpu": {"cpus": "0"}}"#, "cpuset", "cpu/cpus"),
        (
            r#"{"unified": {"nothing.max": "5"}}"#,
            "nothing",
            "unified/nothing.max",
        ),
    ] {
        let settings = settings(&ground, json);
        let error = ground.create_with(settings, default_rules()).unwrap_err();
        let text = format!("controller {controller} is not available");
        assert!(error.to_string().contains(&text), "{error}");
        let pointer = format!("/linux/resources/{pointer}");
        assert_eq!(
            (error.kind(), error.pointer()),
            (Kind::Unsupported, Some(&*pointer))
        );
        assert!(!ground.path().exists(), "nothing is left after {json}");
    }
    // What the host does anyway is no limit.
    let settings = settings(
        &ground,
        r#"{"memory": {"limit": -1}, "pids": {"limit": -1}}"#,
    );
    ground
        .create_with(settings, default_rules())
        .unwrap()
        .keep()
        .unwrap();
}

#[test]
fn a_value_that_the_kernel_refuses_names_its_field() {
    let Some(ground) = Ground::new("refused", View::Host) else {
        return;
    };
    let settings = settings(&ground, r#"{"cpu": {"cpus": "4000"}}"#);
    let error = ground.create_with(settings, default_rules()).unwrap_err();
    assert_eq!(
        error.pointer(),
        Some("/linux/resources/cpu/cpus"),
        "{error}"
    );
    assert!(
        error.to_string().contains("set cpuset.cpus to \"4000\""),
        "{error}"
    );
    assert!(!ground.path().exists());
}
