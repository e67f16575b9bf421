// SPDX-License-Identifier: Apache-2.0
//! `features`: the document as engines read it, and one bundle per claim: a word that is listed and does nothing, or a
//! switch that is on and refused, fails here.

use std::fs;
use std::path::PathBuf;

use corten_integration::{Container, Mount, Mounts, Trial, caps, is_everyones, probe, trial};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

fn features(t: &Trial) -> Value {
    let out = t.call().arg("features").end().ok();
    assert_eq!(out.stderr, "");
    serde_json::from_str(&out.stdout).unwrap_or_else(|e| panic!("no JSON: {e}: {}", out.stdout))
}

fn words<'a>(features: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = features.pointer(pointer).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("no list {pointer}: {features:#}"));
    list.iter()
        .map(|word| word.as_str().expect("a word"))
        .collect()
}

#[track_caller]
fn is_on(features: &Value, pointer: &str) -> bool {
    let flag = features.pointer(pointer).and_then(Value::as_bool);
    flag.unwrap_or_else(|| panic!("no switch {pointer}: {features:#}"))
}

#[test]
fn the_document_has_the_fields_that_engines_read() {
    trial(|t| {
        let text = t.call().arg("features").end().ok().stdout;
        assert!(
            text.ends_with("}\n") || !t.is_corten(),
            "no line break at the end"
        );
        let features = features(t);
        assert_eq!(features["ociVersionMin"], "1.0.0");
        for list in [
            "/hooks",
            "/mountOptions",
            "/linux/namespaces",
            "/linux/capabilities",
        ] {
            let words = words(&features, list);
            let mut unique = words.clone();
            unique.sort_unstable();
            unique.dedup();
            assert!(
                !words.is_empty() && unique.len() == words.len(),
                "{list}: {words:?}"
            );
        }
        for switch in ["v1", "v2", "systemd", "systemdUser"] {
            is_on(&features, &format!("/linux/cgroup/{switch}"));
        }
        for section in ["seccomp", "apparmor", "selinux"] {
            is_on(&features, &format!("/linux/{section}/enabled"));
        }
        let obeyed = words(&features, "/potentiallyUnsafeConfigAnnotations");
        let (crun, others): (Vec<&str>, _) =
            obeyed.iter().partition(|name| name.starts_with("run.oci."));
        let names_all = others == ["org.criu.config", "org.systemd.property."] && !crun.is_empty();
        assert!(names_all || !t.is_corten(), "{obeyed:?}");
        let annotations = &features["annotations"];
        assert!(annotations.is_object());
        let is_enabled = annotations["org.corten.checkpoint.enabled"] == "true";
        assert!(is_enabled || !t.is_corten(), "{annotations}");
    });
}

/// Versions of the specification are read from the oldest to the newest that is claimed, and none beyond.
#[test]
fn the_versions_are_read() {
    trial(|t| {
        let features = features(t);
        for field in ["ociVersionMin", "ociVersionMax"] {
            let version = features[field].clone();
            let c = t
                .container()
                .with("/ociVersion", version)
                .probe("print fine")
                .done();
            assert_eq!(c.run().ok().stdout, "fine\n", "{field}");
        }
    });
}

#[test]
fn every_hook_runs() {
    trial(|t| {
        for point in words(&features(t), "/hooks") {
            let dir = t.directory(&format!("hook-{point}"));
            let (shown, file) = (dir.to_string_lossy(), dir.join("ran"));
            // startContainer alone has the container's root.
            let path = if point == "startContainer" {
                "/probe".into()
            } else {
                probe().to_string_lossy()
            };
            let file_name = file.to_string_lossy();
            let hook = json!({"path": path, "args": ["probe", "append", file_name, point]});
            let c = t
                .container()
                .mount(&shown, "bind", &dir, &["bind"])
                .with(&format!("/hooks/{point}/-"), hook)
                .probe("print fine")
                .done();
            c.run().ok();
            let ran = fs::read_to_string(&file);
            assert_eq!(ran.unwrap_or_else(|e| panic!("{point}: {e}")).trim(), point);
        }
    });
}

