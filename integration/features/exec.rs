// SPDX-License-Identifier: Apache-2.0
//! exec: a second process in the container's namespaces, cgroups and limits, as its options or its document say.

use std::fs;

use corten_integration::{
    Call, Console, Container, Terminal, Trial, caps, hierarchies, is_everyones, trial,
};
use serde_json::{Value, json};

/// A running container.
fn up<'t>(t: &'t Trial) -> Container<'t> {
    let c = t.container().probe("ns + print up + pause").done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

/// `exec OPTIONS ID /probe STEPS`.
fn exec(c: &Container<'_>, options: &[&str], steps: &str) -> Call {
    c.exec_call(options, &["/probe"])
        .args(steps.split_whitespace())
}

#[test]
fn joins_the_namespaces_and_cgroups() {
    trial(|t| {
        let c = t
            .container()
            .namespace("cgroup", None)
            .probe("ns + cgroup + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let exec = c.exec("ns + cgroup + pid").ok();
        assert_eq!(exec.seen("ns"), c.seen(&out, "ns"));
        assert_eq!(exec.seen("cgroup"), c.seen(&out, "cgroup"));
        assert_ne!(exec.seen("pid")["pid"], 1);
        c.end();
    });
}

/// Makes `name` below the container's cgroup on every hierarchy where it has one, fit for processes; how many those are.
fn make_below(t: &Trial, c: &Container<'_>, name: &str) -> usize {
    let mut made = 0;
    for hierarchy in hierarchies() {
        let own = hierarchy.dir(&t.cgroup_of(&c.id));
        if !own.exists() {
            continue;
        }
        made += 1;
        let dir = own.join(name);
        fs::create_dir(&dir).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !hierarchy.unified() && hierarchy.controllers.iter().any(|c| c == "cpuset") {
                let value = fs::read_to_string(own.join(file)).unwrap();
                fs::write(dir.join(file), value).unwrap();
            }
        }
    }
    made
}

/// What the process sees of itself in /proc/self/cgroup with `name` at the end of the line.
fn lines_below(c: &Container<'_>, options: &[&str], name: &str) -> Vec<String> {
    let out = exec(c, options, "cgroup").end().ok();
    let lines: Vec<String> = serde_json::from_value(out.seen("cgroup")).unwrap();
    let below = lines.into_iter().filter(|line| line.ends_with(name));
    below.collect()
}

#[test]
fn runs_in_a_cgroup_below_the_container_s() {
    trial(|t| {
        if is_everyones() {
            return;
        }
        let c = up(t);
        let made = make_below(t, &c, "sub");
        let own = format!("{}/sub", t.cgroup_of(&c.id));
        let below = lines_below(&c, &["--cgroup", "sub"], &own);
        assert_eq!(below.len(), made, "{below:?}");
        let below = lines_below(&c, &["--cgroup=/"], &own);
        assert_eq!(below.len(), 0, "{below:?}");
        if hierarchies().iter().any(|one| one.controllers == ["pids"]) {
            let controller = "pids";
            let named = format!("{controller}:sub");
            let below = lines_below(&c, &["--cgroup", &named], &own);
            assert!(
                matches!(&below[..], [only] if only.contains(controller)),
                "{below:?}"
            );
        }
        c.end();
    });
}

#[test]
fn refuses_a_cgroup_that_is_not_there_or_not_below() {
    trial(|t| {
        let c = up(t);
        for (wanted, why) in [
            ("nowhere", "no cgroup"),
            ("../x", "leads upwards"),
            ("nothing:x", "no v1 controller"),
        ] {
            let out = exec(&c, &["--cgroup", wanted], "exit 0").end().fails();
            assert!(out.contains(why) || !t.is_corten(), "{wanted}: {out}");
        }
        c.end();
    });
}

