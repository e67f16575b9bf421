// SPDX-License-Identifier: Apache-2.0
//! `check`: what it says of good and bad bundles, that it starts and changes nothing, and `--strict` wherever documents are
//! read. That it refuses what `create` refuses is held by `broken`, with its whole corpus.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use corten_integration::{
    Container, Draft, Outcome, SYS_RESOURCE, Trial, has_capability, is_everyones, plant, probe,
    trial,
};
use serde_json::{Value, json};

/// The default document without what is worth a note: ambient capabilities that are not inheritable.
fn base(t: &Trial) -> Draft<'_> {
    t.container().without("/process/capabilities/ambient")
}

fn check(t: &Trial, bundle: &Path, flags: &[&str]) -> (Outcome, Value) {
    let call = t.call().arg("check").args(flags).args(["--format", "json"]);
    let out = call.arg(bundle).end();
    let answer = serde_json::from_str(&out.stdout);
    let answer = answer.unwrap_or_else(|e| panic!("no JSON: {e}: {out:?}"));
    (out, answer)
}

/// (severity, cause, pointer, message) of every finding.
fn findings(answer: &Value) -> Vec<[&str; 4]> {
    let all = answer["findings"].as_array().expect("findings");
    for one in all {
        assert!(one["section"] != "" && one["message"] != "", "{one}");
        assert!(
            one["remedy"].is_string() && one.as_object().is_some_and(|all| all.len() == 6),
            "{one}"
        );
    }
    all.iter()
        .map(|one| {
            ["severity", "cause", "pointer", "message"]
                .map(|name| one[name].as_str().expect("text"))
        })
        .collect()
}

/// Every name below `dir`, with mode, size and time of change.
fn tree(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        seen.push(format!(
            "{} {:o} {} {}.{}",
            path.display(),
            meta.mode(),
            meta.size(),
            meta.ctime(),
            meta.ctime_nsec()
        ));
        if meta.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    seen.sort();
    seen
}

#[test]
fn a_good_bundle_runs_and_nothing_is_touched() {
    trial(|t| {
        let c = base(t).probe("print fine").done();
        let before = tree(&c.bundle);
        let (out, answer) = check(t, &c.bundle, &[]);
        assert_eq!((out.code, &answer["runs"]), (0, &json!(true)), "{answer:#}");
        assert_eq!(findings(&answer), [[""; 4]; 0]);
        assert_eq!(answer["bundle"], *c.bundle.to_string_lossy());
        assert_eq!(tree(&c.bundle), before);
        assert!(!t.state_root().exists() && !c.cgroup("memory").exists());
        assert_eq!(c.run().ok().stdout, "fine\n");
    });
}

#[test]
fn the_bundle_is_named_three_ways() {
    trial(|t| {
        let c = base(t).probe("print fine").done();
        let text = format!("{}: would run\n", c.bundle.display());
        let named = t
            .call()
            .arg("check")
            .arg("--bundle")
            .arg(&c.bundle)
            .end()
            .ok();
        let alone = t.call().arg("check").arg(&c.bundle).end().ok();
        let here = t.call().arg("check").dir(&c.bundle).end().ok();
        assert_eq!(
            [named.stdout, alone.stdout, here.stdout],
            [&text; 3].map(String::clone)
        );
        let twice = t.call().args(["check", "-b", "/x"]).arg(&c.bundle).end();
        assert!(
            twice.code == 1 && twice.stderr.contains("given twice"),
            "{}",
            twice.stderr
        );
        let format = t
            .call()
            .args(["check", "--format", "xml"])
            .arg(&c.bundle)
            .end();
        assert!(
            format.code == 1 && format.stderr.contains("text or json"),
            "{}",
            format.stderr
        );
    });
}

