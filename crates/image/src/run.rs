// SPDX-License-Identifier: Apache-2.0
//! Runs a container of an image: the unpacked layers, shared by all, under an overlay of the container's own, in a mount
//! namespace that nobody else sees. Afterwards nothing of it is left. Needs root.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use corten_sys::Call;
use corten_sys::signal::{self, SignalFd};
use rustix::io::FdFlags;

use crate::build::runtime;
use crate::bundle::{self, Changes};
use crate::error::{Context, Error, Result};
use crate::overlay::{self, Workspace};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{Store, files};
use crate::tar::Limits;

/// What the container's standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// At its end.
    Null,
    /// The caller's.
    Inherit,
}

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// What differs from the image's config.
    pub changes: Changes,
    /// The runtime: a path, or a name to look for.
    pub runtime: Option<OsString>,
    /// The container's id; one is made up by default.
    pub id: Option<String>,
    /// What the container's standard input is.
    pub stdin: Stdin,
}

/// What the runtime gets of the caller's environment.
const PASSED: [&str; 3] = ["PATH", "TERM", "XDG_RUNTIME_DIR"];

/// SIGCHLD, and those of job control, which the terminal sends to the runtime as well.
const NOT_PASSED: [i32; 5] = [17, 18, 20, 21, 22];

/// Runs a container of the image that `reference` means, to its end, and says with what status this program should
/// exit: the container's, or 128 and the signal's number. Call it from the program's only thread: the process changes
/// its mount namespace, and blocks its signals.
pub fn run(
    store: &Store,
    reference: &Reference,
    options: &Options,
    progress: &Progress,
) -> Result<u8> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::unsupported("run needs root").remedy("unpack makes a bundle without it"));
    }
    let runtime = runtime::find(options.runtime.as_deref())?;
    let workspace = prepare(store, reference, progress)?;
    let id = match &options.id {
        Some(id) => id.clone(),
        None => format!("image-{}", files::random_name()?),
    };
    let bundle = workspace.scratch().path().join("bundle");
    let rootfs = bundle.join("rootfs");
    drop(workspace.scratch().subdir("bundle", 0o700)?);
    std::fs::create_dir(&rootfs).context("make rootfs")?;
    let container = Container {
        runtime: &runtime,
        bundle: &bundle,
        id: &id,
        stdin: options.stdin,
    };
    overlay::private_namespace()?;
    let status = mount(&workspace, &rootfs)
        .and_then(|()| configure(store, reference, &rootfs, &bundle, options, &id))
        .and_then(|()| container.run(&workspace));
    let unmounted = unmount(&rootfs);
    let status = status?;
    unmounted?;
    let (scratch, _layers) = workspace.into_parts();
    scratch.remove().context("remove the container's files")?;
    Ok(status)
}

/// The layers, unpacked if this is the first time, and an empty upper directory.
fn prepare(store: &Store, reference: &Reference, progress: &Progress) -> Result<Workspace> {
    // Given back before the container runs: what it uses is locked piece by piece.
    let lease = store.lease()?;
    let image = store.image(reference)?;
    image.check_platform()?;
    let layers = store
        .layer_dirs(&lease, &image.layers, Limits::default(), progress)
        .with_context(|| format!("unpack image {reference}"))?;
    Workspace::new(store.scratch(&lease)?, layers)
}

fn mount(workspace: &Workspace, rootfs: &Path) -> Result<()> {
    overlay::attach(workspace.mount()?.as_fd(), rootfs)
}

fn unmount(rootfs: &Path) -> Result<()> {
    // The runtime has ended, and its container; whoever still has a file open keeps that alone.
    match corten_sys::mount::detach(rootfs) {
        Ok(()) => Ok(()),
        // Not mounted: it failed before.
        Err(error) if error.errno() == corten_sys::Errno::INVAL => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn configure(
    store: &Store,
    reference: &Reference,
    rootfs: &Path,
    bundle: &Path,
    options: &Options,
    id: &str,
) -> Result<()> {
    let image = store.image(reference)?;
    let mut changes = options.changes.clone();
    changes
        .hostname
        .get_or_insert_with(|| id.chars().take(12).collect());
    let root = files::open_dir(rustix::fs::CWD, rootfs)?;
    let spec = bundle::spec(&image.config, root.as_fd(), &changes)?;
    let text =
        serde_json::to_string_pretty(&spec).map_err(|error| Error::invalid(error.to_string()))?;
    std::fs::write(bundle.join("config.json"), text).context("write config.json")
}

struct Container<'a> {
    runtime: &'a PathBuf,
    bundle: &'a Path,
    id: &'a str,
    stdin: Stdin,
}

impl Container<'_> {
    fn run(&self, workspace: &Workspace) -> Result<u8> {
        // Should this process be killed, the runtime keeps the scratch directory locked as long as it lives: nobody
        // sweeps the upper directory of a running container.
        rustix::io::fcntl_setfd(workspace.scratch(), FdFlags::empty())
            .call("fcntl", || "F_SETFD".into())?;
        let mut command = self.command();
        command
            .arg("run")
            .arg("--bundle")
            .arg(self.bundle)
            .arg(self.id);
        if self.stdin == Stdin::Inherit {
            command.stdin(Stdio::inherit());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", self.runtime.display()))?;
        // From here on; the runtime must not inherit blocked signals.
        let signals = SignalFd::all()?;
        let ended = wait(&mut child, &signals)?;
        if let Some(code) = ended.code() {
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
        // The runtime was killed: its container may be alive.
        signal::unblock_all()?;
        self.delete()?;
        let number = std::os::unix::process::ExitStatusExt::signal(&ended).unwrap_or_default();
        Ok(u8::try_from(128 + number).unwrap_or(u8::MAX))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime);
        // SECURITY: nothing else of the caller's environment is the runtime's business.
        command.env_clear();
        for name in PASSED {
            command.envs(std::env::var_os(name).map(|value| (OsStr::new(name), value)));
        }
        command.stdin(Stdio::null());
        command
    }

    fn delete(&self) -> Result<()> {
        let mut delete = self.command();
        delete
            .args(["delete", "--force", self.id])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // It has removed the container, or there was none.
        delete.status().map(drop).context("delete the container")
    }
}

/// Waits for the runtime, and passes on to it what this process is told.
fn wait(child: &mut Child, signals: &SignalFd) -> Result<ExitStatus> {
    let pid = i32::try_from(child.id()).map_err(|_| Error::invalid("pid out of range"))?;
    let pidfd = corten_sys::process::pidfd(pid)?;
    loop {
        if signal::wait_readable(&[pidfd.as_fd(), signals.as_fd()], None)? == Some(0) {
            return child.wait().context("wait for the runtime");
        }
        while let Some(received) = signals.receive()? {
            // What the terminal sends (Ctrl-C) goes to its whole foreground group, and so to the runtime already.
            if received.from_process && !NOT_PASSED.contains(&received.number) {
                signal::send(pidfd.as_fd(), received.number)?;
            }
        }
    }
}
