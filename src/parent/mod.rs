// SPDX-License-Identifier: Apache-2.0
//! The runtime's side of a start: opens what only it can reach, clones init straight into its cgroup and namespaces,
//! answers init's requests, and reports its failure as the error. Runs with the caller's privileges, in one thread.
//! Called by `create` and `run`.

pub mod aside;
pub mod console;
mod death;
mod idmap;
mod namespaces;
mod net_devices;
pub mod seal;
mod sources;
pub mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::Errno;
use corten_sys::fs::{self, Procfs};
use corten_sys::mount::{self, Reach};
use corten_sys::process::{self, ChildOf, Cloned};
use corten_sys::signal;

use crate::child;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::{self, Point};
use crate::limits;
use crate::plan::filter::Filter;
use crate::plan::join::JoinPlan;
use crate::plan::namespaces::{IdMaps, Way};
use crate::plan::process::Process;
use crate::plan::{Plan, State};
use crate::protocol::{
    self, Handover, HandoverWay, ParentEnd, Progress, Step, ToChild, ToParent, out_of_order,
};
use crate::timings;
use net_devices::{Moved, Target};
use sources::Opener;

/// What the runtime made before the clone, for init.
pub struct Resources<'a> {
    /// The container's directory in cgroup v2; without one the clone is born in the caller's cgroup.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Joins what the clone isn't born in, if there is any of it: the controllers that the host keeps on v1, resctrl, and
    /// where there is no other way the cgroup itself.
    pub join_groups: Option<&'a dyn Fn(i32) -> Result<()>>,
    /// The start gate; without one init goes on as soon as it is released.
    pub gate: Option<OwnedFd>,
    /// A connection of the console socket: the clone takes its copy, the caller's stays for another try.
    pub console: &'a mut Option<OwnedFd>,
}

/// A container's init that is set up and waits to be released. Dropped, it is killed and reaped, unless it is kept.
#[derive(Debug)]
pub struct Init {
    pid: i32,
    pidfd: OwnedFd,
    channel: ParentEnd,
    progress: Progress,
    /// Where its seccomp listener will be, if it has one.
    handover: Option<Handover>,
    /// Whether it loads a seccomp filter, which may keep it from saying anything.
    is_filtered: bool,
    /// Whether its oom_score_adj was set before it was cloned.
    is_scored: bool,
    /// The host's network devices that it was given, as long as the container may still come to nothing.
    moved: Option<Moved>,
}

/// Clones init and brings it to the point where only the user's program is missing.
pub fn spawn(plan: &Plan, resources: Resources<'_>) -> Result<Init> {
    // Where the rootfs is to be attached is the current directory: the clone has it in its own mount namespace.
    fs::change_dir_path(&plan.rootfs.path)
        .with_context(|| format!("open the rootfs {}", plan.rootfs.path.display()))
        .at(|| "/root/path".to_owned())?;
    let tree = match mount::clone_tree(fs::CWD, Path::new("."), Reach::Recursive) {
        Err(error) if error.errno() == Errno::PERM && plan.namespaces.has_user() => None,
        Err(error) if error.errno() == Errno::PERM => {
            return Err(error).context("copy the rootfs' mount").remedy(NO_USER);
        }
        tree => Some(tree.context("copy the rootfs' mount")?),
    };
    let opener = match tree {
        Some(_) => Opener::Runtime,
        None => Opener::Init,
    };
    let mut is_scored = false;
    if plan.namespaces.joins(process::Namespaces::PID)
        || plan.namespaces.joins(process::Namespaces::USER)
    {
        is_scored = own_oom_score(&plan.process)?;
        // SECURITY: init appears among the processes of another container, with the host's tree still in its hands:
        // whoever has the right to trace there must not get at it before it is another program.
        process::forbid_tracing()?;
    }
    let sources = sources::open(plan, opener)?;
    let joins = namespaces::open(plan)?;

    signal::reset_ignored()?;
    let progress = Progress::new()?;
    let way = match plan.owns_pids() {
        true => HandoverWay::Shown,
        false => HandoverWay::Carried,
    };
    let handover = handover(plan.filter.as_ref(), way)?;
    let (channel, childs_end) = protocol::pair()?;
    let entered = namespaces::enter(plan, joins)?;
    timings::done("prepare");
    let create = match plan.namespaces.way {
        Way::Direct => entered.to_clone,
        Way::Hop => plan.namespaces.made_before_hop(),
    };
    let cloned = process::clone(create, resources.cgroup, ChildOf::Caller)
        .map_err(explain)
        .context("clone the container's init")?;
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop(channel);
        child::run_init(child::Setup {
            plan,
            channel: childs_end,
            progress: &progress,
            tree,
            sources: sources.files,
            open_files: sources.limit,
            joins: entered.joins,
            console: resources.console.take(),
            gate: resources.gate,
            hop: entered.hop,
            handover: handover.as_ref(),
        })
    };
    drop((childs_end, tree, resources.gate));
    let mut init = Init {
        pid,
        pidfd,
        channel,
        progress,
        handover,
        is_filtered: plan.filter.is_some(),
        is_scored,
        moved: None,
    };
    entered.back.leave()?;
    match init.bring_up(plan, resources.join_groups, sources, &entered.joins) {
        Ok(()) => Ok(init),
        Err(error) => {
            let error = init.explained(error);
            Err(init.give_up(error))
        }
    }
}

