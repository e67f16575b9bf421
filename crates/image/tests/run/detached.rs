// SPDX-License-Identifier: Apache-2.0
//! Containers that go on by themselves: their streams, their ends, and what they are told.

use std::time::Duration;

use crate::support::{in_world, wait_for};

#[test]
fn runs_logs_and_ends() {
    in_world(|world| {
        let before = world.census();
        let id = world.ok(&[
            "run",
            "-d",
            "--name",
            "c",
            "base",
            "sh",
            "-c",
            "echo out; echo err >&2; printf half; exit 5",
        ]);
        assert_eq!(world.ok(&["wait", "c"]), "5");
        let found = world.run(&["logs", "c"]);
        assert_eq!(
            (found.out.as_str(), found.err.as_str()),
            ("out\nhalf", "err\n")
        );
        assert_eq!(world.ok(&["logs", "--tail", "1", "c"]), "half");
        assert_eq!(
            world.ok(&[
                "logs",
                "--since",
                "2001-01-01T00:00:00Z",
                "--tail",
                "0",
                "c"
            ]),
            ""
        );
        assert_eq!(world.ok(&["logs", "--since", "1h", "c"]), "out\nhalf");
        assert_eq!(
            world.ok(&["logs", "--since", "2999-01-01T00:00:00Z", "c"]),
            ""
        );
        let log = std::fs::read_to_string(world.container(&id).join("log")).unwrap();
        for line in log.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(
                line["log"].is_string() && line["time"].as_str().unwrap().ends_with('Z'),
                "{line}"
            );
        }
        assert_eq!(world.look("c")["exitCode"], 5);
        world.ok(&["rm", "c"]);
        assert!(world.cgroups(&id).is_empty());
        assert_eq!(world.census(), before);
    });
}

#[test]
fn exec_start_and_changes() {
    in_world(|world| {
        world.ok(&[
            "run", "-d", "--name", "c", "-e", "A=1", "base", "sleep", "1000",
        ]);
        let exec = |flags: &[&str], script: &str| {
            let args = [&["exec"], flags, &["c", "sh", "-c", script]].concat();
            world.run(&args)
        };
        assert_eq!(
            exec(&[], "id -u; echo $A; cat /proc/1/comm").out,
            "0\n1\nsleep\n"
        );
        let found = exec(
            &["-u", "user", "-w", "/etc", "-e", "A=2"],
            "id -u; pwd; echo $A $HOME",
        );
        assert_eq!(found.out, "1000\n/etc\n2 /home/user\n");
        assert_eq!(exec(&[], "exit 7").code, Some(7));
        assert_eq!(exec(&["-u", "nobody"], "true").code, Some(125));
        exec(&[], "echo kept > /kept");
        assert_eq!(world.ok(&["stop", "-t", "0", "c"]), "c");
        assert_eq!(exec(&[], "true").code, Some(125));
        world.ok(&["start", "c"]);
        assert_eq!(exec(&[], "cat /kept").out, "kept\n");
        assert!(
            world
                .run(&["start", "c"])
                .err
                .contains("container c is running")
        );
        assert!(
            world
                .run(&["rm", "c"])
                .err
                .contains("is running; stop it first")
        );
        world.ok(&["rm", "-f", "c"]);
    });
}

#[test]
fn ends_as_the_image_wants() {
    in_world(|world| {
        // The image's STOPSIGNAL is SIGUSR1; SIGTERM would not end it.
        let script = "trap 'exit 9' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let wait_ready = |name: &str| {
            wait_for("ready", || {
                world.ok(&["logs", name]).contains("ready").then_some(())
            });
        };
        world.ok(&["run", "-d", "--name", "a", "base", "sh", "-c", script]);
        wait_ready("a");
        world.ok(&["stop", "a"]);
        assert_eq!(world.look("a")["exitCode"], 9);
        // One that does not listen is killed.
        world.ok(&[
            "run",
            "-d",
            "--name",
            "b",
            "base",
            "sh",
            "-c",
            "trap '' USR1; echo ready; while :; do sleep 0.05; done",
        ]);
        wait_ready("b");
        world.ok(&["stop", "-t", "1", "b"]);
        assert_eq!(world.look("b")["exitCode"], 137);
        world.ok(&["run", "-d", "--name", "d", "base", "sh", "-c", script]);
        wait_ready("d");
        world.ok(&["kill", "-s", "USR1", "d"]);
        assert_eq!(world.ok(&["wait", "d"]), "9");
        // Its supervisor passes on what it is told.
        let id = world.ok(&["run", "-d", "--name", "e", "base", "sh", "-c", script]);
        wait_ready("e");
        let supervisor = rustix::process::Pid::from_raw(world.supervisor(&id).unwrap()).unwrap();
        rustix::process::kill_process(supervisor, rustix::process::Signal::TERM).unwrap();
        assert_eq!(world.ok(&["wait", "e"]), "9");
        world.ok(&["rm", "a", "b", "d", "e"]);
    });
}

#[test]
fn follows_a_log_to_its_end() {
    in_world(|world| {
        world.ok(&[
            "run",
            "-d",
            "--name",
            "c",
            "base",
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done",
        ]);
        assert_eq!(world.ok(&["logs", "-f", "c"]), "1\n2\n3\n4\n5");
        world.ok(&["rm", "c"]);
    });
}

