// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask vm`: a Debian with systemd, pure cgroup v2 and every controller, under QEMU, for what this machine
//! cannot show. Runs as the person who typed it; nothing but packages to install asks for root.
//!
//! `cache` makes disk and kernels once, `machine` starts and ends QEMU, `guest` is the way in, `suite` is what all of it is
//! for: the integration suite, in a machine of its own.

mod cache;
mod guest;
mod machine;
mod monitor;
mod suite;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::failure::Result;
use crate::vm::cache::Old;
use crate::vm::guest::Guest;
use crate::vm::machine::Life;
use crate::{packages, report};

/// The suite, or a verb on virtual machines.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    suite: suite::Run,
}

/// A verb on virtual machines.
#[derive(Subcommand)]
pub enum Verb {
    /// Boots one in the background; it stays until `down`
    Up {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        hardware: Hardware,
    },
    /// Runs a command in it, and ends with its exit status
    In {
        #[command(flatten)]
        name: Name,
        /// Whose command it is
        #[arg(long, default_value = "root")]
        user: User,
        /// The command and its arguments; a shell unless given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Copies files and directories into a directory of it, which is made
    Put {
        #[command(flatten)]
        name: Name,
        /// What to copy, and where to at last
        #[arg(required = true, num_args = 2..)]
        paths: Vec<PathBuf>,
    },
    /// Ends it, and forgets its disk
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Names those that run
    List,
    /// Removes the disks and kernels that the recipes of this tree no longer make
    Clean {
        /// Those that they make, too: the next ones have the packages of their day
        #[arg(long)]
        all: bool,
    },
}

/// Which machine.
#[derive(Args)]
pub struct Name {
    /// The machine's name
    #[arg(long, default_value = "default")]
    name: String,
}

/// What a machine is made of.
#[derive(Args, Clone)]
pub struct Hardware {
    /// Debian's kernel of which release
    #[arg(long, default_value = "newest")]
    pub kernel: Kernel,
    /// The security module that labels and profiles belong to
    #[arg(long, default_value = "apparmor")]
    pub lsm: Lsm,
    /// Memory in MiB
    #[arg(long, default_value_t = 3072)]
    pub memory: u32,
    /// Processors
    #[arg(long, default_value_t = 2)]
    pub cpus: u32,
}

/// Debian's kernels for virtual machines.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// bookworm's
    #[value(name = "6.1")]
    Bookworm,
    /// trixie's
    #[value(name = "6.12")]
    Trixie,
    /// sid's
    #[value(name = "newest")]
    Sid,
}

impl Kernel {
    /// The suite that has it.
    fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }
}

/// Linux security modules, of which a kernel has one at a time.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lsm {
    /// Debian's usual one, with no profile loaded
    Apparmor,
    /// With a policy for tests, enforcing
    Selinux,
}

/// Who runs a command in the guest.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum User {
    /// The superuser, in no login session
    Root,
    /// Uid 1000 with subordinate ids, in a login session, its systemd running
    Rootless,
}

impl User {
    /// The guest's account.
    fn account(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Rootless => "rootless",
        }
    }
}

/// Carries out a verb. The status is that of the command in the guest, 0 where there was none.
pub fn run(options: &Options) -> Result<u8> {
    let Some(verb) = &options.verb else {
        packages::ensure(packages::VM)?;
        return suite::run(&options.suite);
    };
    match verb {
        Verb::Up { name, hardware } => {
            packages::ensure(packages::VM)?;
            machine::up(&name.name, hardware, Life::Own)?;
            report::line(format!(
                "up; go on with: cargo xtask vm in --name {} -- COMMAND",
                name.name
            ));
            Ok(0)
        }
        Verb::In { name, user, words } => Guest::of(&name.name)?.run(*user, words),
        Verb::Put { name, paths } => Guest::of(&name.name)?.put(paths).map(|()| 0),
        Verb::Down { name } => machine::down(&name.name).map(|()| 0),
        Verb::List => machine::list().map(|()| 0),
        Verb::Clean { all } => {
            let old = if *all { Old::Everything } else { Old::Former };
            cache::clean(old).map(|()| 0)
        }
    }
}
