// SPDX-License-Identifier: Apache-2.0
//! Limits that change: in any direction, all or none, and believed only when they are read back.

use super::*;

fn settings(ground: &Ground, json: &str) -> Vec<Setting> {
    let wanted: crate::bundle::spec::LinuxResources = serde_json::from_str(json).unwrap();
    resources::settings(&wanted, &ground.layout).unwrap()
}

/// What the files of `settings` say.
fn read(ground: &Ground, settings: &[Setting]) -> Vec<String> {
    let cgroup = ground.open();
    let text = |setting| cgroup.found(setting).unwrap().unwrap().1;
    settings.iter().map(text).collect()
}

/// The host's own view, where it has the controllers that the tests limit.
fn ground(name: &str) -> Option<Ground> {
    let ground = Ground::new(name, View::Host)?;
    let has = |name| ground.layout.v1_with(name).is_some();
    if ["memory", "cpu", "pids"].into_iter().all(has) {
        return Some(ground);
    }
    eprintln!("skipped: the controllers are not on v1");
    None
}

#[test]
fn limits_that_bound_each_other_change_in_every_direction() {
    let Some(ground) = ground("directions") else {
        return;
    };
    ground.create().keep().unwrap();
    let cgroup = ground.open();
    // Memory and both together, quota, period and burst: each step breaks a bound of the one before in some order.
    for (memory, both, quota, period, burst) in [
        (64, 128, 50_000, 100_000, 20_000),
        (256, 512, 90_000, 100_000, 90_000),
        (32, 32, 5_000, 10_000, 0),
        (512, 512, 200_000, 200_000, 200_000),
        (64, 65, 1_000, 1_000_000, 1_000),
    ] {
        let json = format!(
            r#"{{"memory": {{"limit": {}, "swap": {}}},
                 "cpu": {{"quota": {quota}, "period": {period}, "burst": {burst}}}}}"#,
            memory << 20,
            both << 20,
        );
        let settings = settings(&ground, &json);
        cgroup.update(&settings).unwrap();
        let found: Vec<_> = read(&ground, &settings);
        for (setting, found) in settings.iter().zip(found) {
            assert_eq!(setting.value, found.trim(), "{}", setting.file);
        }
    }
}

#[test]
fn a_refused_limit_leaves_all_as_they_were() {
    let Some(ground) = ground("refused") else {
        return;
    };
    ground.create().keep().unwrap();
    let cgroup = ground.open();
    let first = r#"{"memory": {"limit": 67108864, "swap": 134217728},
                    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"}, "pids": {"limit": 7}}"#;
    let first = settings(&ground, first);
    cgroup.update(&first).unwrap();
    let before = read(&ground, &first);
    for broken in [
        r#"{"memory": {"limit": 268435456, "swap": 268435456}, "cpu": {"shares": 5, "cpus": "4000"}}"#,
        r#"{"memory": {"limit": 33554432, "swap": 33554432}, "cpu": {"quota": 5000, "cpus": "4000"}}"#,
        r#"{"pids": {"limit": 9}, "memory": {"limit": 268435456}}"#,
        r#"{"cpu": {"burst": 50001}}"#,
    ] {
        let broken = settings(&ground, broken);
        let former = cgroup.former(&broken, Vec::new()).unwrap();
        cgroup.update(&broken).unwrap_err();
        cgroup.restore(&former).unwrap();
        assert_eq!(read(&ground, &first), before, "{broken:?}");
    }
}

#[test]
fn what_was_left_to_undo_is_what_is_undone() {
    let Some(ground) = ground("left") else {
        return;
    };
    ground.create().keep().unwrap();
    let cgroup = ground.open();
    let settings = |json: &str| settings(&ground, json);
    let first = settings(r#"{"cpu": {"shares": 512}, "pids": {"limit": 7}}"#);
    cgroup.update(&first).unwrap();
    let before = read(&ground, &first);
    let cut = settings(r#"{"cpu": {"shares": 100}, "pids": {"limit": 70}}"#);
    let left = cgroup.former(&cut, Vec::new()).unwrap();
    cgroup.update(&cut).unwrap();
    // Another change comes over it, and fails.
    let next = on_top(&left, settings(r#"{"pids": {"limit": 8}}"#));
    let former = cgroup.former(&next, left).unwrap();
    cgroup.update(&next).unwrap();
    assert_eq!(read(&ground, &first), ["512\n", "8\n"]);
    cgroup.restore(&former).unwrap();
    assert_eq!(read(&ground, &first), before);
}

#[test]
fn what_the_kernel_took_and_does_not_hold_is_an_error() {
    let Some(ground) = ground("unbelieved") else {
        return;
    };
    ground.create().keep().unwrap();
    let cgroup = ground.open();
    let mut settings = settings(&ground, r#"{"pids": {"limit": 7}, "cpu": {"shares": 512}}"#);
    cgroup.apply(&settings).unwrap();
    cgroup.verify(&settings).unwrap();
    settings[0].value = "1024".into();
    let error = cgroup.verify(&settings).unwrap_err().to_string();
    assert!(
        error.contains("cpu.shares") && error.contains("512"),
        "{error}"
    );
    // A word that comes later is the one that counts.
    settings.push(Setting {
        value: "512".into(),
        ..settings[0].clone()
    });
    cgroup.verify(&settings).unwrap();
}

#[test]
fn used_memory_is_counted() {
    let Some(mut ground) = ground("used") else {
        return;
    };
    ground.create().keep().unwrap();
    ground.spawn("exec sleep 100");
    assert!(ground.open().memory_used().unwrap().unwrap() > 0);
    let mut nowhere = ground.paths.clone();
    nowhere.v1.clear();
    let cgroup = Cgroup::open(&nowhere).unwrap().unwrap();
    assert_eq!(cgroup.memory_used().unwrap(), None);
}

#[test]
fn threads_are_listed_too() {
    let Some(mut ground) = Ground::new("threads", View::Unified) else {
        return;
    };
    ground.create().keep().unwrap();
    let pid = ground.spawn("exec sleep 100");
    assert_eq!(ground.open().threads().unwrap(), [pid]);
}
