// SPDX-License-Identifier: Apache-2.0
//! The document that errors and findings point into: an independent reader of JSON pointers. Called by the targets.

use corten::error::Error;
use serde_json::Value;

/// The document, unless it is none, or has a key twice: then a pointer may be about the value that got lost.
pub fn read(text: &[u8]) -> Option<Value> {
    let document: Value = serde_json::from_slice(text).ok()?;
    (members(text) == members(document.to_string().as_bytes())).then_some(document)
}

/// How many members all objects of the text have: the colons outside of strings.
fn members(text: &[u8]) -> usize {
    let (mut count, mut inside, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => count += 1,
            _ => {}
        }
    }
    count
}

/// Whether `pointer` leads to a value, or to a place for one: fields that are missing are named too, in sections that
/// may be missing as a whole. An item that is missing can't be meant, nor a field of what is no object.
pub fn leads_somewhere(document: &Value, pointer: &str) -> bool {
    // A pointer that is no pointer leads nowhere (RFC 6901).
    let Some(steps) = pointer.strip_prefix('/') else {
        return pointer.is_empty();
    };
    let mut here = Some(document);
    steps.split('/').all(|step| {
        let key = step.replace("~1", "/").replace("~0", "~");
        let (below, possible) = match here {
            Some(Value::Object(members)) => (members.get(&key), true),
            Some(Value::Array(items)) => {
                let item = key.parse().ok().and_then(|index: usize| items.get(index));
                (item, item.is_some())
            }
            // Neither of them has items.
            None | Some(Value::Null) => (None, key.parse::<usize>().is_err()),
            Some(_) => (None, false),
        };
        here = below;
        possible
    })
}

/// Fails unless the error names a field of the document.
pub fn assert_names_a_field(document: &Value, error: &Error, text: &[u8]) {
    let pointer = error.pointer().unwrap_or_else(|| {
        panic!(
            "no field is named: {error}\n{}",
            String::from_utf8_lossy(text)
        )
    });
    assert!(
        leads_somewhere(document, pointer),
        "{pointer} leads nowhere: {error}\n{}",
        String::from_utf8_lossy(text)
    );
}