/// (namespace in config.json, name below /proc/self/ns)
const NAMESPACES: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

#[test]
fn every_namespace_is_made() {
    trial(|t| {
        for kind in words(&features(t), "/linux/namespaces") {
            let known = NAMESPACES.iter().find(|(name, _)| *name == kind);
            let (_, name) = known.unwrap_or_else(|| panic!("unknown kind {kind}"));
            let draft = t.container().probe("ns");
            let draft = match kind {
                "user" => draft.user_namespace(100_000, 1000),
                _ => draft.namespace(kind, None),
            };
            let seen = draft.done().run().ok().seen("ns");
            let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
            assert_ne!(seen[name], *host.to_string_lossy(), "{kind}");
        }
    });
}

/// Each alone, where the caller has it: what it lacks itself it can't give.
#[test]
fn every_capability_is_given() {
    trial(|t| {
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let own = u64::from_str_radix(own.unwrap().trim(), 16).unwrap();
        // In a user namespace of its own it has all of them.
        let own = if is_everyones() { u64::MAX } else { own };
        let names = words(&features(t), "/linux/capabilities").join(" ");
        let names: Vec<&str> = names.split(' ').collect();
        for (number, name) in names.iter().enumerate() {
            let c = t.container().capabilities(&[name]).probe("status").done();
            let wanted = 1_u64 << number;
            let out = c.run();
            if own & wanted == 0 {
                assert!(
                    out.code != 0 || caps(&out.seen("status"), "CapEff") == 0,
                    "{name}"
                );
                continue;
            }
            let status = out.ok().seen("status");
            for set in ["CapBnd", "CapPrm", "CapEff"] {
                assert_eq!(caps(&status, set), wanted, "{name} in {set}");
            }
        }
    });
}

/// A directory with a file and, below it, a mount of its own.
struct Nested(PathBuf);

impl Nested {
    fn make(t: &Trial) -> Self {
        let top = t.directory("nested");
        fs::create_dir(top.join("sub")).unwrap();
        rustix::mount::mount("none", top.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
        Self(top)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.join("sub"), UnmountFlags::DETACH).ok();
    }
}

