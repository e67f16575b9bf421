// SPDX-License-Identifier: Apache-2.0
//! Containers of a user who is not root: with and without a cgroup, a user namespace of one id or of many, and a caller who
//! is root of a user namespace already.

use std::fs;

use corten_integration::{
    Container, Delegation, Draft, Mounts, Outcome, SUBORDINATE, Trial, UID, eventually,
    hierarchies, trial, trial_as,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A draft that asks for no cgroup.
fn draft(t: &Trial) -> Draft<'_> {
    t.container()
        .users_namespace()
        .without("/linux/cgroupsPath")
}

fn up<'t>(draft: Draft<'t>) -> (Container<'t>, Outcome) {
    let c = draft.probe("print up + pause").done();
    let out = c.run_detached();
    c.says(&out, "up");
    (c, out)
}

/// The v2 cgroup of a process.
fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap().to_owned()
}

fn unified(cgroup: &str, file: &str) -> String {
    let mut all = hierarchies().iter();
    let dir = all.find(|one| one.unified()).unwrap().dir(cgroup);
    fs::read_to_string(dir.join(file))
        .unwrap()
        .trim()
        .to_owned()
}

fn pids(c: &Container<'_>) -> Vec<i32> {
    let text = c.verb("ps", &["--format", "json"]).end().ok().stdout;
    serde_json::from_str(&text).unwrap()
}

#[test]
fn without_a_cgroup_it_stays_in_its_callers() {
    trial(|t| {
        let user = t.become_user(Delegation::None);
        let (c, _) = up(draft(t));
        assert_eq!(cgroup_of(c.pid()), user.cgroup);
        let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
        assert!(
            status.contains("\nUid:\t1000\t1000\t1000\t1000\n"),
            "{status}"
        );
        let ids = c.exec("ids").ok().seen("ids");
        assert_eq!((&ids["uid"], &ids["gid"]), (&json!(0), &json!(0)));
        c.end();
    });
}

#[test]
fn without_a_cgroup_all_processes_are_found() {
    trial(|t| {
        t.become_user(Delegation::None);
        let (c, _) = up(draft(t));
        let second = exec_pid(&c);
        let mut wanted = vec![c.pid(), second];
        wanted.sort_unstable();
        assert_eq!(pids(&c), wanted);
        // Init of a PID namespace has no default for TERM.
        c.verb("kill", &["--all"]).arg("TERM").end().ok();
        eventually("the second process' end", || {
            (pids(&c) == [c.pid()]).then_some(())
        });
        c.verb("kill", &["--all"]).arg("KILL").end().ok();
        c.wait();
        c.delete().ok();
    });
}

/// In its init, which no cgroup would end, or itself: stopped, it doesn't clean up.
#[test]
fn a_create_that_hangs_is_ended_without_a_cgroup() {
    for is_stopped in [false, true] {
        end_hanging(is_stopped);
    }
}

fn end_hanging(is_stopped: bool) {
    trial_as(
        "rootless::a_create_that_hangs_is_ended_without_a_cgroup",
        |t| {
            t.become_user(Delegation::None);
            let begun = t.dir.join("begun");
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo > $0; sleep 1000; exit 0", begun]});
            let c = draft(t).with("/hooks/createContainer/-", hook).done();
            let create = c.bundled("create", &[]).spawn();
            eventually("the hook", || begun.exists().then_some(()));
            if is_stopped {
                let maker = Pid::from_child(&create.child);
                kill_process(maker, Signal::STOP).unwrap();
            }
            c.delete_force().ok();
            let ended = create.end();
            assert_ne!(ended.code, 0, "{}", ended.stderr);
            c.verb("state", &[]).end().fails();
        },
    );
}

