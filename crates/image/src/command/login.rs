// SPDX-License-Identifier: Apache-2.0
//! `login` and `logout`: credentials for a registry, where podman and docker find them as well.

use std::io::{IsTerminal, Read};

use corten_image::{Context, Error, Result, registry};

use super::registry::RegistryArgs;

/// A longer password is none.
const CAP: u64 = 64 << 10;

/// Keep a name and password for a registry, for podman and docker as well
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    /// The user's name; the password is read from standard input
    #[arg(short, long, value_name = "NAME")]
    username: String,
    /// HOST[:PORT]
    #[arg(value_name = "REGISTRY")]
    host: String,
}

/// Forget what is kept for a registry
#[derive(clap::Args)]
pub struct LogoutArgs {
    /// HOST[:PORT]
    #[arg(value_name = "REGISTRY")]
    host: String,
}

/// Asks the registry, and keeps what it took.
pub fn run(args: &Args) -> Result<()> {
    let options = args.registry.options();
    registry::login(&args.host, &args.username, &password()?, &options)
}

/// Forgets.
pub fn logout(args: &LogoutArgs) -> Result<()> {
    registry::logout(&args.host, &RegistryArgs::default().options())
}

/// What standard input has, without the end of its last line.
fn password() -> Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::invalid("a password that is typed would be seen")
            .remedy("give it through a pipe or from a file"));
    }
    let mut text = String::new();
    stdin
        .take(CAP)
        .read_to_string(&mut text)
        .context("read the password")?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() || password.contains('\n') {
        true => Err(Error::invalid("the password is not one line")),
        false => Ok(password.to_owned()),
    }
}
