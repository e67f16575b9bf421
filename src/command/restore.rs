// SPDX-License-Identifier: Apache-2.0
//! `corten restore`: a container made of what `checkpoint` has written down; in the foreground it waits for its end and
//! removes it.
//!
//! Planned and reserved as `create` does it, with the cgroup that config.json asks for; then CRIU makes its processes there,
//! and its record is written before they go on. createContainer and startContainer hooks have had their effect, which is in
//! the images; prestart and createRuntime hooks run again, as with runc.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use corten_sys::fs::{self, Procfs};
use corten_sys::process::{self, Wait};
use corten_sys::signal::{self, SignalFd};
use corten_sys::{socket, tty};

use super::create::{self, Reserved};
use super::{checkpoint, delete};
use crate::cgroup::{self, Entry};
use crate::checkpoint::{Event, Images, Restore};
use crate::cli::images::RestoreArgs;
use crate::cli::meant::CreateArgs;
use crate::cli::report::Log;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::{self, Point};
use crate::parent::console;
use crate::plan::Plan;
use crate::rdt;
use crate::store::{self, Container, Init, Reservation, Store};

/// Where the rootfs is for CRIU, in the container's directory.
const ROOT: &str = "root";

const SIGKILL: i32 = 9;

/// A container that was restored.
#[derive(Debug)]
struct Restored {
    pidfd: OwnedFd,
    cgroup: Option<cgroup::Reservation>,
    rdt: Option<rdt::Reservation>,
    container: Container,
    plan: Plan,
    /// The master of its terminal, in the foreground.
    master: Option<OwnedFd>,
    pid_file: Option<PathBuf>,
}

/// Restores it; the status is its program's, or success for a detached one.
pub(super) fn restore(store: &Store, args: RestoreArgs, log: &Log) -> Result<u8> {
    let (detach, id) = (args.detach, args.create.id.clone());
    let restored = make(store, args, log).with_context(|| format!("restore container {id}"))?;
    match detach {
        true => restored.keep().map(|()| 0),
        false => attend(store, restored, log),
    }
}

fn make(store: &Store, args: RestoreArgs, log: &Log) -> Result<Restored> {
    checkpoint::refuse_users()?;
    let bundle = create::open(&args.create, log)?;
    let create = &args.create;
    let console = match (args.detach, &create.console_socket) {
        (true, path) => {
            create::check_console(&bundle.spec, create)?;
            let connect = |path: &PathBuf| {
                socket::connect_stream(path).context("connect to the console socket")
            };
            path.as_ref().map(connect).transpose()?
        }
        (false, Some(_)) => {
            return Err(Error::invalid(
                "/process/terminal",
                "--console-socket goes with --detach: in the foreground the terminal is the caller's",
            ));
        }
        (false, None) => None,
    };
    let images = Images::open(&args.images, args.logs.as_deref())?;
    crate::checkpoint::check_version()?;
    // Moved into the cgroup, not born there: CRIU's process has work to do in the caller's namespaces first.
    let reserved = create::reserve(store, create, &bundle, Entry::Written, log)?;
    if !reserved.plan.net_devices.is_empty() {
        let text = "network devices of the host can't be given to a restored container";
        return Err(Error::unsupported("/linux/netDevices", text));
    }
    // In this order: the last is dropped first, and the record that names the groups goes after them.
    let Reserved {
        reservation,
        rdt,
        cgroup,
        plan,
    } = reserved;
    let directory = reservation.directory().to_owned();
    let root = directory.join(ROOT);
    std::fs::create_dir(&root)
        .map_err(|error| Error::new(Kind::System, error.to_string()))
        .with_context(|| format!("make the directory {}", root.display()))?;
    let mut making = Making {
        args: create,
        plan: &plan,
        reservation: Some(reservation),
        console,
        master: None,
        made: None,
    };
    let restore = Restore {
        plan: &plan,
        images: &images,
        options: args.options,
        directory: &directory,
        root: &root,
        join_groups: &|pid| create::join_groups(&plan, cgroup.as_ref(), rdt.as_ref(), pid),
    };
    let done = restore.run(&mut |event| making.happened(event));
    let Making {
        master,
        made,
        reservation,
        ..
    } = making;
    let pid_file = args.create.pid_file.clone();
    match (done, made) {
        (Ok(()), Some((container, pidfd))) => {
            // Nothing is in it: CRIU's mount of it was seen by CRIU alone.
            std::fs::remove_dir(&root).ok();
            Ok(Restored {
                pidfd,
                cgroup,
                rdt,
                container,
                plan,
                master,
                pid_file,
            })
        }
        (Err(error), Some((container, pidfd))) => {
            end(&pidfd);
            let path = pid_file.as_deref();
            Err(create::forget(
                store,
                &container,
                (cgroup, rdt),
                path,
                error,
            ))
        }
        (done, None) => {
            drop((cgroup, rdt, reservation));
            let silent = || Error::new(Kind::System, "CRIU has restored no process");
            Err(done.err().unwrap_or_else(silent))
        }
    }
}

