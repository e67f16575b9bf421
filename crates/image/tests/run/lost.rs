// SPDX-License-Identifier: Apache-2.0
//! Supervisors that are killed: what is left is found, told and put away.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::{World, get, in_world, wait_for};

fn kill(pid: i32) {
    // It may have ended by itself.
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    );
}

const SERVE: &str = "mkdir -p /w && echo web > /w/index.html && exec httpd -f -p 80 -h /w";

fn warm(world: &World) {
    world.script(&["-p", "8079:80"], "true");
}

#[test]
fn a_killed_supervisor_is_noticed() {
    in_world(|world| {
        warm(world);
        let before = world.census();
        let id = world.ok(&[
            "run", "-d", "--name", "c", "-p", "8080:80", "base", "sh", "-c", SERVE,
        ]);
        wait_for("an answer", || get("127.0.0.1:8080"));
        kill(world.supervisor(&id).unwrap());
        let found = wait_for("the loss", || {
            let found = world.run(&["ps", "--all"]);
            found.err.contains("container c was lost").then_some(found)
        });
        assert!(found.out.contains("lost"), "{}", found.out);
        assert_eq!(get("127.0.0.1:8080"), None);
        assert!(world.cgroups(&id).is_empty());
        // Said once.
        assert_eq!(world.run(&["ps", "--all"]).err, "");
        assert_eq!(world.look("c")["state"], "lost");
        assert!(
            world
                .run(&["wait", "c"])
                .err
                .contains("container c is lost")
        );
        // It can be started again, and goes.
        world.ok(&["start", "c"]);
        assert_eq!(wait_for("an answer", || get("127.0.0.1:8080")), "web");
        world.ok(&["rm", "-f", "c"]);
        assert_eq!(world.census(), before);
        // One that was to go has gone.
        let id = world.ok(&["run", "-d", "--rm", "--name", "d", "base", "sleep", "100"]);
        kill(world.supervisor(&id).unwrap());
        wait_for("its removal", || {
            world
                .run(&["ps"])
                .err
                .contains("as --rm asked for")
                .then_some(())
        });
        assert_eq!(world.census(), before);
    });
}

/// A network whose plugin takes `seconds` to take away what it has made, which is nothing; the directory of its file.
fn slow_network(world: &World, seconds: u32) -> String {
    let dir = world.dir.join("slow");
    std::fs::create_dir(&dir).unwrap();
    let plugin = dir.join("slow");
    let text = format!(
        "#!/bin/sh\ncat > /dev/null\n[ $CNI_COMMAND = DEL ] && exec sleep {seconds}\necho '{{\"cniVersion\":\"1.0.0\"}}'\n"
    );
    std::fs::write(&plugin, text).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = r#"{"cniVersion":"1.0.0","name":"slow","plugins":[{"type":"slow"}]}"#;
    std::fs::write(dir.join("slow.conflist"), text).unwrap();
    dir.to_str().unwrap().to_owned()
}

/// Longer than a supervisor may be stuck; how the program ended is told all the same.
#[test]
fn an_end_that_takes_long_is_waited_for() {
    in_world(|world| {
        let dir = slow_network(world, 5);
        let before = world.census();
        for (verb, is_killed) in [(&["stop", "-t", "0", "c"][..], false), (&["ps"], true)] {
            let slow = ["--network", "slow", "--cni-conf-dir", &dir];
            let begin = ["run", "-d", "--name", "c"];
            let program = ["base", "sleep", "100"];
            let mut run = world.command(&[&begin[..], &slow, &program].concat());
            let found = crate::support::ran(run.env("CNI_PATH", &dir).output().unwrap());
            assert_eq!(found.code, Some(0), "{}", found.err);
            if is_killed {
                world.ok(&["kill", "c"]);
                wait_for("its end", || {
                    (world.look("c")["state"] == "ending").then_some(())
                });
                kill(world.supervisor(found.out.trim()).unwrap());
            }
            let ended = wait_for("all to be put away", || {
                let mut command = world.command(verb);
                let ended = crate::support::ran(command.env("CNI_PATH", &dir).output().unwrap());
                (world.look("c")["state"] == "exited").then_some(ended)
            });
            assert!(!ended.err.contains("lost"), "{}", ended.err);
            assert_eq!(world.look("c")["exitCode"], 137);
            world.ok(&["rm", "c"]);
            assert_eq!(world.census(), before);
        }
    });
}

