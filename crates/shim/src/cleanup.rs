// SPDX-License-Identifier: Apache-2.0
//! `delete`: what is left of a container whose shim is gone. Needs no shim, and ends one that lives on. A process of its
//! own, as root; called by containerd, in the bundle of whichever container it has at hand.

use std::time::Duration;

use containerd_shim_protos::api::DeleteResponse;
use protobuf::{Message, MessageField};

use crate::args::Args;
use crate::bootstrap::socket;
use crate::bundle::{Bundle, read_pid};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::rootfs;
use crate::runtime::Runtime;
use crate::survivor;

/// How long the runtime may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Of a process that was killed.
const KILLED: u32 = 128 + 9;

/// Removes the container; what is to be written to standard output, and what went wrong without being a reason to stop.
pub fn delete(args: &Args) -> Result<(Vec<u8>, Option<Error>)> {
    let bundle = bundle(args)?;
    let id = args.id.clone();
    let removed = bundle.read_options().and_then(|options| {
        let options = match bundle.config() {
            Ok(config) => options.completed(&config),
            // Half a bundle is removed as well.
            Err(_) => options,
        };
        let runtime = Runtime::new(&options, &args.namespace)?;
        let words = ["delete", "--force", &id].map(str::to_owned);
        runtime.ask(&words, &bundle, DEADLINE)
    });
    let dismissed = match bundle.address() {
        Some(path) => survivor::dismiss(&path, &id, &args.namespace),
        None => Ok(()),
    };
    rootfs::unmount(&bundle.rootfs())?;
    let unnamed = remove_socket(&bundle);
    let pid = read_pid(&bundle.pid_file()).unwrap_or_default();
    let response = DeleteResponse {
        pid: pid.unsigned_abs(),
        exit_status: KILLED,
        exited_at: MessageField::some(clock::now()),
        ..DeleteResponse::default()
    };
    let written = response.write_to_bytes();
    let written = written.map_err(|error| Error::new(Code::Unknown, error.to_string()))?;
    Ok((written, removed.err().or(dismissed.err()).or(unnamed.err())))
}

/// Removes the socket of a shim that was killed, which is its pod's: while another one listens there, it stays.
fn remove_socket(bundle: &Bundle) -> Result<()> {
    match bundle.address() {
        Some(path) => socket::remove_dead(&path),
        None => Ok(()),
    }
}

/// The one that was named, or the one of that id beside the current directory, which is some container's.
fn bundle(args: &Args) -> Result<Bundle> {
    if args.id.is_empty() || args.id.contains('/') || args.id == ".." {
        return Err(Error::invalid(format!(
            "{:?} is no container's id",
            args.id
        )));
    }
    if args.bundle.is_absolute() {
        return Ok(Bundle::new(&args.bundle));
    }
    let here = corten_sys::fs::current_dir()?;
    Ok(Bundle::new(here.with_file_name(&args.id)))
}
