// SPDX-License-Identifier: Apache-2.0
//! Making, keeping, killing, freezing, and who is refused.

use super::*;
use crate::error::Kind;

#[test]
fn a_dropped_reservation_leaves_nothing() {
    for view in [View::Unified, View::Host] {
        let Some(mut ground) = Ground::new("dropped", view) else {
            return;
        };
        let reservation = ground.create();
        assert_eq!(reservation.device_control(), DeviceControl::Program);
        ground.spawn("exec sleep 1000");
        drop(reservation);
        for place in ground.places() {
            assert!(!place.path().exists(), "{place:?}");
        }
    }
}

#[test]
fn a_dropped_reservation_removes_the_parents_that_it_made() {
    let Some(mut ground) = Ground::new("parents", View::Host) else {
        return;
    };
    let wanted = format!("/test-{}-parents/a/b", std::process::id());
    let paths = Paths::plan(Some(&wanted), "id", &ground.layout, Path::new(""));
    let above = ground
        .paths
        .unified
        .mount
        .join(wanted.split('/').nth(1).unwrap());
    ground.paths = paths.unwrap();
    let reservation = ground.create();
    assert!(ground.path().exists());
    drop(reservation);
    assert!(!above.exists());
}

#[test]
fn a_kept_cgroup_is_killed_and_removed() {
    for view in [View::Unified, View::Host] {
        let Some(mut ground) = Ground::new("kept", view) else {
            return;
        };
        let reservation = ground.create();
        let unified = ground.path();
        let pid = ground.spawn_in(&[unified], "sleep 1000 & sleep 1000 & wait");
        reservation.cgroup().join_v1(pid).unwrap();
        reservation.keep().unwrap();
        for place in ground.places() {
            let listed = std::fs::read_to_string(place.path().join("cgroup.procs")).unwrap();
            assert!(
                listed.lines().any(|line| line == pid.to_string()),
                "{place:?}"
            );
        }
        let cgroup = ground.open();
        assert!(cgroup.populated().unwrap());
        assert!(cgroup.processes().unwrap().contains(&pid));
        cgroup.kill().unwrap();
        cgroup.wait_empty(soon()).unwrap();
        remove(&ground.paths, soon()).unwrap();
        assert!(Cgroup::open(&ground.paths).unwrap().is_none());
        // Once more is fine, and so is what was held open.
        remove(&ground.paths, soon()).unwrap();
        end(&ground.paths, || Cgroup::open_marked(&ground.paths), soon()).unwrap();
        cgroup.wait_empty(soon()).unwrap();
    }
}

#[test]
fn a_cgroup_with_processes_is_refused_and_they_live() {
    let Some(mut ground) = Ground::new("populated", View::Host) else {
        return;
    };
    ground.create().keep().unwrap();
    ground.spawn("exec sleep 1000");
    let error = ground.create_with(Vec::new(), default_rules()).unwrap_err();
    assert!(
        error.to_string().contains("holds processes already"),
        "{error}"
    );
    assert_eq!(
        (error.kind(), error.pointer()),
        (Kind::Exists, Some("/linux/cgroupsPath"))
    );
    assert!(ground.open().populated().unwrap());
}

#[test]
fn a_v1_cgroup_with_processes_is_refused_too() {
    let Some(mut ground) = Ground::new("v1-populated", View::Host) else {
        return;
    };
    let Some(v1) = ground.paths.v1.first().map(Place::path) else {
        eprintln!("skipped: this host has no v1 hierarchies");
        return;
    };
    std::fs::create_dir(&v1).unwrap();
    ground.spawn_in(&[v1], "exec sleep 1000");
    let error = ground.create_with(Vec::new(), default_rules()).unwrap_err();
    assert!(
        error.to_string().contains("holds processes already"),
        "{error}"
    );
    assert!(!ground.path().exists(), "the v2 cgroup is removed again");
    // Nothing on v2 tells of that process: it is for the test to end.
    ground.children[0].kill().unwrap();
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let Some(ground) = Ground::new("refrozen", View::Unified) else {
        return;
    };
    ground.create().keep().unwrap();
    ground.open().freeze(soon()).unwrap();
    let error = ground.create_with(Vec::new(), default_rules()).unwrap_err();
    assert!(error.to_string().contains("it is frozen"), "{error}");
    ground.open().thaw(soon()).unwrap();
    ground.create().keep().unwrap();
}

