// SPDX-License-Identifier: Apache-2.0
//! Security labels: what asks for nothing runs on any host; what asks for a module that isn't active is refused before
//! anything is made, with the field, for init and for exec.

use std::fs;

use corten_integration::{Draft, Trial, trial};
use serde_json::{Value, json};

const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// Whether the host has the module active: labels would be real there, and of no policy that is known here.
fn is_active(module: &str) -> bool {
    match module {
        "AppArmor" => fs::read("/proc/self/attr/apparmor/current").is_ok(),
        _ => fs::read_to_string("/proc/filesystems")
            .unwrap()
            .contains("selinuxfs"),
    }
}

/// (field, its value, the module that it needs)
fn fields() -> Vec<(&'static str, Value, &'static str)> {
    let all = [
        ("/process/apparmorProfile", json!("corten-none"), "AppArmor"),
        ("/process/selinuxLabel", json!(LABEL), "SELinux"),
        ("/linux/mountLabel", json!(LABEL), "SELinux"),
    ];
    all.into_iter()
        .filter(|(.., module)| !is_active(module))
        .collect()
}

#[test]
fn empty_labels_ask_for_nothing() {
    trial(|t| {
        let out = t
            .container()
            .with("/process/apparmorProfile", json!(""))
            .with("/process/selinuxLabel", json!(""))
            .with("/linux/mountLabel", json!(""))
            .probe("print fine")
            .done()
            .run()
            .ok();
        assert_eq!(out.stdout, "fine\n");
    });
}

#[test]
fn unconfined_needs_no_module() {
    trial(|t| {
        let c = t
            .container()
            .with("/process/apparmorProfile", json!("unconfined"))
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let exec = c.exec_call(&["--apparmor", "unconfined"], &["/probe", "print", "fine"]);
        assert_eq!(exec.end().ok().stdout, "fine\n");
        c.end();
    });
}

/// A hook that says that it ran.
fn hooked<'t>(t: &'t Trial, field: &str, value: Value) -> Draft<'t> {
    let ran = t.dir.join("ran");
    let program = corten_integration::probe().to_string_lossy().into_owned();
    let args = json!(["probe", "append", ran, "ran"]);
    t.container()
        .with(field, value)
        .with(
            "/hooks/createRuntime/-",
            json!({"path": program, "args": args}),
        )
        .probe("print never")
}

#[test]
fn a_label_without_its_module_is_refused_before_anything_is_made() {
    trial(|t| {
        for (field, value, module) in fields() {
            let c = hooked(t, field, value).done();
            let error = c.run().fails();
            assert!(!t.dir.join("ran").exists(), "{field}: hooks ran");
            assert!(!t.state_root().join(&c.id).exists(), "{field}");
            if t.is_corten() {
                let said = format!("{module} is not active on this host (config.json {field})");
                assert!(error.contains(&said), "{error}");
            }
        }
    });
}

#[test]
fn exec_is_refused_in_the_same_way() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        for (field, value, module) in fields() {
            let Some(name) = field.strip_prefix("/process") else {
                continue;
            };
            let mut process = json!({"cwd": "/", "args": ["/probe", "print", "never"], "env": [], "user": {"uid": 0, "gid": 0}});
            process[&name[1..]] = value;
            let file = t.file("process.json", &process.to_string());
            let out = c.verb("exec", &["--process", file.to_str().unwrap()]).end();
            assert_eq!(out.stdout, "");
            let error = out.fails();
            if t.is_corten() {
                assert!(error.contains(module) && error.contains(name), "{error}");
            }
        }
        if !is_active("AppArmor") {
            let exec = c.exec_call(
                &["--apparmor", "corten-none"],
                &["/probe", "print", "never"],
            );
            let out = exec.end();
            assert_eq!(out.stdout, "");
            let error = out.fails();
            assert!(error.to_lowercase().contains("apparmor"), "{error}");
        }
        assert_eq!(c.exec("print fine").ok().stdout, "fine\n");
        c.end();
    });
}