const NO_USER: &str = "who is not root makes containers in a user namespace: add it to /linux/namespaces, with \
                       uidMappings and gidMappings (`corten spec --rootless` shows how)";

/// How long a process that was killed in its clone may take to end.
const DYING: Duration = Duration::from_millis(100);

/// clone3 is refused for want of privileges, or by a filter of an engine around us, which looks alike.
const REMEDY: &str = "corten needs Linux 5.14, the privileges to make these namespaces, and no seccomp filter around it that denies clone3";

/// What clone3 says of the cgroup, and otherwise [`REMEDY`].
fn explain(error: corten_sys::Error) -> Error {
    let remedy = match error.errno() {
        // Below a cgroup with processes that has given threaded controllers (cpu, pids …) to its children.
        Errno::OPNOTSUPP => {
            "its cgroup takes no processes (cgroup.type says \"domain invalid\"): one above it has some of its own; choose another \
             linux.cgroupsPath"
        }
        Errno::ACCESS => {
            "the caller may not write cgroup.procs of the nearest cgroup above its own and the container's: call corten from \
             within the cgroup that is delegated, or with --systemd-cgroup or --cgroup-manager disabled"
        }
        Errno::BUSY => "its cgroup takes no processes: it has given controllers to its children",
        Errno::AGAIN => {
            "there are too many processes: pids.max of a cgroup above is reached, or a limit of the host"
        }
        _ => REMEDY,
    };
    Error::from(error).remedy(remedy)
}

/// Clones a further process into the container of `init`, and brings it to the point where only the user's program is
/// missing. Nobody may look into this process from here on, as its clone appears inside the container.
///
/// `state` is the container's, for the agent of its seccomp filter.
pub fn join(
    plan: &JoinPlan,
    init: OwnedFd,
    resources: Resources<'_>,
    state: &State<'_>,
) -> Result<Init> {
    let is_scored = own_oom_score(&plan.process)?;
    process::forbid_tracing()?;
    signal::reset_ignored()?;
    let progress = Progress::new()?;
    let handover = handover(plan.filter.as_ref(), HandoverWay::Carried)?;
    let (channel, childs_end) = protocol::pair()?;
    if let Some(cpus) = &plan.process.affinity.initial {
        // The clone is born in the container's cgroup: what it does before that, this process does.
        process::set_affinity(cpus)
            .at(|| format!("{}/execCPUAffinity/initial", plan.process.pointer))
            .remedy("name CPUs that are online and that corten itself may use")?;
    }
    // Where there is nothing to do for the clone from outside it need not wait for it to be done.
    let waits = resources.join_groups.is_some() || plan.waits();
    let back = namespaces::enter_pids(plan, init.as_fd())?;
    timings::done("prepare");
    let cloned = process::clone(
        process::Namespaces::empty(),
        resources.cgroup,
        ChildOf::Caller,
    )
    .map_err(explain)
    .context("clone a process into the container")?;
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop((channel, back));
        child::run_join(child::JoinSetup {
            plan,
            channel: childs_end,
            progress: &progress,
            init,
            waits,
            console: resources.console.take(),
            handover: handover.as_ref(),
        })
    };
    drop(childs_end);
    let mut joined = Init {
        pid,
        pidfd,
        channel,
        progress,
        handover,
        is_filtered: plan.filter.is_some(),
        is_scored,
        moved: None,
    };
    back.leave()?;
    let brought_in = match waits {
        true => joined.bring_in(plan, resources.join_groups),
        false => Ok(()),
    };
    let ready = |()| joined.until_ready(None, plan.filter.as_ref(), &|_| state.clone());
    match brought_in.and_then(ready) {
        Ok(()) => Ok(joined),
        Err(error) => Err(joined.explained(error)),
    }
}