#[test]
fn of_two_starts_in_one_cgroup_one_is_refused() {
    let Some(ground) = Ground::new("twice", View::Unified) else {
        return;
    };
    let first = ground.create();
    let error = ground.create_with(Vec::new(), default_rules()).unwrap_err();
    assert!(error.to_string().contains("another runtime"), "{error}");
    assert!(
        ground.path().exists(),
        "the loser leaves the winner's cgroup alone"
    );
    first.keep().unwrap();
    ground.create().keep().unwrap();
}

#[test]
fn freezing_stops_and_thawing_goes_on() {
    let Some(mut ground) = Ground::new("freeze", View::Host) else {
        return;
    };
    ground.create().keep().unwrap();
    ground.spawn("while :; do :; done");
    let cgroup = ground.open();
    assert!(!cgroup.frozen().unwrap());
    cgroup.freeze(soon()).unwrap();
    assert!(cgroup.frozen().unwrap());
    cgroup.thaw(soon()).unwrap();
    assert!(!cgroup.frozen().unwrap());
}

#[test]
fn a_freeze_that_fails_is_undone() {
    let Some(mut ground) = Ground::new("half-frozen", View::Unified) else {
        return;
    };
    ground.create().keep().unwrap();
    ground.spawn("while :; do :; done");
    let cgroup = ground.open();
    // No time at all: the event comes later than the first look.
    let past = Instant::now();
    if let Err(error) = cgroup.freeze(past) {
        assert!(error.to_string().contains("timed out"), "{error}");
        let wanted = std::fs::read_to_string(ground.path().join("cgroup.freeze")).unwrap();
        assert_eq!(wanted, "0\n");
    } else {
        assert!(cgroup.frozen().unwrap());
    }
}

#[test]
fn frozen_processes_are_killed() {
    let Some(mut ground) = Ground::new("frozen", View::Host) else {
        return;
    };
    ground.create().keep().unwrap();
    ground.spawn("sleep 1000 & sleep 1000 & wait");
    ground.open().freeze(soon()).unwrap();
    end(&ground.paths, || Cgroup::open_marked(&ground.paths), soon()).unwrap();
    assert!(!ground.path().exists());
}

#[test]
fn a_fork_bomb_ends_within_a_second() {
    let Some(mut ground) = Ground::new("bomb", View::Host) else {
        return;
    };
    // The limit is there for the machine's sake; on a view without it the bomb would not be set off.
    let limit: crate::bundle::spec::LinuxResources =
        serde_json::from_str(r#"{"pids": {"limit": 200}}"#).unwrap();
    let settings = resources::settings(&limit, &ground.layout).unwrap();
    let reservation = ground.create_with(settings, default_rules()).unwrap();
    reservation.keep().unwrap();
    ground.spawn("bomb() { bomb 2> /dev/null & bomb 2> /dev/null & wait; }; bomb; sleep 1000");
    let cgroup = ground.open();
    // However slow the machine.
    let end_of_growth = Instant::now() + Duration::from_secs(120);
    while cgroup.processes().unwrap().len() < 100 {
        assert!(Instant::now() < end_of_growth, "the bomb grows");
        std::thread::yield_now();
    }
    let start = Instant::now();
    end(&ground.paths, || Cgroup::open_marked(&ground.paths), soon()).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(!ground.path().exists());
}

#[test]
fn waiting_has_an_end_and_names_who_is_left() {
    let Some(mut ground) = Ground::new("waiting", View::Unified) else {
        return;
    };
    ground.create().keep().unwrap();
    let pid = ground.spawn("exec sleep 1000");
    let start = Instant::now();
    let error = ground.open().wait_empty(shortly()).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(190));
    assert!(
        error.to_string().contains(&format!("processes [{pid}]")),
        "{error}"
    );
}