/// At any moment between its first instruction and the container's: `rm --force` leaves nothing.
#[test]
fn killed_at_random_moments() {
    in_world(|world| {
        warm(world);
        let before = world.census();
        // How long a start takes at all depends on the machine.
        let begun = Instant::now();
        world.ok(&[
            "run", "-d", "--name", "c", "-p", "8080:80", "base", "sh", "-c", SERVE,
        ]);
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap();
        world.ok(&["rm", "-f", "c"]);
        // The same parts of that in every run of these tests: xorshift.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut states = std::collections::BTreeMap::new();
        for round in 0..20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let child = world.spawn(&[
                "run", "-d", "--name", "c", "-p", "8080:80", "base", "sh", "-c", SERVE,
            ]);
            let containers = world.dir.join("store/containers");
            let id = wait_for("the container", || {
                let entry = std::fs::read_dir(&containers).unwrap().next()?;
                Some(entry.unwrap().file_name().into_string().unwrap())
            });
            let pid = wait_for("the supervisor", || world.supervisor(&id));
            if round % 4 == 3 {
                wait_for("the program", || {
                    let text = std::fs::read_to_string(world.container(&id).join("status.json"));
                    text.ok()?.contains("running").then_some(())
                });
            } else {
                std::thread::sleep(Duration::from_micros(random % micros));
            }
            kill(pid);
            let state = std::fs::read_to_string(world.container(&id).join("status.json")).unwrap();
            let state: serde_json::Value = serde_json::from_str(&state).unwrap();
            *states
                .entry(state["state"].as_str().unwrap().to_owned())
                .or_insert(0) += 1;
            child.wait_with_output().unwrap();
            world.ok(&["rm", "-f", "c"]);
            let after = world.census();
            let left: Vec<_> = after.symmetric_difference(&before).collect();
            assert!(left.is_empty(), "round {round}, {state}: {left:#?}");
            assert!(world.cgroups(&id).is_empty(), "round {round}");
        }
        assert!(
            states.len() > 1,
            "all were killed in the same state: {states:?}"
        );
    });
}

/// The runtime goes on where this program was killed, and may be about to make a container that nobody could have killed
/// yet.
#[test]
fn killed_in_the_foreground() {
    in_world(|world| {
        let before = world.census();
        for round in 0..6 {
            let mut child = world.spawn(&["run", "--name", "c", "base", "sleep", "1000"]);
            let containers = world.dir.join("store/containers");
            let id = wait_for("the container", || {
                let entry = std::fs::read_dir(&containers).unwrap().next()?;
                Some(entry.unwrap().file_name().into_string().unwrap())
            });
            wait_for("the runtime", || {
                let text =
                    std::fs::read_to_string(world.container(&id).join("status.json")).ok()?;
                text.contains("running").then_some(())
            });
            std::thread::sleep(Duration::from_millis(round * 15));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(
                world.run(&["rm", "c"]).err.contains("is running"),
                "round {round}"
            );
            world.ok(&["rm", "-f", "c"]);
            assert_eq!(world.census(), before, "round {round}");
            assert!(world.cgroups(&id).is_empty(), "round {round}");
        }
    });
}

/// Several at once, over one network: each gets an address of its own, and all go.
#[test]
fn many_at_once() {
    in_world(|world| {
        warm(world);
        let before = world.census();
        let children: Vec<_> = (0..6)
            .map(|number| {
                let name = format!("c{number}");
                world.spawn(&[
                    "run",
                    "-d",
                    "--network",
                    "corten",
                    "--name",
                    &name,
                    "base",
                    "sleep",
                    "1000",
                ])
            })
            .collect();
        let mut ids = Vec::new();
        for child in children {
            let ran = crate::support::ran(child.wait_with_output().unwrap());
            assert_eq!(ran.code, Some(0), "{}", ran.err);
            ids.push(ran.out.trim().to_owned());
        }
        let addresses: std::collections::BTreeSet<String> = (0..6)
            .map(|number| world.look(&format!("c{number}"))["addresses"][0].to_string())
            .collect();
        assert_eq!(addresses.len(), 6, "{addresses:?}");
        // Twice each: who comes second finds nothing, or finds it going.
        let children: Vec<_> = ids
            .iter()
            .chain(&ids)
            .map(|id| world.spawn(&["rm", "-f", id]))
            .collect();
        for child in children {
            let ran = crate::support::ran(child.wait_with_output().unwrap());
            let missing =
                ran.err.contains("not in the store") || ran.err.contains("there is no container");
            assert!(ran.code == Some(0) || missing, "{}", ran.err);
        }
        assert_eq!(world.census(), before);
    });
}