#[test]
fn what_needs_a_cgroup_is_refused_without_one() {
    trial(|t| {
        t.become_user(Delegation::None);
        let (c, _) = up(draft(t));
        for verb in ["pause", "resume"] {
            let text = c.verb(verb, &[]).end().fails();
            let says = text.contains("no cgroup") || verb == "resume" || !t.is_corten();
            assert!(says, "{text}");
        }
        let text = c.verb("update", &["--pids-limit", "5"]).end().fails();
        assert!(
            !t.is_corten() || text.contains("no cgroup of its own"),
            "{text}"
        );
        assert_eq!(c.status(), "running");
        c.delete_force().ok();
    });
}

#[test]
fn limits_without_a_cgroup_are_refused() {
    trial(|t| {
        t.become_user(Delegation::None);
        let c = draft(t)
            .with("/linux/resources/pids/limit", json!(5))
            .done();
        let text = c.run().fails();
        if t.is_corten() {
            assert!(text.contains("/linux/resources/pids/limit"), "{text}");
            assert!(text.contains("not delegated"), "{text}");
        }
    });
}

#[test]
fn no_limit_needs_no_cgroup() {
    trial(|t| {
        t.become_user(Delegation::None);
        let limits = json!({"pids": {"limit": -1}, "devices": [{"allow": false, "access": "rwm"}]});
        let c = draft(t)
            .with("/linux/resources", limits)
            .probe("exit 7")
            .done();
        c.run().exits(7);
    });
}

#[test]
fn a_path_that_may_not_be_made_is_refused() {
    trial(|t| {
        t.become_user(Delegation::None);
        let c = t.container().users_namespace().done();
        let text = c.run().fails();
        if t.is_corten() {
            assert!(text.contains("/linux/cgroupsPath"), "{text}");
            assert!(text.contains("systemd-run --user"), "{text}");
        }
    });
}

