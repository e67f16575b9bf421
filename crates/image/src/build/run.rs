// SPDX-License-Identifier: Apache-2.0
//! RUN: a container on an overlay of the stage's layers, with the host's network and names.
//!
//! Runs as root; called by `stage`. What the container needs that an image may lack (`/proc`, `/etc/resolv.conf`, ...)
//! lies in a directory below all layers, so that the runtime makes no mount point in the layer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::Call;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{Mount, RootBuilder, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;

use super::Builder;
use super::runtime::{self, Container};
use super::settings::command_line;
use super::stage::Work;
use super::tree::absolute;
use crate::bundle::{self, Changes};
use crate::digest::Digest;
use crate::dockerfile::{Network, Run};
use crate::error::{Context, Error, Kind, Result};
use crate::overlay::Workspace;
use crate::store::{LayerDir, files};

/// Larger files of the host are not taken into the container.
const HOST_FILE_CAP: usize = 1 << 20;

/// Always the same, or a RUN that writes it down would make another layer each time.
const HOSTNAME: &str = "build";

/// Where a script with an interpreter of its own is.
const SCRIPT: &str = "/dev/pipes/script";

/// Carries out a RUN; returns the diffID of its layer.
pub(super) fn execute(
    builder: &mut Builder<'_>,
    work: &mut Work,
    run: &Run,
) -> Result<Option<Digest>> {
    let script = run
        .script
        .as_deref()
        .filter(|script| script.starts_with("#!"));
    let args = match (&run.script, script) {
        (_, Some(_)) => vec![SCRIPT.to_owned()],
        (Some(text), None) => [work.config.shell(), vec![text.clone()]].concat(),
        (None, None) => command_line(&run.command, work),
    };
    if args.is_empty() {
        return Err(Error::invalid("needs a command"));
    }
    let own = work.scope.arguments();
    let mut key = builder.layers.key(&work.layers, "RUN");
    let settings = &work.config.config;
    let parts = (
        &args,
        script,
        &own,
        &settings.env,
        &settings.user,
        work.config.working_dir(),
    );
    let parts = serde_json::to_vec(&(parts, run.network == Network::Host));
    key.update(&parts.map_err(|error| Error::invalid(error.to_string()))?);

    let runtime = runtime::find(builder.runtime.as_deref())?;
    let changes = Changes {
        args,
        entrypoint: Some(Vec::new()),
        network: match run.network {
            Network::Host => bundle::Network::Host,
            Network::None => bundle::Network::None,
        },
        env: [builder.scope_proxies(work), own].concat(),
        ..Changes::default()
    };
    let mut config = work.config.clone();
    // What is below a volume belongs to the image as long as it is built.
    config.config.volumes.clear();
    let config = config.to_bytes()?;
    let mut status = None;
    let interrupt = builder.interrupt;
    let step = builder.layers.step(&mut work.layers, key, |workspace| {
        let step = Step {
            workspace,
            runtime: &runtime,
            network: run.network,
            script,
        };
        let ended = step.run(&config, &changes, interrupt)?;
        match ended.code() {
            Some(0) => Ok(()),
            Some(code) => {
                status = u8::try_from(code).ok();
                Err(Error::new(
                    Kind::System,
                    format!("exited with status {code}"),
                ))
            }
            None => Err(Error::new(
                Kind::System,
                format!("the runtime ended by {ended}"),
            )),
        }
    });
    builder.status = status;
    let (origin, diff_id) = step?;
    builder.tell(origin);
    Ok(diff_id)
}

struct Step<'a> {
    workspace: &'a Workspace,
    runtime: &'a Path,
    network: Network,
    script: Option<&'a str>,
}

/// A file of ours that the container sees.
struct Given {
    source: PathBuf,
    destination: String,
}

