// SPDX-License-Identifier: Apache-2.0
//! `create`: a container that waits for `start`. Also what `run` begins with.
//!
//! What is made is undone by its guards, innermost first, when a later step fails: init, cgroup, state.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::{process, socket};

use super::{LOCK_DEADLINE, filter, inherited, interrupt, modules};
use crate::bundle::finding::Unknown;
use crate::bundle::names::not_granted;
use crate::bundle::spec::Spec;
use crate::bundle::{Bundle, crun};
use crate::cgroup::place::{self, Asker, Location};
use crate::cgroup::resources::Resources;
use crate::cgroup::{self, Cgroup, DeviceControl, Entry};
use crate::checkpoint::stdio;
use crate::cli::meant::CreateArgs;
use crate::cli::report::Log;
use crate::error::{Context, Error, Kind, Result};
use crate::host;
use crate::parent::{self, Init};
use crate::plan::filter::Filter;
use crate::plan::namespaces::{self, Caller};
use crate::plan::process::Process;
use crate::plan::rootfs::Pivot;
use crate::plan::{Keyring, Options, Plan};
use crate::rdt;
use crate::store::{self, Container, PidNamespace, Privilege, Record, Reservation, Store};
use crate::timings;

/// The name of the start gate in the container's directory.
pub(super) const GATE: &str = "gate";

/// Who lets init go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// A later `start`, through the gate.
    Start,
    /// This process.
    Released,
}

/// A container whose init is set up, written down, and not released yet.
#[derive(Debug)]
pub(super) struct Made {
    /// Killed and reaped when dropped, unless kept.
    pub(super) init: Init,
    /// Removed when dropped, unless kept.
    pub(super) cgroup: Option<cgroup::Reservation>,
    /// The same.
    pub(super) rdt: Option<rdt::Reservation>,
    /// In the store.
    pub(super) container: Container,
    /// What was done.
    pub(super) plan: Plan,
    pid_file: Option<PathBuf>,
}

/// Makes a container and leaves it at its gate.
pub(super) fn create(store: &Store, args: &CreateArgs, log: &Log) -> Result<()> {
    let bundle = open(args, log)?;
    check_console(&bundle.spec, args)?;
    let console = args.console_socket.as_deref();
    let console = console
        .map(|path| socket::connect_stream(path).context("connect to the console socket"))
        .transpose()?;
    let made = make(store, args, &bundle, Until::Start, console, log)?;
    made.release(store)?.keep()
}

/// The bundle, checked; what is odd about it goes to the log.
pub(super) fn open(args: &CreateArgs, log: &Log) -> Result<Bundle> {
    let bundle = Bundle::open(&args.bundle, unknown(args.strict))?;
    for warning in &bundle.warnings {
        log.warn(warning);
    }
    timings::done("bundle");
    Ok(bundle)
}

/// How a verb takes fields that the spec lacks.
pub(super) fn unknown(strict: bool) -> Unknown {
    if strict {
        Unknown::Refused
    } else {
        Unknown::Ignored
    }
}

pub(super) fn check_console(spec: &Spec, args: &CreateArgs) -> Result<()> {
    let terminal = spec
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    match (terminal, &args.console_socket) {
        (true, None) => Err(Error::invalid(
            "/process/terminal",
            "a terminal needs --console-socket, since nobody stays attached",
        )),
        (false, Some(_)) => Err(Error::invalid(
            "/process/terminal",
            "--console-socket is given, and the process has no terminal",
        )),
        _ => Ok(()),
    }
}

/// Plans, makes and writes down a container. `console` is the connection of the console socket.
pub(super) fn make(
    store: &Store,
    args: &CreateArgs,
    bundle: &Bundle,
    until: Until,
    mut console: Option<OwnedFd>,
    log: &Log,
) -> Result<Made> {
    let mut attempt = |entry| try_make(store, args, bundle, (until, entry), &mut console, log);
    match attempt(Entry::Cloned) {
        Err(error) if error.kind() == Kind::Unborn => attempt(Entry::Written),
        made => made,
    }
}

