// SPDX-License-Identifier: Apache-2.0
//! Makes a bundle's config.json of an image's config, as the image specification's conversion rules say.

mod annotations;
mod directory;

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use oci_spec::image::{Config, ImageConfiguration};
use oci_spec::runtime::Spec;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use annotations::annotations;
pub use directory::make;

use crate::error::{Context, Error, Result};
use crate::users::{self, User};

/// Which network a container sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// One of its own, with nothing in it.
    #[default]
    None,
    /// The host's, with its resolver's files.
    Host,
}

/// What the caller wants different from the image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Changes {
    /// In place of Cmd, if not empty.
    pub args: Vec<String>,
    /// In place of Entrypoint; an empty list means none. The image's Cmd goes with its Entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`, on top of the image's.
    pub env: Vec<String>,
    /// In place of WorkingDir.
    pub workdir: Option<String>,
    /// In place of User.
    pub user: Option<String>,
    /// With a terminal.
    pub terminal: bool,
    /// The host name.
    pub hostname: Option<String>,
    /// The network.
    pub network: Network,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container may do as root: the set that the container engines agree on.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The config.json for a container of an image with `config`. `root` is its tree: users' names are looked up there,
/// and the kinds of its volumes. The rootfs is `rootfs` in the bundle.
pub fn spec(config: &ImageConfiguration, root: BorrowedFd<'_>, changes: &Changes) -> Result<Spec> {
    let empty = Config::default();
    let image = config.config().as_ref().unwrap_or(&empty);
    let user_text = changes
        .user
        .as_deref()
        .or(image.user().as_deref())
        .unwrap_or_default();
    let user =
        users::find(root, user_text).with_context(|| format!("look up user {user_text:?}"))?;
    let mut process = json!({
        "terminal": changes.terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": groups(&user)},
        "args": args(image, changes)?,
        "env": env(image, changes, &user)?,
        "cwd": cwd(image, changes)?,
        "noNewPrivileges": false,
    });
    // A user other than root gets the bounding set alone: what its setuid programs may become.
    let held: &[&str] = if user.uid == 0 { &CAPABILITIES } else { &[] };
    process["capabilities"] = json!({
        "bounding": CAPABILITIES, "effective": held, "permitted": held, "inheritable": [], "ambient": [],
    });
    let mut mounts = mounts(changes.network);
    for volume in volumes(image) {
        mounts.extend(volume_mount(root, &volume).with_context(|| format!("volume {volume:?}"))?);
    }
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    if changes.network == Network::None {
        namespaces.push("network");
    }
    let mut document = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": false},
        "mounts": mounts,
        "annotations": annotations(config, image),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
                "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if let Some(hostname) = &changes.hostname {
        document["hostname"] = json!(hostname);
    }
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if uid != 0 {
        for_user(&mut document, uid, gid);
    }
    serde_json::from_value(document)
        .map_err(|error| Error::invalid(format!("config.json: {error}")))
}

/// All groups, the primary one among them: without it a process that gives its primary group up would come by what is
/// forbidden to that group alone (CVE-2022-36109). A caller who is not root can't set any.
fn groups(user: &User) -> Vec<u32> {
    let further = user.groups.iter().filter(|group| **group != user.gid);
    match rustix::process::geteuid().is_root() {
        true => [user.gid].iter().chain(further).copied().collect(),
        false => further.copied().collect(),
    }
}

/// What differs for a caller who is not root: its container has a user namespace in which the caller is root, and does
/// without what only the host's root can give.
fn for_user(document: &mut Value, uid: u32, gid: u32) {
    let linux = &mut document["linux"];
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    // Cgroups may not be delegated to the user.
    linux["resources"] = json!({});
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.push(json!({"type": "user"}));
    }
    if let Some(mounts) = document["mounts"].as_array_mut() {
        // A fresh sysfs belongs to the network namespace's owner, cgroup mounts to the host's.
        mounts.retain(|mount| {
            !mount["destination"]
                .as_str()
                .unwrap_or_default()
                .starts_with("/sys")
        });
        mounts.push(json!({
            "destination": "/sys", "type": "bind", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
        }));
        for options in mounts
            .iter_mut()
            .filter_map(|mount| mount["options"].as_array_mut())
        {
            // Other groups than the user's own have no number there.
            options.retain(|option| option != "gid=5");
        }
    }
}

/// Whether there is something to run, as far as the config alone can tell.
pub(crate) fn check(image: &ImageConfiguration, changes: &Changes) -> Result<()> {
    let config = image.config().clone().unwrap_or_default();
    args(&config, changes).map(drop)
}

