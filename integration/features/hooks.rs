// SPDX-License-Identifier: Apache-2.0
//! Hooks: the six points in their order, the state on stdin, cwd, environment, namespaces, timeouts, and what a failure does.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use corten_integration::{Container, Draft, Trial, probe, trial};
use serde_json::{Value, json};

/// The points, in the order of the spec, with the verb during which they run.
const POINTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Those that run in the container's own namespaces; startContainer even below its rootfs.
const INSIDE: [&str; 2] = ["createContainer", "startContainer"];

fn hook<'t>(draft: Draft<'t>, point: &str, path: &str, args: &[&str]) -> Draft<'t> {
    let args: Vec<&str> = std::iter::once("probe")
        .chain(args.iter().copied())
        .collect();
    draft.with(
        &format!("/hooks/{point}/-"),
        json!({"path": path, "args": args}),
    )
}

/// A hook at `point` that runs the probe: the host's, or the rootfs's where there is no other.
fn probe_hook<'t>(draft: Draft<'t>, point: &str, args: &[&str]) -> Draft<'t> {
    let path = if point == "startContainer" {
        "/probe".into()
    } else {
        probe().to_string_lossy()
    };
    hook(draft, point, &path, args)
}

/// A directory that hooks and the container's process see at the same path.
fn shared(t: &Trial) -> PathBuf {
    t.directory("shared")
}

/// Hooks at every point that write what they are given to shared/POINT, and a line into shared/order.
fn every_point(t: &Trial) -> Container<'_> {
    let dir = shared(t);
    let at = dir.to_string_lossy().into_owned();
    let mut draft = t
        .container()
        .mount(&at, "bind", &dir, &["bind"])
        .with("/annotations", json!({"org.example": "x"}));
    for point in POINTS {
        draft = probe_hook(
            draft,
            point,
            &[
                "save",
                &format!("{at}/{point}"),
                "+",
                "append",
                &format!("{at}/order"),
                point,
            ],
        );
    }
    draft
        .args(&[
            "/probe",
            "append",
            &format!("{at}/order"),
            "process",
            "+",
            "pause",
        ])
        .done()
}

