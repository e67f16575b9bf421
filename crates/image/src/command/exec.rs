// SPDX-License-Identifier: Apache-2.0
//! `exec`: another program in a container that runs. Ends with that program's status, or 125 to 127 if there was none.

use corten_image::run::{Exec, Stdin, exec};
use corten_image::{Result, Store};

use super::Failure;
use super::containers::find;
use super::process::environment;

/// Run a program in a container
#[derive(clap::Args)]
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
    /// Name, id or the first digits of one
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The program and its arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    args: Vec<String>,
}

/// Runs it, and says what to exit with.
pub fn run(store: &Store, args: &Args) -> std::result::Result<u8, Failure> {
    let run = || -> Result<u8> {
        let container = find(store, &args.container)?;
        let wanted = Exec {
            args: args.args.clone(),
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
