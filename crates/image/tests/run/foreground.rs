// SPDX-License-Identifier: Apache-2.0
//! Containers with the caller's streams: what they see, and how each flag shows inside.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{in_world, ran, wait_for};

#[test]
fn streams_and_status() {
    in_world(|world| {
        let found = world.run(&[
            "run",
            "--rm",
            "base",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 3",
        ]);
        assert_eq!((found.code, found.out.as_str()), (Some(3), "out\n"));
        assert!(found.err.contains("err\n"), "{}", found.err);
        for (flags, expected) in [(&["-i"][..], "typed"), (&[], "")] {
            let args = [&["run", "--rm"], flags, &["base", "cat"]].concat();
            let mut child = world.command(&args).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"typed").ok();
            assert_eq!(ran(child.wait_with_output().unwrap()).out, expected);
        }
        // Nothing is left of those that were to go.
        assert_eq!(world.ok(&["ps", "--all", "--quiet"]), "");
        // With a terminal, of which there is one only if script(1) makes it.
        let inner = format!(
            "{} --store {}/store run --rm -it base sh -c 'tty; stty size'",
            env!("CARGO_BIN_EXE_corten-image"),
            world.dir.display()
        );
        let found = std::process::Command::new("script")
            .args([
                "-qec",
                &format!("stty rows 7 cols 99; {inner}"),
                "/dev/null",
            ])
            .env("CORTEN_RUNTIME", &world.runtime)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let found = ran(found);
        assert!(
            found.out.contains("/dev/pts/0") && found.out.contains("7 99"),
            "{}{}",
            found.out,
            found.err
        );
    });
}

#[test]
fn status_where_there_is_no_program() {
    in_world(|world| {
        let garbage = world.dir.join("garbage");
        std::fs::write(&garbage, "no program").unwrap();
        std::fs::set_permissions(&garbage, std::fs::Permissions::from_mode(0o755)).unwrap();
        let volume = format!("{}:/garbage", garbage.display());
        world.ok(&[
            "run", "-d", "--name", "there", "-v", &volume, "base", "sleep", "1000",
        ]);
        for (program, status, words) in [
            ("nosuch", 127, "executable file not found"),
            ("/no/such", 127, "no such file or directory"),
            ("/etc/passwd", 126, "permission denied"),
            ("/etc", 126, "is a directory"),
            ("/garbage", 126, "exec format error"),
        ] {
            for args in [
                &["run", "--rm", "-v", &volume, "base", program][..],
                &["run", "--rm", "-d", "-v", &volume, "base", program],
                &["exec", "there", program],
            ] {
                let found = world.run(args);
                assert_eq!(found.code, Some(status), "{args:?}: {}", found.err);
                assert!(found.err.contains(words), "{args:?}: {}", found.err);
                // In words, not as a log has them, and once.
                assert!(!found.err.contains("level="), "{args:?}: {}", found.err);
                assert_eq!(found.err.lines().count(), 1, "{args:?}: {}", found.err);
            }
        }
        for args in [
            &["run", "--rm", "-w", "/etc/passwd", "base", "true"][..],
            &["exec", "-w", "/no/such", "there", "true"],
        ] {
            let found = world.run(args);
            assert_eq!(found.code, Some(125), "{args:?}: {}", found.err);
        }
        // What the program itself ends with is its own.
        for status in ["1", "125", "126", "127", "255"] {
            let script = format!("echo 'exec: \"x\": not found' >&2; exit {status}");
            for args in [
                &["run", "--rm", "base", "sh", "-c", &script][..],
                &["exec", "there", "sh", "-c", &script],
            ] {
                assert_eq!(world.run(args).code, status.parse().ok(), "{args:?}");
            }
        }
        world.ok(&["rm", "-f", "there"]);
        // One that stays never ran.
        world.run(&["run", "--name", "c", "base", "nosuch"]);
        assert!(world.ok(&["ps", "--all"]).contains("created"));
        assert!(
            world
                .ok(&["inspect", "c"])
                .contains("executable file not found")
        );
        world.ok(&["rm", "c"]);
    });
}

