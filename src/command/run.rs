// SPDX-License-Identifier: Apache-2.0
//! `run`: create and start in one; in the foreground it waits for the program and removes the container.

use corten_sys::signal::SignalFd;
use corten_sys::socket;

use super::create::{self, Made, Until};
use super::{delete, start, wait};
use crate::cli::meant::RunArgs;
use crate::cli::report::Log;
use crate::error::{Context, Error, Result};
use crate::parent::console;
use crate::store::{Store, time};
use crate::timings;

/// Runs a container; the status is its program's, or success for a detached one.
pub(super) fn run(store: &Store, args: &RunArgs, log: &Log) -> Result<u8> {
    if args.detach {
        return run_detached(store, args, log);
    }
    let mut bundle = create::open(&args.create, log)?;
    if args.create.console_socket.is_some() {
        return Err(Error::invalid(
            "/process/terminal",
            "--console-socket goes with --detach: in the foreground the terminal is the caller's",
        ));
    }
    let process = bundle.spec.process.as_mut();
    let process = process.filter(|process| process.terminal);
    let terminal = process.is_some();
    if let Some(process) = process {
        process.console_size = process.console_size.take().or_else(console::callers_size);
    }
    let (console, childs) = match terminal.then(console::pair).transpose()? {
        Some((ours, childs)) => (Some(ours), Some(childs)),
        None => (None, None),
    };
    let made = create::make(store, &args.create, &bundle, Until::Released, childs, log)?;
    let master = match console.map(console::Console::master).transpose() {
        Ok(master) => master,
        Err(error) => return Err(made.undo(store, error)),
    };
    // Only now: while the container is made a signal ends this process, and with it the container.
    let signals = match SignalFd::all().context("block signals") {
        Ok(signals) => signals,
        Err(error) => return Err(made.undo(store, error)),
    };
    let made = started(made, store, log)?;
    let exit = console::attend(made.init.pidfd(), &signals, master);
    let exit = match exit {
        Ok(exit) => exit,
        Err(error) => return Err(made.undo(store, error)),
    };
    timings::done("program");
    if args.keep {
        let record = made.container.record();
        if let Err(error) = wait::keep(store, record, exit, Some(time::now())) {
            log.warn(error);
        }
    }
    let Made {
        init,
        cgroup,
        rdt,
        container,
        plan,
        ..
    } = made;
    init.keep();
    if let Some(rdt) = rdt {
        rdt.keep();
    }
    if let Some(cgroup) = cgroup {
        cgroup.keep()?;
    }
    // They stay blocked until the end, which closes the descriptor.
    std::mem::forget(signals);
    if !args.keep {
        delete::destroy(store, container, &plan.hooks.poststop, log)?;
        timings::done("remove");
    }
    Ok(wait::shell_code(exit))
}

fn run_detached(store: &Store, args: &RunArgs, log: &Log) -> Result<u8> {
    let bundle = create::open(&args.create, log)?;
    create::check_console(&bundle.spec, &args.create)?;
    let console = args.create.console_socket.as_deref();
    let console = console
        .map(|path| socket::connect_stream(path).context("connect to the console socket"))
        .transpose()?;
    let made = create::make(store, &args.create, &bundle, Until::Released, console, log)?;
    started(made, store, log)?.keep()?;
    Ok(0)
}

/// Releases init and waits until it is the user's program.
fn started(made: Made, store: &Store, log: &Log) -> Result<Made> {
    let mut made = made.release(store)?;
    if let Err(error) = made.init.until_started() {
        return Err(made.undo(store, error));
    }
    made.init.settle();
    if !made.plan.hooks.poststart.is_empty() {
        start::run_poststart(&made.container, log)?;
        timings::done("poststart hooks");
    }
    Ok(made)
}