/// What a mount option must lead to.
enum Effect {
    /// The mount has the word, or hasn't, when these options stand before the option.
    Mount(&'static [&'static str], &'static str, bool),
    /// The filesystem has the word.
    Super(&'static str),
    /// The propagation has the word (of a bind mount).
    Propagation(&'static str, bool),
    /// Something else, which is looked at by itself.
    Own(fn(&Trial, &Nested)),
    /// The default by another name, or a word that has lost its meaning: it is taken.
    Taken,
}

use Effect::{Mount as Has, Own, Propagation, Super, Taken};

fn effect(option: &str) -> Option<Effect> {
    Some(match option {
        "atime" => Has(&["noatime"], "noatime", false),
        "dev" => Has(&["nodev"], "nodev", false),
        "diratime" => Has(&["nodiratime"], "nodiratime", false),
        "exec" => Has(&["noexec"], "noexec", false),
        "noatime" => Has(&[], "noatime", true),
        "nodev" => Has(&[], "nodev", true),
        "nodiratime" => Has(&[], "nodiratime", true),
        "noexec" => Has(&[], "noexec", true),
        "norelatime" => Has(&["relatime"], "noatime", false),
        "nostrictatime" => Has(&["strictatime"], "relatime", true),
        "nosuid" => Has(&[], "nosuid", true),
        "nosymfollow" => Has(&[], "nosymfollow", true),
        "relatime" => Has(&["noatime"], "relatime", true),
        "ro" => Has(&[], "ro", true),
        "rw" => Has(&["ro"], "rw", true),
        "strictatime" => Has(&[], "relatime", false),
        "suid" => Has(&["nosuid"], "nosuid", false),
        "symfollow" => Has(&["nosymfollow"], "nosymfollow", false),
        "dirsync" => Super("dirsync"),
        "lazytime" => Super("lazytime"),
        "mand" => Super("mand"),
        "sync" => Super("sync"),
        "private" | "rprivate" => Propagation("shared:", false),
        "shared" | "rshared" => Propagation("shared:", true),
        // Of a source that is not shared nobody is a slave.
        "slave" | "rslave" => Propagation("shared:", false),
        "unbindable" | "runbindable" => Propagation("unbindable", true),
        // In a user namespace the kernel copies mounts with those below alone.
        "bind" if is_everyones() => {
            Own(|t, nested| assert_eq!(below(t, nested, "bind"), json!(["inner"])))
        }
        "bind" => Own(|t, nested| assert_eq!(below(t, nested, "bind"), json!([]))),
        "rbind" => Own(|t, nested| assert_eq!(below(t, nested, "rbind"), json!(["inner"]))),
        "tmpcopyup" => Own(copies_up),
        "idmap" | "ridmap" if is_everyones() => {
            Own(|t, nested| drop(mapped(t, nested, "idmap").run().fails()))
        }
        "idmap" | "ridmap" => Own(|t, nested| maps_owners(t, nested, "idmap")),
        "copy-symlink" => Own(|t, _| links(t, &["copy-symlink"], false, "link")),
        "src-nofollow" => Own(|t, _| links(t, &["src-nofollow", "dest-nofollow"], true, "link")),
        "dest-nofollow" => Own(|t, _| links(t, &["dest-nofollow"], true, "file")),
        "acl" | "async" | "noacl" | "defaults" | "iversion" | "loud" | "noiversion"
        | "nolazytime" | "nomand" | "silent" => Taken,
        _ => return None,
    })
}

fn below(t: &Trial, nested: &Nested, option: &str) -> Value {
    fs::write(nested.0.join("sub/inner"), "").unwrap();
    let c = t.container().mount("/data", "none", &nested.0, &[option]);
    let seen = c.probe("list /data/sub").done().run().ok().seen("list");
    seen["/data/sub"].clone()
}

fn copies_up(t: &Trial, _: &Nested) {
    let c = t.container().file("/data/file", "there", 0o644);
    let c = c.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let seen = c.probe("read /data/file").done().run().ok().seen("read");
    assert_eq!(seen["/data/file"]["ok"], "there");
}

fn mapped<'t>(t: &'t Trial, nested: &Nested, option: &str) -> Container<'t> {
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let mount = json!({"destination": "/data", "type": "bind", "source": nested.0, "options": ["rbind", option],
        "uidMappings": map, "gidMappings": map});
    t.container()
        .with("/mounts/-", mount)
        .probe("mounts")
        .done()
}

fn maps_owners(t: &Trial, nested: &Nested, option: &str) {
    look(&mapped(t, nested, option), "/data", |mount| {
        assert!(mount.has("idmapped"), "{}", mount.get("options"))
    });
}

/// A link of the host, bound over a link of the rootfs or put where nothing is.
fn links(t: &Trial, options: &[&str], over: bool, wanted: &str) {
    let link = t.dir.join("etc-passwd");
    if !link.is_symlink() {
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    }
    let draft = t.container();
    let draft = if over {
        draft.link("/data/link", "/tmp")
    } else {
        draft
    };
    let draft = draft.mount("/data/link", "bind", &link, &[&["bind"], options].concat());
    let seen = draft
        .probe("stat /data/link")
        .done()
        .run()
        .ok()
        .seen("stat");
    // lstat of a covered link shows what covers it.
    assert_eq!(seen["/data/link"]["type"], wanted, "{options:?}");
}

#[track_caller]
fn look(c: &Container<'_>, point: &str, check: impl Fn(Mount<'_>)) {
    let seen = c.run().ok().seen("mounts");
    check(Mounts::of(&seen).at(point));
}

