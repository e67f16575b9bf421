// SPDX-License-Identifier: Apache-2.0
//! The process: arguments, environment, cwd, ids, umask, capabilities, rlimits, no_new_privs, oom_score_adj, signals.

use std::path::Path;

use corten_integration::{Container, Driver, Trial, caps, is_everyones, trial};
use serde_json::{Value, json};

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;

#[test]
fn passes_arguments_as_they_are() {
    trial(|t| {
        let odd = [
            "/probe",
            "args",
            "+",
            "print",
            "",
            "+",
            "print",
            "two words",
            "+",
            "print",
            "quote\" and \\",
            "+",
            "print",
            "ünï",
        ];
        let out = t.container().args(&odd).done().run().ok();
        assert_eq!(out.seen("args"), json!(odd));
    });
}

#[test]
fn passes_the_environment_and_nothing_else() {
    trial(|t| {
        let env = json!(["PATH=/", "EMPTY=", "TWO=a=b", "SPACE=x y", "PATH=/again"]);
        let c = t
            .container()
            .with("/process/env", env.clone())
            .probe("env")
            .done();
        let out = c
            .bundled("run", &[])
            .env("LEAK", "from the host")
            .end()
            .ok();
        let seen: Vec<String> = serde_json::from_value(out.seen("env")).unwrap();
        for entry in ["EMPTY=", "TWO=a=b", "SPACE=x y", "PATH=/again"] {
            assert!(seen.iter().any(|is| is == entry), "{entry}: {seen:?}");
        }
        assert!(
            !seen.iter().any(|entry| entry.starts_with("LEAK")
                || entry.starts_with("CORTEN")
                || entry.starts_with('_')),
            "{seen:?}"
        );
    });
}

#[test]
fn sets_home_where_the_document_does_not() {
    trial(|t| {
        let out = t
            .container()
            .with("/process/env", json!(["PATH=/"]))
            .probe("env")
            .done()
            .run()
            .ok();
        let seen: Vec<String> = serde_json::from_value(out.seen("env")).unwrap();
        assert!(seen.iter().any(|entry| entry == "HOME=/root"), "{seen:?}");
        let out = t
            .container()
            .with("/process/env", json!(["HOME=/mine"]))
            .probe("env")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("env"), json!(["HOME=/mine"]));
    });
}

#[test]
fn starts_in_its_cwd() {
    trial(|t| {
        let out = t
            .container()
            .dir("/data/deep")
            .with("/process/cwd", json!("/data/deep"))
            .probe("cwd")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("cwd"), "/data/deep");
    });
}

#[test]
fn makes_a_missing_cwd() {
    trial(|t| {
        let out = t
            .container()
            .with("/process/cwd", json!("/data/not/yet"))
            .probe("cwd + stat /data/not/yet")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("cwd"), "/data/not/yet");
        assert_eq!(out.seen("stat")["/data/not/yet"]["type"], "dir");
    });
}

#[test]
fn a_cwd_through_a_link_stays_inside() {
    trial(|t| {
        let c = t
            .container()
            .dir("/data/real")
            .link("/data/link", "/data/real")
            .link("/data/up", "../../../../data/real")
            .with("/process/cwd", json!("/data/link"))
            .probe("cwd")
            .done();
        assert_eq!(c.run().ok().seen("cwd"), "/data/real");
        let c = t
            .container()
            .dir("/data/real")
            .link("/data/up", "../../../../data/real")
            .with("/process/cwd", json!("/data/up"))
            .probe("cwd")
            .done();
        assert_eq!(c.run().ok().seen("cwd"), "/data/real");
    });
}

#[test]
fn a_cwd_that_only_its_user_may_enter() {
    trial(|t| {
        let draft = t
            .container()
            .dir("/data/private")
            .with("/process/cwd", json!("/data/private"))
            .with("/process/user", json!({"uid": 1000, "gid": 1000}))
            .probe("cwd + ids");
        let dir = draft.rootfs().join("data/private");
        std::os::unix::fs::chown(&dir, Some(1000), Some(1000)).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let out = draft.done().run().ok();
        assert_eq!(
            (out.seen("cwd"), &out.seen("ids")["uid"]),
            (json!("/data/private"), &json!(1000))
        );
    });
}