#[test]
fn exits_with_the_status_of_the_process() {
    trial(|t| {
        let c = up(t);
        for code in [0, 1, 42, 255] {
            c.exec(&format!("exit {code}")).exits(code);
        }
        for signal in [9, 15] {
            c.exec(&format!("raise {signal}")).exits(128 + signal);
        }
        c.end();
    });
}

#[test]
fn passes_stdio_through() {
    trial(|t| {
        let c = up(t);
        let out = exec(&c, &[], "cat + eprint complaint")
            .stdin("through\n")
            .end()
            .ok();
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("through\n", "complaint\n")
        );
        c.end();
    });
}

#[test]
fn arguments_after_the_id_are_the_program_s() {
    trial(|t| {
        let c = up(t);
        let out = c
            .exec_call(
                &[],
                &["/probe", "args", "+", "print", "-d", "+", "print", "--cwd"],
            )
            .end()
            .ok();
        assert_eq!(
            out.seen("args"),
            json!(["/probe", "args", "+", "print", "-d", "+", "print", "--cwd"])
        );
        c.end();
    });
}

#[test]
fn has_the_container_s_environment_and_its_own() {
    trial(|t| {
        let c = t
            .container()
            .with("/process/env", json!(["PATH=/", "FROM=container"]))
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let out = exec(&c, &["--env", "OWN=1", "--env", "FROM=exec"], "env")
            .env("LEAK", "1")
            .end()
            .ok();
        let seen: Vec<String> = serde_json::from_value(out.seen("env")).unwrap();
        for entry in ["PATH=/", "OWN=1", "FROM=exec"] {
            assert!(seen.iter().any(|is| is == entry), "{entry}: {seen:?}");
        }
        // getenv(3) finds the first of two.
        let first = seen.iter().find(|entry| entry.starts_with("FROM="));
        if t.is_corten() {
            assert_eq!(first.map(String::as_str), Some("FROM=exec"), "{seen:?}");
        }
        assert!(
            !seen.iter().any(|entry| entry.starts_with("LEAK")),
            "{seen:?}"
        );
        c.end();
    });
}

#[test]
fn takes_a_cwd() {
    trial(|t| {
        let c = up(t);
        assert_eq!(
            exec(&c, &["--cwd", "/data"], "cwd").end().ok().seen("cwd"),
            "/data"
        );
        assert_eq!(c.exec("cwd").ok().seen("cwd"), "/");
        c.end();
    });
}

#[test]
fn takes_a_user() {
    trial(|t| {
        let c = up(t);
        for (user, uid, gid) in [("1000", 1000, 0), ("1:2", 1, 2), ("0", 0, 0), ("5:0", 5, 0)] {
            let ids = exec(&c, &["--user", user], "ids").end().ok().seen("ids");
            assert_eq!(
                (&ids["uid"], &ids["euid"]),
                (&json!(uid), &json!(uid)),
                "{user}"
            );
            assert_eq!(
                (&ids["gid"], &ids["egid"]),
                (&json!(gid), &json!(gid)),
                "{user}"
            );
        }
        c.end();
    });
}

#[test]
fn refuses_a_user_that_is_no_number() {
    trial(|t| {
        // CVE-2026-30892, CVE-2016-3697, CVE-2024-40635: never root unless asked for.
        let c = up(t);
        for user in ["-1", "0x1", "1:", ":5", "1:x", "1:2:3"] {
            let out = exec(&c, &[&format!("--user={user}")], "ids").end();
            assert_ne!(out.code, 0, "--user={user} ran as {}", out.stdout);
            assert_eq!(out.stdout, "", "--user={user}");
        }
        c.end();
    });
}

#[test]
fn refuses_a_user_beyond_the_last() {
    trial(|t| {
        let c = up(t);
        for user in ["4294967295", "4294967296", "1:4294967296"] {
            let out = exec(&c, &[&format!("--user={user}")], "ids").end();
            assert_ne!(out.code, 0, "--user={user} ran as {}", out.stdout);
        }
        c.end();
    });
}