/// Everything at once, in the order of the document and then of the host; text has the same lines.
#[test]
fn all_findings_are_there_with_their_effect() {
    trial(|t| {
        let c = base(t)
            .with("/mounts/-", json!({"destination": "data", "type": "bind", "source": "/nothing", "options": ["bind"]}))
            .with("/windows", json!({}))
            .with("/vm", json!({"kernel": {"path": "/k"}}))
            .with("/process/cwd", json!("relative"))
            .with("/ex\u{1b}[2Jtra", json!(1))
            .args(&["/nothing"])
            .done();
        let (out, answer) = check(t, &c.bundle, &[]);
        assert_eq!(out.code, 1);
        let short: Vec<[&str; 3]> = findings(&answer)
            .iter()
            .map(|[a, b, c, _]| [*a, *b, *c])
            .collect();
        assert_eq!(
            short,
            [
                ["ignored", "document", "/ex\u{1b}[2Jtra"],
                ["refused", "corten", "/vm"],
                ["ignored", "document", "/windows"],
                ["refused", "document", "/process/cwd"],
                ["degraded", "document", "/mounts/7/destination"],
                ["refused", "host", "/mounts/7"],
                ["refused", "host", "/process/args/0"],
            ],
            "{answer:#}"
        );
        let text = t.call().arg("check").arg(&c.bundle).end();
        assert_eq!(text.code, 1);
        let lines: Vec<&str> = text.stdout.lines().collect();
        assert_eq!(lines.len(), short.len() + 1, "{}", text.stdout);
        for (line, [effect, _, pointer]) in lines.iter().zip(&short) {
            let pointer = pointer.replace('\u{1b}', "\\x1b");
            assert!(
                line.starts_with(&format!("{effect}: {pointer}: ")),
                "{line}"
            );
        }
        assert!(lines[7].ends_with(": would not run"), "{}", lines[7]);
        // What a name in the document would do to a terminal is written out.
        assert!(
            !text.stdout.contains('\u{1b}') && text.stdout.contains("\\x1b[2Jtra"),
            "{}",
            text.stdout
        );
    });
}

/// (name, what is changed, the field that is refused); each is refused by `create` for the same field.
type HostCase = (
    &'static str,
    for<'t> fn(Draft<'t>) -> Draft<'t>,
    &'static str,
);

fn host_cases() -> Vec<HostCase> {
    let mut cases: Vec<HostCase> = vec![
        (
            "a loader that the rootfs lacks",
            |draft| {
                draft
                    .file("/dynamic", elf("/lib/none.so"), 0o755)
                    .args(&["/dynamic"])
            },
            "/process/args/0",
        ),
        (
            "a program hidden by a tmpfs",
            |draft| {
                draft
                    .file("/data/x", "x", 0o755)
                    .mount("/data", "tmpfs", "tmpfs", &[])
                    .args(&["/data/x"])
            },
            "/process/args/0",
        ),
        (
            "a program that a bind mount lacks",
            |draft| {
                draft
                    .file("/data/x", "x", 0o755)
                    .mount("/data", "bind", "/proc/sys", &["bind"])
                    .args(&["/data/x"])
            },
            "/process/args/0",
        ),
        (
            "a program of somebody else",
            |draft| {
                draft
                    .file("/mine", "#!/probe\n", 0o700)
                    .with("/process/user", json!({"uid": 7, "gid": 7}))
                    .capabilities(&[])
                    .args(&["/mine"])
            },
            "/process/args/0",
        ),
        (
            "a program on a mount that lets nothing be executed",
            |draft| {
                draft
                    .mount("/data", "bind", "/bin", &["bind", "noexec"])
                    .args(&["/data/true"])
            },
            "/process/args/0",
        ),
        (
            "a program in somebody else's directory",
            |draft| {
                let draft = draft.file("/closed/mine", "#!/probe\n", 0o755);
                let closed = fs::Permissions::from_mode(0o700);
                fs::set_permissions(draft.rootfs().join("closed"), closed).unwrap();
                draft
                    .with("/process/user", json!({"uid": 7, "gid": 7}))
                    .capabilities(&[])
                    .args(&["/closed/mine"])
            },
            "/process/args/0",
        ),
        (
            "a hook in the container that it lacks",
            |draft| draft.with("/hooks/startContainer/-", json!({"path": "/nothing"})),
            "/hooks/startContainer/0",
        ),
        (
            "a proc that is a link",
            |draft| draft.link("/proc", "/tmp"),
            "/mounts/0",
        ),
        (
            "a file limit above the kernel's",
            |draft| {
                draft.with(
                    "/process/rlimits",
                    json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 1_u64 << 40}]),
                )
            },
            "/process/rlimits/0",
        ),
    ];
    if !is_everyones() {
        // A user's nodes are the host's, which are bound over any file.
        cases.push((
            "a node where a file is",
            |draft| draft.without_mount("/dev").file("/dev/null", "", 0o666),
            "/linux/devices",
        ));
        cases.push((
            "a longer map than the kernel takes",
            |draft| {
                let ranges = (0..200).map(|number| {
                    let id = 3_000_000_000_u32 + 2 * number;
                    json!({"containerID": number, "hostID": id, "size": 1})
                });
                let mut ranges: Vec<_> = ranges.collect();
                for range in &mut ranges[1..] {
                    range["containerID"] = range["hostID"].clone();
                }
                draft
                    .user_namespace(100_000, 1000)
                    .with("/linux/uidMappings", json!(ranges))
            },
            "/linux/uidMappings",
        ));
    }
    if !has_capability(SYS_RESOURCE) {
        cases.push((
            "a score that the caller may not have",
            |draft| draft.with("/process/oomScoreAdj", json!(-900)),
            "/process/oomScoreAdj",
        ));
    }
    cases
}

