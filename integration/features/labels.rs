// SPDX-License-Identifier: Apache-2.0
//! Security labels: what asks for nothing runs on any host; what asks for a module that isn't active is refused before
//! anything is made, with the field, for init and for exec.

use std::fs;

use corten_integration::{Draft, Trial, trial};
use serde_json::{Value, json};

const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// Whether the host has the module active: labels would be real there, and of no policy that is known here.
pub fn is_active(module: &str) -> bool {
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

/// A profile of AppArmor in the kernel, for as long as this lives.
struct Profile(String);

impl Profile {
    /// One that allows everything but to read `/data/secret`.
    fn load(t: &Trial) -> Self {
        let name = format!("{}-profile", t.prefix);
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n file,\n capability,\n network,\n mount,\n umount,\n \
             pivot_root,\n signal,\n ptrace,\n unix,\n deny /data/secret rwklx,\n}}\n"
        );
        let file = t.file("profile", &text);
        let parser = t.program("/usr/sbin/apparmor_parser".as_ref());
        parser
            .args(["--replace", "--skip-cache"])
            .arg(file)
            .end()
            .ok();
        Self(name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        fs::write("/sys/kernel/security/apparmor/.remove", &self.0).unwrap();
    }
}

#[test]
fn an_apparmor_profile_confines_init_and_exec() {
    trial(|t| {
        if !is_active("AppArmor") {
            eprintln!("AppArmor is not active here: nothing to test");
            return;
        }
        let profile = Profile::load(t);
        let steps =
            "read /proc/self/attr/apparmor/current + open /data/secret r + open /data/plain r";
        let c = t
            .container()
            .file("data/secret", "x", 0o666)
            .file("data/plain", "x", 0o666)
            .with("/process/apparmorProfile", json!(profile.0))
            .probe(&format!("{steps} + print up + pause"))
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let confined = json!(format!("{} (enforce)", profile.0));
        let exec = c.exec(steps).ok();
        let named = c
            .exec_call(&["--apparmor", &profile.0], &["/probe"])
            .args(steps.split_whitespace())
            .end()
            .ok();
        for text in [out.output(), exec.stdout, named.stdout] {
            let seen = |step| corten_integration::find(&text, step).unwrap();
            let label = &seen("read")["/proc/self/attr/apparmor/current"]["ok"];
            assert_eq!(label.as_str().map(str::trim), confined.as_str(), "{text}");
        }
        let opened: Vec<_> = ["secret", "plain"]
            .iter()
            .map(|file| c.exec(&format!("open /data/{file} r")).ok().seen("open"))
            .collect();
        assert_eq!(opened[0]["errno"], "EACCES");
        assert_eq!(opened[1]["ok"], true);
        let other = c.exec_call(
            &["--apparmor", "unconfined"],
            &["/probe", "read", "/proc/self/attr/apparmor/current"],
        );
        assert!(other.end().ok().stdout.contains("unconfined"));
        c.end();
    });
}

#[test]
fn a_profile_that_is_not_loaded_is_refused() {
    trial(|t| {
        if !is_active("AppArmor") {
            eprintln!("AppArmor is not active here: nothing to test");
            return;
        }
        let c = t
            .container()
            .with("/process/apparmorProfile", json!("corten-is-nowhere"))
            .probe("print never")
            .done();
        let out = c.run();
        assert_eq!(out.stdout, "");
        let error = out.fails();
        if t.is_corten() {
            assert!(error.contains("/process/apparmorProfile"), "{error}");
        }
    });
}

/// A context of the loaded policy: the type that Debian's has for containers, or that of whoever runs the tests.
fn context(class: &str) -> String {
    let valid = |context: &str| fs::write("/sys/fs/selinux/context", context).is_ok();
    let wanted = match class {
        "process" => [
            "system_u:system_r:container_t:s0:c1,c2",
            "unconfined_u:unconfined_r:unconfined_t:s0",
        ],
        _ => [
            "system_u:object_r:container_file_t:s0:c1,c2",
            "system_u:object_r:tmp_t:s0",
        ],
    };
    wanted
        .into_iter()
        .find(|context| valid(context))
        .expect("a context that the policy has")
        .to_owned()
}

#[test]
fn selinux_labels_reach_the_process_and_the_mounts() {
    trial(|t| {
        if !is_active("SELinux") {
            eprintln!("SELinux is not active here: nothing to test");
            return;
        }
        let (process, file) = (context("process"), context("file"));
        let steps = "read /proc/self/attr/current + mounts";
        let c = t
            .container()
            .with("/process/selinuxLabel", json!(process))
            .with("/linux/mountLabel", json!(file))
            .mount("/data", "tmpfs", "tmpfs", &["size=64k"])
            .probe(&format!("{steps} + print up + pause"))
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        for text in [out.output(), c.exec(steps).ok().stdout] {
            let seen = |step| corten_integration::find(&text, step).unwrap();
            let label = seen("read")["/proc/self/attr/current"]["ok"]
                .as_str()
                .unwrap_or_default()
                .trim_matches(['\0', '\n'])
                .to_owned();
            assert_eq!(label, process);
            let mounts = seen("mounts");
            let data = mounts.as_array().unwrap().iter();
            let data = data.rev().find(|mount| mount["point"] == "/data").unwrap();
            let options = data["super"].as_str().unwrap();
            assert!(options.contains(&file), "{options}");
        }
        c.end();
    });
}