/// Sets it for this process, whose clone has it, too, where the clone's can't be: without privileges nobody may write that
/// of a process that can't be traced. Says whether that was so.
fn own_oom_score(wanted: &Process) -> Result<bool> {
    let Some(score) = wanted.oom_score_adj else {
        return Ok(false);
    };
    if process::is_administrator()? {
        return Ok(false);
    }
    let file = Procfs::open()?.own_file("oom_score_adj", fs::OFlags::WRONLY)?;
    let written = fs::write_once(file.as_fd(), score.to_string().as_bytes());
    explain_oom_score(written, wanted).map(|()| true)
}

fn explain_oom_score(written: corten_sys::Result<()>, wanted: &Process) -> Result<()> {
    written
        .context("set oom_score_adj")
        .at(|| format!("{}/oomScoreAdj", wanted.pointer))
        .remedy("lowering it needs CAP_SYS_RESOURCE; leave the field out or raise the value")
}

/// The page on which the process says the number of its listener; `users` is the way of a runtime without privileges.
fn handover(filter: Option<&Filter>, users: HandoverWay) -> Result<Option<Handover>> {
    if filter.is_none_or(|filter| filter.listener.is_none()) {
        return Ok(None);
    }
    let way = match process::is_administrator()? {
        true => HandoverWay::Taken,
        false => users,
    };
    Handover::new(way).map(Some)
}

impl Init {
    /// Its process id, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor of it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// From the clone to the point where only the user's program is missing.
    fn bring_up(
        &mut self,
        plan: &Plan,
        join_groups: Option<&dyn Fn(i32) -> Result<()>>,
        sources: sources::Sources,
        joins: &[namespaces::Opened],
    ) -> Result<()> {
        if plan.namespaces.way == Way::Hop {
            self.follow_hop()?;
        }
        join_groups.map_or(Ok(()), |join| join(self.pid))?;
        if plan.namespaces.has_user() {
            limits::apply(&plan.process, self.pid)?;
        }
        self.admit(&plan.process, plan.namespaces.maps.as_ref())?;
        sources::map_containers(plan, sources, self.pid)?;
        if !plan.net_devices.is_empty() {
            self.moved = Some(self.give_devices(plan, joins)?);
        }
        if plan.init_waits() {
            self.channel.send(&ToChild::Proceed)?;
        }
        self.until_ready(Some(plan), plan.filter.as_ref(), &|pid| {
            plan.state("creating", pid)
        })
    }

    /// What a further process waits for.
    fn bring_in(
        &mut self,
        plan: &JoinPlan,
        join_groups: Option<&dyn Fn(i32) -> Result<()>>,
    ) -> Result<()> {
        if !plan.hop.is_empty() {
            self.follow_hop()?;
        }
        join_groups.map_or(Ok(()), |join| join(self.pid))?;
        if plan.joins_user() {
            limits::apply(&plan.process, self.pid)?;
        }
        self.admit(&plan.process, None)?;
        self.channel.send(&ToChild::Proceed)
    }

    /// `error`, or its cause, where it is that the process had been killed before it did anything.
    fn explained(&self, error: Error) -> Error {
        if self.progress.step() != Step::Wait || error.kind() == Kind::Unborn {
            return error;
        }
        // What a killed process held is closed before it has ended.
        match process::wait_for_end(self.pidfd.as_fd(), DYING) {
            Ok(true) => self.failure(),
            Ok(false) | Err(_) => error,
        }
    }

    /// Moves the host's network devices into the namespace that init is in, or is about to join.
    fn give_devices(&self, plan: &Plan, joins: &[namespaces::Opened]) -> Result<Moved> {
        let network = process::Namespaces::NETWORK;
        let joined = joins.iter().find(|(kind, _)| *kind == network);
        let target = match joined {
            Some((_, file)) => Target::Joined(file.as_fd()),
            None => Target::Init(self.pidfd.as_fd()),
        };
        net_devices::move_in(&plan.net_devices, target)
    }

    /// The first process has joined the user namespace and cloned init beside itself: init is the one to follow.
    fn follow_hop(&mut self) -> Result<()> {
        let (pid, pidfd) = match namespaces::receive_init(&self.channel)? {
            Some(init) => init,
            None => return Err(self.failure()),
        };
        process::reap(self.pidfd.as_fd(), process::Wait::Block)?;
        self.pid = pid;
        self.pidfd = pidfd;
        Ok(())
    }