#[test]
fn logs_are_bounded() {
    in_world(|world| {
        let id = world.ok(&[
            "run", "-d", "--log-max-size", "128k", "base", "sh", "-c",
            "i=0; while [ $i -lt 8000 ]; do echo line $i; i=$((i+1)); done; head -c 100000 /dev/zero | tr '\\0' x; echo last",
        ]);
        assert_eq!(world.ok(&["wait", &id]), "0");
        for name in ["log", "log.1"] {
            let size = std::fs::metadata(world.container(&id).join(name))
                .unwrap()
                .len();
            assert!(size <= 128 << 10, "{name}: {size}");
        }
        let found = world.ok(&["logs", &id]);
        assert!(
            found.ends_with("xxxlast")
                && found.contains("line 7999\n")
                && !found.contains("line 1\n")
        );
        world.ok(&["rm", &id]);
    });
}

#[test]
fn terminals_and_open_input() {
    in_world(|world| {
        let id = world.ok(&["run", "-d", "-t", "base", "sh", "-c", "tty; echo done"]);
        assert_eq!(world.ok(&["wait", &id]), "0");
        assert_eq!(
            world.ok(&["logs", &id]).replace('\r', ""),
            "/dev/pts/0\ndone"
        );
        world.ok(&["rm", &id]);
        // cat ends at once without -i.
        let ends = world.ok(&["run", "-d", "base", "cat"]);
        assert_eq!(world.ok(&["wait", &ends]), "0");
        let stays = world.ok(&["run", "-d", "-i", "base", "cat"]);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(world.look(&stays)["state"], "running");
        world.ok(&["rm", "-f", &ends, &stays]);
    });
}

/// Who was there before hears how it ended.
#[test]
fn one_that_goes_is_waited_for() {
    in_world(|world| {
        let script = "sleep 1; echo last; exit 9";
        world.ok(&[
            "run", "-d", "--rm", "--name", "c", "base", "sh", "-c", script,
        ]);
        let spawn = |args: &[&str]| {
            let mut command = world.command(args);
            command
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let children = [spawn(&["wait", "c"]), spawn(&["logs", "-f", "c"])];
        for (child, expected) in children.into_iter().zip(["9\n", "last\n"]) {
            let found = crate::support::ran(child.wait_with_output().unwrap());
            assert_eq!((found.code, found.out.as_str()), (Some(0), expected));
        }
        assert_eq!(world.ok(&["ps", "--all", "--quiet"]), "");
    });
}

#[test]
fn goes_by_itself() {
    in_world(|world| {
        let id = world.ok(&["run", "-d", "--rm", "base", "sleep", "0.3"]);
        wait_for("its removal", || {
            (!world.container(&id).exists()).then_some(())
        });
        // The reason why it can't start is the command's answer, and nothing stays.
        let found = world.run(&["run", "-d", "--rm", "base", "/none"]);
        assert_eq!(found.code, Some(127));
        assert!(found.err.contains("/none"), "{}", found.err);
        assert_eq!(world.ok(&["ps", "--all", "--quiet"]), "");
        // Without --rm it stays, with the reason.
        world.run(&["run", "-d", "--name", "c", "base", "/none"]);
        let found = world.look("c");
        assert_eq!(found["state"], "created");
        assert!(
            found["error"].as_str().unwrap().contains("/none"),
            "{found}"
        );
        world.ok(&["rm", "c"]);
    });
}

/// What is in an image's volume is no change of the container's, and is there as long as that is.
#[test]
fn volumes_of_the_image() {
    in_world(|world| {
        let context = world.dir.join("volumes");
        std::fs::create_dir(&context).unwrap();
        let dockerfile = "FROM base\nRUN mkdir -m 1750 /empty && chown 1000:1001 /empty && mkdir /full && echo x > /full/x\nVOLUME /empty /full /new\n";
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        world.ok(&["build", "-t", "volumes", context.to_str().unwrap()]);
        let id = world.ok(&[
            "run", "-d", "--name", "c", "--tmpfs", "/new", "volumes", "sleep", "1000",
        ]);
        let exec = |script: &str| world.ok(&["exec", "c", "sh", "-c", script]);
        assert_eq!(
            exec("stat -c '%a %u %g' /empty; cat /full/x"),
            "1750 1000 1001\nx"
        );
        exec("echo 1 > /empty/a; echo 2 > /full/a; echo 3 > /new/a");
        world.ok(&["stop", "-t", "0", "c"]);
        world.ok(&["start", "c"]);
        // Memory was asked for, and is as short-lived as that.
        assert_eq!(exec("cat /empty/a /full/a; ls /new | wc -l"), "1\n2\n0");
        let upper = world.container(&id).join("upper");
        assert!(!upper.join("empty/a").exists() && upper.join("full/a").exists());
        world.ok(&["rm", "-f", "c"]);
        let args = [
            "run",
            "--rm",
            "volumes",
            "sh",
            "-c",
            "touch /new/a && ls /new",
        ];
        assert_eq!(world.ok(&args), "a");
        assert_eq!(
            std::fs::read_dir(world.dir.join("store/containers"))
                .unwrap()
                .count(),
            0
        );
    });
}
