// SPDX-License-Identifier: Apache-2.0
//! CRIU's answers: whatever bytes come, they are read or refused; and what is read is what a second reader of the format
//! finds.

#![no_main]

use corten::checkpoint::rpc::Answer;
use corten::checkpoint::wire::{Reader, Value, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    let mut again = Writer::default();
    let mut fields = Vec::new();
    let whole = loop {
        match reader.field() {
            Ok(Some((field, value))) => {
                let Ok(field) = u32::try_from(field) else {
                    // CRIU has none of such a number, and who reads passes over it.
                    return;
                };
                match value {
                    Value::Number(number) => again.number(field, number),
                    Value::Bytes(bytes) => again.bytes(field, bytes),
                }
                fields.push((u64::from(field), value));
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(fields.len() <= bytes.len(), "every field takes a byte");
    let written = again.finish();
    let mut reader = Reader::new(&written);
    for wanted in fields {
        let read = reader.field().expect("what was written can be read");
        // The number of a field is read as 61 bits, and written as the format's 29.
        assert_eq!(read, Some(wanted));
    }
    let answer = Answer::decode(bytes);
    assert!(whole || answer.is_err(), "half a message is none");
});
