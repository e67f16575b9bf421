// SPDX-License-Identifier: Apache-2.0
//! A profile from its JSON, read as runc reads it and apart from corten's own reader, so that neither hides the other's
//! mistake. What is wrong in a document is a panic: the documents here are fixtures.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // only tests call this

use std::path::PathBuf;

use corten::seccomp::model::{Action, Condition, Operator, Profile, Rule};
use corten::seccomp::tables::Arch;
use serde_json::Value;

/// The fixtures that are profiles, by name.
pub const FIXTURES: [&str; 8] = [
    "browser",
    "containerd-default",
    "docker-admin",
    "docker-all",
    "docker-default",
    "podman-default",
    "systemd-harden",
    "systemd-service",
];

/// The profile of tests/fixtures/seccomp/NAME.json.
pub fn fixture(name: &str) -> Profile {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/seccomp");
    let path = root.join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    profile(&serde_json::from_str(&text).expect("JSON"))
}

/// The profile of a `linux.seccomp`.
pub fn profile(document: &Value) -> Profile {
    let list = |field: &Value| field.as_array().cloned().unwrap_or_default();
    let archs = list(&document["architectures"]);
    Profile {
        default: action(&document["defaultAction"], &document["defaultErrnoRet"]),
        architectures: archs
            .iter()
            .map(|word| Arch::named(word.as_str().unwrap()).expect("an architecture"))
            .collect(),
        rules: list(&document["syscalls"]).iter().map(rule).collect(),
    }
}

fn rule(entry: &Value) -> Rule {
    let list = |field: &str| entry[field].as_array().cloned().unwrap_or_default();
    Rule {
        names: list("names")
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
        action: action(&entry["action"], &entry["errnoRet"]),
        conditions: list("args").iter().map(condition).collect(),
    }
}

fn action(word: &Value, errno: &Value) -> Action {
    let errno = errno.as_u64().map_or(1, |errno| errno as u16);
    match word.as_str().unwrap() {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_ERRNO" => Action::Errno(errno),
        "SCMP_ACT_TRACE" => Action::Trace(errno),
        "SCMP_ACT_NOTIFY" => Action::Notify,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ALLOW" => Action::Allow,
        other => panic!("no action {other}"),
    }
}

fn condition(entry: &Value) -> Condition {
    Condition {
        index: entry["index"].as_u64().unwrap() as u8,
        operator: match entry["op"].as_str().unwrap() {
            "SCMP_CMP_NE" => Operator::NotEqual,
            "SCMP_CMP_LT" => Operator::Less,
            "SCMP_CMP_LE" => Operator::LessOrEqual,
            "SCMP_CMP_EQ" => Operator::Equal,
            "SCMP_CMP_GE" => Operator::GreaterOrEqual,
            "SCMP_CMP_GT" => Operator::Greater,
            "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
            other => panic!("no operator {other}"),
        },
        value: entry["value"].as_u64().unwrap(),
        value_two: entry["valueTwo"].as_u64().unwrap_or(0),
    }
}
