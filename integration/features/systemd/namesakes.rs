// SPDX-License-Identifier: Apache-2.0
//! Names that somebody has already: of live units, of what is left of ended ones, and of cgroups that are nobody's unit.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corten_integration::{Container, Trial, eventually, systemd_tool, trial, unified};
use serde_json::json;

use super::{is_driver, limited, properties};

/// Less than systemd may take for a scope's end, and more than a request takes on emulated processors.
const AT_ONCE: Duration = Duration::from_secs(8);

#[test]
fn a_name_can_be_used_again_at_once() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let c = limited(t, json!({}));
        for _ in 0..5 {
            let out = c.run_detached();
            c.says(&out, "up");
            c.delete_force().ok();
        }
    });
}

/// A container whose scope would have the name of `other`'s, in a slice of its own.
fn namesake<'t>(t: &'t Trial, other: &Container<'_>) -> Container<'t> {
    let slice = t.prefix.replace('-', "_");
    t.container()
        .with(
            "/linux/cgroupsPath",
            json!(format!("{slice}_other.slice:t:{}", other.id)),
        )
        .probe("exit 0")
        .done()
}

/// A scope of somebody else's under the name that the container's would have, with a process that takes no notice of
/// SIGTERM; and that process.
fn strange<'t>(t: &'t Trial, settings: &[&str]) -> (Container<'t>, Child) {
    let c = limited(t, json!({}));
    let mut command = systemd_tool("systemd-run");
    let unit = format!("--unit=t-{}.scope", c.id);
    command.args(["--scope", "--quiet", &unit]).args(settings);
    command.args(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    await_state(&c, "active");
    (c, child)
}

fn await_state(c: &Container<'_>, state: &str) {
    let wanted = [format!("ActiveState={state}")];
    eventually(&format!("a unit that is {state}"), || {
        (properties(c, &["ActiveState"]) == wanted).then_some(())
    });
}

fn stop(c: &Container<'_>) {
    let unit = format!("t-{}.scope", c.id);
    let stopped = systemd_tool("systemctl")
        .args(["stop", "--no-block", &unit])
        .status();
    assert!(stopped.unwrap().success());
}

fn end_strange(c: &Container<'_>, mut child: Child) {
    let unit = format!("t-{}.scope", c.id);
    let killed = systemd_tool("systemctl")
        .args(["kill", "--signal=KILL", &unit])
        .status();
    assert!(killed.unwrap().success());
    child.wait().unwrap();
    // Or the census meets it on its way out, or failed.
    systemd_tool("systemctl")
        .args(["reset-failed", &unit])
        .output()
        .unwrap();
}

#[test]
fn a_live_unit_is_refused_at_once() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let first = limited(t, json!({}));
        let out = first.run_detached();
        first.says(&out, "up");
        let same = t
            .container()
            .with("/linux/cgroupsPath", json!(t.cgroups_path(&first.id)))
            .probe("exit 0")
            .done();
        for second in [same, namesake(t, &first)] {
            let begun = Instant::now();
            let error = second.create().fails();
            if t.is_corten() {
                let cgroup = t.cgroup_of(&first.id);
                let wanted = format!(
                    "unit t-{}.scope exists already: active, in cgroup {cgroup} (config.json /linux/cgroupsPath)",
                    first.id
                );
                assert!(error.contains(&wanted), "{error}");
                assert!(begun.elapsed() < AT_ONCE, "after {:?}", begun.elapsed());
            }
            second.verb("state", &[]).end().fails();
        }
        assert_eq!(first.status(), "running");
        first.end();
    });
}

#[test]
fn of_creates_of_one_unit_one_wins() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let first = limited(t, json!({}));
        let others: Vec<_> = (0..4).map(|_| namesake(t, &first)).collect();
        let running: Vec<_> = (others.iter().chain([&first]))
            .map(|c| (c, c.bundled("create", &[]).spawn()))
            .collect();
        let ended = running.into_iter().map(|(c, call)| (c, call.end()));
        let (made, refused): (Vec<_>, Vec<_>) = ended.partition(|(_, out)| out.code == 0);
        assert_eq!(made.len(), 1, "{made:#?} {refused:#?}");
        for (_, out) in refused {
            let error = out.fails();
            assert!(!t.is_corten() || error.contains("exist"), "{error}");
        }
        made[0].0.delete_force().ok();
    });
}

#[test]
fn what_is_left_of_a_failed_unit_is_cleared_away() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let (c, child) = strange(
            t,
            &["--property=RuntimeMaxSec=1", "--property=TimeoutStopSec=1"],
        );
        await_state(&c, "failed");
        { child }.wait().unwrap();
        let out = c.run_detached();
        c.says(&out, "up");
        assert_eq!(properties(&c, &["ActiveState"]), ["ActiveState=active"]);
        c.end();
    });
}

#[test]
fn a_unit_on_its_way_out_is_awaited() {
    trial(|t| {
        if !is_driver() || !t.is_corten() {
            return;
        }
        let (c, mut child) = strange(t, &["--property=TimeoutStopSec=4"]);
        stop(&c);
        await_state(&c, "deactivating");
        let out = c.run_detached();
        c.says(&out, "up");
        assert!(child.try_wait().unwrap().is_some());
        c.end();
    });
}

#[test]
fn a_unit_that_does_not_end_is_named() {
    trial(|t| {
        if !is_driver() || !t.is_corten() {
            return;
        }
        let (c, child) = strange(t, &["--property=TimeoutStopSec=300"]);
        stop(&c);
        await_state(&c, "deactivating");
        let error = c.create().fails();
        let wanted = format!(
            "unit t-{}.scope exists already: deactivating for 20 s by now",
            c.id
        );
        assert!(error.contains(&wanted), "{error}");
        end_strange(&c, child);
    });
}

/// systemd makes no difference between a cgroup that it makes and one that it finds.
#[test]
fn strangers_in_the_cgroup_are_left_alone() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let c = limited(t, json!({}));
        let dir = unified().unwrap().dir(&t.cgroup_of(&c.id));
        fs::create_dir_all(&dir).unwrap();
        let mut stranger = Command::new("sleep").arg("300").spawn().unwrap();
        fs::write(dir.join("cgroup.procs"), stranger.id().to_string()).unwrap();
        let error = c.create().fails();
        if t.is_corten() {
            assert!(error.contains("it holds processes already"), "{error}");
        }
        assert!(stranger.try_wait().unwrap().is_none());
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", stranger.id())).unwrap();
        assert_eq!(cgroup, format!("0::{}\n", t.cgroup_of(&c.id)));
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        fs::remove_dir(&dir).unwrap();
        fs::remove_dir(dir.parent().unwrap()).unwrap();
    });
}