#[test]
fn becomes_its_user_with_exactly_its_groups() {
    trial(|t| {
        for (user, groups) in [
            (
                json!({"uid": 1234, "gid": 5678, "additionalGids": [7, 9, 100_000]}),
                json!([7, 9, 100_000]),
            ),
            (json!({"uid": 1234, "gid": 5678}), json!([])),
            (json!({"uid": 0, "gid": 0}), json!([])),
        ] {
            let ids = t
                .container()
                .with("/process/user", user.clone())
                .probe("ids")
                .done()
                .run()
                .ok()
                .seen("ids");
            for (key, of) in [
                ("uid", "uid"),
                ("euid", "uid"),
                ("gid", "gid"),
                ("egid", "gid"),
            ] {
                assert_eq!(ids[key], user[of], "{key} of {user}");
            }
            // CVE-2022-36109: the caller's own groups must be gone, whoever calls.
            assert_eq!(ids["groups"], groups, "{user}");
        }
    });
}

#[test]
fn every_id_below_the_last_is_one() {
    trial(|t| {
        let user = json!({"uid": 4_294_967_294_u32, "gid": 2_147_483_648_u32});
        let ids = t
            .container()
            .with("/process/user", user)
            .probe("ids")
            .done()
            .run()
            .ok()
            .seen("ids");
        assert_eq!(
            (&ids["uid"], &ids["gid"]),
            (&json!(4_294_967_294_u32), &json!(2_147_483_648_u32))
        );
    });
}

#[test]
fn sets_the_umask() {
    trial(|t| {
        let c = t
            .container()
            .with("/process/user/umask", json!(0o27))
            .writable()
            .probe("status + mkdir /tmp/dir + stat /tmp/dir")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("status")["Umask"], "0027");
        assert_eq!(out.seen("stat")["/tmp/dir"]["mode"], "0750");
        let out = t.container().probe("status").done().run().ok();
        assert_eq!(out.seen("status")["Umask"], "0022", "the default");
    });
}

