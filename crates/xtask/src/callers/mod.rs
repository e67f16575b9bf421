// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask integration CALLER`: what people have in front of a runtime does its own work, with corten and with runc.
//!
//! What a caller is made to do is in `integration/callers/CALLER.sh` (see `script`). Callers that have a shim between
//! themselves and the runtime do it a third time, with corten's in place of runc's. Each column has a world of its own
//! for it: namespaces of processes, mounts and networks that end with it, made by `integration/callers/world`; in there
//! this program is started again and carries out one action after the other (`inside`). In view `host` the callers are
//! those of this Debian, and cgroups are as they are here; in view `sid` they are those of Debian's sid, in a tree that is made
//! once, over cgroup2 alone (but for `shim`, which needs controllers).

mod inside;
mod script;
pub mod table;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use self::script::Script;
use self::table::{Column, Verdict};
use crate::criu::{self, Tree};
use crate::failure::{Context, Failure, Result};
use crate::scratch::Scratch;
use crate::{build, bundle, command, packages, report, runtime, workspace};

/// Whose work it is.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Images built step by step
    Buildah,
    /// ctr, with runc's own shim
    Containerd,
    /// dockerd with a containerd of its own
    Docker,
    /// What the kubelet asks of containerd for its pods
    Kubernetes,
    /// Containers, pods, builds
    Podman,
    /// containerd, and the ways in which it is told of corten's shim
    Shim,
}

/// Which callers, and over which cgroups.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// This Debian's callers, this machine's cgroups
    Host,
    /// Debian sid's callers, cgroup2 alone
    Sid,
}

impl View {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Sid => "sid",
        }
    }
}

impl Caller {
    /// As it is typed, and as its file is called.
    fn name(self) -> &'static str {
        match self {
            Self::Buildah => "buildah",
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
            Self::Podman => "podman",
            Self::Shim => "shim",
        }
    }

    /// By whom it has its work done, from left to right.
    fn columns(self) -> &'static [Column] {
        match self {
            Self::Buildah | Self::Podman => &[Column::Corten, Column::Runc],
            Self::Containerd | Self::Docker | Self::Kubernetes => {
                &[Column::Corten, Column::Runc, Column::Shim]
            }
            Self::Shim => &[Column::Shim, Column::Corten],
        }
    }

    /// The Debian packages that it is, beside runc.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Buildah => &["buildah", "netavark"],
            Self::Containerd => &["containerd", "criu"],
            Self::Docker => &["containerd", "docker-compose", "docker.io", "iptables"],
            Self::Kubernetes => &[
                "containerd",
                "containernetworking-plugins",
                "protobuf-compiler",
                "python3-grpcio",
                "python3-protobuf",
            ],
            Self::Podman => &[
                "catatonit",
                "conmon",
                "criu",
                "iptables",
                "netavark",
                "podman",
            ],
            Self::Shim => &[
                "containerd",
                "containernetworking-plugins",
                "criu",
                "crun",
                "docker.io",
                "iptables",
                "protobuf-compiler",
                "python3-grpcio",
                "python3-protobuf",
            ],
        }
    }

    /// What is a package of its own in sid.
    fn packages_of_sid(self) -> &'static [&'static str] {
        match self {
            Self::Docker | Self::Shim => &["docker-cli"],
            Self::Buildah | Self::Containerd | Self::Kubernetes | Self::Podman => &[],
        }
    }

    /// Whether it works over this machine's cgroups even in sid's view: ctr, docker and CRI want controllers, and cgroup2 alone
    /// may have none here.
    fn keeps_cgroups(self) -> bool {
        self == Self::Shim
    }
}

/// What every view needs.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "iproute2",
    "jq",
    "procps",
    "runc",
    "util-linux",
];

/// Has the caller do its work, in each of its columns; fails where corten does without a listed reason.
pub fn run(caller: Caller, view: View, only: Option<&str>, write: bool) -> Result<()> {
    workspace::require_root("integration")?;
    let script = read(caller)?;
    build::binaries()?;
    let work = Scratch::new("callers")?;
    images(work.path())?;
    shims(work.path())?;
    let tree = match view {
        View::Host => {
            packages::ensure(PACKAGES)?;
            packages::ensure(caller.packages())?;
            None
        }
        View::Sid => {
            let packages = [PACKAGES, caller.packages(), caller.packages_of_sid()];
            Some(packages::sid_tree(&packages.concat())?)
        }
    };
    if view == View::Host && caller.packages().contains(&"criu") {
        // Scripts look for it in there.
        criu::directory(work.path(), Tree::Made)?;
    }
    let corten = workspace::dist()?.join("corten");
    let runc = match view {
        View::Host => runtime::located("runc").ok_or_else(|| Failure::new("no runc here"))?,
        View::Sid => PathBuf::from("/usr/bin/runc"),
    };
    let verdicts = |column: &Column| {
        let world = World {
            caller,
            view,
            column: *column,
            path: match column {
                Column::Corten | Column::Shim => &corten,
                Column::Runc => &runc,
            },
            work: work.path(),
            tree: tree.as_deref(),
            only,
        };
        Ok((*column, world.verdicts()?))
    };
    let columns: Vec<_> = caller
        .columns()
        .iter()
        .map(verdicts)
        .collect::<Result<_>>()?;
    let rows = table::rows(&script, view.name(), &columns);
    if rows.is_empty() {
        let only = only.unwrap_or_default();
        return Err(Failure::new(format!("no action has {only:?} in its name")));
    }
    for row in &rows {
        report::line(row.shown());
    }
    if write {
        let name = format!("{} {}", caller.name(), view.name());
        table::write(&name, &table::whole(caller.columns(), &rows))?;
    }
    let wrong = rows.iter().filter(|row| row.is_wrong()).count();
    if wrong == 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{wrong} of {} actions end otherwise than {} says",
        rows.len(),
        file(caller).display()
    )))
}

