// SPDX-License-Identifier: Apache-2.0
//! From a document's bytes to its types: one strict reader, errors with line, column and field. Pure; called by
//! `bundle/mod.rs`.
//!
//! The typed reader runs alone. Only when it fails is the text looked at again, to name the field: paths that are kept
//! up for every value would cost each good document what only a bad one needs.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::finding::Report;
use super::scan::{self, Wanted};
use super::support::Shape;
use crate::error::{Error, Kind, Result};

/// The longest part of a message that quotes the document.
const QUOTE_MAX: usize = 200;

/// Reads `text` as a `T`, and reports what `shape` says about its fields.
pub fn document<T: DeserializeOwned>(
    text: &[u8],
    shape: &'static Shape,
    report: &mut Report,
) -> Result<T> {
    let value = serde_json::from_slice(text).map_err(|error| explain(text, &error))?;
    scan::review(text, shape, report);
    Ok(value)
}

fn explain(text: &[u8], error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let said = full
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&full);
    let message = match error.classify() {
        Category::Data => plain(said),
        // Also what serde_json says of a value that is none of the words of a closed set, because it is no string.
        Category::Syntax if said == "expected value" && is_json(text) => {
            "expected a string, found another kind of value".to_owned()
        }
        Category::Syntax | Category::Eof | Category::Io => {
            let message = format!("{said}, at line {line} column {column}");
            return Error::new(Kind::Invalid, message).context("read JSON");
        }
    };
    let message = format!("{message}, at line {line} column {column}");
    let wanted = if said.starts_with("missing field") {
        Wanted::Object
    } else {
        Wanted::Value
    };
    let pointer = scan::pointer_at(text, offset(text, line, column), wanted);
    let error = Error::new(Kind::Invalid, message);
    if pointer.is_empty() {
        error
    } else {
        error.at(pointer)
    }
}

/// Whether brackets, commas and words are where JSON has them, whatever the values mean.
fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// The byte that a line and a column mean; both count from one, a column counts bytes.
fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        let rest = text.get(start..).unwrap_or_default();
        start += rest
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(rest.len(), |at| at + 1);
    }
    start.saturating_add(column)
}

/// The reader's words without the names of Rust's types.
fn plain(said: &str) -> String {
    let Some((found, expected)) = said.rsplit_once(", expected ") else {
        return shortened(said).into_owned();
    };
    let expected = match expected {
        "i32" | "i64" | "u64" => "a whole number in range",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "a sequence" => "an array",
        "a boolean" => "true or false",
        "a map" => "an object",
        other => other,
    };
    let found = match found {
        "invalid type: map" => Cow::Borrowed("found an object"),
        "invalid type: sequence" => Cow::Borrowed("found an array"),
        "invalid type: null" => Cow::Borrowed("found null"),
        other => match other.split_once(": ") {
            Some(("invalid type" | "invalid value", value)) => {
                Cow::Owned(format!("found {}", shortened(value)))
            }
            _ => shortened(other),
        },
    };
    if let Some(value) = found.strip_prefix("unknown variant ") {
        return format!("unknown value {value}, expected {expected}");
    }
    format!("expected {expected}, {found}")
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
