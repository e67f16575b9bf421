// SPDX-License-Identifier: Apache-2.0
//! Containers of images: made, started in the foreground or under a supervisor of their own, and put away. There is no
//! daemon: who holds a container's lock is who looks after it. Needs root.
//!
//! ```text
//! foreground   run ─ runtime run                      with the caller's standard streams or terminal
//! detached     run ─ supervisor ─ runtime create, start      the caller gets an answer and ends; the supervisor stays
//! ```

mod cgroups;
pub mod document;
mod foreground;
mod given;
mod hold;
mod life;
pub mod limits;
pub mod mounts;
mod places;
mod process;
mod runtime;
pub mod seccomp;
mod settings;
mod supervisor;
mod volumes;
pub(crate) mod words;

use std::ffi::OsStr;

pub use cgroups::CgroupManager;
pub use foreground::run as run_in_foreground;
pub use hold::{Paused, hold};
pub(crate) use life::put_away;
pub use process::{Exec, exec, first_pid};
pub use runtime::Runtime;
pub use settings::{Limits, Mount, MountKind, Network, Settings, Stdin};
pub use supervisor::{start, stop_signal, supervise};
pub use words::status as status_of;

use crate::build::runtime as programs;
use crate::containers::{self, Container, Record, VERSION};
use crate::error::{Context, Error, Result};
use crate::network;
use crate::overlay;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::Store;
use crate::tar::Limits as TarLimits;

/// Larger than this a log is put aside, unless it is said.
pub const LOG_MAX_SIZE: u64 = 16 << 20;

/// A smaller log has no place for an entry.
pub const LOG_MIN_SIZE: u64 = 128 << 10;

/// Makes a container of the image that `reference` means. `runtime` is a path, or a name to look for.
pub fn create(
    store: &Store,
    reference: &Reference,
    name: Option<&str>,
    runtime: Option<&OsStr>,
    mut settings: Settings,
    progress: &Progress,
) -> Result<Container> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::unsupported("run needs root").remedy("unpack makes a bundle without it"));
    }
    settings.runtime = programs::find(runtime)?;
    settings.runtime = std::path::absolute(&settings.runtime).context("find the runtime")?;
    check(store, &settings)?;
    if let Some(name) = name {
        containers::check_name(name)?;
    }
    // Until the container is there: from then on it keeps what it was made of itself.
    let lease = store.lease()?;
    let image = store.image(reference)?;
    image.check_platform()?;
    let layers = store
        .layer_dirs(&lease, &image.layers, TarLimits::default(), progress)
        .with_context(|| format!("unpack image {reference}"))?;
    let scratch = store.scratch(&lease)?;
    overlay::prepare_kept(&scratch, &layers)?;
    let record = Record {
        version: VERSION,
        id: containers::new_id()?,
        name: name.map(str::to_owned),
        image: reference.to_string(),
        manifest: image.descriptor.clone(),
        chains: image
            .layers
            .iter()
            .map(|layer| layer.chain_id.clone())
            .collect(),
        created: containers::log::now(),
        settings,
    };
    containers::publish(store, scratch, &record)
}

/// What can be known to fail before anything is made.
fn check(store: &Store, settings: &Settings) -> Result<()> {
    document::named(&settings.cap_add)?;
    document::named(&settings.cap_drop)?;
    if let Some(name) = &settings.changes.hostname {
        check_hostname(name)?;
    }
    places::check_sources(settings)?;
    let own = life::own_networks(store);
    match life::wanted("", settings, &own) {
        Some(wanted) => network::check(&wanted)?,
        None if !settings.ports.is_empty() => {
            return Err(Error::invalid(
                "ports of the host lead to containers of a network, and this one is in none",
            )
            .remedy("leave --network out, or name one"));
        }
        None => {}
    }
    if settings.log_max_size < LOG_MIN_SIZE {
        return Err(Error::invalid(format!(
            "a log of {} bytes is too small: {LOG_MIN_SIZE} is the least",
            settings.log_max_size
        )));
    }
    Ok(())
}

/// It stands in files whose lines others read.
fn check_hostname(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match !name.is_empty() && name.len() <= 63 && name.bytes().all(good) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "host name {name:?}: want 1 to 63 letters, digits, _ . and -"
        ))),
    }
}

/// The status that a shell would report.
fn shell_code(exit: corten_sys::process::Exit) -> u8 {
    u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)
}
