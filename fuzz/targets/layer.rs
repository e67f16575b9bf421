// SPDX-License-Identifier: Apache-2.0
//! The tar of a layer: what is read has the size that it says and is within the limits, and is read again as it was when it
//! is written.

#![no_main]

use std::io::Read;

use corten_image::tar::{Entry, EntryKind, Limits, Reader, Writer};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 200,
    extended: 4096,
    path: 512,
    names: 64 << 10,
};

fuzz_target!(|bytes: &[u8]| {
    let Some(entries) = read(bytes) else { return };
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in &entries {
        // Some that can be read are never written: names of which other readers make something else.
        if writer.append_file(entry, content.as_slice()).is_err() {
            return;
        }
    }
    let written = writer.finish().expect("a Vec takes all");
    let again = read(&written).expect("what was written is read");
    for ((entry, content), (other, same)) in entries.iter().zip(&again) {
        let mut expected = entry.clone();
        // An order of their own.
        expected.xattrs.sort();
        let mut found = other.clone();
        found.xattrs.sort();
        assert_eq!((&expected, content), (&found, same));
    }
    assert_eq!(entries.len(), again.len());
});

fn read(bytes: &[u8]) -> Option<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(bytes, LIMITS);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().ok()? {
        assert!(!entry.path.is_empty() && entry.path.len() <= LIMITS.path);
        assert!(!entry.path.contains(&0), "{entry:?}");
        assert!(
            entry.kind == EntryKind::File || entry.size == 0,
            "{entry:?}"
        );
        assert!(entry.mode <= 0o7777 && entry.mtime.nanos < 1_000_000_000);
        let mut content = Vec::new();
        reader.read_to_end(&mut content).ok()?;
        assert_eq!(content.len() as u64, entry.size);
        entries.push((entry, content));
    }
    assert!(entries.len() as u64 <= LIMITS.entries);
    Some(entries)
}
