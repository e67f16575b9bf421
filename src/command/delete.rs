// SPDX-License-Identifier: Apache-2.0
//! `corten delete`: a container's end, whatever state its making, its life or an earlier delete left it in.
//!
//! The privileges that made it. First its processes, then its cgroup, then the poststop hooks, and its directory in the
//! store last: whatever cuts this short, the next delete finds what is left and goes on. So a poststop hook runs at
//! least once, and after a crash perhaps twice.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use corten_sys::{Errno, process, signal};
use serde::Deserialize;

use super::{LOCK_DEADLINE, interrupt, own_cgroup};
use crate::bundle;
use crate::bundle::spec::{Hook, Hooks};
use crate::cgroup::{self, Cgroup};
use crate::cli::meant::DeleteArgs;
use crate::cli::report::Log;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::{self, Point};
use crate::parent::aside;
use crate::plan::State;
use crate::plan::namespaces::{self, Caller};
use crate::rdt;
use crate::store::{self, Container, Init, Lock, Status, Store};

/// How long killed processes may take to end: one in an uninterruptible sleep may never.
const END_DEADLINE: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// Removes the container, or says why not.
pub(super) fn delete(store: &Store, args: &DeleteArgs, log: &Log) -> Result<()> {
    let id = &args.id;
    let Some(lock) = lock(store, args)? else {
        // An earlier delete may have been cut short after the last step that shows.
        store.sweep(id)?;
        return if args.force {
            Ok(())
        } else {
            Err(store::does_not_exist(id))
        };
    };
    let container = match store.load(id) {
        Ok(container) => container,
        // Its maker was killed before it had written anything down, and so before it had made anything else.
        Err(error) if error.kind() == Kind::NotFound => return store.remove(id, lock),
        Err(error) if args.force => {
            log.warn(&error);
            match store.load_intent(id) {
                Ok(container) => container,
                Err(error) => {
                    log.warn(error.context("its processes and its cgroup may be left"));
                    return store.remove(id, lock);
                }
            }
        }
        Err(error) => return Err(error),
    };
    if !args.force {
        match container.status()? {
            // As runc: what was created has not run yet, so nothing is lost.
            Status::Stopped | Status::Creating | Status::Created => {}
            status @ (Status::Running | Status::Paused) => {
                return Err(Error::new(
                    Kind::Status,
                    format!("cannot delete container {id} that is not stopped: {status}"),
                ));
            }
        }
    }
    end(container, lock, log)
}

/// The lock of the container; whoever has it for too long while the user insists is making it, or hangs.
fn lock(store: &Store, args: &DeleteArgs) -> Result<Option<Lock>> {
    let error = match store.lock(&args.id, LOCK_DEADLINE) {
        Err(error) if args.force => error,
        answer => return answer,
    };
    // Without its processes the maker fails, cleans up and lets go.
    let Ok(intent) = store.load_intent(&args.id) else {
        return Err(error);
    };
    // What is not marked may be a stranger's that this maker is about to be refused.
    if let Some(cgroup) = Cgroup::open_marked(&intent.record().cgroup)? {
        cgroup.kill()?;
    }
    let Some(maker) = &intent.record().maker else {
        return store.lock(&args.id, END_DEADLINE);
    };
    interrupt::end_children(maker)?;
    match store.lock(&args.id, END_DEADLINE) {
        // It waits for somebody else. What it has made goes by its record; its init ends with it.
        Err(_) if maker.process.signal(SIGKILL)? => store.lock(&args.id, END_DEADLINE),
        answer => answer,
    }
}

/// Removes a container that this process has made and whose init it has reaped; `poststop` are its hooks. That somebody
/// else was faster is fine, and another container that has its id and its cgroup since is left alone.
pub(super) fn destroy(
    store: &Store,
    container: Container,
    poststop: &[Hook],
    log: &Log,
) -> Result<()> {
    let Some(lock) = store.lock_own(&container, LOCK_DEADLINE)? else {
        return Ok(());
    };
    let deadline = Instant::now() + END_DEADLINE;
    let record = container.record();
    end_cgroup(
        &container,
        cgroup::end(&record.cgroup, || own_cgroup(record), deadline),
        deadline,
    )
    .with_context(|| format!("delete container {}", container.id()))?;
    end_rdt(&container)?;
    run_poststop(&container, poststop, log);
    container.remove(lock)
}

