// SPDX-License-Identifier: Apache-2.0
//! Records of the store: what was not written as it is read is an error, and what is read is written again as it was.
//! The input is a record's JSON; the seal over it is put on here, as libFuzzer could never guess it.

#![no_main]

use corten::bundle::support::{Field, Shape, Support};
use corten::store::{ContainerId, Record};
use corten_fuzz::dice::Dice;
use corten_fuzz::mutate;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::Value;

const fn field(name: &'static str, shape: Shape) -> Field {
    let support = Support::Yes;
    Field {
        name,
        shape,
        support,
    }
}

const PLACE: Shape = Shape::Object(&[
    field("controllers", Shape::List(&Shape::Text)),
    field("mount", Shape::Text),
    field("cgroup", Shape::Text),
]);

static RECORD: Shape = Shape::Object(&[
    field("version", Shape::Number),
    field("id", Shape::Word(&["fuzz", "other", "../x", ".", ""])),
    field("ociVersion", Shape::Text),
    field("bundle", Shape::Text),
    field("rootfs", Shape::Text),
    field("created", Shape::Text),
    field("owner", Shape::Number),
    field("annotations", Shape::Map(&Shape::Text)),
    field(
        "cgroup",
        Shape::Object(&[
            field("unified", PLACE),
            field("v1", Shape::List(&PLACE)),
            field("owner", Shape::Text),
        ]),
    ),
    field(
        "cgroupDriver",
        Shape::Word(&["cgroupfs", "systemd", "disabled"]),
    ),
    field("pidNamespace", Shape::Word(&["own", "shared"])),
    field("privilege", Shape::Word(&["root", "rootless"])),
    field("phase", Shape::Word(&["intent", "made"])),
    field(
        "init",
        Shape::Object(&[
            field("pid", Shape::Number),
            field("startTime", Shape::Number),
            field("bootId", Shape::Text),
            field("pidfsInode", Shape::Number),
        ]),
    ),
    field("checksum", Shape::Text),
    field("novelty", Shape::Foreign),
]);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::document(data, size, max_size, seed, &RECORD, fuzzer_mutate)
});

fuzz_target!(|text: &[u8]| {
    let id = ContainerId::new("fuzz").expect("it is an id");
    let other = ContainerId::new("other").expect("it is an id");
    check(text, &id, &other);
    let Some((b'}', body)) = text.split_last() else {
        return;
    };
    check(&[body, seal(body).as_bytes()].concat(), &id, &other);
});

/// The seal, written down a second time: FNV-1a of all bytes before the last member.
fn seal(body: &[u8]) -> String {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in body {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!(",\"checksum\":\"{sum:016x}\"}}\n")
}

fn check(bytes: &[u8], id: &ContainerId, other: &ContainerId) {
    let Ok(record) = Record::decode(bytes, id) else {
        return;
    };
    assert_eq!(record.id, *id);
    assert!(Record::decode(bytes, other).is_err(), "of another id");
    let written = record.encode().expect("what was read can be written");
    let again = Record::decode(&written, id).expect("what was written can be read");
    // Of a newer version's members a fraction may lose its last digit; no version has one.
    if !serde_json::from_slice(bytes).is_ok_and(|record| has_fraction(&record)) {
        assert_eq!(record, again);
        assert_eq!(written, again.encode().expect("it can be written again"));
    }
    damage(&written, id);
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(members) => members.values().any(has_fraction),
        _ => false,
    }
}

/// A record that was cut, or in which any byte changed, is no record.
fn damage(bytes: &[u8], id: &ContainerId) {
    let mut dice = Dice::of(bytes);
    for _ in 0..4 {
        let at = dice.below(bytes.len());
        assert!(Record::decode(&bytes[..at], id).is_err(), "cut at {at}");
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << dice.below(8);
        assert!(Record::decode(&damaged, id).is_err(), "changed at {at}");
        // A page of zeros is what a crash of the host leaves.
        let zeros = bytes.len().min(at + 16);
        let mut torn = bytes.to_vec();
        torn[at..zeros].fill(0);
        assert!(Record::decode(&torn, id).is_err(), "torn at {at}");
    }
}