/// Makes it; `entry` is how a caller who may do what they like brings init into its cgroup.
fn try_make(
    store: &Store,
    args: &CreateArgs,
    bundle: &Bundle,
    (until, entry): (Until, Entry),
    console: &mut Option<OwnedFd>,
    log: &Log,
) -> Result<Made> {
    // In this order: the last is dropped first, and the record that names the groups goes after them.
    let Reserved {
        reservation,
        rdt,
        cgroup,
        mut plan,
    } = reserve(store, args, bundle, entry, log)?;
    if !plan.namespaces.has_user() {
        grant(&mut plan.process, log)?;
    }
    let gate = gate(&reservation, until)?;
    let init = parent::spawn(
        &plan,
        parent::Resources {
            cgroup: (cgroup.as_ref())
                .filter(|_| plan.entry == Entry::Cloned)
                .map(cgroup::Reservation::dir),
            join_groups: Some(&|pid| join_groups(&plan, cgroup.as_ref(), rdt.as_ref(), pid)),
            gate,
            console,
        },
    )?;
    let container = match write_down(args, until, reservation, &init) {
        Ok(container) => container,
        Err(error) => return Err(init.give_up(error)),
    };
    timings::done("commit");
    let pid_file = args.pid_file.clone();
    Ok(Made {
        init,
        cgroup,
        rdt,
        container,
        plan,
        pid_file,
    })
}

/// Leaves out the capabilities that the caller can't grant, with a warning, as the specification has it (config.md,
/// "capabilities"). In a user namespace of its own a process has them all.
pub(super) fn grant(process: &mut Process, log: &Log) -> Result<()> {
    let (own, _) = corten_sys::process::capabilities()?;
    let lacking = process.capabilities.limit_to(own);
    if lacking != 0 {
        let pointer = process.pointer;
        log.warn(format!("{pointer}/capabilities: {}", not_granted(lacking)));
    }
    Ok(())
}

/// What there is of a container before there is a process of it: taken back when it is dropped, the store's part last.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) cgroup: Option<cgroup::Reservation>,
    pub(super) rdt: Option<rdt::Reservation>,
    pub(super) reservation: Reservation,
    pub(super) plan: Plan,
}

/// Plans a container, takes its id and makes its cgroup; `entry` as above.
pub(super) fn reserve(
    store: &Store,
    args: &CreateArgs,
    bundle: &Bundle,
    entry: Entry,
    log: &Log,
) -> Result<Reserved> {
    let mut layout = host::cgroups()?;
    let linux = bundle.spec.linux.as_ref();
    let wanted = linux.and_then(|linux| linux.cgroups_path.as_deref());
    let asker = Asker {
        id: args.id.as_str(),
        driver: args.driver,
        is_user: args.rootless,
    };
    let mut place = place::locate(asker, wanted, &mut layout)?;
    if place.entry == Entry::Cloned {
        place.entry = entry;
    }
    let paths = &place.paths;
    let resources = linux.and_then(|linux| linux.resources.as_ref());
    let mut resources = Resources::plan(resources, &layout)?;
    if paths.scope.is_some() {
        resources.annotate(&bundle.spec.annotations)?;
    }
    let filter = filter::compiled(store, &bundle.spec)?;
    let caller = match linux.is_some_and(namespaces::depends_on_caller) {
        true if !process::is_administrator()? => Caller::Plain,
        true if host::in_user_namespace()? => Caller::Confined,
        _ => Caller::Host,
    };
    let mut plan = Plan::new(bundle, options(args, (&place, caller), filter))?;
    modules::settle(&mut plan.process, plan.mount_label.as_deref())?;
    let devices = place.hold(&mut plan, &resources)?;

    let mut record = intent(args, bundle, &plan, &place)?;
    record.device_control = match devices {
        DeviceControl::Mounts => store::DeviceControl::Mounts,
        DeviceControl::Program | DeviceControl::NotNeeded | DeviceControl::UserNamespace => {
            store::DeviceControl::Cgroup
        }
    };
    let rdt = reserve_rdt(&plan)?;
    record.rdt = rdt.as_ref().map(|rdt| rdt.group().clone());
    // The end of its cgroup, or of init in it, is not the end of hooks that are outside.
    let has_hooks = !(plan.hooks.prestart.is_empty() && plan.hooks.create_runtime.is_empty());
    if place.entry == Entry::None || has_hooks {
        record.maker = interrupt::maker()?;
    }
    timings::done("plan");
    let reservation = store.reserve(record, &bundle.config)?;
    // Undone before the record that names it is.
    let rdt = rdt;
    if let Some(filter) = &plan.filter {
        reservation.keep_filter(&filter.program.to_bytes())?;
    }
    timings::done("reserve");
    let cgroup = match place.entry {
        Entry::None => None,
        Entry::Cloned | Entry::Moved | Entry::Written => Some(Cgroup::create(paths, &resources)?),
    };
    let devices = cgroup
        .as_ref()
        .map_or(devices, cgroup::Reservation::device_control);
    let has_rules = linux
        .and_then(|linux| linux.resources.as_ref())
        .is_some_and(|resources| !resources.devices.is_empty());
    if has_rules && devices == DeviceControl::UserNamespace {
        log.debug("device rules are left to the kernel, which gives this caller's containers no devices of their own");
    }
    if let (Some(rdt), Some(plan)) = (&rdt, &plan.rdt) {
        rdt.make(plan)?;
    }
    timings::done("cgroup");
    Ok(Reserved {
        cgroup,
        rdt,
        reservation,
        plan,
    })
}