/// A 64-bit ELF header that names a loader.
fn elf(loader: &str) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (bytes[16], bytes[18], bytes[20]) = (2, 62, 1);
    (bytes[32], bytes[52], bytes[54], bytes[56]) = (64, 64, 56, 1);
    (bytes[64], bytes[72]) = (3, 120);
    (bytes[96], bytes[104]) = (
        u8::try_from(loader.len() + 1).unwrap(),
        u8::try_from(loader.len() + 1).unwrap(),
    );
    bytes.extend(loader.bytes().chain([0]));
    bytes
}

#[test]
fn the_host_is_asked_as_create_would_ask_it() {
    trial(|t| {
        for (name, change, pointer) in host_cases() {
            let c = change(base(t).probe("print fine")).done();
            let (out, answer) = check(t, &c.bundle, &[]);
            let found = findings(&answer);
            assert_eq!(out.code, 1, "{name}: {found:?}");
            assert!(
                found
                    .iter()
                    .all(|one| one[..3] == ["refused", "host", pointer]),
                "{name}: {found:?}"
            );
            let out = c.run();
            assert_ne!(out.code, 0, "{name}: it runs");
            assert!(
                out.stderr.contains(&format!("(config.json {pointer})")),
                "{name}: {}",
                out.stderr
            );
        }
    });
}

/// Who would hear the listener's message is found without a connection, which an agent would take for a container's.
#[test]
fn an_agent_is_looked_for_without_a_word_to_it() {
    trial(|t| {
        let listener = |name: &str| {
            let rules = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
            base(t)
                .with(
                    "/linux/seccomp",
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "listenerPath": t.dir.join(name)}),
                )
                .probe("print fine")
                .done()
        };
        let held = UnixListener::bind(t.dir.join("held")).unwrap();
        held.set_nonblocking(true).unwrap();
        drop(UnixListener::bind(t.dir.join("left")).unwrap());
        let _datagrams = UnixDatagram::bind(t.dir.join("datagrams")).unwrap();
        for name in ["held", "left", "datagrams"] {
            fs::set_permissions(t.dir.join(name), fs::Permissions::from_mode(0o777)).unwrap();
        }

        let (out, answer) = check(t, &listener("held").bundle, &[]);
        assert_eq!((out.code, findings(&answer).len()), (0, 0), "{answer:#}");
        let heard = held.accept().expect_err("a connection was made");
        assert_eq!(heard.kind(), ErrorKind::WouldBlock);
        for (name, why) in [
            ("left", "nobody listens on"),
            ("datagrams", "takes datagrams"),
        ] {
            let c = listener(name);
            let (out, answer) = check(t, &c.bundle, &[]);
            assert_eq!(out.code, 1, "{answer:#}");
            let [["refused", "host", "/linux/seccomp/listenerPath", message]] =
                findings(&answer)[..]
            else {
                panic!("{answer:#}")
            };
            assert!(message.contains(why), "{message}");
            c.run().fails();
        }
    });
}

