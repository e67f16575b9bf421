// SPDX-License-Identifier: Apache-2.0
//! `exec`: a further program in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::Errno;
use corten_sys::fs::Procfs;
use corten_sys::process::{self, Namespaces as Kinds};
use corten_sys::signal::SignalFd;
use corten_sys::socket;

use super::create::{self, write_pid_file};
use super::{filter, modules, start};
use crate::bundle::spec::{LinuxCapabilities, Process, Spec};
use crate::bundle::{self, names};
use crate::cgroup::{Cgroup, Entry, Paths, place};
use crate::cli::meant::{ExecArgs, ExecProcess};
use crate::cli::report::Log;
use crate::error::{Context, Error, Kind, Result};
use crate::host;
use crate::parent::{self, Init, console};
use crate::plan::join::{self, JoinPlan, Pids};
use crate::plan::scheduling::MemoryPolicy;
use crate::plan::sub_cgroups::SubCgroups;
use crate::plan::{self, Keyring};
use crate::rdt;
use crate::store::{Container, DeviceControl, Privilege, Status, Store};
use crate::timings;

/// Runs a program in a container; the status is the program's, or success for a detached one.
pub(super) fn exec(store: &Store, args: &ExecArgs, log: &Log) -> Result<u8> {
    let container = store.load(&args.id)?;
    expect_running(&container, args)?;
    let config = bundle::parse(&container.config()?)?;
    let (mut process, pointer) = process(&config, args, log)?;
    if process.terminal && !args.detach {
        process.console_size = process.console_size.take().or_else(console::callers_size);
    }
    let terminal = process.terminal;
    let mut plan = plan(&config, &process, pointer, args)?;
    if !plan.namespaces.contains(Kinds::USER) {
        create::grant(&mut plan.process, log)?;
    }
    if container.record().device_control == DeviceControl::Mounts {
        plan::nodev::refuse_capabilities(&plan.process.capabilities, pointer)?;
    }
    plan.filter = filter::stored(&container, &config)?;
    if container.record().restored_clocks {
        plan.namespaces |= Kinds::TIME;
    }
    timings::done("plan");
    let ran = match args.detach {
        true => detached(&container, &plan, args, terminal),
        false => attached(&container, &plan, args, terminal),
    };
    ran.map_err(|error| match has_ended(&container, &error) {
        true => error.context(STOPPED),
        false => error,
    })
}

/// How long an init may take to end that has begun to: its processes are killed before.
const DYING: Duration = Duration::from_secs(1);

/// Whether `error` is, whatever failed first, that init has ended meanwhile. One that is about to end has no namespaces any
/// more (ESRCH), lets nobody into its PID namespace (ENOMEM), and kills who is in there.
fn has_ended(container: &Container, error: &Error) -> bool {
    let patience = match (error.kind(), error.errno()) {
        (Kind::Status, _) => return false,
        (Kind::System | Kind::Unborn, None | Some(Errno::SRCH | Errno::NOMEM)) => DYING,
        _ => Duration::ZERO,
    };
    let Some(init) = &container.record().init else {
        return false;
    };
    match init.open() {
        Ok(Some(pidfd)) => process::wait_for_end(pidfd.as_fd(), patience).unwrap_or(false),
        Ok(None) => true,
        Err(_) => false,
    }
}

const STOPPED: &str = "cannot exec in a stopped container";

fn detached(container: &Container, plan: &JoinPlan, args: &ExecArgs, terminal: bool) -> Result<u8> {
    let console = console_socket(terminal, args)?;
    let program = prepare(container, plan, args, console)?;
    become_program(&program)?;
    program.keep();
    Ok(0)
}

fn attached(container: &Container, plan: &JoinPlan, args: &ExecArgs, terminal: bool) -> Result<u8> {
    if args.console_socket.is_some() {
        return Err(Error::new(
            Kind::Invalid,
            "--console-socket goes with --detach: in the foreground the terminal is the caller's",
        ));
    }
    let (console, childs) = match terminal.then(console::pair).transpose()? {
        Some((ours, childs)) => (Some(ours), Some(childs)),
        None => (None, None),
    };
    let program = prepare(container, plan, args, childs)?;
    let master = console.map(console::Console::master).transpose()?;
    let signals = SignalFd::all().context("block signals")?;
    become_program(&program)?;
    let exit = console::attend(program.pidfd(), &signals, master)?;
    timings::done("program");
    program.keep();
    Ok(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX))
}

fn expect_running(container: &Container, args: &ExecArgs) -> Result<()> {
    let text = match container.status()? {
        Status::Running | Status::Created => return Ok(()),
        Status::Paused if args.ignore_paused => return Ok(()),
        Status::Paused => "cannot exec in a paused container (use --ignore-paused to override)",
        Status::Stopped | Status::Creating => STOPPED,
    };
    Err(Error::new(Kind::Status, text))
}

