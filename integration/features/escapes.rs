// SPDX-License-Identifier: Apache-2.0
//! Escapes through the rootfs: links where the runtime expects directories and files, aimed at the sentinel.
//!
//! Most tests don't care whether the runtime refuses or finds its way inside; the sentinel and the mount table decide.

use std::fs;
use std::path::{Path, PathBuf};

use corten_integration::{Console, Container, Draft, Mounts, Outcome, Trial, trial};
use serde_json::json;

/// Links to the sentinel: absolute, and up from the rootfs through as many `..` as there are.
fn links(t: &Trial) -> [PathBuf; 3] {
    let absolute = t.sentinel.path.clone();
    let up =
        Path::new("../".repeat(16).trim_end_matches('/')).join(absolute.strip_prefix("/").unwrap());
    let near = PathBuf::from("../../sent");
    [absolute, up, near]
}

/// Creates, starts and force-deletes it; each verb may fail, but what `create` allowed is returned.
fn try_all(c: &Container<'_>) -> Outcome {
    let out = c.create();
    if out.code == 0 {
        c.start();
        c.delete_force().ok();
    } else {
        assert!(!out.stderr.trim().is_empty(), "failed without a word");
    }
    out
}

#[test]
fn cve_2026_41579_dev_is_a_link() {
    trial(|t| {
        for link in links(t) {
            try_all(&t.container().link("/dev", &link).probe("exit 0").done());
            try_all(
                &t.container()
                    .link("/dev", &link)
                    .without_mount("/dev")
                    .probe("exit 0")
                    .done(),
            );
        }
    });
}

#[test]
fn cve_2026_41579_dev_pts_is_a_link() {
    trial(|t| {
        for link in links(t) {
            try_all(
                &t.container()
                    .link("/dev/pts", &link)
                    .without_mount("/dev")
                    .mount(
                        "/dev/pts",
                        "devpts",
                        "devpts",
                        &["newinstance", "ptmxmode=0666"],
                    )
                    .probe("exit 0")
                    .done(),
            );
            try_all(
                &t.container()
                    .link("/dev/ptmx", link.join("ptmx"))
                    .without_mount("/dev")
                    .probe("exit 0")
                    .done(),
            );
        }
    });
}

#[test]
fn names_in_dev_are_links() {
    trial(|t| {
        for name in [
            "null", "zero", "tty", "fd", "stdin", "stdout", "core", "shm", "mqueue", "console",
        ] {
            let link = t
                .sentinel
                .path
                .join(if name == "zero" { "target" } else { name });
            try_all(
                &t.container()
                    .link(&format!("/dev/{name}"), link)
                    .without_mount("/dev")
                    .probe("exit 0")
                    .done(),
            );
        }
    });
}