#[test]
fn takes_additional_gids() {
    trial(|t| {
        let c = up(t);
        let out = exec(
            &c,
            &[
                "--user",
                "7:8",
                "--additional-gids",
                "100",
                "--additional-gids",
                "65534",
            ],
            "ids",
        )
        .end()
        .ok();
        assert_eq!(out.seen("ids")["groups"], json!([100, 65534]));
        c.end();
    });
}

#[test]
fn cap_adds_to_all_but_inheritable() {
    trial(|t| {
        // CVE-2022-29162: an inheritable set makes files' inheritable capabilities effective.
        let c = up(t);
        let status = exec(&c, &["--cap", "CAP_NET_RAW"], "status")
            .end()
            .ok()
            .seen("status");
        assert_eq!(caps(&status, "CapInh"), 0);
        assert_eq!(caps(&status, "CapEff") & (1 << 13), 1 << 13);
        let status = c.exec("status").ok().seen("status");
        assert_eq!(caps(&status, "CapEff") & (1 << 13), 0);
        c.end();
    });
}

#[test]
fn is_confined_as_init_is() {
    trial(|t| {
        let c = t
            .container()
            .probe("status + rlimits + mounts + print up + pause")
            .with("/process/oomScoreAdj", json!(300))
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let exec = c
            .exec("status + rlimits + mounts + read /proc/self/oom_score_adj + create /new")
            .ok();
        let init = c.seen(&out, "status");
        for field in [
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Umask",
            "Groups",
        ] {
            assert_eq!(exec.seen("status")[field], init[field], "{field}");
        }
        assert_eq!(exec.seen("rlimits"), c.seen(&out, "rlimits"));
        assert_eq!(exec.seen("mounts"), c.seen(&out, "mounts"));
        assert_eq!(exec.seen("read")["/proc/self/oom_score_adj"]["ok"], "300\n");
        assert_eq!(exec.seen("create")["errno"], "EROFS");
        c.end();
    });
}

fn document(t: &Trial, change: impl FnOnce(&mut Value)) -> String {
    let mut process = json!({
        "args": ["/probe", "ids", "+", "cwd", "+", "env", "+", "status", "+", "rlimits"], "cwd": "/data", "env": ["ONLY=this", "HOME=/h"],
        "user": {"uid": 11, "gid": 22, "additionalGids": [33], "umask": 7},
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NPROC", "soft": 500, "hard": 600}], "noNewPrivileges": true, "terminal": false
    });
    change(&mut process);
    t.file("process.json", &process.to_string())
        .to_string_lossy()
        .into_owned()
}

#[test]
fn takes_a_process_document() {
    trial(|t| {
        let c = up(t);
        let file = document(t, |_| {});
        let out = c.verb("exec", &["--process", &file]).end().ok();
        let ids = out.seen("ids");
        assert_eq!(
            (&ids["uid"], &ids["gid"], &ids["groups"]),
            (&json!(11), &json!(22), &json!([33]))
        );
        assert_eq!(out.seen("cwd"), "/data");
        assert_eq!(out.seen("env"), json!(["ONLY=this", "HOME=/h"]));
        let status = out.seen("status");
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(
            (caps(&status, "CapEff"), caps(&status, "CapBnd")),
            (1 << 5, 1 << 5)
        );
        assert_eq!(out.seen("rlimits")["Max processes"], json!(["500", "600"]));
        c.end();
    });
}

#[test]
fn the_umask_of_a_process_document_is_set() {
    trial(|t| {
        let c = up(t);
        let file = document(t, |_| {});
        let out = c.verb("exec", &["--process", &file]).end().ok();
        assert_eq!(out.seen("status")["Umask"], "0007");
        c.end();
    });
}

#[test]
fn a_process_document_may_come_by_descriptor() {
    trial(|t| {
        let c = up(t);
        let file = document(t, |process| {
            process["args"] = json!(["/probe", "exit", "21"])
        });
        let call = c
            .verb("exec", &["--process", "/dev/fd/0"])
            .stdin_file(fs::File::open(file).unwrap());
        call.end().exits(21);
        c.end();
    });
}

