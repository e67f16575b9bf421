// SPDX-License-Identifier: Apache-2.0
//! A container's processes written down as CRIU's images, and made again of them.
//!
//! The runtime's own process, as root, and CRIU as its child (`swrk.rs`), which does all of the work: what is here says what of
//! a container is CRIU's to keep and what is the host's to give again. Called by `checkpoint`, `restore`, and by `create` for
//! the names of standard descriptors.
//!
//! ```text
//! wire.rs      protocol buffers: pure
//! rpc.rs       CRIU's messages: pure
//! swrk.rs      CRIU as a child, asked and answered
//! images.rs    the directories of a checkpoint; log.rs finds the errors in CRIU's
//! outside.rs   what of a container is not in the images: mounts, namespaces
//! stdio.rs     standard descriptors, likewise
//! yard.rs      the host's cgroups, where CRIU finds them
//! dump.rs      the request of `checkpoint`
//! restore.rs   the request of `restore`; stage.rs the mounts that it begins with
//! ```

mod dump;
mod images;
mod log;
mod outside;
mod restore;
#[doc(hidden)]
pub mod rpc;
mod stage;
pub mod stdio;
mod swrk;
#[doc(hidden)]
pub mod wire;
mod yard;

pub use dump::{Extent, Subject, dump};
pub use images::Images;
pub use restore::{Event, Restore};
pub use rpc::{CgroupsMode, Options};
pub use swrk::check_version;

use std::collections::BTreeMap;
use std::path::Path;

/// Network namespaces are made empty: what is in them is the work of hooks and engines, before and after (CLONE_NEWNET).
const EMPTY_NETWORK: u32 = 0x4000_0000;

/// Where CRIU finds the host's cgroups, in the container's directory.
const CGROUPS: &str = "cgroups";

/// The annotation that names a file of options for CRIU.
pub const CONFIG_ANNOTATION: &str = "org.criu.config";

/// Where that file is otherwise: ours, or else runc's.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/corten.conf", "/etc/criu/runc.conf"];

/// The file of options for CRIU, which outweigh those of the command line: the one that the annotation names, none where it
/// is empty, or else the host's.
fn config_file(annotations: &BTreeMap<String, String>) -> Option<String> {
    match annotations.get(CONFIG_ANNOTATION) {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => CONFIG_FILES
            .into_iter()
            .find(|path| Path::new(path).exists())
            .map(str::to_owned),
    }
}
