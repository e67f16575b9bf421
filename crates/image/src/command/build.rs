// SPDX-License-Identifier: Apache-2.0
//! `build`: an image from a Dockerfile and a context. Needs root. Ends with the status of the RUN that failed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use corten_image::build::{Cache, Interrupt, Options, build};
use corten_image::progress::Progress;
use corten_image::{Error, Reference, Result, Store};
use serde_json::json;

use super::Failure;
use super::format::FormatArgs;
use super::registry::SupplyArgs;

/// Build an image from a Dockerfile
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    supply: SupplyArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// The image's name: NAME[:TAG]
    #[arg(short = 't', long = "tag", value_name = "NAME")]
    tag: String,
    /// The Dockerfile (default: CONTEXT/Dockerfile)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Give an ARG its value; without `=` that of the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Build this stage (default: the last one)
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Make every layer anew
    #[arg(long)]
    no_cache: bool,
    /// The runtime for RUN (default: $CORTEN_RUNTIME, or corten beside this program or in PATH)
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<OsString>,
    /// The directory that COPY and ADD read
    #[arg(value_name = "CONTEXT")]
    context: PathBuf,
}

/// Builds, and prints the image's id.
pub fn run(store: &Store, args: &Args) -> std::result::Result<(), Failure> {
    let options = args.options()?;
    // Before the first thread, which would get the signals otherwise.
    let interrupt = Interrupt::new()?;
    let built = build(store, &options, &interrupt, &Progress::stderr());
    let built = built.map_err(|failure| Failure {
        error: failure.error,
        status: failure.status,
    })?;
    let document = json!({
        "name": Reference::parse(&args.tag)?.key(), "id": built.id, "manifest": built.manifest,
        "cached": built.cached,
    });
    Ok(args.format.print(built.id.as_str(), &document)?)
}

impl Args {
    fn options(&self) -> Result<Options> {
        let mut args = BTreeMap::new();
        for arg in &self.build_arg {
            match arg.split_once('=') {
                Some(("", _)) => {
                    return Err(Error::invalid(format!("--build-arg {arg} has no name")));
                }
                Some((name, value)) => {
                    args.insert(name.to_owned(), value.to_owned());
                }
                // What the environment doesn't have is not given.
                None => args.extend(std::env::var(arg).ok().map(|value| (arg.clone(), value))),
            }
        }
        Ok(Options {
            name: Some(Reference::parse(&self.tag)?),
            file: self.file.clone(),
            context: self.context.clone(),
            args,
            target: self.target.clone(),
            cache: match self.no_cache {
                true => Cache::Ignore,
                false => Cache::Use,
            },
            runtime: self
                .runtime
                .clone()
                .or_else(|| std::env::var_os("CORTEN_RUNTIME")),
            source_date_epoch: std::env::var_os("SOURCE_DATE_EPOCH"),
            supply: self.supply.supply(),
        })
    }
}
