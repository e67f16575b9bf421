// SPDX-License-Identifier: Apache-2.0
//! Holds docs/ordering.md against the table that it is made from. `UPDATE=1 cargo test --test ordering` makes it anew.

#![allow(clippy::unwrap_used)] // what fails here is a failing test

use std::fmt::Write;
use std::path::Path;

use corten::protocol::{ORDER, Step};

fn document() -> String {
    let mut text = String::from(
        "# The order of init's steps\n\n\
         Made from `src/protocol/step.rs` by `UPDATE=1 cargo test --test ordering`; a test holds the two together.\n\n\
         | # | step | what is being done |\n|---|---|---|\n",
    );
    for (number, step) in Step::ALL.iter().enumerate() {
        writeln!(text, "| {} | {step:?} | {} |", number + 1, step.text()).unwrap();
    }
    text.push_str(
        "\n## Why this order\n\n| earlier | later | what breaks otherwise |\n|---|---|---|\n",
    );
    for rule in ORDER {
        writeln!(
            text,
            "| {:?} | {:?} | {} |",
            rule.earlier, rule.later, rule.why
        )
        .unwrap();
    }
    text
}

#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ordering.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert_eq!(there, document(), "UPDATE=1 cargo test --test ordering");
}