fn saved(t: &Trial, point: &str) -> Value {
    let text = fs::read_to_string(shared(t).join(point))
        .unwrap_or_else(|e| panic!("hook {point} left nothing: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn order(t: &Trial) -> Vec<String> {
    fs::read_to_string(shared(t).join("order"))
        .unwrap_or_default()
        .lines()
        .map(Into::into)
        .collect()
}

#[test]
fn run_in_their_order() {
    trial(|t| {
        let c = every_point(t);
        c.create().ok();
        assert_eq!(order(t), POINTS[..3]);
        c.start().ok();
        corten_integration::eventually("the process", || {
            order(t).contains(&"process".to_owned()).then_some(())
        });
        let after = order(t);
        assert_eq!(after[3], "startContainer", "{after:?}");
        assert!(
            after[4..].contains(&"poststart".to_owned()) && after.len() == 6,
            "{after:?}"
        );
        c.kill("KILL").ok();
        c.wait();
        assert_eq!(order(t).len(), 6, "poststop runs before delete");
        c.delete().ok();
        assert_eq!(order(t)[6..], ["poststop"]);
    });
}

#[test]
fn are_given_the_state() {
    trial(|t| {
        let c = every_point(t);
        c.create().ok();
        let pid = c.pid();
        c.start().ok();
        c.kill("KILL").ok();
        c.wait();
        c.delete().ok();
        for point in POINTS {
            let state = saved(t, point)["stdin"].clone();
            assert_eq!(state["id"], c.id.as_str(), "{point}");
            assert_eq!(state["bundle"], c.bundle.to_str().unwrap(), "{point}");
            assert_eq!(state["annotations"]["org.example"], "x", "{point}");
            assert!(state["ociVersion"].is_string(), "{point}");
            match point {
                "poststop" => assert_eq!(state["status"], "stopped"),
                "poststart" => assert_eq!(
                    (&state["status"], &state["pid"]),
                    (&json!("running"), &json!(pid))
                ),
                // The spec: the pid as the namespace in which the hook runs knows it.
                "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{point}"),
                _ => assert_eq!(state["pid"], pid, "{point}: the host's pid"),
            }
        }
    });
}

#[test]
fn the_status_in_create_is_creating() {
    trial(|t| {
        let c = every_point(t);
        c.create().ok();
        for point in ["prestart", "createRuntime", "createContainer"] {
            assert_eq!(saved(t, point)["stdin"]["status"], "creating", "{point}");
        }
        c.delete().ok();
    });
}

#[test]
fn run_in_the_right_mount_namespace() {
    trial(|t| {
        let c = every_point(t);
        c.bundled("run", &["--detach"]).end().ok();
        let host = fs::read_link("/proc/self/ns/mnt")
            .unwrap()
            .to_string_lossy()
            .into_owned();
        c.delete_force().ok();
        for point in POINTS {
            let inside = INSIDE.contains(&point);
            assert_eq!(saved(t, point)["mnt"] != host, inside, "{point}");
        }
        let root = |path: &std::path::Path| {
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
        };
        assert_eq!(
            saved(t, "createContainer")["root"],
            root(std::path::Path::new("/")),
            "createContainer runs before pivot_root"
        );
        assert_eq!(saved(t, "startContainer")["root"], root(&c.rootfs()));
    });
}

#[test]
fn have_their_own_environment_alone() {
    trial(|t| {
        let dir = shared(t);
        let at = dir.to_string_lossy().into_owned();
        let mut draft = t
            .container()
            .mount(&at, "bind", &dir, &["bind"])
            .with("/process/env", json!(["PATH=/", "LD_PRELOAD=/x.so"]));
        for point in POINTS {
            draft = probe_hook(draft, point, &["save", &format!("{at}/{point}")]);
            draft = draft.with(
                &format!("/hooks/{point}/0/env"),
                json!(["OWN=1", "TWO=a=b"]),
            );
        }
        let c = draft.probe("pause").done();
        c.bundled("run", &["--detach"])
            .env("FROM_HOST", "1")
            .end()
            .ok();
        c.delete_force().ok();
        for point in POINTS {
            assert_eq!(
                saved(t, point)["env"],
                json!(["OWN=1", "TWO=a=b"]),
                "{point}"
            );
        }
    });
}

#[test]
fn have_no_environment_by_default() {
    trial(|t| {
        let c = every_point(t);
        c.bundled("run", &["--detach"])
            .env("FROM_HOST", "1")
            .end()
            .ok();
        c.delete_force().ok();
        for point in [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ] {
            assert_eq!(saved(t, point)["env"], json!([]), "{point}");
        }
    });
}

#[test]
fn have_a_cwd_of_the_host() {
    trial(|t| {
        let c = every_point(t);
        c.bundled("run", &["--detach"]).end().ok();
        c.delete_force().ok();
        for point in [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ] {
            let cwd = saved(t, point)["cwd"].as_str().unwrap().to_owned();
            assert!(
                !cwd.starts_with(c.rootfs().to_str().unwrap()),
                "{point}: cwd {cwd} is the image's"
            );
        }
    });
}

#[test]
fn args_are_passed_with_their_zeroth() {
    trial(|t| {
        let file = shared(t).join("out");
        let draft = t.container().probe("exit 0").with(
            "/hooks/createRuntime/-",
            json!({"path": probe(), "args": ["zeroth", "save", file]}),
        );
        draft.done().run().ok();
        assert_eq!(saved(t, "out")["args"][0], "zeroth");
    });
}

#[test]
fn several_at_a_point_run_one_after_the_other() {
    trial(|t| {
        let file = shared(t).join("order");
        let mut draft = t.container().probe("exit 0");
        for name in ["first", "second", "third"] {
            draft = probe_hook(
                draft,
                "createRuntime",
                &["sleep", "20", "+", "append", file.to_str().unwrap(), name],
            );
        }
        draft.done().run().ok();
        assert_eq!(order(t), ["first", "second", "third"]);
    });
}

#[test]
fn a_failure_before_the_process_runs_fails_the_verb() {
    trial(|t| {
        for point in ["prestart", "createRuntime", "createContainer"] {
            let c = probe_hook(
                t.container().probe("print never"),
                point,
                &["eprint", "hook complains", "+", "exit", "3"],
            )
            .done();
            let out = c.create();
            assert_eq!(out.stdout, "");
            let error = out.exits(1).fails();
            assert!(error.contains("hook"), "{point}: {error}");
            assert!(
                error.contains("exit status 3") || error.contains("status 3"),
                "{point}: {error}"
            );
            c.verb("state", &[]).end().fails();
        }
    });
}

#[test]
fn a_failing_start_container_hook_fails_start() {
    trial(|t| {
        let c = probe_hook(
            t.container().probe("print never"),
            "startContainer",
            &["exit", "3"],
        )
        .done();
        let out = c.create().ok();
        c.start().fails();
        c.wait();
        assert_eq!(out.output(), "");
        c.delete().ok();
    });
}

#[test]
fn a_failing_poststop_hook_is_a_warning() {
    trial(|t| {
        let c = probe_hook(t.container().probe("exit 0"), "poststop", &["exit", "3"]).done();
        c.bundled("run", &["--keep"]).end().ok();
        c.delete().ok();
        c.verb("state", &[]).end().fails();
    });
}

#[test]
fn a_failing_poststart_hook_is_a_warning() {
    trial(|t| {
        let c = probe_hook(
            t.container().probe("print up + pause"),
            "poststart",
            &["exit", "3"],
        )
        .done();
        c.create().ok();
        c.start().ok();
        assert_eq!(c.status(), "running");
        c.end();
    });
}

#[test]
fn a_hook_that_hangs_ends_with_its_timeout() {
    trial(|t| {
        for point in ["prestart", "createRuntime", "createContainer"] {
            let c = probe_hook(t.container().probe("print never"), point, &["pause"])
                .with(&format!("/hooks/{point}/0/timeout"), json!(1))
                .done();
            let begun = Instant::now();
            let error = c.create().fails();
            // The hook would wait for ever: that it ended at all is what the timeout did.
            let took = begun.elapsed();
            assert!(took > Duration::from_millis(900), "{point}: {took:?}");
            assert!(error.contains("hook"), "{point}: {error}");
        }
    });
}

#[test]
fn a_hook_s_children_do_not_outlive_its_timeout() {
    trial(|t| {
        let draft = probe_hook(
            t.container().probe("print never"),
            "createRuntime",
            &["spawn", "pause"],
        );
        let hook = json!({"timeout": 1, "env": [format!("CORTEN_TRIAL={}", t.prefix)]});
        let draft = draft.edit(|spec| {
            for (key, value) in hook.as_object().unwrap() {
                spec["hooks"]["createRuntime"][0][key] = value.clone();
            }
        });
        // The child bears the trial's prefix in its environment: the census finds it, should it live on.
        draft.done().create().fails();
    });
}

#[test]
fn a_program_that_ignores_its_stdin_is_no_error() {
    trial(|t| {
        let big: String = "x".repeat(200_000);
        let c = probe_hook(
            t.container().probe("exit 0"),
            "createRuntime",
            &["exit", "0"],
        )
        .with("/annotations", json!({"org.example.big": big}))
        .done();
        c.run().ok();
    });
}