/// What looks wrong and runs: nothing may be refused of it.
#[test]
fn what_runs_is_not_refused() {
    trial(|t| {
        let source = t.directory("source");
        plant(probe(), &source.join("tool"));
        let bound = || base(t).mount("/data", "bind", &source, &["bind"]);
        let args = |program: &str| json!([program, "print", "fine"]);
        let cases: [(&str, Container<'_>); 11] = [
            (
                "link into a mount",
                bound()
                    .link("/tool", "/data/tool")
                    .with("/process/args", args("/tool"))
                    .done(),
            ),
            (
                "link to what a mount hides",
                bound()
                    .file("/data/tool", "none", 0o644)
                    .link("/tool", "/data/tool")
                    .with("/process/args", args("/tool"))
                    .done(),
            ),
            (
                "mount whose last word is that programs can be executed",
                base(t)
                    .mount("/data", "bind", &source, &["bind", "noexec", "rexec"])
                    .with("/process/args", args("/data/tool"))
                    .done(),
            ),
            (
                "working directory in somebody else's",
                base(t)
                    .file("/closed/mine/probe", fs::read(probe()).unwrap(), 0o755)
                    .with("/process/user", json!({"uid": 7, "gid": 7}))
                    .capabilities(&[])
                    .with("/process/cwd", json!("/closed/mine"))
                    .with("/process/args", args("./probe"))
                    .done(),
            ),
            (
                "program in a mount",
                bound().with("/process/args", args("/data/tool")).done(),
            ),
            (
                "target that is made",
                base(t)
                    .writable()
                    .mount("/etc/new/dir", "tmpfs", "tmpfs", &[])
                    .probe("print fine")
                    .done(),
            ),
            (
                "search path",
                base(t)
                    .with("/process/env", json!(["PATH=/nothing:/"]))
                    .with("/process/args", args("probe"))
                    .done(),
            ),
            (
                "script",
                base(t)
                    .file("/script", "#! /probe print\n", 0o755)
                    .args(&["/script"])
                    .done(),
            ),
            (
                "group",
                base(t)
                    .with("/process/user", json!({"uid": 7, "gid": 0}))
                    .probe("print fine")
                    .done(),
            ),
            (
                "working directory that is made",
                base(t)
                    .writable()
                    .with("/process/cwd", json!("/new/dir"))
                    .probe("print fine")
                    .done(),
            ),
            (
                "user namespace",
                base(t)
                    .user_namespace(100_000, 1000)
                    .probe("print fine")
                    .done(),
            ),
        ];
        for (name, c) in cases {
            if name == "group" {
                fs::set_permissions(c.rootfs().join("probe"), fs::Permissions::from_mode(0o710))
                    .unwrap();
            }
            if name == "working directory in somebody else's" {
                let closed = fs::Permissions::from_mode(0o700);
                fs::set_permissions(c.rootfs().join("closed"), closed).unwrap();
            }
            let (out, answer) = check(t, &c.bundle, &[]);
            assert_eq!(out.code, 0, "{name}: {answer:#}");
            c.run().ok();
        }
    });
}

#[test]
fn strict_refuses_unknown_fields_everywhere() {
    trial(|t| {
        let c = base(t)
            .with("/linux/Seccomp", json!({}))
            .with("/mounts/0/size", json!(1))
            .probe("print fine")
            .done();
        let named = "the spec writes it `seccomp` (config.json /linux/Seccomp)";
        for line in [
            ["--strict", "run", "--bundle"],
            ["run", "--strict", "--bundle"],
            ["create", "--strict", "--bundle"],
        ] {
            let out = t.call().args(line).arg(&c.bundle).arg(&c.id).end();
            assert_eq!(out.code, 1, "{line:?}: {}", out.stderr);
            assert!(out.stderr.contains(named), "{line:?}: {}", out.stderr);
        }
        let (out, answer) = check(t, &c.bundle, &["--strict"]);
        let pointers: Vec<_> = findings(&answer)
            .iter()
            .map(|one| (one[0], one[2]))
            .collect();
        assert_eq!(
            pointers,
            [("refused", "/linux/Seccomp"), ("refused", "/mounts/0/size")]
        );
        assert_eq!(out.code, 1);
        let (out, answer) = check(t, &c.bundle, &[]);
        assert!(
            findings(&answer).iter().all(|one| one[0] == "ignored"),
            "{answer:#}"
        );
        assert_eq!(out.code, 0);
        // Without it the log says so, and the container runs.
        let out = c.run().ok();
        assert_eq!(out.stdout, "fine\n");
        for field in ["/linux/Seccomp", "/mounts/0/size"] {
            assert!(
                out.stderr
                    .contains(&format!("{field}: this field is unknown and ignored")),
                "{}",
                out.stderr
            );
        }
    });
}

#[test]
fn strict_holds_for_the_document_of_exec() {
    trial(|t| {
        let c = base(t).probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        let process = json!({"cwd": "/", "args": ["/probe", "print", "fine"], "User": {"uid": 0}});
        let path = t.file("process.json", &process.to_string());
        let exec = |flags: &[&str]| {
            t.call()
                .arg("exec")
                .args(flags)
                .arg("--process")
                .arg(&path)
                .arg(&c.id)
                .end()
        };
        let refused = exec(&["--strict"]);
        assert_eq!(refused.code, 255, "{}", refused.stderr);
        assert!(
            refused
                .stderr
                .contains("this field is unknown; the spec writes it `user`"),
            "{}",
            refused.stderr
        );
        assert!(
            refused.stderr.contains("process.json /User"),
            "{}",
            refused.stderr
        );
        let out = exec(&[]).ok();
        assert_eq!(out.stdout, "fine\n");
        assert!(
            out.stderr
                .contains("/User: this field is unknown and ignored"),
            "{}",
            out.stderr
        );
        c.end();
    });
}