/// Brings the process `pid` into the container's cgroups and its group in resctrl.
pub(super) fn join_groups(
    plan: &Plan,
    cgroup: Option<&cgroup::Reservation>,
    rdt: Option<&rdt::Reservation>,
    pid: i32,
) -> Result<()> {
    if let Some(cgroup) = cgroup {
        cgroup.cgroup().bring_in(pid, plan.entry, &plan.cgroup)?;
        cgroup.enter(pid)?;
    }
    rdt.map_or(Ok(()), |rdt| rdt.join(pid))
}

/// The container's place in resctrl, if it asks for one.
fn reserve_rdt(plan: &Plan) -> Result<Option<rdt::Reservation>> {
    let wanted = plan.rdt.as_ref();
    wanted
        .map(|wanted| rdt::reserve(rdt::Root::find()?, wanted))
        .transpose()
}

/// Tells the caller who init is, and the store.
fn write_down(
    args: &CreateArgs,
    until: Until,
    reservation: Reservation,
    init: &Init,
) -> Result<Container> {
    let annotations = &reservation.record().annotations;
    announce(args, annotations.get(crun::PIDFD_RECEIVER), init)?;
    let mut record = reservation.record().clone();
    record.maker = None;
    record.started =
        (until == Until::Released).then(|| store::time::nanoseconds(store::time::now()));
    record.init = Some(store::Init::observe(init.pid(), init.pidfd())?);
    reservation.commit(record)
}

/// How many descriptors after the standard three the program has.
pub(super) fn preserved(args: &CreateArgs) -> u32 {
    inherited::listening().saturating_add(args.preserve_fds)
}

fn options(
    args: &CreateArgs,
    (place, caller): (&Location, Caller),
    filter: Option<Filter>,
) -> Options {
    Options {
        id: args.id.as_str().to_owned(),
        pivot: if args.no_pivot {
            Pivot::MoveRoot
        } else {
            Pivot::PivotRoot
        },
        keyring: if args.no_new_keyring {
            Keyring::Callers
        } else {
            Keyring::New
        },
        preserved: preserved(args),
        env: inherited::environment(inherited::listening()),
        cgroup: place.paths.clone(),
        entry: place.entry,
        caller,
        filter,
    }
}

