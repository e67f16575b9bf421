// SPDX-License-Identifier: Apache-2.0
//! The document of `exec --process`, from its bytes to the planned process.

#![no_main]

use corten::bundle::finding::Unknown;
use corten::bundle::{self, support};
use corten::plan::process;
use corten_fuzz::document::{self, assert_names_a_field};
use corten_fuzz::{mutate, plan};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::Value;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::document(data, size, max_size, seed, &support::PROCESS, fuzzer_mutate)
});

fuzz_target!(|text: &[u8]| {
    let document = document::read(text);
    let read = match bundle::parse_process(text, Unknown::Ignored) {
        Ok((read, _warnings)) => read,
        Err(error) => {
            if let Some(document) = document.filter(Value::is_object) {
                assert_names_a_field(&document, &error, text);
            }
            return;
        }
    };
    let written = serde_json::to_vec(&read).expect("a Process can be written");
    let (again, _) =
        bundle::parse_process(&written, Unknown::Refused).expect("what was written can be read");
    assert_eq!(format!("{read:?}"), format!("{again:?}"));
    // The same rules, asked in the way of `exec` without a document.
    bundle::check_process(&read).expect("a process is good wherever it comes from");
    match process::plan(&read, "") {
        Ok(planned) => {
            plan::assert_process(&planned);
            assert_eq!(process::plan(&again, "").ok(), Some(planned));
        }
        Err(error) => {
            if let Some(document) = document {
                assert_names_a_field(&document, &error, text);
            }
        }
    }
});
