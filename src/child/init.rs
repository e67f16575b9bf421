// SPDX-License-Identifier: Apache-2.0
//! The container's init, from the clone to execve: a flat column of named steps. Runs as the first process of the
//! container's PID namespace (if it has one), in its cgroup, with the runtime's privileges, which it gives up on the way.
//! Called by `parent`, once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::batch::Batch;
use corten_sys::mount::{self, Reach};
use corten_sys::process::{self, Namespaces as Kinds, OpenFiles};
use corten_sys::{Errno, fs, net, signal};

use super::exec::{self, Gate};
use super::masks::Masks;
use super::paths::RootFd;
use super::{credentials, devices, filter, hop, kernel, mounts, rootfs, scheduling, terminal};
use crate::clocks;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::{self, Point};
use crate::limits;
use crate::plan::namespaces::Way;
use crate::plan::{Keyring, Plan};
use crate::protocol::{ChildEnd, Handover, Progress, Step, ToChild, ToParent, out_of_order};
use crate::source;

/// What init starts with: the plan, and what the runtime opened for it.
#[derive(Debug)]
pub struct Setup<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// The way to the runtime.
    pub channel: ChildEnd,
    /// Where the runtime sees how far it got.
    pub progress: &'a Progress,
    /// A detached copy of the rootfs' tree, unless the runtime may make none: then init does that, and opens the bind
    /// sources, too. The current directory is the rootfs itself.
    pub tree: Option<OwnedFd>,
    /// Bind sources opened by the runtime, by index in config.json.
    pub sources: Vec<Option<OwnedFd>>,
    /// What the limit of open files was before the runtime raised it for those.
    pub open_files: Option<OpenFiles>,
    /// Namespaces to join, in order.
    pub joins: Vec<(Kinds, OwnedFd)>,
    /// The console socket's connection, for a process with a terminal.
    pub console: Option<OwnedFd>,
    /// The start gate; without one init goes on as soon as it is released.
    pub gate: Option<OwnedFd>,
    /// What to join, in order, before init itself is cloned.
    pub hop: Vec<(Kinds, OwnedFd)>,
    /// Where the runtime looks for the seccomp listener, if there is one.
    pub handover: Option<&'a Handover>,
}

/// Runs init. Does not return.
pub fn run(setup: Setup<'_>) -> ! {
    let progress = setup.progress;
    let plan = setup.plan;
    let mut channel = None;
    let error = match prepare(setup, &mut channel) {
        Ok(ready) => finish(plan, progress, ready, &mut channel),
        Err(error) => error,
    };
    let step = progress.step();
    let error = error.shortened();
    if let Some(channel) = channel {
        // A runtime that is gone hears nothing, and its end is the only thing left to be told.
        let _ = channel.send(&ToParent::Failed { step, error });
    }
    process::exit_now(1)
}

/// What is left once all is set up.
struct Ready {
    program: process::Program,
    gate: Option<Gate>,
}

