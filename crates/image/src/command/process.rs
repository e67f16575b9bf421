// SPDX-License-Identifier: Apache-2.0
//! What `unpack` and `run` let the caller change of the image's config.

use corten_image::bundle::{Changes, Network};
use corten_image::{Error, Result};

/// The container's process, where it shall differ from the image's config.
#[derive(clap::Args)]
pub struct ProcessArgs {
    /// Set a variable; without `=` to the value that it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// USER[:GROUP], by name or number
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The program, in place of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// The host name
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
}

impl ProcessArgs {
    /// Together with the arguments of the program.
    pub fn changes(&self, args: Vec<String>) -> Result<Changes> {
        let env = environment(&self.env);
        if let Some(workdir) = self.workdir.as_deref().filter(|dir| !dir.starts_with('/')) {
            return Err(Error::invalid(format!(
                "working directory {workdir:?} is no absolute path"
            )));
        }
        let entrypoint = self
            .entrypoint
            .as_ref()
            .map(|program| match program.as_str() {
                "" => Vec::new(),
                program => vec![program.to_owned()],
            });
        Ok(Changes {
            args,
            entrypoint,
            env,
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            terminal: self.tty,
            hostname: self.hostname.clone(),
            network: Network::None,
        })
    }
}

/// Variables as they are given: `NAME=value`, or the NAME of one that is set here; one that is not set here is left out.
pub fn environment(given: &[String]) -> Vec<String> {
    let mut env = Vec::new();
    for variable in given {
        match variable.contains('=') {
            true => env.push(variable.clone()),
            false => env.extend(
                std::env::var(variable)
                    .ok()
                    .map(|value| format!("{variable}={value}")),
            ),
        }
    }
    env
}
