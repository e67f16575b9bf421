// SPDX-License-Identifier: Apache-2.0
//! One verb per file: what it does, in order, and nothing of how.
//!
//! The runtime's own process with the caller's privileges. Called by `main` with what the command line means.

mod check;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod filter;
mod inherited;
mod kill;
mod list;
mod modules;
mod pause;
mod place;
mod ps;
mod run;
mod seccomp;
mod spec;
mod start;
mod state;
mod update;

use std::time::Duration;

use crate::cli::meant::{Global, Verb};
use crate::cli::report::{self, Log};
use crate::error::Result;
use crate::parent::seal;
use crate::store::Store;

/// How long a verb waits for another one that changes the same container.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// Runs `verb`; the status is that of the container's program where one was waited for, else 0.
pub fn run(global: &Global, verb: Verb, log: &Log) -> Result<u8> {
    if let Some(preserved) = preserved_by_clones(&verb) {
        seal::ensure()?;
        inherited::check(preserved)?;
    }
    let store = Store::open(&global.root);
    match verb {
        Verb::Check(args) => return check::check(&args),
        Verb::State(id) => report::print(&state::state(&store, &id)?)?,
        Verb::List(args) => report::print(&list::list(&store, global.root_origin, args, log)?)?,
        Verb::Kill(args) => kill::kill(&store, &args)?,
        Verb::Delete(args) => delete::delete(&store, &args, log)?,
        Verb::Create(args) => create::create(&store, &args, log)?,
        Verb::Start(id) => start::start(&store, &id, log)?,
        Verb::Run(args) => return run::run(&store, &args, log),
        Verb::Exec(args) => return exec::exec(&store, &args, log),
        Verb::Pause(id) => pause::pause(&store, &id)?,
        Verb::Resume(id) => pause::resume(&store, &id)?,
        Verb::Events(args) => events::events(&store, &args, log)?,
        Verb::Update(args) => update::update(&store, &args, log)?,
        Verb::Ps(args) => report::print(&ps::ps(&store, &args)?)?,
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
        | Verb::Delete(_)
        | Verb::Events(_)
        | Verb::Features
        | Verb::Kill(_)
        | Verb::List(_)
        | Verb::Pause(_)
        | Verb::Ps(_)
        | Verb::Resume(_)
        | Verb::Seccomp(_)
        | Verb::Spec(_)
        | Verb::Start(_)
        | Verb::State(_)
        | Verb::Update(_) => None,
    }
}