/// Everything that needs privileges. `reply` is where a failure is to be sent.
fn prepare(setup: Setup<'_>, reply: &mut Option<ChildEnd>) -> Result<Ready> {
    let Setup {
        plan,
        channel,
        progress,
        tree,
        sources,
        open_files,
        joins,
        console,
        gate,
        hop,
        handover,
    } = setup;
    let channel = &*reply.insert(channel);
    let mut kept = vec![channel.as_fd()];
    for (_, fd) in hop.iter().chain(&joins) {
        kept.push(fd.as_fd());
    }
    for fd in sources.iter().chain([&tree, &gate, &console]).flatten() {
        kept.push(fd.as_fd());
    }
    exec::let_go(plan.preserved, &kept)?;
    if plan.namespaces.way == Way::Hop {
        join(plan, hop)?;
        if plan.namespaces.hop_makes_time() {
            clocks::make(&plan.namespaces)?;
        }
        let made = plan.namespaces.made_before_hop();
        let create = plan.namespaces.create.without(Kinds::TIME).without(made);
        hop::step_aside(create, channel)?;
    }

    progress.begin(Step::Wait);
    process::die_with_parent(true)?;
    if plan.init_waits() {
        match channel.wait()? {
            ToChild::Proceed => {}
            other => return Err(out_of_order(&other, "Proceed")),
        }
    }
    // What is made on the way has the modes that it is made with, whatever the caller's mask.
    process::set_umask(0);

    progress.begin(Step::JoinNamespaces);
    join(plan, joins)?;

    progress.begin(Step::Sources);
    let (tree, sources) = match tree {
        Some(tree) => (tree, sources),
        None => open_sources(plan)?,
    };

    progress.begin(Step::BecomeRoot);
    if plan.namespaces.has_user() {
        become_root()?;
    }

    progress.begin(Step::CgroupNamespace);
    if plan.namespaces.own_cgroup {
        process::unshare(Kinds::CGROUP)?;
    }

    progress.begin(Step::Network);
    if plan.namespaces.create.contains(Kinds::NETWORK) {
        net::bring_loopback_up().context("bring the loopback device up")?;
    }

    progress.begin(Step::Session);
    process::new_session()?;
    kernel::with_key_label(&plan.process, || new_keyring(plan.keyring, &plan.id))?;

    progress.begin(Step::Rootfs);
    let masks = match plan.masked_paths.is_empty() {
        true => None,
        false => {
            Some(Masks::prepare(plan.mount_label.as_deref()).context("prepare to hide paths")?)
        }
    };
    let root = rootfs::attach(&plan.rootfs, tree)?;

    progress.begin(Step::Mounts);
    let mut batch = batch(channel, &root, &masks, &sources, [&console, &gate]);
    let (late, fresh) = mounts::mount_all(plan, &root, sources, &mut batch)?;

    progress.begin(Step::Devices);
    devices::make_all(plan, &root, &fresh, &batch)?;

    progress.begin(Step::Terminal);
    if let (Some(wanted), Some(console)) = (&plan.process.terminal, console) {
        terminal::set_up(wanted, &root, console, plan.process.uid)
            .context("set up the terminal")
            .at(|| "/process/terminal".to_owned())?;
    }

    progress.begin(Step::Hooks);
    run_hooks(plan, channel)?;

    enter(plan, progress, &root, masks, &mut batch)?;
    mounts::seal_late(late)?;
    rootfs::finish(&plan.rootfs, &root)?;
    if let Some(limit) = open_files.filter(|_| !plan.process.limits_open_files()) {
        limit.restore()?;
    }
    let program = give_up_privileges(plan, progress, &root)?;

    progress.begin(Step::Sweep);
    let gate = match gate {
        Some(gate) => Some(sweep(plan, gate, root, reply)?),
        None => {
            // Its number is closed with all the others.
            std::mem::forget(root);
            let channel = reply.as_ref().ok_or_else(no_channel)?;
            exec::let_go(plan.preserved, &[channel.as_fd()])?;
            None
        }
    };

    progress.begin(Step::Filter);
    let channel = reply.as_ref().ok_or_else(no_channel)?;
    filter::load_early(
        plan.filter.as_ref(),
        &plan.process,
        plan.preserved,
        (channel, handover),
    )?;

    progress.begin(Step::Commit);
    process::die_with_parent(false)?;
    channel.send(&ToParent::Ready)?;
    match channel.wait()? {
        ToChild::Release => {}
        other => return Err(out_of_order(&other, "Release")),
    }
    Ok(Ready { program, gate })
}

/// Closes everything but the gate and the way to the runtime, before the runtime says that the container exists: from
/// then on others may look into init.
fn sweep(plan: &Plan, gate: OwnedFd, root: RootFd, reply: &mut Option<ChildEnd>) -> Result<Gate> {
    let channel = reply.take().ok_or_else(no_channel)?;
    // Its number is closed with all the others, and may be given away by then.
    std::mem::forget(root);
    let [gate, channel] = exec::sweep(plan.preserved, [gate, channel.into_fd()])?;
    *reply = Some(ChildEnd::over(channel));
    Ok(Gate::new(gate))
}

