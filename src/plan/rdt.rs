// SPDX-License-Identifier: Apache-2.0
//! What `linux.intelRdt` comes to: a group of resctrl, what it may use, and who is watched. Pure; carried out by `rdt`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bundle::spec::LinuxIntelRdt;
use crate::bundle::{is_rdt_group, schemata_lines};
use crate::error::{Error, Result};

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdt {
    /// The group.
    pub group: Group,
    /// Whether it must exist: it was named, and nothing says what it may use.
    pub must_exist: bool,
    /// Lines for its schemata file.
    pub schemata: Vec<String>,
    /// What the machine must be able to watch: (the field that asks, features that would do).
    pub watched: Vec<(&'static str, &'static [&'static str])>,
}

/// A container's place in resctrl. Kept in its record, for `exec` and `delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Below the root of resctrl; empty for the root's own group.
    pub name: String,
    /// The container's own name for what is its alone.
    pub id: String,
    /// Whether the document names the group, so that others may share it.
    pub shared: bool,
    /// Whether it has a monitoring group of its own in there.
    pub monitored: bool,
    /// Whether it was not there before.
    pub is_made: bool,
}

impl Group {
    /// Its directory, relative to the root.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(".").join(&self.name)
    }

    /// The directory of its monitoring group, relative to the root.
    pub fn monitor(&self) -> Option<PathBuf> {
        let path = || self.path().join("mon_groups").join(&self.id);
        self.monitored.then(path)
    }
}

/// Decides.
pub fn plan(wanted: &LinuxIntelRdt, id: &str) -> Result<Rdt> {
    let name = wanted.clos_id.as_deref().unwrap_or(id);
    if !is_rdt_group(name) {
        let text = format!("resctrl has no place for a group `{name}`");
        return Err(Error::invalid("/linux/intelRdt/closID", text).remedy("set closID"));
    }
    let schemata = schemata(wanted);
    let mut watched: Vec<(_, &'static [&'static str])> = Vec::new();
    if wanted.enable_cmt {
        watched.push(("enableCMT", &["llc_occupancy"]));
    }
    if wanted.enable_mbm {
        watched.push(("enableMBM", &["mbm_total_bytes", "mbm_local_bytes"]));
    }
    let shared = wanted.clos_id.is_some();
    Ok(Rdt {
        must_exist: shared && schemata.is_empty(),
        group: Group {
            name: name.trim_matches('/').to_owned(),
            id: id.to_owned(),
            shared,
            monitored: wanted.enable_monitoring,
            is_made: false,
        },
        schemata,
        watched,
    })
}

/// One text of all fields. Where memBwSchema says what MB is, l3CacheSchema's word on it doesn't count (config-linux.md).
fn schemata(wanted: &LinuxIntelRdt) -> Vec<String> {
    let l3 = wanted.l3_cache_schema.as_deref().unwrap_or_default();
    let mb = wanted.mem_bw_schema.as_deref();
    let l3 = schemata_lines(l3).filter(|line| mb.is_none() || !line.starts_with("MB:"));
    let others = wanted.schemata.iter().flat_map(|line| schemata_lines(line));
    let lines = l3.chain(mb.map(str::trim)).chain(others);
    lines.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Rdt {
        plan(&serde_json::from_str(json).unwrap(), "web").unwrap()
    }

    #[test]
    fn schemata_are_one_text() {
        let cases: [(&str, &[&str]); 6] = [
            ("{}", &[]),
            (r#"{"l3CacheSchema": "L3:0=f;1=f0"}"#, &["L3:0=f;1=f0"]),
            (
                r#"{"l3CacheSchema": "L3:0=f\nMB:0=10\n"}"#,
                &["L3:0=f", "MB:0=10"],
            ),
            (
                r#"{"l3CacheSchema": "MB:0=10\nL3:0=f", "memBwSchema": "MB:0=20"}"#,
                &["L3:0=f", "MB:0=20"],
            ),
            (r#"{"memBwSchema": "MB:0=20"}"#, &["MB:0=20"]),
            (
                r#"{"memBwSchema": "MB:0=20", "schemata": ["L2:0=1", "L3:0=3"]}"#,
                &["MB:0=20", "L2:0=1", "L3:0=3"],
            ),
        ];
        for (json, wanted) in cases {
            assert_eq!(planned(json).schemata, wanted, "{json}");
        }
    }

    #[test]
    fn groups_have_places() {
        let cases = [
            ("{}", "./web", None, false, false),
            (
                r#"{"enableMonitoring": true}"#,
                "./web",
                Some("./web/mon_groups/web"),
                false,
                false,
            ),
            (r#"{"closID": "gold"}"#, "./gold", None, true, true),
            (
                r#"{"closID": "gold", "schemata": ["MB:0=1"], "enableMonitoring": true}"#,
                "./gold",
                Some("./gold/mon_groups/web"),
                true,
                false,
            ),
            (
                r#"{"closID": "/", "enableMonitoring": true}"#,
                "./",
                Some("./mon_groups/web"),
                true,
                true,
            ),
        ];
        for (json, path, monitor, shared, must_exist) in cases {
            let rdt = planned(json);
            assert_eq!(rdt.group.path().to_str(), Some(path), "{json}");
            let found = rdt.group.monitor();
            assert_eq!(found.as_deref().and_then(|path| path.to_str()), monitor);
            assert_eq!((rdt.group.shared, rdt.must_exist), (shared, must_exist));
        }
    }

    #[test]
    fn an_id_that_is_no_group_needs_a_name() {
        let wanted: LinuxIntelRdt = serde_json::from_str("{}").unwrap();
        let error = plan(&wanted, "info").unwrap_err();
        assert_eq!(error.pointer(), Some("/linux/intelRdt/closID"));
    }

    #[test]
    fn what_is_to_be_watched_is_asked_for_by_field() {
        let watched = planned(r#"{"enableCMT": true, "enableMBM": true}"#).watched;
        let fields: Vec<_> = watched.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["enableCMT", "enableMBM"]);
        assert!(planned("{}").watched.is_empty());
    }
}