/// Kills init and reaps it. Both fail only where it has ended and been reaped already.
fn end(pidfd: &OwnedFd) {
    let _ = signal::send(pidfd.as_fd(), SIGKILL);
    let _ = process::reap(pidfd.as_fd(), Wait::Block);
}

/// What comes to be while CRIU works.
struct Making<'a> {
    args: &'a CreateArgs,
    plan: &'a Plan,
    /// Until the container is written down.
    reservation: Option<Reservation>,
    /// The connection of the console socket.
    console: Option<OwnedFd>,
    /// The master of the terminal, where nobody else takes it.
    master: Option<OwnedFd>,
    /// The container, and its init.
    made: Option<(Container, OwnedFd)>,
}

impl Making<'_> {
    fn happened(&mut self, event: Event) -> Result<()> {
        match event {
            Event::SetUp(pid) => self.run_hooks(pid),
            Event::Terminal(master) => match &self.console {
                Some(console) => socket::send_with(console.as_fd(), b"/dev/ptmx", master.as_fd())
                    .context("send the terminal to the console socket"),
                None => {
                    self.master = Some(master);
                    Ok(())
                }
            },
            Event::Restored(pid) => self.write_down(pid),
        }
    }

    fn run_hooks(&self, pid: i32) -> Result<()> {
        let hooks = &self.plan.hooks;
        if hooks.prestart.is_empty() && hooks.create_runtime.is_empty() {
            return Ok(());
        }
        let bundle = fs::open_dir(&self.plan.bundle).context("open the bundle")?;
        let state = self.plan.state("creating", pid);
        hooks::run(Point::Prestart, &hooks.prestart, &state, bundle.as_fd())?;
        let (point, runtimes) = (Point::CreateRuntime, &hooks.create_runtime);
        hooks::run(point, runtimes, &state, bundle.as_fd())
    }

    /// Tells the store and the caller who init is. None of the processes runs before.
    fn write_down(&mut self, pid: i32) -> Result<()> {
        let pidfd = process::pidfd(pid).context("open the restored init")?;
        let twice = || Error::new(Kind::System, "CRIU has restored two processes");
        let reservation = self.reservation.take().ok_or_else(twice)?;
        let mut record = reservation.record().clone();
        record.maker = None;
        record.started = Some(store::time::nanoseconds(store::time::now()));
        record.init = Some(Init::observe(pid, pidfd.as_fd())?);
        record.restored_clocks = has_clocks(pid)?;
        if let Some(path) = &self.args.pid_file {
            create::write_pid_file(path, pid)?;
        }
        self.made = Some((reservation.commit(record)?, pidfd));
        Ok(())
    }
}

/// Whether it is in a time namespace, which CRIU makes so that clocks go on from where they were.
fn has_clocks(pid: i32) -> Result<bool> {
    let proc = Procfs::open()?;
    let time = |pid| -> Result<_> {
        let status = fs::stat(proc.namespace(pid, "time")?.as_fd())?;
        Ok((status.st_dev, status.st_ino))
    };
    Ok(time(pid)? != time(process::own_pid())?)
}

impl Restored {
    /// It stays, without this process.
    fn keep(self) -> Result<()> {
        create::leave((self.cgroup, self.rdt))
    }

    fn undo(self, store: &Store, error: Error) -> Error {
        end(&self.pidfd);
        let groups = (self.cgroup, self.rdt);
        create::forget(
            store,
            &self.container,
            groups,
            self.pid_file.as_deref(),
            error,
        )
    }
}

/// Waits for its end and removes it, as `run` does.
fn attend(store: &Store, mut restored: Restored, log: &Log) -> Result<u8> {
    let mut waited = || -> Result<_> {
        if let Some(master) = &restored.master {
            tty::clear_newline_translation(master.as_fd())?;
        }
        let signals = SignalFd::all().context("block signals")?;
        let exit = console::attend(restored.pidfd.as_fd(), &signals, restored.master.take())?;
        // They stay blocked until the end, which closes the descriptor.
        std::mem::forget(signals);
        Ok(exit)
    };
    let exit = match waited() {
        Ok(exit) => exit,
        Err(error) => return Err(restored.undo(store, error)),
    };
    let Restored {
        cgroup,
        rdt,
        container,
        plan,
        ..
    } = restored;
    if let Some(rdt) = rdt {
        rdt.keep();
    }
    cgroup.map_or(Ok(()), cgroup::Reservation::keep)?;
    delete::destroy(store, container, &plan.hooks.poststop, log)?;
    Ok(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX))
}