fn new_mount<'t>(t: &'t Trial, options: &[&str]) -> Container<'t> {
    let draft = t.container().mount("/data", "tmpfs", "tmpfs", options);
    draft.probe("mounts").done()
}

fn bound<'t>(t: &'t Trial, nested: &Nested, options: &[&str]) -> Container<'t> {
    let options = [&["rbind"], options].concat();
    let draft = t.container().mount("/data", "none", &nested.0, &options);
    draft.probe("mounts").done()
}

#[test]
fn every_mount_option_does_something() {
    trial(|t| {
        let nested = Nested::make(t);
        let features = features(t);
        for option in words(&features, "/mountOptions") {
            let twin = option
                .strip_prefix('r')
                .and_then(|plain| Some((plain, effect(plain)?)));
            match (effect(option), twin) {
                (Some(Has(before, word, wanted)), _) => {
                    let c = new_mount(t, &[before, &[option]].concat());
                    look(&c, "/data", |mount| {
                        assert_eq!(
                            mount.has(word),
                            wanted,
                            "{option}: {}",
                            mount.get("options")
                        );
                    });
                }
                (Some(Super(word)), _) => look(&new_mount(t, &[option]), "/data", |mount| {
                    assert!(mount.super_has(word), "{option}: {}", mount.get("super"));
                }),
                (Some(Propagation(word, wanted)), _) => {
                    look(&bound(t, &nested, &[option]), "/data", |mount| {
                        let has = mount.get("propagation").contains(word);
                        assert_eq!(has, wanted, "{option}: {}", mount.get("propagation"));
                    });
                }
                (Some(Own(check)), _) => check(t, &nested),
                (Some(Taken), _) => look(&new_mount(t, &[option]), "/data", |_| {}),
                // The kernel keeps the host's access times from a user namespace.
                (None, Some(_)) if is_everyones() && option.contains("atime") => {}
                // The same for a mount and all below it.
                (None, Some((_, Has(before, word, wanted)))) => {
                    let before: Vec<String> =
                        before.iter().map(|word| format!("r{word}")).collect();
                    let before: Vec<&str> = before.iter().map(String::as_str).collect();
                    look(
                        &bound(t, &nested, &[&before[..], &[option]].concat()),
                        "/data/sub",
                        |mount| {
                            assert_eq!(
                                mount.has(word),
                                wanted,
                                "{option}: {}",
                                mount.get("options")
                            );
                        },
                    );
                }
                _ => panic!("no test knows the mount option {option}"),
            }
        }
    });
}

fn filtered<'t>(t: &'t Trial, filter: &Value, steps: &str) -> Container<'t> {
    let draft = t
        .container()
        .writable()
        .with("/linux/seccomp", filter.clone());
    draft.probe(steps).done()
}

/// What each word means is shown by `seccomp`; here, that none is listed that a profile can't have.
#[test]
fn every_seccomp_word_is_taken() {
    trial(|t| {
        let features = features(t);
        if !is_on(&features, "/linux/seccomp/enabled") {
            return;
        }
        for action in words(&features, "/linux/seccomp/actions") {
            let rule = json!({"names": ["mkdir", "mkdirat"], "action": action});
            let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
            let out = filtered(t, &filter, "mkdir /data/new").run();
            let answer = match action {
                "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => "\"ok\"",
                "SCMP_ACT_ERRNO" => "EPERM",
                "SCMP_ACT_TRACE" => "ENOSYS",
                // Whom to ask is not said.
                "SCMP_ACT_NOTIFY" => {
                    assert!(out.stderr.contains("listenerPath"), "{}", out.stderr);
                    continue;
                }
                _ => {
                    assert_eq!(out.code, 128 + 31, "{action}: {}", out.stderr);
                    continue;
                }
            };
            assert!(out.stdout.contains(answer), "{action}: {out:?}");
        }
        let fine = |what: &str, filter: Value| {
            let out = filtered(t, &filter, "print fine").run();
            assert_eq!(out.stdout, "fine\n", "{what}: {}", out.stderr);
        };
        for op in words(&features, "/linux/seccomp/operators") {
            let arg = json!({"index": 0, "value": 7, "valueTwo": 7, "op": op});
            let rule = json!({"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [arg]});
            fine(
                op,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}),
            );
        }
        for arch in words(&features, "/linux/seccomp/archs") {
            fine(
                arch,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch]}),
            );
        }
        let known = words(&features, "/linux/seccomp/knownFlags");
        for flag in words(&features, "/linux/seccomp/supportedFlags") {
            assert!(known.contains(&flag), "{flag}");
            let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]});
            let out = filtered(t, &filter, "print fine").run();
            // How to wait for an agent says nothing where there is none.
            let waits =
                flag.contains("WAIT_KILLABLE") && out.stderr.contains("/linux/seccomp/flags/0");
            assert!(out.stdout == "fine\n" || waits, "{flag}: {}", out.stderr);
        }
    });
}

