// SPDX-License-Identifier: Apache-2.0
//! `spec`: writes a config.json to start from. The runtime's own process with the caller's privileges; called by
//! `command`.
//!
//! The document is that of runc 1.3, field by field, since scripts edit it by its places; only the version of the spec
//! and the host name are corten's. (Older runc also lists ambient capabilities, which the kernel does not raise without
//! inheritable ones, and makes no cgroup namespace.)

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use corten_sys::process;

use crate::error::{Error, Kind, Result};

/// Writes config.json into the directory `bundle`, unless there is one.
pub fn run(bundle: &Path, rootless: bool) -> Result<()> {
    let path = bundle.join("config.json");
    let fail = |error: std::io::Error| {
        let text = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} exists, remove it first", path.display())
            }
            _ => format!("write {}: {error}", path.display()),
        };
        Error::new(Kind::Invalid, text)
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&path)
        .map_err(fail)?;
    let text = document(rootless);
    file.write_all(text.as_bytes()).map_err(fail)
}

/// The rootless one maps root to the caller: `hostID` of users, then of groups, which are 0 in the text.
fn document(rootless: bool) -> String {
    if !rootless {
        return include_str!("spec/default.json").to_owned();
    }
    let ids = [process::effective_uid(), process::effective_gid()];
    let mut parts = include_str!("spec/rootless.json").split("\"hostID\": 0");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (id, part) in ids.iter().zip(parts) {
        text.push_str(&format!("\"hostID\": {id}{part}"));
    }
    text
}