    /// What can only be done from outside, before init does anything.
    fn admit(&self, wanted: &Process, maps: Option<&IdMaps>) -> Result<()> {
        let score = wanted.oom_score_adj.filter(|_| !self.is_scored);
        if maps.is_some() || score.is_some() {
            let proc = Procfs::open()?;
            if let Some(maps) = maps {
                idmap::write(&proc, self.pid, maps, &idmap::CONTAINERS)?;
            }
            if let Some(score) = score {
                let path = format!("{}/oom_score_adj", self.pid);
                explain_oom_score(proc.write(&path, score.to_string().as_bytes()), wanted)?;
            }
        }
        Ok(())
    }

    /// Answers init until it is ready. `state` is the container's, for a process of this pid.
    fn until_ready<'a>(
        &self,
        plan: Option<&Plan>,
        filter: Option<&Filter>,
        state: &dyn Fn(i32) -> State<'a>,
    ) -> Result<()> {
        loop {
            match (self.hear()?, plan) {
                (Some(ToParent::RunHooks), Some(plan)) => {
                    let bundle = fs::open_dir(&plan.bundle).context("open the bundle")?;
                    let state = plan.state("creating", self.pid);
                    let (first, second) = (&plan.hooks.prestart, &plan.hooks.create_runtime);
                    hooks::run(Point::Prestart, first, &state, bundle.as_fd())?;
                    hooks::run(Point::CreateRuntime, second, &state, bundle.as_fd())?;
                    self.channel.send(&ToChild::HooksRan)?;
                }
                (Some(ToParent::Watch), _) => self.watch(filter, state(self.pid))?,
                (Some(ToParent::Ready), _) => {
                    timings::follow("clone", self.progress.dated());
                    return Ok(());
                }
                (Some(ToParent::Failed { error, .. }), _) => return Err(error),
                (Some(other), _) => return Err(out_of_order(&other, "Ready")),
                (None, _) => return Err(self.failure()),
            }
        }
    }

    /// What it says next.
    fn hear(&self) -> Result<Option<ToParent>> {
        if self.is_filtered {
            watch::await_word(&self.channel, self.pidfd.as_fd(), &self.progress)?;
        }
        self.channel.receive()
    }

    /// Gives the agent the listener of the filter that is being loaded.
    fn watch(&self, filter: Option<&Filter>, state: State<'_>) -> Result<()> {
        let agent = filter.and_then(|filter| filter.listener.as_ref());
        let (Some(agent), Some(handover)) = (agent, &self.handover) else {
            return Err(out_of_order(&ToParent::Watch, "Ready"));
        };
        let listener = watch::fetch(handover, self.pidfd.as_fd(), &self.channel)?;
        let Some(listener) = listener else {
            // What it says instead is the next message.
            return Ok(());
        };
        watch::tell(agent, &listener, self.pid, state)?;
        self.channel.send(&ToChild::Watched)
    }

    /// Lets init go on: to the gate, or to its program. The caller has written down by now that it exists.
    pub fn release(&self) -> Result<()> {
        match self.channel.send(&ToChild::Release) {
            // Nobody is there to hear it. With any other error init lives, and waiting for its end would not end.
            Err(error) if error.errno() == Some(corten_sys::Errno::PIPE) => Err(self.failure()),
            answer => answer,
        }
    }

    /// Waits until init has become the user's program: the connection's end, without a failure before it.
    pub fn until_started(&self) -> Result<()> {
        match self.hear()? {
            None if self.progress.step() == Step::Exec => {
                timings::follow("release", self.progress.dated());
                Ok(())
            }
            None => Err(self.failure()),
            Some(ToParent::Failed { error, .. }) => Err(error),
            Some(other) => Err(out_of_order(&other, "the end")),
        }
    }

    /// It has become the user's program, and what it was given stays with it.
    pub fn settle(&mut self) {
        if let Some(moved) = self.moved.take() {
            moved.settle();
        }
    }

    /// Ends it because of `error`, and takes back what it was given.
    pub fn give_up(mut self, error: Error) -> Error {
        let moved = self.moved.take();
        drop(self);
        match moved {
            Some(moved) => moved.undo(error),
            None => error,
        }
    }

    /// Lets it live on without this process, whose end closes what this holds.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Why init ended without a word.
    fn failure(&self) -> Error {
        death::describe(self.pidfd.as_fd(), self.progress.step())
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Both fail only where it has ended and been reaped already.
        let _ = signal::send(self.pidfd.as_fd(), 9);
        let _ = process::reap(self.pidfd.as_fd(), process::Wait::Block);
    }
}
