// SPDX-License-Identifier: Apache-2.0
//! `corten checkpoint`: a running container written down by CRIU, and removed unless it is to run on.

use std::os::fd::AsFd;
use std::time::Duration;

use corten_sys::process;

use super::{LOCK_DEADLINE, delete};
use crate::bundle;
use crate::checkpoint::{self, Extent, Images, Subject};
use crate::cli::images::CheckpointArgs;
use crate::cli::report::Log;
use crate::error::{Context, Error, Kind, Result};
use crate::store::{Container, Status, Store};

/// Writes it down.
pub(super) fn checkpoint(store: &Store, args: CheckpointArgs, log: &Log) -> Result<()> {
    let what = format!("checkpoint container {}", args.id);
    let leaves = args.options.leave_running || args.pre_dump;
    let mut container = store.load(&args.id)?;
    let lock = container.lock(LOCK_DEADLINE)?;
    match container.status()? {
        Status::Running | Status::Paused => {}
        status @ (Status::Creating | Status::Created | Status::Stopped) => {
            let text = format!("container cannot be checkpointed in {status} state");
            return Err(Error::new(Kind::Status, text).context(what));
        }
    }
    dump(&container, args).context(what)?;
    if leaves {
        return Ok(());
    }
    // The images are whole: what is left of the container is no reason to tell the caller otherwise.
    if let Err(error) = delete::end(container, lock, log) {
        log.warn(error.context("remove the container, which is written down"));
    }
    Ok(())
}

fn dump(container: &Container, args: CheckpointArgs) -> Result<()> {
    refuse_users()?;
    let record = container.record();
    let gone = || Error::new(Kind::Status, "its init has ended");
    let init = record.init.as_ref().ok_or_else(gone)?;
    let pidfd = init.open()?.ok_or_else(gone)?;
    let ready = args
        .status_fd
        .map(|number| process::copy_descriptor(number, 3));
    let ready = ready.transpose().context("open --status-fd")?;
    let config = bundle::parse(&container.config()?)?;
    checkpoint::check_version()?;
    let images = Images::make(&args.images, args.logs.as_deref())?;
    let subject = Subject {
        pid: init.pid,
        spec: &config,
        bundle: &record.bundle,
        annotations: &record.annotations,
        directory: container.directory(),
        cgroup: &record.cgroup,
        stdio: &record.stdio,
    };
    let extent = match args.pre_dump {
        true => Extent::Memory,
        false => Extent::Whole,
    };
    let dumped = checkpoint::dump(&subject, args.options, &extent, &images, ready);
    if dumped.is_err() && process::wait_for_end(pidfd.as_fd(), Duration::ZERO)? {
        return dumped.context("its init has ended meanwhile");
    }
    dumped
}

/// CRIU takes the host's root: what it does for users, it does without namespaces.
pub(super) fn refuse_users() -> Result<()> {
    match process::is_administrator()? {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Unsupported,
            "CRIU needs the privileges of root, and this caller has not got them",
        )),
    }
}