#[test]
fn the_caller_s_umask_does_not_reach_the_rootfs() {
    trial(|t| {
        let c = t
            .container()
            .mount("/new/dir", "tmpfs", "tmpfs", &[])
            .probe("stat /new /dev/null /dev + status")
            .done();
        let shell = std::path::Path::new("/bin/sh");
        let script = "umask 0077; exec \"$@\"";
        let out = t
            .program(shell)
            .args(["-c", script, "sh"])
            .arg(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(["run", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .end()
            .ok();
        let stat = out.seen("stat");
        assert_eq!(
            (
                &stat["/new"]["mode"],
                &stat["/dev/null"]["mode"],
                &stat["/dev"]["mode"]
            ),
            (&json!("0755"), &json!("0666"), &json!("0755"))
        );
        assert_eq!(out.seen("status")["Umask"], "0022");
    });
}

fn sets(value: &Value) -> [u64; 5] {
    ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"].map(|set| caps(value, set))
}

#[test]
fn has_the_five_capability_sets_of_the_document() {
    trial(|t| {
        let c = t
            .container()
            .with(
                "/process/capabilities",
                json!({
                    "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
                    "effective": ["CAP_CHOWN"],
                    "permitted": ["CAP_CHOWN", "CAP_KILL"],
                    "inheritable": ["CAP_KILL"],
                    "ambient": ["CAP_KILL"]
                }),
            )
            .with("/process/user", json!({"uid": 1000, "gid": 1000}))
            .probe("status")
            .done();
        // After execve by a user who is not root: permitted and effective are the ambient ones.
        assert_eq!(
            sets(&c.run().ok().seen("status")),
            [CHOWN | KILL | NET_RAW, KILL, KILL, KILL, KILL]
        );
    });
}

/// Those of all sets but the inheritable and the ambient one.
fn with_capabilities<'t>(t: &'t Trial, names: &[&str]) -> Container<'t> {
    let draft = t.container().capabilities(names);
    draft.probe("status").done()
}

/// A kernel to come has more of them: a warning, as the specification has it.
#[test]
fn capabilities_that_are_not_known_are_left_out() {
    trial(|t| {
        let c = with_capabilities(t, &["CAP_CHOWN", "CAP_EVERYTHING"]);
        let run = c.run().ok();
        assert_eq!(sets(&run.seen("status")), [CHOWN, CHOWN, CHOWN, 0, 0]);
        assert!(run.stderr.contains("CAP_EVERYTHING"), "{}", run.stderr);
    });
}

#[test]
fn capabilities_that_the_caller_lacks_are_left_out() {
    trial(|t| {
        if is_everyones() {
            eprintln!("in a user namespace of its own it has them all: nothing to test");
            return;
        }
        let c = with_capabilities(t, &["CAP_CHOWN", "CAP_NET_RAW"]);
        let kept = "-all,+bpf,+chown,+dac_override,+dac_read_search,+fowner,+fsetid,+kill,+mknod,+net_admin,+perfmon,\
                    +setgid,+setpcap,+setuid,+sys_admin,+sys_chroot,+sys_ptrace";
        let dropped: Vec<String> = match Driver::current() {
            // It stays in the caller's bounding set, out of which execve would give it to root.
            Driver::Files => vec![
                "--reuid=1000".into(),
                "--keep-groups".into(),
                format!("--inh-caps={kept}"),
                format!("--ambient-caps={kept}"),
            ],
            // Whoever is not root has another systemd.
            Driver::Systemd => vec!["--bounding-set=-net_raw".into()],
        };
        let with_fewer = |verb: &str, args: &[&str]| {
            let call = t.program(Path::new("/usr/bin/setpriv"));
            let call = call.args(&dropped).arg(&t.runtime.path);
            let call = call
                .arg("--root")
                .arg(t.state_root())
                .args(Driver::current().flags());
            call.arg(verb).args(args).end().ok()
        };
        let bundle = c.bundle.to_string_lossy().into_owned();
        let run = with_fewer("run", &["--bundle", &bundle, &c.id]);
        assert_eq!(sets(&run.seen("status")), [CHOWN, CHOWN, CHOWN, 0, 0]);
        let said = "/process/capabilities: the caller lacks CAP_NET_RAW: left out";
        assert!(t.says(&run.stderr, said), "{}", run.stderr);
        if t.is_corten() {
            let check = with_fewer("check", &[&bundle]);
            assert!(
                check.stdout.contains("the caller lacks CAP_NET_RAW"),
                "{}",
                check.stdout
            );
        }

        let held = t.container().capabilities(&["CAP_CHOWN", "CAP_NET_RAW"]);
        let held = held.probe("print up + pause").done();
        held.run_detached();
        let exec = with_fewer("exec", &[&held.id, "/probe", "status"]);
        assert_eq!(sets(&exec.seen("status")), [CHOWN, CHOWN, CHOWN, 0, 0]);
        assert!(t.says(&exec.stderr, said), "{}", exec.stderr);
        held.end();
    });
}

#[test]
fn root_has_its_bounding_set() {
    trial(|t| {
        let all = json!(["CAP_CHOWN", "CAP_KILL"]);
        let c = t
            .container()
            .with(
                "/process/capabilities",
                json!({"bounding": all, "effective": all, "permitted": all}),
            )
            .probe("status")
            .done();
        assert_eq!(
            sets(&c.run().ok().seen("status")),
            [CHOWN | KILL, CHOWN | KILL, CHOWN | KILL, 0, 0]
        );
    });
}

#[test]
fn no_capabilities_means_none() {
    trial(|t| {
        for value in [
            json!({}),
            json!({"bounding": [], "effective": [], "permitted": []}),
        ] {
            let c = t
                .container()
                .with("/process/capabilities", value)
                .probe("status + chmod /probe 0755")
                .done();
            assert_eq!(sets(&c.run().ok().seen("status")), [0; 5]);
        }
    });
}

#[test]
fn no_capabilities_section_means_none() {
    trial(|t| {
        let c = t
            .container()
            .without("/process/capabilities")
            .with("/process/user", json!({"uid": 1000, "gid": 1000}))
            .probe("status")
            .done();
        let [_, effective, permitted, inheritable, ambient] = sets(&c.run().ok().seen("status"));
        assert_eq!([effective, permitted, inheritable, ambient], [0; 4]);
    });
}

#[test]
fn a_user_has_the_ambient_set_exactly() {
    trial(|t| {
        let all = json!(["CAP_CHOWN", "CAP_NET_RAW"]);
        let c = t
            .container()
            .with("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": ["CAP_NET_RAW"]}))
            .with("/process/user", json!({"uid": 1000, "gid": 1000}))
            .probe("status")
            .done();
        assert_eq!(
            sets(&c.run().ok().seen("status")),
            [CHOWN | NET_RAW, NET_RAW, NET_RAW, CHOWN | NET_RAW, NET_RAW]
        );
    });
}