#[test]
fn cve_2019_19921_proc_is_a_link() {
    trial(|t| {
        let inside = [
            PathBuf::from("/data"),
            PathBuf::from("data"),
            PathBuf::from("/missing"),
        ];
        for link in links(t).into_iter().chain(inside) {
            t.container()
                .link("/proc", &link)
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
    });
}

#[test]
fn cve_2023_27561_sys_is_a_link() {
    trial(|t| {
        let inside = [PathBuf::from("/data"), PathBuf::from("data")];
        for link in links(t).into_iter().chain(inside) {
            t.container()
                .link("/sys", &link)
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
    });
}

#[test]
fn cve_2019_16884_proc_is_a_volume() {
    trial(|t| {
        let fake = t.directory("fake");
        fs::create_dir_all(fake.join("self/attr")).unwrap();
        fs::write(fake.join("self/attr/exec"), "").unwrap();
        for draft in [
            t.container()
                .without_mount("/proc")
                .mount("/proc", "bind", &fake, &["bind"]),
            t.container()
                .without_mount("/proc")
                .mount("/proc", "tmpfs", "tmpfs", &[]),
            t.container().mount("/proc", "bind", &fake, &["bind"]),
        ] {
            draft.probe("exit 0").done().run().fails();
        }
        assert_eq!(fs::read_to_string(fake.join("self/attr/exec")).unwrap(), "");
    });
}

const INSIDE_PROC: [&str; 6] = [
    "/proc/sys",
    "/proc/self/attr",
    "/proc/thread-self",
    "/proc/sys/kernel",
    "/proc/1",
    "/proc/../proc/sys",
];

#[test]
fn cve_2025_52881_binds_below_proc_are_refused() {
    trial(|t| {
        let fake = t.directory("fake");
        let file = t.file("file", "");
        for point in INSIDE_PROC {
            t.container()
                .mount(point, "bind", &fake, &["bind"])
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
        for point in [
            "/proc/self/attr/exec",
            "/proc/sys/kernel/core_pattern",
            "/proc/self/oom_score_adj",
        ] {
            t.container()
                .mount(point, "bind", &file, &["bind"])
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
    });
}

#[test]
fn cve_2025_52881_a_tmpfs_below_proc_is_refused() {
    trial(|t| {
        for point in INSIDE_PROC {
            t.container()
                .mount(point, "tmpfs", "tmpfs", &[])
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
    });
}

#[test]
fn a_link_to_proc_is_no_way_around_that_for_binds() {
    trial(|t| {
        let fake = t.directory("fake");
        for (link, point) in [
            ("/proc", "/data/way/sys"),
            ("/proc/sys", "/data/way"),
            ("../proc", "/data/way/self/attr"),
        ] {
            t.container()
                .link("/data/way", link)
                .mount(point, "bind", &fake, &["bind"])
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
    });
}

#[test]
fn a_link_to_proc_is_no_way_around_that_for_a_tmpfs() {
    trial(|t| {
        for (link, point) in [("/proc", "/data/way/sys"), ("/proc/sys", "/data/way")] {
            t.container()
                .link("/data/way", link)
                .mount(point, "tmpfs", "tmpfs", &[])
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
    });
}

#[test]
fn cve_2025_31133_dev_null_is_something_else() {
    // Aimed at the host name of the container's own namespace: there are runtimes that do write to it.
    trial(|t| {
        let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let masked = |draft: Draft<'_>| -> (i32, Outcome) {
            let draft = draft
                .without_mount("/dev")
                .file("/data/secret", "secret\n", 0o644)
                .with("/linux/maskedPaths", json!(["/data/secret", "/proc/keys"]));
            let out = draft
                .probe("stat /data/secret /proc/keys + read /data/secret /proc/keys")
                .done()
                .run();
            (out.code, out)
        };
        let drafts = [
            t.container().link("/dev/null", "/proc/sys/kernel/hostname"),
            t.container()
                .link("/dev/null", t.sentinel.path.join("null")),
            t.container()
                .link("/dev/null", "/data/other")
                .file("/data/other", "bait\n", 0o666),
            t.container().file("/dev/null", "bait\n", 0o666),
            t.container().dir("/dev/null"),
        ];
        for draft in drafts {
            let (code, out) = masked(draft);
            if code == 0 {
                for path in ["/data/secret", "/proc/keys"] {
                    assert_eq!(
                        out.seen("stat")[path]["rdev"],
                        "1:3",
                        "{path} is masked by {}",
                        out.seen("stat")[path]
                    );
                    assert_eq!(out.seen("read")[path]["ok"], "", "{path}");
                }
            }
        }
        assert_eq!(
            fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
            before
        );
    });
}

#[test]
fn cve_2025_52565_dev_console_is_a_link() {
    trial(|t| {
        let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let targets = [
            t.sentinel.path.join("console"),
            PathBuf::from("/proc/sys/kernel/hostname"),
            PathBuf::from("/data/other"),
        ];
        for (number, target) in targets.into_iter().enumerate() {
            let console = Console::listen(t.dir.join(format!("c{number}")));
            let c = t
                .container()
                .link("/dev/console", target)
                .without_mount("/dev")
                .with("/process/terminal", json!(true))
                .probe("mounts + print ready + pause")
                .done();
            let out = c
                .bundled(
                    "create",
                    &["--console-socket", console.path.to_str().unwrap()],
                )
                .end();
            if out.code == 0 {
                let mut terminal = console.master();
                c.start().ok();
                let text = terminal.until("ready");
                let line = text
                    .lines()
                    .find(|line| line.contains("\"mounts\""))
                    .unwrap();
                let value: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
                let mounts = Mounts::of(&value["value"]);
                let point = mounts
                    .iter()
                    .find(|mount| mount.get("point").contains("hostname"));
                assert!(point.is_none(), "a terminal over hostname");
                c.end();
            }
        }
        assert_eq!(
            fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
            before
        );
    });
}

#[test]
fn mount_targets_through_links_stay_inside() {
    trial(|t| {
        let source = t.directory("source");
        let file = t.file("single", "bound\n");
        for link in links(t) {
            let draft = || t.container().link("/data/way", &link);
            let out = try_all(
                &draft()
                    .mount("/data/way/new", "tmpfs", "tmpfs", &[])
                    .probe("mounts")
                    .done(),
            );
            assert_eq!(out.code, 0, "{}", out.stderr);
            try_all(
                &draft()
                    .mount("/data/way/dir", "bind", &source, &["bind"])
                    .probe("exit 0")
                    .done(),
            );
            try_all(
                &draft()
                    .mount("/data/way/file", "bind", &file, &["bind"])
                    .probe("exit 0")
                    .done(),
            );
            try_all(
                &draft()
                    .mount("/data/way", "tmpfs", "tmpfs", &[])
                    .probe("exit 0")
                    .done(),
            );
            try_all(
                &draft()
                    .mount(
                        "/data/../../../../../../data/way/x/y",
                        "tmpfs",
                        "tmpfs",
                        &[],
                    )
                    .probe("exit 0")
                    .done(),
            );
        }
    });
}

#[test]
fn devices_through_links_stay_inside() {
    trial(|t| {
        for link in links(t) {
            let device = json!([{"path": "/data/way/node", "type": "c", "major": 1, "minor": 3}]);
            try_all(
                &t.container()
                    .link("/data/way", &link)
                    .with("/linux/devices", device)
                    .probe("exit 0")
                    .done(),
            );
            let device = json!([{"path": "/dev/target", "type": "c", "major": 1, "minor": 3}]);
            try_all(
                &t.container()
                    .without_mount("/dev")
                    .link("/dev/target", link.join("target"))
                    .with("/linux/devices", device)
                    .probe("exit 0")
                    .done(),
            );
        }
    });
}

#[test]
fn masked_and_readonly_paths_through_links_stay_inside() {
    trial(|t| {
        for link in links(t) {
            for list in ["maskedPaths", "readonlyPaths"] {
                let paths = json!([
                    "/data/way",
                    "/data/way/file",
                    "/data/way/dir",
                    "/data/way/../.."
                ]);
                try_all(
                    &t.container()
                        .link("/data/way", &link)
                        .with(&format!("/linux/{list}"), paths)
                        .probe("exit 0")
                        .done(),
                );
            }
        }
        // Still writable on the host: nothing was remounted.
        assert!(
            fs::OpenOptions::new()
                .write(true)
                .open(t.sentinel.path.join("file"))
                .is_ok()
        );
    });
}

#[test]
fn cve_2026_55686_a_cwd_through_a_link_is_made_inside() {
    trial(|t| {
        for link in links(t) {
            try_all(
                &t.container()
                    .writable()
                    .link("/data/way", &link)
                    .with("/process/cwd", json!("/data/way/made/here"))
                    .probe("exit 0")
                    .done(),
            );
        }
    });
}

/// Whether the probe's cwd was inside: above it is the rootfs with its probe.
fn cwd_is_inside(out: &Outcome) -> bool {
    out.code != 0 || out.seen("exists")["../../../../../../../../../../../../probe"] == true
}

const CLIMB: &str = "cwd + exists ../../../../../../../../../../../../probe";

#[test]
fn cve_2024_21626_cwd_is_a_leaked_descriptor_in_run() {
    trial(|t| {
        for number in 3..=20 {
            for link in [false, true] {
                let cwd = format!("/proc/self/fd/{number}");
                let draft = t.container().probe(CLIMB);
                let draft = if link {
                    draft
                        .link("/data/way", &cwd)
                        .with("/process/cwd", json!("/data/way"))
                } else {
                    draft.with("/process/cwd", json!(cwd))
                };
                let c = draft.done();
                let call = t
                    .host_probe()
                    .args(["leak", "20", "/"])
                    .arg(&t.runtime.path)
                    .arg("--root")
                    .arg(t.state_root());
                let out = call
                    .args(["run", "--bundle"])
                    .arg(&c.bundle)
                    .arg(&c.id)
                    .end();
                assert!(
                    cwd_is_inside(&out),
                    "descriptor {number}, by link: {link}: {}",
                    out.stdout
                );
            }
        }
    });
}

#[test]
fn cve_2024_21626_cwd_is_a_leaked_descriptor_in_exec() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        for number in 3..=20 {
            // By a document, since the launcher's own steps are parted by a word of CLIMB's.
            let steps: Vec<&str> = ["/probe"].into_iter().chain(CLIMB.split(' ')).collect();
            let cwd = format!("/proc/self/fd/{number}");
            let process = json!({"args": steps, "cwd": cwd, "user": {"uid": 0, "gid": 0}});
            let process = t.file("process.json", &process.to_string());
            let call = t
                .host_probe()
                .args(["leak", "20", "/"])
                .arg(&t.runtime.path)
                .arg("--root")
                .arg(t.state_root());
            let out = call
                .arg("exec")
                .arg("--process")
                .arg(process)
                .arg(&c.id)
                .end();
            assert!(cwd_is_inside(&out), "descriptor {number}: {}", out.stdout);
        }
        c.end();
    });
}

#[test]
fn cve_2021_43784_long_strings_arrive_whole() {
    trial(|t| {
        let long = format!("LONG={}", "y".repeat(100_000));
        let other = format!("OTHER={}", "z".repeat(70_000));
        let out = t
            .container()
            .with("/process/env", json!([long, other, "LAST=1"]))
            .probe("env")
            .done()
            .run()
            .ok();
        let seen: Vec<String> = serde_json::from_value(out.seen("env")).unwrap();
        assert!(
            seen.contains(&long) && seen.contains(&other) && seen.contains(&"LAST=1".to_owned())
        );
    });
}
