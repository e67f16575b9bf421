// SPDX-License-Identifier: Apache-2.0
//! `corten-image`, the program: read the command line, open the store, run the verb, print one error, end with its
//! status.
#![forbid(unsafe_code)]

mod command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use corten_image::progress::{self, Style};
use corten_image::{Result, Store};

/// Builds, stores and unpacks OCI images.
#[derive(Parser)]
#[command(name = "corten-image", version)]
struct Cli {
    /// Where images are kept: an OCI image layout (default: /var/lib/corten, or $XDG_DATA_HOME/corten for a user, ~/.local/share/corten where that is not set)
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// How progress is shown on standard error
    #[arg(long, global = true, value_name = "HOW", default_value = "auto")]
    progress: Progress,
    /// Do not wait for the disk when blobs and layers are added: a power cut may damage what was added last, which `verify` names
    #[arg(long, global = true)]
    no_sync: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, ValueEnum)]
enum Progress {
    /// Bars on a terminal, lines otherwise
    Auto,
    /// One line for each finished task
    Plain,
    /// One JSON object per line, errors as well
    Json,
    /// Not at all
    None,
}

#[derive(Subcommand)]
enum Verb {
    Build(Box<command::build::Args>),
    Commit(command::commit::Args),
    Diff(command::diff::Args),
    Exec(command::exec::Args),
    Export(command::export::Args),
    History(command::history::Args),
    /// What `commit` leaves with a container that it has paused
    #[command(hide = true)]
    Hold(command::commit::HoldArgs),
    Import(command::import::Args),
    Inspect(command::inspect::Args),
    Kill(command::stop::KillArgs),
    List(command::list::Args),
    Login(command::login::Args),
    Logout(command::login::LogoutArgs),
    Logs(command::logs::Args),
    Mount(command::mount::Args),
    Ps(command::ps::Args),
    #[command(visible_alias = "gc")]
    Prune(command::rm::PruneArgs),
    Pull(command::pull::Args),
    Push(command::push::Args),
    Repair(command::repair::Args),
    Referrers(command::referrers::Args),
    Rm(command::rm::Args),
    Run(Box<command::run::Args>),
    Start(command::start::Args),
    Stop(command::stop::Args),
    /// What `run --detach` and `start` leave with a container
    #[command(hide = true)]
    Supervise(command::start::SuperviseArgs),
    Tag(command::tag::Args),
    Tags(command::tags::Args),
    Umount(command::mount::UnmountArgs),
    Unpack(command::unpack::Args),
    Verify(command::verify::Args),
    Wait(command::stop::WaitArgs),
}

impl Cli {
    fn open_store(&self) -> Result<Store> {
        let store = match &self.store {
            Some(path) => Store::open(path)?,
            None => Store::open(&Store::default_path()?)?,
        };
        Ok(match self.no_sync {
            true => store.without_sync(),
            false => store,
        })
    }

    fn run(&self) -> std::result::Result<u8, command::Failure> {
        progress::choose(match self.progress {
            Progress::Auto => Style::Auto,
            Progress::Plain => Style::Plain,
            Progress::Json => Style::Json,
            Progress::None => Style::None,
        });
        if matches!(self.verb, Verb::Supervise(_) | Verb::Hold(_)) {
            command::start::shed()?;
        }
        let store = self.open_store()?;
        match &self.verb {
            Verb::Build(args) => command::build::run(&store, args)?,
            Verb::Commit(args) => command::commit::run(&store, args)?,
            Verb::Diff(args) => command::diff::run(&store, args)?,
            Verb::Exec(args) => return command::exec::run(&store, args),
            Verb::Export(args) => command::export::run(&store, args)?,
            Verb::History(args) => command::history::run(&store, args)?,
            Verb::Hold(args) => command::commit::hold(&store, args)?,
            Verb::Import(args) => command::import::run(&store, args)?,
            Verb::Inspect(args) => command::inspect::run(&store, args)?,
            Verb::Kill(args) => command::stop::kill(&store, args)?,
            Verb::List(args) => command::list::run(&store, args)?,
            Verb::Login(args) => command::login::run(args)?,
            Verb::Logout(args) => command::login::logout(args)?,
            Verb::Logs(args) => command::logs::run(&store, args)?,
            Verb::Mount(args) => command::mount::run(&store, args)?,
            Verb::Ps(args) => command::ps::run(&store, args)?,
            Verb::Prune(args) => command::rm::prune(&store, args)?,
            Verb::Pull(args) => command::pull::run(&store, args)?,
            Verb::Push(args) => command::push::run(&store, args)?,
            Verb::Repair(args) => command::repair::run(&store, args)?,
            Verb::Referrers(args) => command::referrers::run(args)?,
            Verb::Rm(args) => command::rm::run(&store, args)?,
            Verb::Run(args) => return command::run::run(&store, args),
            Verb::Start(args) => return command::start::run(&store, args),
            Verb::Stop(args) => command::stop::run(&store, args)?,
            Verb::Supervise(args) => command::start::supervise(&store, args)?,
            Verb::Tag(args) => command::tag::run(&store, args)?,
            Verb::Tags(args) => command::tags::run(args)?,
            Verb::Umount(args) => command::mount::unmount(&store, args)?,
            Verb::Unpack(args) => command::unpack::run(&store, args)?,
            Verb::Verify(args) => command::verify::run(&store, args)?,
            Verb::Wait(args) => command::stop::wait(&store, args)?,
        }
        Ok(0)
    }
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(status) => ExitCode::from(status),
        Err(failure) => command::report(&failure),
    }
}
