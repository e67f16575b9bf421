// SPDX-License-Identifier: Apache-2.0
//! One verb per file: what it does, in order, and nothing of how.
//!
//! The runtime's own process with the caller's privileges. Called by `main` with what the command line means.

mod check;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod filter;
mod inherited;
mod interrupt;
pub(crate) mod kill;
mod list;
mod modules;
pub(crate) mod pause;
pub(crate) mod ps;
mod restore;
mod run;
mod seccomp;
mod spec;
mod start;
mod state;
mod update;
mod wait;

use std::path::Path;
use std::time::Duration;

use corten_sys::fs::Procfs;

use crate::cgroup::Cgroup;
use crate::cli::meant::{Global, Verb};
use crate::cli::report::{self, Log};
use crate::error::Result;
use crate::host::{self, Layout};
use crate::parent::seal;
use crate::store::{Record, Store};
use crate::timings;

/// How long a verb waits for another one that changes the same container.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// Runs `verb`; the status is that of the container's program where one was waited for, else 0.
pub fn run(global: &Global, verb: Verb, log: &Log) -> Result<u8> {
    if let Some(preserved) = preserved_by_clones(&verb) {
        seal::ensure()?;
        inherited::check(preserved)?;
        timings::done("seal");
    }
    let store = Store::open(&global.root);
    match verb {
        Verb::Check(args) => return check::check(&args),
        Verb::Checkpoint(args) => checkpoint::checkpoint(&store, *args, log)?,
        Verb::Restore(args) => return restore::restore(&store, *args, log),
        Verb::State(id) => report::print(&state::state(&store, &id)?)?,
        Verb::List(args) => report::print(&list::list(&store, global.root_origin, args, log)?)?,
        Verb::Kill(args) => kill::kill(&store, &args)?,
        Verb::Delete(args) => delete::delete(&store, &args, log)?,
        Verb::Create(args) => create::create(&store, &args, log)?,
        Verb::Start(id) => start::start(&store, &id, log)?,
        Verb::Run(args) => return run::run(&store, &args, log),
        Verb::Exec(args) => return exec::exec(&store, &args, log),
        Verb::Pause(id) => pause::pause(&store, &id, LOCK_DEADLINE)?,
        Verb::Resume(id) => pause::resume(&store, &id, LOCK_DEADLINE)?,
        Verb::Events(args) => events::events(&store, &args, log)?,
        Verb::Update(args) => update::update(&store, &args, log)?,
        Verb::Ps(args) => report::print(&ps::ps(&store, &args)?)?,
        Verb::Wait(id) => return wait::wait(&store, &id, log),
        Verb::Features => report::print(&features::features())?,
        Verb::Seccomp(args) => report::print(&seccomp::seccomp(&args, log)?)?,
        Verb::Spec(args) => spec::run(&args.bundle, args.rootless)?,
    }
    Ok(0)
}

/// How many descriptors a verb passes on to the process that it clones into a container; `None` for one that clones none.
fn preserved_by_clones(verb: &Verb) -> Option<u32> {
    match verb {
        Verb::Create(args) => Some(create::preserved(args)),
        Verb::Run(args) => Some(create::preserved(&args.create)),
        Verb::Exec(args) => Some(args.preserve_fds),
        Verb::Check(_)
        | Verb::Checkpoint(_)
        | Verb::Delete(_)
        | Verb::Events(_)
        | Verb::Features
        | Verb::Kill(_)
        | Verb::List(_)
        | Verb::Pause(_)
        | Verb::Ps(_)
        // What CRIU is given, `checkpoint` says itself.
        | Verb::Restore(_)
        | Verb::Resume(_)
        | Verb::Seccomp(_)
        | Verb::Spec(_)
        | Verb::Start(_)
        | Verb::State(_)
        | Verb::Update(_)
        | Verb::Wait(_) => None,
    }
}

/// The container's cgroup, if it is still the container's: it bears its mark, or its init is in it. `None` where it is
/// gone, or another container or unit has been given the same place since.
pub(crate) fn own_cgroup(record: &Record) -> Result<Option<Cgroup>> {
    if record.cgroup.is_none() {
        return Ok(None);
    }
    if let Some(cgroup) = Cgroup::open_marked(&record.cgroup)? {
        return Ok(Some(cgroup));
    }
    match &record.init {
        // The mark is an attribute, which a container that may write its cgroup can take away.
        Some(init) if init.is_alive()? => {
            let layout = Layout::unified(&record.cgroup.unified.mount);
            let membership = host::membership(&Procfs::open()?, init.pid)?.as_mounted(&layout)?;
            let found = membership.unified().unwrap_or(Path::new(""));
            let is_in = found
                .strip_prefix("/")
                .is_ok_and(|path| path.starts_with(&record.cgroup.unified.cgroup));
            if is_in {
                Cgroup::open(&record.cgroup)
            } else {
                Ok(None)
            }
        }
        _ => Ok(None),
    }
}