fn intent(args: &CreateArgs, bundle: &Bundle, plan: &Plan, place: &Location) -> Result<Record> {
    let owner = process::uid_at_start();
    let rootfs = plan.rootfs.path.clone();
    let (id, path) = (args.id.clone(), bundle.path.clone());
    let mut record = Record::intent(id, path, rootfs, owner, place.paths.clone());
    record.oci_version.clone_from(&plan.oci_version);
    record.annotations.clone_from(&plan.annotations);
    record.cgroup_driver = place.driver;
    if plan.process.terminal.is_none() {
        record.stdio = stdio::names()?;
    }
    if args.rootless {
        record.privilege = Privilege::Rootless;
    }
    record.pid_namespace = if plan.owns_pids() {
        PidNamespace::Own
    } else {
        PidNamespace::Shared
    };
    Ok(record)
}

fn gate(reservation: &Reservation, until: Until) -> Result<Option<OwnedFd>> {
    match (until, reservation.directory_fd()) {
        (Until::Start, Some(directory)) => {
            let gate = socket::listen(directory, GATE).context("make the start gate")?;
            Ok(Some(gate))
        }
        _ => Ok(None),
    }
}

/// Tells the caller who init is, before anything of the container runs.
fn announce(args: &CreateArgs, receiver: Option<&String>, init: &Init) -> Result<()> {
    let sockets = args.pidfd_socket.as_deref().into_iter();
    for path in sockets.chain(receiver.map(Path::new)) {
        let socket = socket::connect_stream(path).context("connect to the pidfd socket")?;
        socket::send_with(socket.as_fd(), b"pidfd", init.pidfd()).context("send init's pidfd")?;
    }
    match &args.pid_file {
        Some(path) => write_pid_file(path, init.pid()),
        None => Ok(()),
    }
}

/// Writes the pid under another name first: who waits for the file never sees it empty.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let fail = |error: std::io::Error| {
        let text = format!("write the pid file {}: {error}", path.display());
        Error::new(Kind::System, text)
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    // SECURITY: a name that somebody else put there, a link above all, is replaced and never written through.
    let make = || File::create_new(&temporary);
    let file = make().or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => std::fs::remove_file(&temporary).and_then(|()| make()),
        _ => Err(error),
    });
    file.and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)
}

impl Made {
    /// Lets init go on, now that a record of it exists. If it is gone, so is the container.
    pub(super) fn release(self, store: &Store) -> Result<Self> {
        match self.init.release() {
            Ok(()) => Ok(self),
            Err(error) => Err(self.undo(store, error)),
        }
    }

    /// The container stays, without this process.
    pub(super) fn keep(self) -> Result<()> {
        self.init.keep();
        leave((self.cgroup, self.rdt))
    }

    /// Ends and forgets the container because of `error`, which is what the user is told.
    pub(super) fn undo(self, store: &Store, error: Error) -> Error {
        let Self {
            init,
            cgroup,
            rdt,
            container,
            pid_file,
            ..
        } = self;
        let error = init.give_up(error);
        forget(store, &container, (cgroup, rdt), pid_file.as_deref(), error)
    }
}

/// A container's groups, removed when dropped.
type Groups = (Option<cgroup::Reservation>, Option<rdt::Reservation>);

/// They stay, without this process.
pub(super) fn leave((cgroup, rdt): Groups) -> Result<()> {
    if let Some(rdt) = rdt {
        rdt.keep();
    }
    cgroup.map_or(Ok(()), cgroup::Reservation::keep)
}

/// Removes a container whose processes are gone, because of `error`.
pub(super) fn forget(
    store: &Store,
    container: &Container,
    groups: Groups,
    pid_file: Option<&Path>,
    error: Error,
) -> Error {
    if let Some(path) = pid_file {
        // The file is the caller's; that it is gone already is what was wanted.
        let _ = std::fs::remove_file(path);
    }
    let id = container.id().clone();
    let removed = match store.lock_own(container, LOCK_DEADLINE) {
        Ok(Some(lock)) => {
            drop(groups);
            store.remove(&id, lock)
        }
        // Whoever has removed it has removed its groups, which may be another container's of that id by now.
        Ok(None) => leave(groups),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => error,
        Err(also) => error.remedy(format!(
            "`corten delete --force {id}` cleans up, which failed here: {also}"
        )),
    }
}