fn args(image: &Config, changes: &Changes) -> Result<Vec<String>> {
    let entrypoint = changes.entrypoint.as_ref().or(image.entrypoint().as_ref());
    let mut args = entrypoint.cloned().unwrap_or_default();
    if !changes.args.is_empty() {
        args.extend_from_slice(&changes.args);
    } else if changes.entrypoint.is_none() {
        args.extend(image.cmd().iter().flatten().cloned());
    }
    if args.is_empty() {
        return Err(Error::invalid("the image names no command")
            .remedy("name its program with --entrypoint"));
    }
    if args[0].is_empty() {
        return Err(Error::invalid("the command is empty"));
    }
    no_nul(&args)?;
    Ok(args)
}

fn env(image: &Config, changes: &Changes, user: &User) -> Result<Vec<String>> {
    let mut env: Vec<String> = Vec::new();
    for variable in image.env().iter().flatten().chain(&changes.env) {
        let Some((name, _)) = variable
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
        else {
            return Err(Error::invalid(format!(
                "environment variable {variable:?} is not NAME=value"
            )));
        };
        // The last one counts, in the place of the first.
        match env.iter_mut().find(|other| {
            other
                .split_once('=')
                .is_some_and(|(other, _)| other == name)
        }) {
            Some(other) => other.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    let has =
        |env: &[String], prefix: &str| env.iter().any(|variable| variable.starts_with(prefix));
    if !has(&env, "PATH=") {
        env.insert(0, PATH.into());
    }
    if !has(&env, "HOME=") {
        env.push(format!("HOME={}", user.home));
    }
    if changes.terminal && !has(&env, "TERM=") {
        env.push("TERM=xterm".into());
    }
    no_nul(&env)?;
    Ok(env)
}

fn cwd(image: &Config, changes: &Changes) -> Result<String> {
    let given = changes.workdir.as_ref().or(image.working_dir().as_ref());
    let cwd = match given.map_or("", String::as_str) {
        "" => "/".to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => format!("/{relative}"),
    };
    no_nul(std::slice::from_ref(&cwd))?;
    Ok(cwd)
}

fn no_nul(texts: &[String]) -> Result<()> {
    match texts.iter().find(|text| text.contains('\0')) {
        Some(text) => Err(Error::invalid(format!("{text:?} has a NUL"))),
        None => Ok(()),
    }
}

fn volumes(image: &Config) -> Vec<String> {
    // Sorted: a volume inside another is mounted after it.
    let mut volumes: Vec<String> = image.volumes().iter().flatten().cloned().collect();
    volumes.sort();
    volumes
}

/// A volume that the image leaves empty is a tmpfs with that directory's owner and mode. One with content stays in the
/// rootfs, where the content is: it is writable there, and as short-lived.
fn volume_mount(root: BorrowedFd<'_>, path: &str) -> Result<Option<Value>> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid("it is no absolute path"));
    }
    let inside = path.trim_start_matches('/');
    let opened = match inside {
        "" => return Err(Error::invalid("it is the root")),
        inside => rustix::fs::openat2(
            root,
            OsStr::from_bytes(inside.as_bytes()),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        ),
    };
    let (mode, uid, gid) = match opened {
        Ok(dir) => {
            if !crate::store::files::is_empty(std::os::fd::AsFd::as_fd(&dir))? {
                return Ok(None);
            }
            let stat = rustix::fs::fstat(&dir).call("fstat", String::new)?;
            (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
        }
        Err(Errno::NOENT) => (0o755, 0, 0),
        Err(errno) => return Err(corten_sys::Error::new("openat2", inside, errno).into()),
    };
    Ok(Some(json!({
        "destination": path, "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "nodev", format!("mode={mode:o}"), format!("uid={uid}"), format!("gid={gid}")],
    })))
}

fn mounts(network: Network) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ];
    if network == Network::Host {
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            if std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file()) {
                mounts.push(mount(
                    file,
                    "bind",
                    file,
                    &["bind", "ro", "nosuid", "nodev", "noexec"],
                ));
            }
        }
    }
    mounts
}

/// Opens a file of the image for reading, links in it meaning what they mean in the container; `None` if there is none.
/// Nothing but a regular file is opened: a fifo would block, a device act.
pub(crate) fn open_in_image(root: BorrowedFd<'_>, path: &str) -> Result<Option<std::fs::File>> {
    let found = rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    let fd = match found {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(corten_sys::Error::new("openat2", path, errno).into()),
    };
    let stat = rustix::fs::fstat(&fd).call("fstat", || path.to_owned())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!(
            "the image's /{path} is no regular file"
        )));
    }
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let fd = rustix::fs::open(
        link.as_str(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call("open", || path.to_owned())?;
    Ok(Some(fd.into()))
}