#[test]
fn sets_rlimits() {
    trial(|t| {
        let limits = json!([
            {"type": "RLIMIT_NOFILE", "soft": 300, "hard": 400},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NPROC", "soft": 1000, "hard": 2000},
            {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152},
            {"type": "RLIMIT_MEMLOCK", "soft": 4096, "hard": 8192}
        ]);
        let seen = t
            .container()
            .with("/process/rlimits", limits)
            .probe("rlimits")
            .done()
            .run()
            .ok()
            .seen("rlimits");
        assert_eq!(seen["Max open files"], json!(["300", "400"]));
        assert_eq!(seen["Max core file size"], json!(["0", "0"]));
        assert_eq!(seen["Max processes"], json!(["1000", "2000"]));
        assert_eq!(seen["Max stack size"], json!(["1048576", "2097152"]));
        assert_eq!(seen["Max locked memory"], json!(["4096", "8192"]));
    });
}

#[test]
fn sets_no_new_privileges() {
    trial(|t| {
        for (value, seen) in [(true, "1"), (false, "0")] {
            let out = t
                .container()
                .with("/process/noNewPrivileges", json!(value))
                .probe("status")
                .done()
                .run()
                .ok();
            assert_eq!(out.seen("status")["NoNewPrivs"], seen);
        }
        let out = t
            .container()
            .without("/process/noNewPrivileges")
            .probe("status")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("status")["NoNewPrivs"], "0");
    });
}

#[test]
fn sets_the_oom_score() {
    trial(|t| {
        for value in [0, 1, 500, 1000] {
            let out = t
                .container()
                .with("/process/oomScoreAdj", json!(value))
                .probe("read /proc/self/oom_score_adj")
                .done()
                .run()
                .ok();
            assert_eq!(
                out.seen("read")["/proc/self/oom_score_adj"]["ok"],
                format!("{value}\n")
            );
        }
    });
}

#[test]
fn starts_with_no_signal_ignored_or_blocked() {
    trial(|t| {
        let c = t.container().probe("status").done();
        // As conmon calls: SIGPIPE, SIGINT and SIGQUIT ignored.
        let script = "trap '' PIPE INT QUIT USR1; exec \"$@\"";
        let out = t
            .program(std::path::Path::new("/bin/sh"))
            .args(["-c", script, "sh"])
            .arg(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(["run", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .end()
            .ok();
        let status = out.seen("status");
        // Libc's own two (32, 33), which a caller's libc may have touched, tell nothing.
        let own = 0b11 << 31;
        assert_eq!(caps(&status, "SigBlk") & !own, 0, "{}", status["SigBlk"]);
        // The probe's own runtime ignores SIGPIPE (bit 12) in every process.
        assert_eq!(
            caps(&status, "SigIgn") & !own & !(1 << 12),
            0,
            "{}",
            status["SigIgn"]
        );
    });
}

#[test]
fn leads_a_session_of_its_own() {
    trial(|t| {
        let out = t.container().probe("ids + pid").done().run().ok();
        assert_eq!(
            out.seen("ids")["sid"],
            out.seen("pid")["pid"],
            "the caller's terminal is within reach of TIOCSTI"
        );
    });
}

#[test]
fn an_interpreter_of_the_rootfs_runs_scripts() {
    trial(|t| {
        let c = t
            .container()
            .file("/script", "#!/probe exit\n", 0o755)
            .args(&["/script"])
            .done();
        // The kernel runs `/probe exit /script`: not a status, so the probe complains.
        c.run().exits(125);
    });
}

#[test]
fn program_errors_read_as_callers_expect() {
    trial(|t| {
        let draft = || {
            t.container()
                .file("/plain", "no program\n", 0o644)
                .dir("/data/dir")
        };
        for (args, words) in [
            ("nothing-like-it", "executable file not found in $PATH"),
            ("/nothing/like/it", "no such file or directory"),
            ("/plain", "permission denied"),
        ] {
            let c = draft().args(&[args]).done();
            let error = c.run().exits(1).fails();
            assert!(error.contains(words), "{args}: {error}");
            let error = c.create().exits(1).fails();
            assert!(error.contains(words), "create of {args}: {error}");
        }
    });
}