#[test]
fn flags_behind_the_image_are_the_programs() {
    in_world(|world| {
        world.ok(&["run", "-d", "--name", "there", "base", "sleep", "1000"]);
        for words in [
            &["--help"][..],
            &["-h", "--version"],
            &["-l", "x", "-d", "--rm", "-e", "A=1"],
            &["--store", "/none", "--entrypoint=x"],
            &["--", "-e", "--"],
        ] {
            let flags = ["run", "--rm", "--entrypoint", "echo", "base", "+"];
            let expected = format!("+ {}", words.join(" "));
            assert_eq!(world.ok(&[&flags[..], words].concat()), expected);
            // Also where they come first.
            let found = world.ok(&[&flags[..5], words, &["."]].concat());
            assert_eq!(found, format!("{} .", words.join(" ")));
            let exec = [&["exec", "there", "echo", "+"], words].concat();
            assert_eq!(world.ok(&exec), expected);
        }
        world.ok(&["rm", "-f", "there"]);
        for (args, expected) in [
            (&["run", "--nope", "base"][..], "'--nope'"),
            (&["run"], "IMAGE"),
            (&["exec", "there"], "CONTAINER COMMAND"),
            (&["exec"], "CONTAINER COMMAND"),
        ] {
            let found = world.run(args);
            assert_ne!(found.code, Some(0), "{args:?}");
            assert!(found.err.contains(expected), "{args:?}: {}", found.err);
        }
    });
}

#[test]
fn process_flags() {
    in_world(|world| {
        let file = world.dir.join("env");
        std::fs::write(&file, "# note\n\nA=file\nB=a b \nHERE\nGONE\n").unwrap();
        let mut command = world.command(&[
            "run",
            "--rm",
            "--env-file",
            file.to_str().unwrap(),
            "-e",
            "A=flag",
            "-e",
            "ALSO",
            "base",
            "env",
        ]);
        let found = ran(command.env("HERE", "1").env("ALSO", "2").output().unwrap());
        for line in ["A=flag", "B=a b ", "HERE=1", "ALSO=2"] {
            assert!(
                found.out.lines().any(|found| found == line),
                "{line}: {}",
                found.out
            );
        }
        assert!(!found.out.contains("GONE"));
        for (flags, script, expected) in [
            (
                &["-u", "user"][..],
                "id -u; id -g; echo $HOME",
                "1000\n1001\n/home/user",
            ),
            (&["-w", "/new/dir"], "pwd", "/new/dir"),
            (
                &["--hostname", "h"],
                "hostname; cat /etc/hostname; tail -n1 /etc/hosts; echo $HOSTNAME",
                "h\nh\n127.0.0.1\th\nh",
            ),
            // What is mounted upon is what another mount has there.
            (
                &["--tmpfs", "/etc", "--tmpfs", "/etc/passwd"],
                "ls -d /etc/passwd/.",
                "/etc/passwd/.",
            ),
            (&["-e", "HOSTNAME=mine"], "echo $HOSTNAME", "mine"),
            (
                &["--add-host", "db:10.0.0.9", "--dns", "9.9.9.9"],
                "grep db /etc/hosts; cat /etc/resolv.conf",
                "10.0.0.9\tdb\nnameserver 9.9.9.9",
            ),
            (
                &["--read-only", "--tmpfs", "/t"],
                "touch /x 2>/dev/null || echo no; touch /t/x && echo yes",
                "no\nyes",
            ),
            (
                &["--ulimit", "nofile=100:200"],
                "ulimit -Sn; ulimit -Hn",
                "100\n200",
            ),
            (
                &["--shm-size", "1m"],
                "df -k /dev/shm | tail -n1 | awk '{print $2}'",
                "1024",
            ),
            (
                &["--security-opt", "no-new-privileges"],
                "grep NoNewPrivs /proc/self/status",
                "NoNewPrivs:\t1",
            ),
            (
                &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
                "grep CapBnd /proc/self/status",
                "CapBnd:\t0000000000000001",
            ),
            (
                &["--cap-add", "sys_time"],
                "grep CapEff /proc/self/status",
                "CapEff:\t00000000aa0425fb",
            ),
            (&["--entrypoint", "echo"], "x", "-c x"),
        ] {
            let found = match flags.contains(&"--entrypoint") {
                true => world.ok(&[&["run", "--rm"], flags, &["base", "-c", script]].concat()),
                false => world.script(flags, script),
            };
            assert_eq!(found, expected, "{flags:?}");
        }
    });
}