impl Step<'_> {
    fn run(
        &self,
        config: &[u8],
        changes: &Changes,
        interrupt: &super::Interrupt,
    ) -> Result<std::process::ExitStatus> {
        let scratch = self.workspace.scratch();
        let id = format!("build-{}", files::random_name()?);
        let given = self.given_files()?;
        let root = self.workspace.mount_over(self.stubs()?.as_fd())?;
        let config: ImageConfiguration = serde_json::from_slice(config)
            .map_err(|error| Error::invalid(format!("config: {error}")))?;
        let changes = Changes {
            hostname: Some(HOSTNAME.to_owned()),
            ..changes.clone()
        };
        let spec = bundle::spec(&config, root.as_fd(), &changes)?;
        let spec = self.adapt(spec, &given)?;
        let bundle = scratch.subdir("bundle", 0o700)?;
        make_dir(bundle.as_fd(), "rootfs")?;
        let bytes = serde_json::to_vec(&spec)
            .map_err(|error| Error::invalid(format!("write config.json: {error}")))?;
        write_file(bundle.as_fd(), "config.json", &bytes, 0o600)?;
        scratch.subdir("state", 0o700)?;
        let container = Container {
            runtime: self.runtime,
            state: &scratch.path().join("state"),
            bundle: &scratch.path().join("bundle"),
            id: &id,
        };
        // Should the build be killed, the runtime keeps the scratch directory locked as long as it lives: nobody sweeps
        // the upper directory of a container that still runs.
        rustix::io::fcntl_setfd(scratch, FdFlags::empty()).call("fcntl", || "F_SETFD".into())?;
        let ended = container.run(root, interrupt);
        rustix::io::fcntl_setfd(scratch, FdFlags::CLOEXEC).call("fcntl", || "F_SETFD".into())?;
        ended
    }

    /// Copies, so that a RUN that writes to them changes neither the host nor the image.
    fn given_files(&self) -> Result<Vec<Given>> {
        let scratch = self.workspace.scratch();
        let dir = scratch.subdir("given", 0o755)?;
        let mut given = Vec::new();
        let mut give = |name: &str, destination: &str, content: &[u8], mode: u32| -> Result<()> {
            write_file(dir.as_fd(), name, content, mode)?;
            given.push(Given {
                source: scratch.path().join("given").join(name),
                destination: destination.to_owned(),
            });
            Ok(())
        };
        let (resolv, mut hosts) = match self.network {
            Network::Host => (host_file("/etc/resolv.conf")?, host_file("/etc/hosts")?),
            Network::None => (Vec::new(), b"127.0.0.1 localhost\n::1 localhost\n".to_vec()),
        };
        hosts.extend(format!("\n127.0.0.1 {HOSTNAME}\n").as_bytes());
        give("resolv.conf", "/etc/resolv.conf", &resolv, 0o644)?;
        give("hosts", "/etc/hosts", &hosts, 0o644)?;
        if let Some(script) = self.script {
            give("script", SCRIPT, script.as_bytes(), 0o755)?;
        }
        Ok(given)
    }

    /// A directory with the mount points that an image may lack.
    fn stubs(&self) -> Result<OwnedFd> {
        let stubs = self.workspace.scratch().subdir("stubs", 0o755)?;
        for name in ["dev", "proc", "sys", "etc"] {
            make_dir(stubs.as_fd(), name)?;
        }
        for name in ["resolv.conf", "hosts"] {
            let path = link_target(self.workspace.layers(), &Path::new("etc").join(name))?;
            make_file(stubs.as_fd(), &path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(stubs)
    }

    /// The container of an image made into one of a RUN.
    fn adapt(&self, mut spec: Spec, given: &[Given]) -> Result<Spec> {
        let failed = |error: oci_spec::OciSpecError| Error::invalid(error.to_string());
        let root = RootBuilder::default()
            .path("rootfs")
            .readonly(false)
            .build();
        spec.set_root(Some(root.map_err(failed)?));
        // Labels are for those who run the image; a runtime takes some annotations for orders.
        spec.set_annotations(None);
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.retain(|mount| {
            !given
                .iter()
                .any(|given| mount.destination() == Path::new(&given.destination))
        });
        for given in given {
            let mut mount = Mount::default();
            mount.set_destination(PathBuf::from(&given.destination));
            mount.set_typ(Some("bind".to_owned()));
            mount.set_source(Some(given.source.clone()));
            let options = match given.destination == SCRIPT {
                true => ["bind", "ro", "nosuid", "nodev"].as_slice(),
                false => ["bind", "rw", "nosuid", "nodev", "noexec"].as_slice(),
            };
            mount.set_options(Some(
                options.iter().map(|option| (*option).to_owned()).collect(),
            ));
            mounts.push(mount);
        }
        spec.set_mounts(Some(mounts));
        Ok(spec)
    }
}

/// Where `path` leads if the topmost layer that has it has a link there, and `path` itself otherwise.
pub(crate) fn link_target(layers: &[LayerDir], path: &Path) -> Result<PathBuf> {
    for layer in layers.iter().rev() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Ok(found) = corten_sys::fs::open_beneath(layer.as_fd(), path, flags) else {
            continue;
        };
        let Ok(target) = rustix::fs::readlinkat(&found, c"", Vec::new()) else {
            break;
        };
        let target = target.to_string_lossy();
        return Ok(absolute("etc", &target));
    }
    Ok(path.to_owned())
}

/// A file of the host's; empty if there is none.
pub(crate) fn host_file(path: &str) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    match corten_sys::fs::open(corten_sys::fs::CWD, Path::new(path), flags, Mode::empty()) {
        Ok(fd) => Ok(corten_sys::fs::read_to_end(fd.as_fd(), HOST_FILE_CAP)?),
        Err(error) if error.errno() == corten_sys::Errno::NOENT => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// A directory of everybody's, whatever the umask is.
pub(crate) fn make_dir(dir: BorrowedFd<'_>, name: impl AsRef<Path>) -> Result<OwnedFd> {
    let name = name.as_ref();
    match corten_sys::fs::make_dir(dir, name.as_os_str(), Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(error) if error.errno() == corten_sys::Errno::EXIST => {}
        Err(error) => return Err(error.into()),
    }
    let fd = files::open_dir(dir, name)?;
    corten_sys::fs::chmod(fd.as_fd(), Mode::from_raw_mode(0o755))?;
    Ok(fd)
}

/// An empty file at `path` below `dir`, with the directories above it.
pub(crate) fn make_file(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let mut dir = dir.try_clone_to_owned().context("dup")?;
    let mut components = path.iter().peekable();
    while let Some(component) = components.next() {
        if components.peek().is_some() {
            dir = make_dir(dir.as_fd(), component)?;
        } else {
            write_file(dir.as_fd(), component, b"", 0o644)?;
        }
    }
    Ok(())
}

pub(crate) fn write_file(
    dir: BorrowedFd<'_>,
    name: impl AsRef<Path>,
    bytes: &[u8],
    mode: u32,
) -> Result<()> {
    let name = name.as_ref();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let fd = rustix::fs::openat(dir, name, flags, mode).call("openat", || format!("{name:?}"))?;
    // Whatever the umask is.
    corten_sys::fs::chmod(fd.as_fd(), mode)?;
    corten_sys::fs::write_all(fd.as_fd(), bytes)?;
    Ok(())
}