#[test]
fn a_bad_process_document_is_refused() {
    trial(|t| {
        let c = up(t);
        for text in [
            "",
            "{",
            "[]",
            "{\"args\": \"no list\"}",
            "{\"args\": [], \"cwd\": \"/\"}",
        ] {
            let file = t.file("bad.json", text);
            let out = c.verb("exec", &["--process", file.to_str().unwrap()]).end();
            assert_ne!(out.code, 0, "{text:?}");
        }
        let out = c.verb("exec", &["--process", "/nowhere"]).end();
        out.fails();
        c.end();
    });
}

#[test]
fn detaches_and_writes_its_pid_file() {
    trial(|t| {
        let c = up(t);
        let file = t.dir.join("exec.pid");
        let out = exec(
            &c,
            &["--detach", "--pid-file", file.to_str().unwrap()],
            "print execed + pause",
        )
        .end()
        .ok();
        c.says(&out, "execed");
        let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert_eq!(
            cmdline.replace('\0', " ").trim(),
            "/probe print execed + pause"
        );
        assert_ne!(pid, c.pid());
        c.end();
    });
}

#[test]
fn a_detached_process_dies_with_the_container() {
    trial(|t| {
        let c = up(t);
        let out = exec(&c, &["--detach"], "print execed + pause").end().ok();
        c.says(&out, "execed");
        c.delete_force().ok();
    });
}

#[test]
fn has_a_terminal_of_its_own() {
    trial(|t| {
        let c = up(t);
        let console = Console::listen(t.dir.join("c"));
        let socket = console.path.to_string_lossy();
        exec(
            &c,
            &["--tty", "--detach", "--console-socket", &socket],
            "tty + print ready + pause",
        )
        .end()
        .ok();
        let text = console.master().until("ready");
        assert!(text.contains("\"controlling\":true"), "{text}");
        c.end();
    });
}

#[test]
fn relays_a_terminal_in_the_foreground() {
    trial(|t| {
        let c = up(t);
        let (mut terminal, slave) = Terminal::open();
        let mut running = exec(&c, &["--tty"], "print ready + cat + exit 8").stdio_file(&slave);
        drop(slave);
        terminal.until("ready");
        terminal.type_in("echoed\n\u{4}");
        let shown = terminal.rest();
        let status = running
            .wait(corten_integration::PATIENCE)
            .expect("exec ends");
        assert_eq!(status.code(), Some(8), "{shown:?}");
        assert!(shown.contains("echoed"), "{shown:?}");
        c.end();
    });
}

#[test]
fn what_cannot_run_is_told_with_status_255() {
    trial(|t| {
        let c = up(t);
        for (program, words) in [
            ("nothing-like-it", "executable file not found in $PATH"),
            ("/nothing/like/it", "no such file or directory"),
            ("/etc/passwd", "permission denied"),
        ] {
            let error = c.exec_call(&[], &[program]).end().exits(255).fails();
            assert!(error.contains(words), "{program}: {error}");
        }
        c.end();
    });
}

#[test]
fn is_refused_where_nothing_runs() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        c.exec("exit 0").fails();
        c.bundled("run", &["--keep"]).end().ok();
        c.exec("exit 0").fails();
        c.delete().ok();
    });
}

#[test]
fn works_in_a_created_container() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        c.create().ok();
        c.exec("exit 5").exits(5);
        c.delete().ok();
    });
}

#[test]
fn many_at_once() {
    trial(|t| {
        let c = up(t);
        let running: Vec<_> = (0..20)
            .map(|number| exec(&c, &[], &format!("exit {number}")).spawn())
            .collect();
        for (number, running) in running.into_iter().enumerate() {
            running.end().exits(number.try_into().unwrap());
        }
        c.end();
    });
}
