// SPDX-License-Identifier: Apache-2.0
//! The process of `exec`, from the clone to execve: the same kind of column as `init.rs`, into namespaces that exist.
//!
//! It is born in the container's PID namespace and cgroup, so the container can see it from its first instruction on:
//! it can't be traced or opened through /proc meanwhile (PR_SET_DUMPABLE 0, inherited from the runtime; CVE-2016-9962),
//! and it holds no descriptor of the host's but the standard three. Called by `parent`, once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::process::Namespaces as Kinds;
use corten_sys::{fs, process, signal};

use super::paths::RootFd;
use super::{credentials, exec, filter, hop, init, kernel, scheduling, terminal};
use crate::error::{Context, Error, Result};
use crate::limits;
use crate::plan::join::JoinPlan;
use crate::protocol::{ChildEnd, Handover, Progress, Step, ToChild, ToParent, out_of_order};

/// What the process starts with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// What to do.
    pub plan: &'a JoinPlan,
    /// The way to the runtime.
    pub channel: ChildEnd,
    /// Where the runtime sees how far it got.
    pub progress: &'a Progress,
    /// The container's init, whose namespaces are joined.
    pub init: OwnedFd,
    /// Whether the runtime says when to go on.
    pub waits: bool,
    /// The console socket's connection, for a process with a terminal.
    pub console: Option<OwnedFd>,
    /// Where the runtime looks for the seccomp listener, if there is one.
    pub handover: Option<&'a Handover>,
}

/// Runs the process. Does not return.
pub fn run(setup: Setup<'_>) -> ! {
    let Setup {
        plan,
        channel,
        progress,
        init,
        waits,
        console,
        handover,
    } = setup;
    let error = match prepare(plan, (&channel, handover), progress, (init, waits), console) {
        Ok(program) => exec::become_program(&program, &plan.process),
        Err(error) => error,
    };
    let step = progress.step();
    let error = error.shortened();
    // A runtime that is gone hears nothing, and its end is the only thing left to be told.
    let _ = channel.send(&ToParent::Failed { step, error });
    process::exit_now(1)
}

fn prepare(
    plan: &JoinPlan,
    (channel, handover): (&ChildEnd, Option<&Handover>),
    progress: &Progress,
    (init, waits): (OwnedFd, bool),
    console: Option<OwnedFd>,
) -> Result<process::Program> {
    let wanted = &plan.process;
    let mut kept = vec![channel.as_fd(), init.as_fd()];
    if let Some(console) = &console {
        kept.push(console.as_fd());
    }
    exec::let_go(plan.preserved, &kept)?;
    if !plan.hop.is_empty() {
        process::join(init.as_fd(), plan.hop).context("join the container's PID namespace")?;
        hop::step_aside(Kinds::empty(), channel)?;
    }
    progress.begin(Step::Wait);
    process::die_with_parent(true)?;
    if waits {
        match channel.wait()? {
            ToChild::Proceed => {}
            other => return Err(out_of_order(&other, "Proceed")),
        }
    }

    progress.begin(Step::JoinNamespaces);
    // What the hop has joined is this process' by birth, and a user namespace can't be joined again (EINVAL).
    process::join(init.as_fd(), plan.namespaces.without(plan.hop))
        .context("join the container's namespaces")?;
    drop(init);

    progress.begin(Step::BecomeRoot);
    if plan.joins_user() {
        init::become_root()?;
    }

    progress.begin(Step::Session);
    process::new_session()?;
    kernel::with_key_label(wanted, || init::new_keyring(plan.keyring, &plan.id))?;

    progress.begin(Step::Terminal);
    let root = RootFd::new(fs::open_dir(Path::new("/"))?);
    if let (Some(terminal), Some(console)) = (&wanted.terminal, console) {
        terminal::set_up_joined(terminal, &root, console, wanted.uid)
            .context("set up the terminal")
            .at(|| format!("{}/terminal", wanted.pointer))?;
    }

    progress.begin(Step::Labels);
    kernel::set_labels(wanted)?;

    progress.begin(Step::Scheduling);
    let affinity = wanted.affinity.last.as_deref();
    scheduling::set(wanted, affinity, plan.memory_policy.as_ref())?;
    if let Some(persona) = plan.personality {
        process::set_personality(persona).context("set the container's execution domain")?;
    }

    let filter = plan.filter.as_ref();
    progress.begin(Step::Credentials);
    if !plan.joins_user() {
        limits::apply(wanted, 0)?;
    }
    if wanted.no_new_privileges {
        process::forbid_new_privileges()?;
    }
    credentials::apply(wanted, filter::capabilities_to_load(filter, wanted))?;

    progress.begin(Step::Lookup);
    let program = exec::find(wanted, &root)?;

    progress.begin(Step::Filter);
    filter::load_early(filter, wanted, plan.preserved, (channel, handover))?;

    progress.begin(Step::Commit);
    process::die_with_parent(false)?;
    channel.send(&ToParent::Ready)?;
    match channel.wait()? {
        ToChild::Release => {}
        other => return Err(out_of_order(&other, "Release")),
    }

    progress.begin(Step::LastFilter);
    if !filter::is_early(filter, wanted) {
        exec::seal(plan.preserved)?;
    }
    signal::unblock_all().map_err(Error::from)?;
    progress.date(Step::Exec);
    filter::load_late(filter, wanted)?;
    // From here to execve nothing may call the kernel: the filter answers for the program, not for us.
    progress.begin(Step::Exec);
    Ok(program)
}
