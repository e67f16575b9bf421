// SPDX-License-Identifier: Apache-2.0
//! Errors as values: the name of an errno, as a test would write it.

use std::io;

use serde_json::{Value, json};

const NAMES: &[(i32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (3, "ESRCH"),
    (5, "EIO"),
    (6, "ENXIO"),
    (8, "ENOEXEC"),
    (9, "EBADF"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (25, "ENOTTY"),
    (26, "ETXTBSY"),
    (28, "ENOSPC"),
    (30, "EROFS"),
    (32, "EPIPE"),
    (38, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (95, "EOPNOTSUPP"),
    (107, "ENOTCONN"),
    (111, "ECONNREFUSED"),
];

/// `{"errno":"EPERM"}`.
pub fn value(error: &io::Error) -> Value {
    let name = error.raw_os_error().map_or_else(
        || error.to_string(),
        |number| {
            NAMES
                .iter()
                .find(|(known, _)| *known == number)
                .map_or_else(|| format!("errno {number}"), |(_, name)| (*name).into())
        },
    );
    json!({ "errno": name })
}

/// `{"ok":…}` or `{"errno":…}`: the outcome of an attempt.
pub fn outcome<T: Into<Value>>(result: io::Result<T>) -> Value {
    match result {
        Ok(value) => json!({"ok": value.into()}),
        Err(error) => value(&error),
    }
}
