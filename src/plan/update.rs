// SPDX-License-Identifier: Apache-2.0
//! What `update` comes to: the container's config.json with the new limits in it, which is what later updates start from,
//! and the resources to write now. Pure.
//!
//! Limits depend on each other: a quota means nothing without its period, and swap on cgroup v2 is what memory leaves of
//! both together. So those that belong to one that changes are taken along from the configuration, as runc does.

use serde_json::{Map, Value};

use crate::bundle;
use crate::bundle::finding::{Finding, Unknown};
use crate::bundle::spec::{LinuxIntelRdt, LinuxResources};
use crate::error::{Error, Kind, Result};

/// A change of a container's limits.
#[derive(Debug)]
pub struct Update {
    /// The configuration with it.
    pub config: Vec<u8>,
    /// What is written now.
    pub resources: LinuxResources,
    /// Whether a limit of memory that is used up already is refused.
    pub check_memory: bool,
    /// The class of cache and memory bandwidth with it.
    pub rdt: Option<LinuxIntelRdt>,
}

/// The fields in which engines write 0 for "as it was", below their sections.
const ZERO_IS_UNSET: [(&str, &[&str]); 3] = [
    (
        "memory",
        &["limit", "reservation", "swap", "kernel", "kernelTCP"],
    ),
    (
        "cpu",
        &[
            "shares",
            "quota",
            "period",
            "realtimeRuntime",
            "realtimePeriod",
        ],
    ),
    ("blockIO", &["weight", "leafWeight"]),
];

/// Puts `document` (`linux.resources`, without its devices) and `rdt` (`linux.intelRdt`) into `config`; `resources` is
/// what `document` says.
pub fn plan(
    config: &[u8],
    document: &[u8],
    mut resources: LinuxResources,
    rdt: Map<String, Value>,
) -> Result<Update> {
    let mut config = object(config)?;
    let mut wanted = object(document)?;
    wanted.remove("devices");
    free_swap(&mut wanted);
    let mut linux = take(&mut config, "linux");
    put(&mut linux, "resources", wanted);
    let has_rdt = !rdt.is_empty();
    if has_rdt {
        put(&mut linux, "intelRdt", rdt);
    }
    config.insert("linux".to_owned(), Value::Object(linux));
    let config = Value::Object(config).to_string().into_bytes();
    let (spec, findings) = bundle::judge(&config, Unknown::Ignored)?;
    if let Some(error) = findings.iter().find_map(Finding::error) {
        return Err(error);
    }
    let linux = spec.linux.unwrap_or_default();
    let all = linux.resources.unwrap_or_default();
    complete(&mut resources, &all);
    let check = all.memory.and_then(|memory| memory.check_before_update);
    Ok(Update {
        config,
        resources,
        check_memory: check == Some(true),
        rdt: linux.intel_rdt.filter(|_| has_rdt),
    })
}

/// Unlimited memory without a word on swap means unlimited swap too, whatever was there.
fn free_swap(wanted: &mut Map<String, Value>) {
    if let Some(Value::Object(memory)) = wanted.get_mut("memory")
        && memory.get("limit") == Some(&Value::from(-1))
        && memory.get("swap").and_then(Value::as_i64).unwrap_or(0) == 0
    {
        memory.insert("swap".to_owned(), Value::from(-1));
    }
}

fn object(text: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(text)
        .map_err(|error| Error::new(Kind::Invalid, format!("read JSON: {error}")))
}

/// The object `name`, taken out of `outer`; an empty one if there is none.
fn take(outer: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match outer.remove(name) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    }
}

/// Puts `from`, the section `name`, over `into`: objects field by field, everything else as a whole.
fn overlay(name: &str, into: &mut Map<String, Value>, from: Map<String, Value>) {
    let unset = ZERO_IS_UNSET.iter().find(|(section, _)| *section == name);
    let unset = unset.map_or(&[][..], |(_, fields)| fields);
    for (key, value) in from {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::Number(number) if number.as_u64() == Some(0) && unset.contains(&&*key) => {}
            Value::Object(from) => put(into, &key, from),
            value => {
                into.insert(key, value);
            }
        }
    }
}

/// Puts `from` over the section `name` of `outer`.
fn put(outer: &mut Map<String, Value>, name: &str, from: Map<String, Value>) {
    let mut inner = take(outer, name);
    overlay(name, &mut inner, from);
    outer.insert(name.to_owned(), Value::Object(inner));
}

