// SPDX-License-Identifier: Apache-2.0
//! The bundle that `bench` and `faults` run: the default document that every engine starts from, over a root file
//! system with nothing in it but a static busybox. bench/floor.c makes the same container by hand.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::failure::{Context, Result};

/// Where Debian's busybox-static puts it.
const BUSYBOX: &str = "/bin/busybox";

/// The words that the root file system's busybox answers to.
const APPLETS: &[&str] = &[
    "cat", "df", "echo", "false", "grep", "head", "hostname", "id", "kill", "ls", "mkdir", "mount",
    "nc", "ps", "readlink", "rm", "seq", "sh", "sleep", "stty", "test", "touch", "true", "tty",
    "unshare", "wc",
];

/// Makes a root file system at `path`.
pub fn make_rootfs(path: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        make_directory(&path.join(directory))?;
    }
    let busybox = path.join("bin/busybox");
    fs::copy(BUSYBOX, &busybox).context(|| format!("copy {BUSYBOX} to {}", busybox.display()))?;
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755))
        .context(|| format!("chmod {}", busybox.display()))?;
    for applet in APPLETS {
        let link = path.join("bin").join(applet);
        symlink("busybox", &link).context(|| format!("link {}", link.display()))?;
    }
    Ok(())
}

/// Makes a bundle directory at `path` that runs `words` over `rootfs`; `extra_env` is added to its environment.
pub fn make(path: &Path, rootfs: &Path, words: &[&str], extra_env: &[&str]) -> Result<PathBuf> {
    make_directory(path)?;
    let file = path.join("config.json");
    let text = format!("{:#}\n", config(rootfs, words, extra_env));
    fs::write(&file, text).context(|| format!("write {}", file.display()))?;
    Ok(path.to_path_buf())
}

/// What docker asks for.
const PROFILE: &str = include_str!("../../../tests/fixtures/seccomp/docker-default.json");

/// Adds what takes more than a default document does to the bundle at `path`: an idmapped bind of `source`, and a seccomp
/// profile.
pub fn add_more(path: &Path, source: &Path) -> Result<()> {
    let file = path.join("config.json");
    let text = fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
    let mut document: Value =
        serde_json::from_str(&text).context(|| format!("parse {}", file.display()))?;
    let profile: Value =
        serde_json::from_str(PROFILE).context(|| "parse the profile".to_owned())?;
    document["linux"]["seccomp"] = profile;
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    if let Some(mounts) = document["mounts"].as_array_mut() {
        mounts.push(
            json!({"destination": "/tmp", "type": "bind", "source": source,
            "options": ["bind", "idmap"], "uidMappings": maps, "gidMappings": maps}),
        );
    }
    fs::write(&file, document.to_string()).context(|| format!("write {}", file.display()))
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context(|| format!("make {}", path.display()))
}

/// The document. No limits: in a pure cgroup2 view of a machine with v1 controllers there is none to set.
fn config(rootfs: &Path, words: &[&str], extra_env: &[&str]) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    let mut env = vec!["PATH=/usr/bin:/bin"];
    env.extend(extra_env);
    json!({
        "ociVersion": "1.0.2",
        "hostname": "bench",
        "root": {"path": rootfs, "readonly": false},
        "process": {
            "args": words,
            "env": env,
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
        },
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!([
        mount("/proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"]
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5"
            ]
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"]
        ),
    ])
}