fn no_channel() -> Error {
    Error::new(Kind::System, "the way to the runtime is gone")
}

/// The batch for everything that is opened from here on and only needed on the way.
fn batch(
    channel: &ChildEnd,
    root: &RootFd,
    masks: &Option<Masks>,
    sources: &[Option<OwnedFd>],
    others: [&Option<OwnedFd>; 2],
) -> Batch {
    let mut kept = vec![channel.as_fd(), root.as_fd()];
    kept.extend(masks.iter().flat_map(Masks::descriptors));
    kept.extend(sources.iter().chain(others).flatten().map(AsFd::as_fd));
    Batch::above(&kept)
}

/// From the host's tree into the container's, and what can only be done there.
fn enter(
    plan: &Plan,
    progress: &Progress,
    root: &RootFd,
    masks: Option<Masks>,
    batch: &mut Batch,
) -> Result<()> {
    progress.begin(Step::Pivot);
    rootfs::enter(&plan.rootfs, root)?;
    credentials::make_directory(&plan.process, root)?;

    progress.begin(Step::Names);
    if let Some(name) = &plan.hostname {
        process::set_hostname(name).at(|| "/hostname".to_owned())?;
    }
    if let Some(name) = &plan.domainname {
        process::set_domainname(name).at(|| "/domainname".to_owned())?;
    }

    progress.begin(Step::Sysctls);
    kernel::write_sysctls(plan)?;

    progress.begin(Step::Protect);
    rootfs::make_readonly(&plan.readonly_paths, root, batch)?;
    if let Some(masks) = masks {
        masks.hide(&plan.masked_paths, root, batch)?;
    }
    Ok(batch.clear()?)
}

/// The process becomes what config.json says, and its program is found with no more rights than it will have.
fn give_up_privileges(plan: &Plan, progress: &Progress, root: &RootFd) -> Result<process::Program> {
    let wanted = &plan.process;
    progress.begin(Step::Labels);
    kernel::set_labels(wanted)?;

    progress.begin(Step::Scheduling);
    scheduling::set(wanted, None, plan.memory_policy.as_ref())?;
    if let Some(persona) = plan.personality {
        process::set_personality(persona).at(|| "/linux/personality".to_owned())?;
    }

    progress.begin(Step::Credentials);
    if !plan.namespaces.has_user() {
        limits::apply(wanted, 0)?;
    }
    if wanted.no_new_privileges {
        process::forbid_new_privileges()?;
    }
    credentials::apply(
        wanted,
        filter::capabilities_to_load(plan.filter.as_ref(), wanted),
    )?;

    progress.begin(Step::Lookup);
    exec::find(wanted, root)
}

/// After the last privilege: descriptors, the gate, startContainer hooks, execve. `reply` becomes `start`'s connection.
fn finish(plan: &Plan, progress: &Progress, ready: Ready, reply: &mut Option<ChildEnd>) -> Error {
    let Ready { program, gate } = ready;
    let through_gate = gate.is_some();
    let last_steps = || -> Result<()> {
        if let Some(gate) = gate {
            progress.begin(Step::Gate);
            // The runtime has heard all that it will hear; from here on it is `start` that listens.
            *reply = None;
            *reply = Some(gate.wait()?);
        }
        progress.begin(Step::StartHooks);
        start_hooks(plan)?;
        progress.begin(Step::LastFilter);
        if !filter::is_early(plan.filter.as_ref(), &plan.process) {
            exec::seal(plan.preserved)?;
        }
        if let (Some(channel), true) = (reply.as_ref(), through_gate) {
            channel.send(&ToParent::Executing)?;
        }
        signal::unblock_all()?;
        progress.date(Step::Exec);
        filter::load_late(plan.filter.as_ref(), &plan.process)?;
        // From here to execve nothing may call the kernel: the filter answers for the program, not for us.
        progress.begin(Step::Exec);
        Ok(())
    };
    match last_steps() {
        Ok(()) => exec::become_program(&program, &plan.process),
        Err(error) => error,
    }
}