/// The process document, or the container's own process with what the command line changes; and where it stands.
fn process(config: &Spec, args: &ExecArgs, log: &Log) -> Result<(Process, &'static str)> {
    match &args.process {
        ExecProcess::Document(path) => Ok((read_document(path, args.strict, log)?, "")),
        ExecProcess::Command { .. } => {
            let process = command(config, &args.process)?;
            bundle::check_process(&process)?;
            Ok((process, "/process"))
        }
    }
}

fn read_document(path: &Path, strict: bool, log: &Log) -> Result<Process> {
    let text = std::fs::read(path).map_err(|error| {
        let text = format!("read the process document {}: {error}", path.display());
        Error::new(Kind::Invalid, text)
    })?;
    let (process, warnings) = bundle::parse_process(&text, create::unknown(strict))
        .map_err(|error| error.in_document(path.display().to_string()))?;
    for warning in &warnings {
        log.warn(warning);
    }
    Ok(process)
}

fn command(config: &Spec, wanted: &ExecProcess) -> Result<Process> {
    let Some(mut process) = config.process.clone() else {
        return Err(Error::invalid(
            "/process",
            "the container has no process to take after",
        ));
    };
    let ExecProcess::Command {
        args,
        tty,
        user,
        additional_gids,
        env,
        cwd,
        cap,
        apparmor,
        process_label,
        no_new_privs,
    } = wanted
    else {
        return Ok(process);
    };
    process.args.clone_from(args);
    process.terminal = *tty;
    process.env.extend(env.iter().cloned());
    if let Some(cwd) = cwd {
        process.cwd = cwd.display().to_string();
    }
    if let Some(user) = user {
        process.user.uid = user.uid;
        process.user.gid = user.gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(additional_gids);
    if apparmor.is_some() {
        process.apparmor_profile.clone_from(apparmor);
    }
    if process_label.is_some() {
        process.selinux_label.clone_from(process_label);
    }
    process.no_new_privileges |= no_new_privs;
    if let Some(name) = cap.iter().find(|name| names::capability(name).is_none()) {
        let text = format!("--cap: `{name}` is no capability");
        return Err(Error::new(Kind::Invalid, text));
    }
    let sets = process.capabilities.get_or_insert_default();
    add_capabilities(sets, cap);
    Ok(process)
}

/// SECURITY: never to the inheritable set, from which any file with inheritable bits would have them (CVE-2022-29162).
fn add_capabilities(sets: &mut LinuxCapabilities, names: &[String]) {
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        for name in names {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
    }
}

fn plan(
    config: &Spec,
    process: &Process,
    pointer: &'static str,
    args: &ExecArgs,
) -> Result<JoinPlan> {
    let (namespaces, pids) = join::namespaces(config.linux.as_ref());
    let process = plan::process::plan(process, pointer)?;
    let mut process = process.with_groups_by(&config.annotations);
    modules::settle(&mut process, None)?;
    Ok(JoinPlan {
        id: args.id.as_str().to_owned(),
        namespaces,
        pids,
        hop: hop(namespaces, pids)?,
        personality: config.linux.as_ref().and_then(plan::personality),
        memory_policy: memory_policy(config)?,
        process,
        keyring: Keyring::New,
        preserved: args.preserve_fds,
        filter: None,
    })
}

/// What takes a hop: see there. Without privileges of its own the caller has those over the container's user namespace,
/// once it is in there.
fn hop(namespaces: Kinds, pids: Pids) -> Result<Kinds> {
    Ok(match pids {
        Pids::Runtimes => Kinds::empty(),
        Pids::Containers if !process::is_administrator()? => {
            Kinds::PID | namespaces.without(namespaces.without(Kinds::USER))
        }
        Pids::Containers if host::in_user_namespace()? => Kinds::PID,
        Pids::Containers => Kinds::empty(),
    })
}

fn memory_policy(config: &Spec) -> Result<Option<MemoryPolicy>> {
    let linux = config.linux.as_ref();
    linux.map_or(Ok(None), plan::scheduling::memory_policy)
}

fn console_socket(terminal: bool, args: &ExecArgs) -> Result<Option<OwnedFd>> {
    match (&args.console_socket, terminal) {
        (Some(path), true) => {
            let socket = socket::connect_stream(path).context("connect to the console socket")?;
            Ok(Some(socket))
        }
        (None, true) => Err(Error::new(
            Kind::Invalid,
            "a terminal needs --console-socket, since nobody stays attached",
        )),
        (Some(_), false) => Err(Error::new(
            Kind::Invalid,
            "--console-socket is given, and the process has no terminal",
        )),
        (None, false) => Ok(None),
    }
}

fn become_program(program: &Init) -> Result<()> {
    program.release()?;
    program.until_started()
}

/// How the process comes into init's `cgroup`: root's is born there.
fn entry(container: &Container, cgroup: &Cgroup) -> Result<Entry> {
    let record = container.record();
    if record.privilege == Privilege::Root {
        return Ok(Entry::Cloned);
    }
    match place::entry(cgroup.paths())? {
        Entry::Moved if record.cgroup.scope.is_none() => {
            let path = cgroup.paths().unified.path();
            let text = format!(
                "the caller may not enter the container's cgroup {}",
                path.display()
            );
            Err(Error::new(Kind::System, text).remedy(
                "call corten from within the delegated cgroup that the container was made in",
            ))
        }
        entry => Ok(entry),
    }
}

/// As init: a group that is gone, because its tree was unmounted, holds nobody.
fn join_rdt(container: &Container, pid: i32) -> Result<()> {
    let Some(group) = &container.record().rdt else {
        return Ok(());
    };
    match rdt::open(rdt::Root::find()?, group)? {
        Some(group) => group.join(pid),
        None => Ok(()),
    }
}

/// The cgroup that the caller names, which is there: nobody could say who removes one that exec makes.
fn sub_cgroup(paths: &Paths) -> Result<Cgroup> {
    Cgroup::open(paths)?.ok_or_else(|| {
        let path = paths.unified.path();
        let text = format!("--cgroup: there is no cgroup {}", path.display());
        Error::new(Kind::NotFound, text).remedy("make it first: exec joins it only")
    })
}

/// Clones the process into the cgroup that init is in now, or the one that is asked for, and brings it to where only the user's program is missing.
fn prepare(
    container: &Container,
    plan: &JoinPlan,
    args: &ExecArgs,
    mut console: Option<OwnedFd>,
) -> Result<Init> {
    let gone = || Error::new(Kind::Status, STOPPED);
    let init = container.record().init.as_ref().ok_or_else(gone)?;
    let mut layout = host::cgroups()?;
    // A user's container may have none of some controllers.
    let joined = &container.record().cgroup.v1;
    layout
        .v1
        .retain(|v1| joined.iter().any(|place| place.mount == v1.path));
    let wanted = SubCgroups::parse(&args.cgroup)?;
    let own = &container.record().cgroup;
    let cgroup = match (own.is_none(), wanted) {
        (true, None) => None,
        (true, Some(_)) => {
            let text = "--cgroup: the container has no cgroup";
            return Err(Error::new(Kind::Invalid, text));
        }
        (false, None) => {
            let membership = host::membership(&Procfs::open()?, init.pid)?.as_mounted(&layout)?;
            let paths = Paths::of(&membership, &layout)?;
            Some(Cgroup::open(&paths)?.ok_or_else(gone)?)
        }
        (false, Some(wanted)) => Some(sub_cgroup(&wanted.within(own)?)?),
    };
    let entry = cgroup
        .as_ref()
        .map_or(Ok(Entry::None), |cgroup| entry(container, cgroup))?;
    let state = start::state(container.record());
    let mut attempt = |entry| {
        let pidfd = init.open()?.ok_or_else(gone)?;
        let join = |pid| {
            if let Some(cgroup) = &cgroup {
                cgroup.bring_in(pid, entry, &container.record().cgroup)?;
                cgroup.join_v1(pid)?;
            }
            join_rdt(container, pid)
        };
        let is_on_v1 = cgroup
            .as_ref()
            .is_some_and(|cgroup| !cgroup.paths().v1.is_empty());
        let is_born_in = matches!(entry, Entry::Cloned | Entry::None);
        let joins = is_on_v1 || !is_born_in || container.record().rdt.is_some();
        let resources = parent::Resources {
            cgroup: cgroup
                .as_ref()
                .filter(|_| entry == Entry::Cloned)
                .map(Cgroup::dir),
            join_groups: joins.then_some(&join),
            gate: None,
            console: &mut console,
        };
        parent::join(plan, pidfd, resources, &state)
    };
    let program = match attempt(entry) {
        Err(error) if error.kind() == Kind::Unborn && entry == Entry::Cloned => {
            attempt(Entry::Written)?
        }
        program => program?,
    };
    drop(console);
    if let Some(path) = &args.pidfd_socket {
        let socket = socket::connect_stream(path).context("connect to the pidfd socket")?;
        socket::send_with(socket.as_fd(), b"pidfd", program.pidfd())
            .context("send the process' pidfd")?;
    }
    if let Some(path) = &args.pid_file {
        write_pid_file(path, program.pid())?;
    }
    Ok(program)
}
