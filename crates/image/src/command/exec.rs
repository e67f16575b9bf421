// SPDX-License-Identifier: Apache-2.0
//! `exec`: another program in a container that runs. Ends with that program's status, or 125 to 127 if there was none.

use corten_image::run::{Exec, Stdin, exec};
use corten_image::{Error, Result, Store};

use super::Failure;
use super::containers::find;
use super::process::environment;

/// Run a program in a container
#[derive(clap::Args)]
#[command(override_usage = "corten-image exec [OPTIONS] CONTAINER COMMAND [ARG]...")]
pub struct Args {
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; without `=` to the value that it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// USER[:GROUP], by name or number
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The container: its name, id or the first digits of one; and the program with its arguments
    // One argument, or flags behind the container would be taken for those of `exec`.
    #[arg(value_name = "CONTAINER", trailing_var_arg = true, required = true, num_args = 2..)]
    container: Vec<String>,
}

/// Runs it, and says what to exit with.
pub fn run(store: &Store, args: &Args) -> std::result::Result<u8, Failure> {
    let run = || -> Result<u8> {
        let (name, command) = match args.container.split_first() {
            Some((name, command)) if !command.is_empty() => (name, command),
            _ => return Err(Error::invalid("write CONTAINER COMMAND")),
        };
        let container = find(store, name)?;
        let wanted = Exec {
            args: command.to_vec(),
            env: environment(&args.env),
            workdir: args.workdir.clone(),
            user: args.user.clone(),
            terminal: args.tty,
            stdin: match args.interactive {
                true => Stdin::Inherit,
                false => Stdin::Null,
            },
        };
        exec(&container, &wanted)
    };
    run().map_err(Failure::without_program)
}