fn file(caller: Caller) -> PathBuf {
    workspace::root().join(format!("integration/callers/{}.sh", caller.name()))
}

fn read(caller: Caller) -> Result<Script> {
    let path = file(caller);
    let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
    Script::parse(&text).context(|| format!("read {}", path.display()))
}

/// One column's share: a world, in which the caller works.
struct World<'a> {
    caller: Caller,
    view: View,
    column: Column,
    path: &'a Path,
    work: &'a Path,
    tree: Option<&'a Path>,
    only: Option<&'a str>,
}

impl World<'_> {
    /// Goes there, and says how each action ended.
    fn verdicts(&self) -> Result<Vec<Verdict>> {
        let name = self.column.name();
        report::step(format!("{}: {}", self.caller.name(), self.column.heading()));
        let own = std::env::current_exe().context(|| "find this program".into())?;
        let results = self.work.join(format!("results-{name}"));
        let mut world = Command::new("sh");
        world
            .arg(workspace::root().join("integration/callers/world"))
            .arg(self.tree.unwrap_or(Path::new("/")))
            .arg(own)
            .args([
                "integration",
                self.caller.name(),
                "--view",
                self.view.name(),
            ])
            .arg("--runtime")
            .arg(format!("{name}={}", self.path.display()))
            .arg("--inside")
            .arg(self.work);
        if self.caller.keeps_cgroups() {
            world.env("CORTEN_WORLD_CGROUPS", "kept");
        }
        if let Some(only) = self.only {
            world.args(["--only", only]);
        }
        command::run(&mut world)?;
        let text =
            fs::read_to_string(&results).context(|| format!("read {}", results.display()))?;
        table::verdicts(&text)
    }
}

/// In the world: one action after the other.
pub fn work_inside(caller: Caller, runtime: &str, work: &Path, only: Option<&str>) -> Result<()> {
    let (name, path) = runtime
        .split_once('=')
        .ok_or_else(|| Failure::new(format!("want NAME=PATH, not {runtime}")))?;
    inside::run(&read(caller)?, (name, Path::new(path)), work, only)
}

/// Where corten's shim is, under the name of runc's and its own: first on a caller's PATH, it is the one that is found.
fn shim_directory(work: &Path) -> PathBuf {
    work.join("shims")
}

fn shims(work: &Path) -> Result<()> {
    let program = workspace::dist()?.join("containerd-shim-corten-v2");
    let directory = shim_directory(work);
    fs::create_dir_all(&directory).context(|| format!("make {}", directory.display()))?;
    for name in ["containerd-shim-corten-v2", "containerd-shim-runc-v2"] {
        let to = directory.join(name);
        fs::copy(&program, &to).context(|| format!("copy to {}", to.display()))?;
    }
    Ok(())
}

/// The image that callers run: a busybox, as each of them takes it.
fn images(work: &Path) -> Result<()> {
    let context = work.join("context");
    let rootfs = context.join("rootfs");
    bundle::make_rootfs(&rootfs)?;
    let shared = rootfs.join("tmp");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777))
        .context(|| format!("chmod {}", shared.display()))?;
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--directory").arg(&rootfs);
    command::captured(tar.arg("--file").arg(work.join("rootfs.tar")).arg("."))?;
    let images = workspace::dist()?.join("corten-image");
    let store = work.join("store");
    let image = |verb: &str| {
        let mut command = Command::new(&images);
        command.arg(verb).arg("--store").arg(&store);
        command
    };
    for (short, program) in [("busy", r#"["sh"]"#), ("pause", r#"["sleep", "infinity"]"#)] {
        let dockerfile = format!("FROM scratch\nCOPY rootfs /\nENV PATH=/bin\nCMD {program}\n");
        let place = context.join("Dockerfile");
        fs::write(&place, dockerfile).context(|| format!("write {}", place.display()))?;
        // The name is whole, since callers complete short ones each in their own way.
        let name = &format!("localhost/{short}:latest");
        command::captured(image("build").args(["--tag", name]).arg(&context))?;
        for format in ["oci-archive", "docker-archive"] {
            let to = work.join(format!("{short}.{format}"));
            command::captured(image("export").args(["--format", format, name]).arg(to))?;
        }
    }
    Ok(())
}