#[test]
fn mounts() {
    in_world(|world| {
        let host = world.dir.join("host");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("f"), "here\n").unwrap();
        let at = |rest: &str| format!("{}:{rest}", host.display());
        let (rw, ro) = (at("/v"), at("/v:ro"));
        assert_eq!(
            world.script(&["-v", &rw], "cat /v/f; echo new > /v/g"),
            "here"
        );
        assert_eq!(std::fs::read_to_string(host.join("g")).unwrap(), "new\n");
        assert_eq!(
            world.script(&["-v", &ro], "cat /v/f; echo x > /v/g || echo no"),
            "here\nno"
        );
        let mount = format!("type=bind,src={},dst=/v/inner,readonly", host.display());
        assert_eq!(
            world.script(
                &["--mount", &mount, "--tmpfs", "/v"],
                "cat /v/inner/f; touch /v/x"
            ),
            "here"
        );
        let sized = "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700";
        assert_eq!(
            world.script(
                &["--mount", sized],
                "stat -c %a /t; df -k /t | tail -n1 | awk '{print $2}'"
            ),
            "700\n1024"
        );
    });
}

#[test]
fn limits_are_in_the_cgroup() {
    in_world(|world| {
        let id = world.ok(&[
            "run",
            "-d",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--cpuset-cpus",
            "0",
            "--pids-limit",
            "17",
            "base",
            "sleep",
            "100",
        ]);
        let mut read = Vec::new();
        for dir in world.cgroups(&id) {
            for file in [
                "memory.max",
                "memory.limit_in_bytes",
                "pids.max",
                "cpu.max",
                "cpu.cfs_quota_us",
                "cpuset.cpus",
            ] {
                if let Ok(text) = std::fs::read_to_string(format!("{dir}/{file}")) {
                    read.push(text.trim().to_owned());
                }
            }
        }
        for expected in [
            &["67108864"][..],
            &["17"],
            &["50000", "50000 100000"],
            &["0"],
        ] {
            assert!(
                expected
                    .iter()
                    .any(|text| read.iter().any(|read| read == text)),
                "{expected:?} {read:?}"
            );
        }
        world.ok(&["rm", "-f", &id]);
        assert!(world.cgroups(&id).is_empty());
    });
}

#[test]
fn filters() {
    in_world(|world| {
        let file = world.dir.join("filter.json");
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":77,"excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        std::fs::write(&file, text).unwrap();
        let option = format!("seccomp={}", file.display());
        let script = "mkdir /d 2>/dev/null && echo made || echo refused";
        assert_eq!(
            world.script(&["--security-opt", &option], script),
            "refused"
        );
        // The rule depends on what the container can do.
        assert_eq!(
            world.script(
                &["--security-opt", &option, "--cap-add", "SYS_ADMIN"],
                script
            ),
            "made"
        );
        assert_eq!(
            world.script(&["--security-opt", "seccomp=unconfined"], script),
            "made"
        );
    });
}

#[test]
fn without_rm_it_stays() {
    in_world(|world| {
        assert_eq!(
            world
                .run(&[
                    "run",
                    "--name",
                    "c",
                    "--label",
                    "a=b",
                    "base",
                    "sh",
                    "-c",
                    "echo x > /f; exit 4"
                ])
                .code,
            Some(4)
        );
        let found = world.look("c");
        assert_eq!(
            (&found["state"], &found["exitCode"], &found["labels"]["a"]),
            (&"exited".into(), &4.into(), &"b".into())
        );
        assert_eq!(world.ok(&["ps", "--quiet"]), "");
        assert_eq!(world.ok(&["wait", "c"]), "4");
        let id = found["id"].as_str().unwrap();
        assert_eq!(
            std::fs::read_to_string(world.container(id).join("upper/f")).unwrap(),
            "x\n"
        );
        assert!(world.ok(&["inspect", "c"]).contains(id));
        // By the first digits of its id.
        assert_eq!(world.ok(&["rm", &id[..6]]), &id[..6]);
        assert!(!world.container(id).exists());
    });
}

/// In the foreground a container is looked at and told as any other.
#[test]
fn others_reach_it() {
    in_world(|world| {
        let child = world.spawn(&[
            "run",
            "--name",
            "c",
            "base",
            "sh",
            "-c",
            "trap 'exit 6' USR1; touch /up; while :; do sleep 0.05; done",
        ]);
        wait_for("the program", || {
            (world.run(&["exec", "c", "ls", "/up"]).code == Some(0)).then_some(())
        });
        assert!(world.look("c")["pid"].as_i64().unwrap() > 0);
        assert!(world.run(&["logs", "c"]).err.contains("has no log"));
        world.ok(&["stop", "c"]);
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(6));
        assert_eq!(world.look("c")["exitCode"], 6);
        // Its terminal is the caller's no more: it goes on by itself.
        world.ok(&["start", "c"]);
        assert_eq!(world.look("c")["state"], "running");
        world.ok(&["rm", "-f", "c"]);
    });
}