const JOIN_REMEDY: &str = "that takes CAP_SYS_ADMIN over the user namespace that owns it, which who is not root has by joining that one, too";

fn join(plan: &Plan, joins: Vec<(Kinds, OwnedFd)>) -> Result<()> {
    for (kind, file) in joins {
        let wanted = plan.namespaces.join.iter().find(|join| join.kind == kind);
        process::join_file(file.as_fd(), kind)
            .with_context(|| {
                format!(
                    "join {}",
                    wanted.map_or(Path::new(""), |w| &w.path).display()
                )
            })
            .at(|| wanted.map_or_else(String::new, |w| w.pointer.clone()))
            .map_err(|error| match error.errno() {
                Some(Errno::PERM) => error.remedy(JOIN_REMEDY),
                _ => error,
            })?;
    }
    Ok(())
}

/// The rootfs' tree, and the bind sources by index in config.json, opened with the caller's ids.
fn open_sources(plan: &Plan) -> Result<(OwnedFd, Vec<Option<OwnedFd>>)> {
    let tree = mount::clone_tree(fs::CWD, Path::new("."), Reach::Recursive)
        .context("copy the rootfs' mount")?;
    let mut sources = Vec::new();
    sources.resize_with(plan.mounts.len(), || None);
    for (wanted, path, reach, link) in plan.sources_to_open() {
        let opened = source::open(path, reach, link, plan.rootfs.copies)
            .with_context(|| format!("mount {}", wanted.target.display()))
            .at(|| wanted.pointer())?;
        sources[wanted.index] = Some(opened);
    }
    Ok((tree, sources))
}

/// Root of the user namespace, so that what is made from here on belongs to it.
pub(super) fn become_root() -> Result<()> {
    // Groups of the caller's stay until the credentials are set: they are of the host, and may be unmapped here.
    process::set_gid(0)
        .context("become group 0 of the user namespace")
        .at(|| "/linux/gidMappings".to_owned())?;
    process::set_uid(0)
        .context("become user 0 of the user namespace")
        .at(|| "/linux/uidMappings".to_owned())
}

/// A session keyring of its own, so that the caller's keys are out of reach.
pub(super) fn new_keyring(keyring: Keyring, id: &str) -> Result<()> {
    if keyring == Keyring::Callers {
        return Ok(());
    }
    let name = std::ffi::CString::new(format!("_ses.{id}")).unwrap_or_default();
    match process::new_session_keyring(&name) {
        // A kernel without keyrings has none that could be reached.
        Err(error) if error.errno() == corten_sys::Errno::NOSYS => Ok(()),
        answer => answer
            .context("make a session keyring")
            .remedy("raise kernel.keys.maxkeys, or use --no-new-keyring"),
    }
}

/// The hooks of the runtime's namespaces run there, those of the container's here.
fn run_hooks(plan: &Plan, channel: &ChildEnd) -> Result<()> {
    let hooks = &plan.hooks;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        channel.send(&ToParent::RunHooks)?;
        match channel.wait()? {
            ToChild::HooksRan => {}
            other => return Err(out_of_order(&other, "HooksRan")),
        }
    }
    if hooks.create_container.is_empty() {
        return Ok(());
    }
    // Still the host's tree: a container's root that may not enter the bundle starts its hooks at the top.
    let directory = fs::open_dir(&plan.bundle).or_else(|_| fs::open_dir(Path::new("/")))?;
    let state = plan.state("creating", process::own_pid());
    hooks::run(
        Point::CreateContainer,
        &hooks.create_container,
        &state,
        directory.as_fd(),
    )
}

/// Hooks in the container, as the user: they see what the program will see.
fn start_hooks(plan: &Plan) -> Result<()> {
    let hooks = &plan.hooks.start_container;
    if hooks.is_empty() {
        return Ok(());
    }
    let directory = fs::open_dir(Path::new("/"))?;
    let state = plan.state("created", process::own_pid());
    hooks::run(Point::StartContainer, hooks, &state, directory.as_fd())
}