/// What `check` says of it, by field, and that `create` says the same.
fn judged(c: &Container<'_>, t: &Trial, pointers: &[&str]) {
    let out = t.call().args(["check", "--format", "json"]).arg(&c.bundle);
    let answer: Value = serde_json::from_str(&out.end().stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap().iter();
    let refused = findings.filter(|one| one["severity"] == "refused");
    let refused: Vec<_> = refused
        .map(|one| one["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(refused, pointers, "{answer:#}");
    let out = c.run();
    match pointers {
        [] => drop(out.ok()),
        [pointer, ..] => assert!(out.fails().contains(&format!("(config.json {pointer})"))),
    }
}

#[test]
fn check_finds_the_cgroup_where_create_would_make_it() {
    trial(|t| {
        t.become_user(Delegation::None);
        let limit = "/linux/resources/pids/limit";
        judged(&draft(t).probe("exit 0").done(), t, &[]);
        judged(&draft(t).with(limit, json!(5)).done(), t, &[limit]);
        judged(
            &draft(t).without_namespace("pid").done(),
            t,
            &["/linux/namespaces"],
        );
        let path = json!(t.cgroup_of("x"));
        let c = draft(t).with("/linux/cgroupsPath", path).done();
        judged(&c, t, &["/linux/cgroupsPath"]);
    });
    trial(|t| {
        t.become_user(Delegation::Around);
        let draft = draft(t)
            .with("/linux/cgroupsPath", json!("one"))
            .with("/linux/resources/unified", json!({"cgroup.max.depth": "3"}));
        judged(&draft.probe("exit 0").done(), t, &[]);
    });
}

#[test]
fn a_delegated_cgroup_has_it_beside_the_caller() {
    trial(|t| {
        let user = t.become_user(Delegation::Around);
        let limits = json!({"cgroup.max.descendants": "3"});
        let draft = draft(t)
            .with("/linux/cgroupsPath", json!("one"))
            .with("/linux/resources/unified", limits);
        let (c, _) = up(draft);
        let cgroup = cgroup_of(c.pid());
        assert_eq!(cgroup, user.cgroup.replace("callers", "one"));
        assert_eq!(unified(&cgroup, "cgroup.max.descendants"), "3");
        assert_eq!(cgroup_of(exec_pid(&c)), cgroup);
        c.verb("pause", &[]).end().ok();
        assert_eq!(c.status(), "paused");
        c.verb("resume", &[]).end().ok();
        assert_eq!(pids(&c).len(), 2);
        c.end();
    });
}

/// The host's pid of a further process.
fn exec_pid(c: &Container<'_>) -> i32 {
    let file = c.bundle.with_extension("pid");
    let options = ["--detach", "--pid-file", file.to_str().unwrap()];
    c.exec_call(&options, &["/probe", "pause"]).end().ok();
    fs::read_to_string(file).unwrap().parse().unwrap()
}

/// The container's cgroups, with some in them that others of its ids have made and keep to themselves.
fn with_others_cgroups(t: &Trial) -> Container<'_> {
    let (top, options) = ("/sys/fs/cgroup", ["nosuid", "noexec", "nodev"]);
    let c = t
        .container()
        .users_ranges()
        .with("/linux/cgroupsPath", json!("one"))
        .namespace("cgroup", None)
        .without_mount(top)
        .mount(top, "cgroup", "cgroup", &options)
        .probe(&format!(
            "mkdir {top}/a + chmod {top}/a 777 + print up + pause"
        ))
        .done();
    let out = c.run_detached();
    c.says(&out, "up");
    let steps =
        format!("mkdir {top}/a/b + mkdir {top}/a/b/c + mkdir {top}/a/b/d + chmod {top}/a/b 700");
    let words: Vec<&str> = ["/probe"].into_iter().chain(steps.split(' ')).collect();
    let made = c.exec_call(&["--user", "5:5"], &words).end().ok();
    assert_eq!(
        made.all("mkdir"),
        [
            json!({"ok": true}),
            json!({"ok": true}),
            json!({"ok": true})
        ]
    );
    c
}

#[test]
fn cgroups_of_the_container_s_other_ids_are_removed() {
    trial(|t| {
        let user = t.become_user(Delegation::Around);
        let c = with_others_cgroups(t);
        let own = user.cgroup.replace("callers", "one");
        let mut all = hierarchies().iter();
        let own = all.find(|one| one.unified()).unwrap().dir(&own);
        assert!(own.join("a/b/d").exists());
        c.end();
        assert!(!own.exists());
    });
}

#[test]
fn the_caller_s_own_cgroup_will_do() {
    trial(|t| {
        let user = t.become_user(Delegation::Own);
        let (c, _) = up(draft(t));
        let cgroup = cgroup_of(c.pid());
        assert!(cgroup.starts_with(&format!("{}/", user.cgroup)), "{cgroup}");
        c.end();
    });
}

#[test]
fn subordinate_ids_are_mapped_by_newuidmap() {
    trial(|t| {
        t.become_user(Delegation::None);
        let user = json!({"uid": 5, "gid": 6, "additionalGids": [7, 8]});
        let c = draft(t)
            .users_ranges()
            .with("/process/user", user)
            .probe("ids + read /proc/self/setgroups + stat / + pause")
            .done();
        let out = c.run_detached();
        let ids = c.seen(&out, "ids");
        assert_eq!((&ids["uid"], &ids["gid"]), (&json!(5), &json!(6)));
        assert_eq!(ids["groups"], json!([7, 8]));
        assert_eq!(c.seen(&out, "stat")["/"]["uid"], json!(0));
        let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
        let mapped = format!("\nUid:\t{}\t", SUBORDINATE + 4);
        assert!(status.contains(&mapped), "{status}");
        let ids = c
            .exec_call(&["--user", "9:9"], &["/probe", "ids"])
            .end()
            .ok()
            .seen("ids");
        assert_eq!(ids["uid"], json!(9));
        c.end();
    });
}

#[test]
fn ids_that_are_not_the_user_s_are_refused() {
    trial(|t| {
        t.become_user(Delegation::None);
        let map = json!([{"containerID": 0, "hostID": 500_000, "size": 10}]);
        let c = draft(t).with("/linux/uidMappings", map).done();
        let text = c.run().fails();
        if t.is_corten() {
            assert!(text.contains("/linux/uidMappings"), "{text}");
            assert!(text.contains("/etc/subuid"), "{text}");
        }
    });
}

#[test]
fn further_groups_of_a_single_one_are_refused() {
    trial(|t| {
        t.become_user(Delegation::None);
        let c = draft(t)
            .with("/process/user/additionalGids", json!([7]))
            .done();
        let text = c.run().fails();
        if t.is_corten() {
            assert!(text.contains("/process/user/additionalGids"), "{text}");
        }
    });
}

#[test]
fn without_a_user_namespace_a_user_is_told_to_add_one() {
    trial(|t| {
        t.become_user(Delegation::None);
        let c = t.container().without("/linux/cgroupsPath").done();
        let text = c.run().fails();
        if t.is_corten() {
            assert!(text.contains("/linux/namespaces"), "{text}");
        }
    });
}

#[test]
fn sources_are_opened_as_the_caller() {
    trial(|t| {
        t.become_user(Delegation::None);
        let closed = t.directory("closed");
        fs::create_dir(closed.join("data")).unwrap();
        fs::write(closed.join("data/file"), "seen").unwrap();
        for path in [
            closed.clone(),
            closed.join("data"),
            closed.join("data/file"),
        ] {
            std::os::unix::fs::chown(path, Some(UID), Some(UID)).unwrap();
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&closed, mode).unwrap();
        // Root inside is no id of the user's own: it could not come there.
        let map = json!([
            {"containerID": 0, "hostID": SUBORDINATE, "size": 1000},
            {"containerID": 1000, "hostID": UID, "size": 1},
        ]);
        let c = draft(t)
            .users_ranges()
            .with("/linux/uidMappings", map.clone())
            .with("/linux/gidMappings", map)
            .mount("/data", "bind", closed.join("data"), &["rbind"])
            .probe("read /data/file")
            .done();
        let read = c.run().ok().seen("read");
        assert_eq!(read["/data/file"]["ok"], "seen");
    });
}

#[test]
fn the_score_for_the_oom_killer_can_be_raised_alone() {
    trial(|t| {
        t.become_user(Delegation::None);
        let path = "/proc/self/oom_score_adj";
        let with = |score: i32| draft(t).with("/process/oomScoreAdj", json!(score));
        let (c, _) = up(with(500));
        let read = c.exec(&format!("read {path}")).ok().seen("read");
        assert_eq!(read[path]["ok"], "500\n");
        c.end();
        let text = with(-500).done().run().fails();
        assert!(
            !t.is_corten() || text.contains("/process/oomScoreAdj"),
            "{text}"
        );
    });
}

/// `program ARGS…` as root of a user namespace and of a mount namespace that the user has just made.
fn namespaced(t: &Trial, script: &str) -> Outcome {
    t.users_program("unshare".as_ref())
        .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script])
        .arg(&t.runtime.path)
        .arg(t.state_root())
        .end()
}

#[test]
fn root_of_a_user_namespace_has_containers_of_its_own() {
    trial(|t| {
        t.become_user(Delegation::None);
        let steps = "ids + stat /dev/null + read /proc/self/oom_score_adj + pause";
        let c = t
            .container()
            .without("/linux/cgroupsPath")
            .with("/process/oomScoreAdj", json!(300))
            .edit(|spec| {
                for mount in spec["mounts"].as_array_mut().unwrap() {
                    if let Some(options) = mount["options"].as_array_mut() {
                        options.retain(|option| option != "gid=5");
                    }
                }
            })
            .probe(steps)
            .done();
        let (id, bundle) = (&c.id, c.bundle.display());
        let script = format!(
            "corten=\"$0 --root $1\"
            $0 --rootless true --root $1 run --detach --bundle {bundle} {id}
            $corten exec {id} /probe ids + stat /dev/zero
            $corten kill {id} KILL
            $corten delete --force {id}"
        );
        let out = namespaced(t, &script).ok();
        let ids = out.all("ids");
        assert!(
            !ids.is_empty() && ids.iter().all(|one| one["uid"] == 0),
            "{ids:?}"
        );
        let nodes = out.all("stat");
        assert!(
            nodes.iter().any(|one| one["/dev/zero"]["rdev"] == "1:5"),
            "{nodes:?}"
        );
    });
}

/// `run` with `--cgroup-manager disabled`, by root.
fn run_disabled(c: &Container<'_>, t: &Trial) -> Outcome {
    t.call()
        .args(["--cgroup-manager", "disabled", "run", "--bundle"])
        .arg(&c.bundle)
        .arg(&c.id)
        .end()
}

/// The rules that need nobody to enforce them.
fn all_devices() -> Value {
    json!([{"allow": true, "access": "rwm"}])
}

#[test]
fn disabled_cgroups_leave_it_in_its_callers() {
    trial(|t| {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap();
        let c = t
            .container()
            .without_namespace("cgroup")
            .with("/linux/resources/devices", all_devices())
            .probe("read /proc/self/cgroup")
            .done();
        let out = run_disabled(&c, t).ok();
        let read = out.seen("read")["/proc/self/cgroup"]["ok"].to_string();
        assert!(read.contains(&format!("0::{own}\\n")), "{read}");
    });
}

#[test]
fn disabled_cgroups_refuse_what_takes_one() {
    trial(|t| {
        for (draft, pointer) in [
            (
                t.container().with("/linux/resources/pids/limit", json!(9)),
                "/linux/resources/pids/limit",
            ),
            (t.container().without_namespace("pid"), "/linux/namespaces"),
            // What could undo that no mount lets a device be opened, or bring more of them.
            (
                t.container().capabilities(&["CAP_MKNOD"]),
                "/process/capabilities",
            ),
            (
                t.container()
                    .user_namespace(100_000, 65_536)
                    .capabilities(&["CAP_SYS_ADMIN"]),
                "/process/capabilities",
            ),
            (
                t.container().with(
                    "/process/capabilities/inheritable",
                    json!(["CAP_DAC_READ_SEARCH"]),
                ),
                "/process/capabilities",
            ),
            (
                t.container()
                    .with("/linux/rootfsPropagation", json!("slave")),
                "/linux/rootfsPropagation",
            ),
            (volume(t, &["rbind", "rslave"]), "/mounts/7"),
            (volume(t, &["bind", "shared"]), "/mounts/7"),
            (volume(t, &["rbind", "dev"]), "/mounts/7"),
            (
                t.container()
                    .mount("/device", "bind", "/dev/zero", &["bind"]),
                "/mounts/7",
            ),
            (t.container().without_mount("/dev"), "/linux/devices"),
            (
                t.container()
                    .without_mount("/dev")
                    .mount("/dev", "tmpfs", "tmpfs", &["tmpcopyup"]),
                "/linux/devices",
            ),
            (
                t.container()
                    .without_mount("/dev")
                    .mount("/dev", "bind", "/dev", &["rbind"]),
                "/mounts/3",
            ),
            // A node that may be read and not written, or not at all.
            (with_device(t, "r"), "/linux/devices/0"),
            (with_device(t, "m"), "/linux/devices/0"),
        ] {
            let text = run_disabled(&draft.done(), t).fails();
            assert!(text.contains(pointer), "{pointer}: {text}");
        }
    });
}

fn volume<'t>(t: &'t Trial, options: &[&str]) -> Draft<'t> {
    let dir = t.dir.join("volume");
    fs::create_dir_all(&dir).unwrap();
    t.container().mount("/volume", "bind", dir, options)
}

