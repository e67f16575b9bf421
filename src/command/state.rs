// SPDX-License-Identifier: Apache-2.0
//! `corten state`: one container, as JSON.
//!
//! Reads the store, /proc and the cgroup; changes nothing.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::store::{Container, ContainerId, PostMortem, Status, Store};

/// What callers parse: runc's members in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    /// 0 once init has ended: its number may be anybody's.
    pid: i32,
    status: String,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
    owner: String,
    /// What is known of its end, which runc does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    post_mortem: Option<PostMortem>,
}

impl<'a> State<'a> {
    /// The state of `container` now.
    pub(super) fn of(container: &'a Container, owners: &Owners) -> Result<Self> {
        let record = container.record();
        let status = container.status()?;
        let pid = match (&record.init, status) {
            (Some(init), Status::Created | Status::Running | Status::Paused) => init.pid,
            _ => 0,
        };
        Ok(Self {
            oci_version: &record.oci_version,
            id: record.id.as_str(),
            pid,
            status: status.to_string(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: Some(&record.annotations).filter(|map| !map.is_empty()),
            owner: owners.name(record.owner),
            post_mortem: None,
        })
    }

    /// What is shown of `id` where its record can't be read.
    pub(super) fn unknown(id: &'a ContainerId) -> Self {
        let none = Path::new("");
        Self {
            oci_version: "",
            id: id.as_str(),
            pid: 0,
            status: "unknown".to_owned(),
            bundle: none,
            rootfs: none,
            created: "",
            annotations: None,
            owner: String::new(),
            post_mortem: None,
        }
    }

    /// The cells of a table: ID, PID, STATUS, BUNDLE, CREATED, OWNER.
    pub(super) fn cells(&self) -> [String; 6] {
        [
            self.id.to_owned(),
            self.pid.to_string(),
            self.status.to_string(),
            self.bundle.display().to_string(),
            self.created.to_owned(),
            self.owner.clone(),
        ]
    }
}

/// The state of `id` as text.
pub(super) fn state(store: &Store, id: &ContainerId) -> Result<String> {
    let container = store.load(id)?;
    let mut state = State::of(&container, &Owners::default())?;
    // Only an init that has ended has no number.
    if state.pid == 0 {
        state.post_mortem = container.post_mortem()?;
    }
    let mut text = serde_json::to_string_pretty(&state).map_err(not_text)?;
    text.push('\n');
    Ok(text)
}

pub(super) fn not_text(error: serde_json::Error) -> Error {
    Error::new(Kind::System, format!("write the state as JSON: {error}"))
}

/// The names of users. Root's is known, so that the state of root's containers opens no file for it.
#[derive(Debug, Default)]
pub(super) struct Owners {
    passwd: OnceCell<String>,
}

impl Owners {
    fn name(&self, uid: u32) -> String {
        if uid == 0 {
            return "root".to_owned();
        }
        // Without it users are numbers.
        let read = || std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = name_in(self.passwd.get_or_init(read), uid);
        name.map_or_else(|| format!("#{uid}"), str::to_owned)
    }
}

/// The name of `uid` in the text of /etc/passwd.
fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    let wanted = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names_where_the_host_knows_them() {
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:7::/:/bin/sh\nbroken\nb:x:1000:1::/:/\n";
        for (uid, name) in [
            (0, Some("root")),
            (1000, Some("ann")),
            (7, None),
            (100, None),
        ] {
            assert_eq!(name_in(passwd, uid), name);
        }
        assert_eq!(Owners::default().name(0), "root");
        assert_eq!(Owners::default().name(4_000_000_000), "#4000000000");
    }
}