/// What is left of the cgroup after `ended`. A user may not remove what other ids of the container's user namespace have
/// made below it, nor look into it: root of that namespace may.
fn end_cgroup(container: &Container, ended: Result<()>, deadline: Instant) -> Result<()> {
    let error = match ended {
        Err(error) if error.errno() == Some(Errno::ACCESS) => error,
        ended => return ended,
    };
    if process::is_administrator()? {
        return Err(error);
    }
    let config = bundle::parse(&container.config()?)?;
    let namespaces = match &config.linux {
        Some(linux) => namespaces::plan(linux, Caller::Plain)?,
        None => return Err(error),
    };
    if !namespaces.has_user() {
        return Err(error);
    }
    let remove = || cgroup::remove(&container.record().cgroup, deadline);
    aside::as_root(&namespaces, remove).context("as root of the container's user namespace")
}

fn end_rdt(container: &Container) -> Result<()> {
    match &container.record().rdt {
        Some(group) => rdt::end(rdt::Root::find()?, group)
            .with_context(|| format!("delete container {}", container.id())),
        None => Ok(()),
    }
}

/// Ends and removes all that the container is made of.
pub(super) fn end(container: Container, lock: Lock, log: &Log) -> Result<()> {
    let id = container.id().clone();
    let deadline = Instant::now() + END_DEADLINE;
    let cgroup = &container.record().cgroup;
    let ended = match &container.record().init {
        // After a reboot the path may be anybody's.
        Some(init) if init.is_of_this_boot()? => {
            // With init goes what tells whose the cgroup is, if the container has taken its mark away.
            let own = match init.is_alive()? {
                true => own_cgroup(container.record())?,
                false => None,
            };
            // All at once, before init is waited for: among thousands that spin, its turn to end would come late.
            let killed = own.as_ref().map_or(Ok(()), Cgroup::kill);
            killed
                .and_then(|()| kill_init(init))
                .with_context(|| format!("kill container {id}"))?;
            let own = || match own {
                None => own_cgroup(container.record()),
                own => Ok(own),
            };
            cgroup::end(cgroup, own, deadline)
        }
        _ => cgroup::end_intended(cgroup, deadline),
    };
    end_cgroup(&container, ended, deadline).with_context(|| format!("delete container {id}"))?;
    end_rdt(&container)?;
    match poststop_hooks(&container) {
        Ok(hooks) => run_poststop(&container, &hooks, log),
        Err(error) => log.warn(error.context("run the poststop hooks")),
    }
    container.remove(lock)
}

/// It should be in the cgroup, and killed by now with the rest; this is for one that was moved out.
fn kill_init(init: &Init) -> Result<()> {
    let Some(pidfd) = init.open()? else {
        return Ok(());
    };
    match signal::send(pidfd.as_fd(), SIGKILL) {
        // It may end by itself at this moment.
        Err(error) if error.errno() != Errno::SRCH => return Err(error.into()),
        _ => {}
    }
    if process::wait_for_end(pidfd.as_fd(), END_DEADLINE)? {
        return Ok(());
    }
    Err(Error::new(
        Kind::System,
        format!(
            "init, process {}, did not end within {} s of SIGKILL",
            init.pid,
            END_DEADLINE.as_secs()
        ),
    ))
}

/// Runs them whatever happens, as the container is gone by now: failures are warnings.
fn run_poststop(container: &Container, poststop: &[Hook], log: &Log) {
    if poststop.is_empty() {
        return;
    }
    let record = container.record();
    let state = State {
        oci_version: &record.oci_version,
        id: record.id.as_str(),
        status: "stopped",
        pid: None,
        bundle: &record.bundle,
        annotations: &record.annotations,
    };
    let bundle = corten_sys::fs::open_dir(&record.bundle)
        // The caller may have removed it already.
        .or_else(|_| corten_sys::fs::open_dir("/".as_ref()));
    match bundle {
        Ok(bundle) => {
            let warn = |error| log.warn(error);
            hooks::run_all(Point::Poststop, poststop, &state, bundle.as_fd(), warn);
        }
        Err(error) => log.warn(Error::from(error).context("run the poststop hooks")),
    }
}

/// The hooks of the configuration that was kept at create.
fn poststop_hooks(container: &Container) -> Result<Vec<Hook>> {
    #[derive(Deserialize)]
    struct Config {
        hooks: Option<Hooks>,
    }
    let config = container.config()?;
    let config: Config = serde_json::from_slice(&config).map_err(|error| {
        Error::new(
            Kind::System,
            format!("read the stored config.json: {error}"),
        )
    })?;
    Ok(config.hooks.unwrap_or_default().poststop)
}