/// With a node of config.json, and a rule that allows `access` to it.
fn with_device<'t>(t: &'t Trial, access: &str) -> Draft<'t> {
    let node =
        json!({"path": "/dev/own", "type": "c", "major": 10, "minor": 235, "fileMode": 0o666});
    let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 235, "access": access});
    t.container()
        .with("/linux/devices", json!([node]))
        .with("/linux/resources/devices/-", rule)
}

/// A node of the host's root in whatever the container has of the host: without a cgroup it is its mounts that hold it to
/// its device rules.
#[test]
fn disabled_cgroups_leave_only_the_devices_of_the_rules() {
    trial(|t| {
        let source = t.dir.join("source");
        fs::create_dir_all(source.join("below")).unwrap();
        let node = |path: &std::path::Path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let kind = rustix::fs::FileType::CharacterDevice;
            let zero = rustix::fs::makedev(1, 5);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, zero).unwrap();
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        };
        node(&source.join("node"));
        let steps = "mounts + open /dev/null rw + open /dev/ptmx rw + open /node r + open /volume/node r \
                     + open /volume/below/node r + mknod /dev/other c 1 5";
        let plain = with_device(t, "rwm").probe(&format!("{steps} + open /dev/own r"));
        let mapped = t
            .container()
            .user_namespace(100_000, 65_536)
            .probe(&format!("{steps} + open /dev/zero r"));
        for draft in [plain, mapped] {
            node(&draft.rootfs().join("node"));
            let c = draft
                .mount("/volume", "bind", &source, &["rbind"])
                .mount("/tmp", "tmpfs", "tmpfs", &[])
                .done();
            // On a host that shares its mounts, and has one with a node below the volume.
            let script = format!(
                "mount -t tmpfs tmpfs {below} && mknod -m 666 {below}/node c 1 5 && mount --make-rshared / && exec \"$@\"",
                below = source.join("below").display()
            );
            let out = t
                .program("/usr/bin/unshare".as_ref())
                .args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    &script,
                    "sh",
                ])
                .arg(&t.runtime.path)
                .arg("--root")
                .arg(t.state_root())
                .args(["--cgroup-manager", "disabled", "run", "--bundle"])
                .arg(&c.bundle)
                .arg(&c.id)
                .end()
                .ok();
            let ok = json!({"ok": true});
            let refused = json!({"errno": "EACCES"});
            let opened: Vec<Value> = out.all("open");
            assert_eq!(opened[..2], [ok.clone(), ok.clone()], "{opened:?}");
            assert_eq!(opened[2..5], vec![refused; 3], "{opened:?}");
            // The one that config.json names: autofs' own answer to whoever may not ask it, or none.
            assert_ne!(opened[5], json!({"errno": "EACCES"}), "{opened:?}");
            assert_eq!(out.seen("mknod")["errno"], "EPERM");
            let mounts = Mounts::of(&out.seen("mounts"));
            for mount in out.seen("mounts").as_array().unwrap() {
                let word = |key: &str| mount[key].as_str().unwrap().to_owned();
                let is_node = matches!(
                    &*word("root"),
                    "/null" | "/zero" | "/full" | "/random" | "/urandom" | "/tty"
                );
                let may = word("type") == "devpts" || word("point") == "/dev" || is_node;
                let has = word("options").split(',').any(|option| option == "nodev");
                assert!(has || may, "{mount}");
                assert_eq!(word("propagation"), "", "{mount}");
            }
            assert!(mounts.points().contains(&"/volume/below"));
        }
    });
}

#[test]
fn disabled_cgroups_hold_exec_too() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = t
            .call()
            .args([
                "--cgroup-manager",
                "disabled",
                "run",
                "--detach",
                "--bundle",
            ])
            .arg(&c.bundle)
            .arg(&c.id)
            .end()
            .ok();
        c.says(&out, "up");
        c.exec("exit 0").ok();
        for flags in [["--cap", "CAP_SYS_ADMIN"], ["--cap", "CAP_MKNOD"]] {
            let text = c.exec_call(&flags, &["/probe", "exit", "0"]).end().fails();
            assert!(text.contains("/process/capabilities"), "{text}");
            assert!(text.contains(flags[1]), "{text}");
        }
        c.end();
    });
}