/// Takes along what belongs to what changes.
fn complete(resources: &mut LinuxResources, all: &LinuxResources) {
    let is_set = |value: Option<i64>| value.unwrap_or(0) != 0;
    if let (Some(memory), Some(all)) = (&mut resources.memory, &all.memory)
        && (is_set(memory.limit) || is_set(memory.swap))
    {
        (memory.limit, memory.swap) = (all.limit, all.swap);
    }
    if let (Some(cpu), Some(all)) = (&mut resources.cpu, &all.cpu) {
        if is_set(cpu.quota) || cpu.period.unwrap_or(0) != 0 {
            (cpu.quota, cpu.period) = (all.quota, all.period);
        }
        if is_set(cpu.realtime_runtime) || cpu.realtime_period.unwrap_or(0) != 0 {
            (cpu.realtime_runtime, cpu.realtime_period) =
                (all.realtime_runtime, all.realtime_period);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(resources: Value, document: Value) -> Result<Update> {
        let config = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
            "linux": {"resources": resources, "namespaces": [{"type": "mount"}, {"type": "pid"}]},
        });
        let document = document.to_string();
        let wanted = serde_json::from_str(&document).unwrap();
        plan(
            config.to_string().as_bytes(),
            document.as_bytes(),
            wanted,
            Map::new(),
        )
    }

    #[test]
    fn the_configuration_keeps_what_is_not_changed() {
        for (before, change, after) in [
            (json!({}), json!({}), json!({})),
            (
                json!({"memory": {"limit": 100, "swap": 200}, "pids": {"limit": 3}}),
                json!({"memory": {"limit": 150, "swap": 0}}),
                json!({"memory": {"limit": 150, "swap": 200}, "pids": {"limit": 3}}),
            ),
            (
                json!({"cpu": {"shares": 10, "cpus": "0", "idle": 1}}),
                json!({"cpu": {"shares": 0, "cpus": "", "mems": null, "idle": 0, "burst": 0}}),
                json!({"cpu": {"shares": 10, "cpus": "0", "idle": 0, "burst": 0}}),
            ),
            (
                json!({"memory": {"limit": 100, "swap": 200}}),
                json!({"memory": {"limit": -1}}),
                json!({"memory": {"limit": -1, "swap": -1}}),
            ),
            (
                json!({"devices": [{"allow": false, "access": "rwm"}]}),
                json!({"devices": [{"allow": true, "access": "rwm"}], "pids": {"limit": -1}}),
                json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": -1}}),
            ),
            (
                json!({"unified": {"memory.high": "1", "pids.max": "7"}}),
                json!({"unified": {"memory.high": "2"}}),
                json!({"unified": {"memory.high": "2", "pids.max": "7"}}),
            ),
        ] {
            let update = planned(before, change.clone()).unwrap();
            let config: Value = serde_json::from_slice(&update.config).unwrap();
            assert_eq!(config["linux"]["resources"], after, "{change}");
            assert_eq!(config["process"]["args"], json!(["sh"]));
        }
    }

    #[test]
    fn what_belongs_together_is_written_together() {
        let before = json!({
            "memory": {"limit": 100, "swap": 200, "reservation": 50},
            "cpu": {"quota": 5, "period": 7, "shares": 9},
        });
        for (change, memory, cpu) in [
            (
                json!({"memory": {"limit": 150}}),
                (Some(150), Some(200)),
                (None, None),
            ),
            (
                json!({"memory": {"swap": 150}}),
                (Some(100), Some(150)),
                (None, None),
            ),
            (
                json!({"memory": {"reservation": 7}}),
                (None, None),
                (None, None),
            ),
            (
                json!({"cpu": {"quota": 6}}),
                (None, None),
                (Some(6), Some(7)),
            ),
            (
                json!({"cpu": {"period": 6}}),
                (None, None),
                (Some(5), Some(6)),
            ),
            (json!({"cpu": {"shares": 6}}), (None, None), (None, None)),
        ] {
            let wanted = planned(before.clone(), change.clone()).unwrap().resources;
            let found = wanted.memory.map(|memory| (memory.limit, memory.swap));
            assert_eq!(found.unwrap_or_default(), memory, "{change}");
            let found = wanted.cpu.map(|cpu| (cpu.quota, cpu.period));
            assert_eq!(found.unwrap_or_default(), cpu, "{change}");
        }
    }

    #[test]
    fn what_does_not_fit_the_configuration_is_refused() {
        let before = json!({"memory": {"limit": 100, "swap": 200}});
        for (change, pointer) in [
            (
                json!({"memory": {"limit": 300}}),
                "/linux/resources/memory/swap",
            ),
            (
                json!({"memory": {"limit": -7}}),
                "/linux/resources/memory/limit",
            ),
            (json!({"cpu": {"cpus": "x"}}), "/linux/resources/cpu/cpus"),
        ] {
            let error = planned(before.clone(), change).unwrap_err();
            assert_eq!(error.pointer(), Some(pointer));
        }
    }

    #[test]
    fn a_check_of_either_document_counts() {
        let check = |before, change| planned(before, change).unwrap().check_memory;
        let asked = json!({"memory": {"limit": 100, "checkBeforeUpdate": true}});
        assert!(check(asked.clone(), json!({})));
        assert!(check(json!({}), asked));
        assert!(!check(json!({}), json!({"memory": {"limit": 1}})));
    }
}