/// A node that is there for a mode that takes one, and a mode for a flag.
#[test]
fn every_memory_policy_is_set() {
    trial(|t| {
        let features = features(t);
        let policy = |mode: &str, flags: &[&str]| {
            let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode) {
                Value::Null
            } else {
                json!("0")
            };
            let value = json!({"mode": mode, "nodes": nodes, "flags": flags});
            let c = t
                .container()
                .with("/linux/memoryPolicy", value)
                .probe("print fine")
                .done();
            let out = c.run();
            // A kernel that is older than the mode says EINVAL; nothing of corten's refuses it.
            let kernels = out.stderr.contains("set_mempolicy");
            assert!(
                out.stdout == "fine\n" || kernels,
                "{mode} {flags:?}: {}",
                out.stderr
            );
        };
        for mode in words(&features, "/linux/memoryPolicy/modes") {
            policy(mode, &[]);
        }
        for flag in words(&features, "/linux/memoryPolicy/flags") {
            policy("MPOL_BIND", &[flag]);
        }
    });
}

/// (switch, a field that asks for it)
fn switches() -> [(&'static str, &'static str, Value); 4] {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    [
        (
            "/linux/apparmor/enabled",
            "/process/apparmorProfile",
            json!("corten-no-such-profile"),
        ),
        (
            "/linux/selinux/enabled",
            "/process/selinuxLabel",
            json!("u:r:t:s0"),
        ),
        (
            "/linux/intelRdt/enabled",
            "/linux/intelRdt",
            json!({"closID": "x", "l3CacheSchema": "L3:0=f"}),
        ),
        (
            "/linux/mountExtensions/idmap/enabled",
            "/mounts/0/uidMappings",
            map,
        ),
    ]
}

/// What is off is refused as not supported, what is on is not.
#[test]
fn switches_say_what_is_refused() {
    trial(|t| {
        let features = features(t);
        for (switch, field, value) in switches() {
            let c = t.container().with(field, value).probe("print fine").done();
            let out = c.run();
            let unsupported = out.stderr.contains("not supported yet");
            assert_eq!(
                unsupported,
                !is_on(&features, switch),
                "{switch}: {}",
                out.stderr
            );
        }
    });
}

#[test]
fn the_cgroup_switches_are_true() {
    trial(|t| {
        let features = features(t);
        assert!(is_on(&features, "/linux/cgroup/v2"));
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        let pid = c.pid();
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
        assert!(unified.unwrap().ends_with(&t.cgroup_of(&c.id)), "{text}");
        c.end();
        // What the driver does is shown where it is the suite's.
        let systemd = t
            .program(&t.runtime.path)
            .args(["--systemd-cgroup", "state", "x"])
            .end();
        let refused = systemd.stderr.contains("not supported");
        assert_eq!(refused, !is_on(&features, "/linux/cgroup/systemd"));
    });
}
