// SPDX-License-Identifier: Apache-2.0
//! `build`: an image from a Dockerfile and a context. Needs root. Ends with the status of the RUN that failed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use corten_image::build::{Built, Dest, Interrupt, Options, Output, build};
use corten_image::progress::Progress;
use corten_image::{Context, Reference, Result, Store};
use serde_json::json;

use super::Failure;
use super::format::FormatArgs;
use super::registry::SupplyArgs;

/// Build an image from a Dockerfile
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub supply: SupplyArgs,
    #[command(flatten)]
    pub format: FormatArgs,
    /// A name of the image: NAME[:TAG]; without one it is found by its id
    #[arg(short, long, value_name = "NAME")]
    pub tag: Vec<String>,
    /// The Dockerfile, or - to read it (default: CONTEXT/Dockerfile, or else CONTEXT/Containerfile)
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Give an ARG its value; without `=` that of the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// What FROM and --from mean by a name: a directory, or docker-image://IMAGE
    #[arg(long, value_name = "NAME=PLACE")]
    pub build_context: Vec<String>,
    /// Build this stage (default: the last one)
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Build for this platform (default: this machine's)
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// A secret for RUN --mount=type=secret
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub secret: Vec<String>,
    /// Make every layer anew
    #[arg(long)]
    pub no_cache: bool,
    /// Make the layers of these stages anew
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Use a cache beside the store's: type=local,src=DIR or type=registry,ref=NAME
    #[arg(long, value_name = "PLACE")]
    pub cache_from: Vec<String>,
    /// Write the cache of this build: type=local,dest=DIR or type=registry,ref=NAME
    #[arg(long, value_name = "PLACE")]
    pub cache_to: Vec<String>,
    /// Write the result: type=local|tar|oci|docker,dest=PATH, or a directory
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Vec<String>,
    /// A label of the image
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// An annotation of the manifest
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// The network of RUN
    #[arg(long, value_name = "default|host|none", default_value = "default")]
    pub network: String,
    /// A line in /etc/hosts of RUN
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// The size of /dev/shm of RUN
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// A resource limit of RUN
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Stages that are built at the same time (default: as many as there are processors)
    #[arg(short, long, value_name = "COUNT")]
    pub jobs: Option<usize>,
    /// Print the id alone
    #[arg(short, long)]
    pub quiet: bool,
    /// The runtime for RUN (default: $CORTEN_RUNTIME, or corten beside this program or in PATH)
    #[arg(long, value_name = "PROGRAM")]
    pub runtime: Option<OsString>,
    /// The directory that COPY and ADD read
    #[arg(value_name = "CONTEXT")]
    pub context: PathBuf,
}

/// Builds, and prints the image's id.
pub fn run(store: &Store, args: &Args) -> std::result::Result<(), Failure> {
    let options = args.options()?;
    // Before the first thread, which would get the signals otherwise.
    let interrupt = Interrupt::new()?;
    let progress = match args.quiet {
        true => Progress::Silent,
        false => Progress::stderr(),
    };
    let built = build(store, &options, &interrupt, &progress);
    let built = built.map_err(|failure| Failure {
        error: failure.error,
        status: failure.status,
    })?;
    if let Some(path) = &args.iidfile {
        write(path, built.id.as_str())?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, &metadata(&built, &options)?)?;
    }
    let names: Vec<_> = options.names.iter().map(Reference::key).collect();
    let document = json!({
        "name": names.first(), "names": names, "id": built.id, "manifest": built.manifest,
        "cached": built.cached,
    });
    // Whoever reads a tar there wants nothing else.
    let is_taken = |output: &Output| *output == Output::Tar(Dest::Stdout);
    match options.outputs.iter().any(is_taken) {
        true => Ok(()),
        false => Ok(args.format.print(built.id.as_str(), &document)?),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// As buildx writes it.
fn metadata(built: &Built, options: &Options) -> Result<String> {
    let names: Vec<_> = options.names.iter().map(ToString::to_string).collect();
    let descriptor = serde_json::to_value(&built.descriptor)
        .map_err(|error| corten_image::Error::invalid(error.to_string()))?;
    let metadata = json!({
        "containerimage.config.digest": built.id.as_str(),
        "containerimage.descriptor": descriptor,
        "containerimage.digest": built.manifest.as_str(),
        "image.name": names.join(","),
    });
    Ok(format!("{metadata:#}\n"))
}
