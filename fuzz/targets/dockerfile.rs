// SPDX-License-Identifier: Apache-2.0
//! A Dockerfile, and the words in it: what is parsed has stages and lines that are in the text, and a word without a dollar,
//! a quote or an escape expands to itself.

#![no_main]

use std::collections::BTreeMap;

use corten_image::Reference;
use corten_image::dockerfile::ignore::Ignore;
use corten_image::dockerfile::scope::{Globals, Platform};
use corten_image::dockerfile::{parse, word};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines = text.lines().count() + 1;
    if let Ok(dockerfile) = parse(text) {
        assert!(!dockerfile.stages.is_empty());
        for stage in &dockerfile.stages {
            assert!(stage.line <= lines);
            assert!(stage.steps.iter().all(|step| step.line <= lines));
        }
    }
    let globals = Globals::new(BTreeMap::new(), &Platform::host(), &Platform::host());
    for line in text.lines() {
        if let Ok(expanded) = word::expand(line, '\\', &globals)
            && !line.contains(['$', '\\', '"', '\''])
        {
            assert_eq!(expanded, line);
        }
    }
    if let Ok(reference) = Reference::parse(text) {
        let again =
            Reference::parse(&reference.to_string()).expect("a name that was read is a name");
        assert_eq!(again.to_string(), reference.to_string());
    }
    // A pattern that is taken is one that can be asked.
    let _ = Ignore::parse(text).map(|ignore| format!("{ignore:?}"));
});
