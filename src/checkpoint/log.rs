// SPDX-License-Identifier: Apache-2.0
//! CRIU's log, of which a failure quotes the errors.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::spawn;

use crate::error::Error;

/// How much of the log's end is looked at.
const LOOKED_AT: usize = 64 << 10;
/// How many of its errors are quoted.
const QUOTED: usize = 4;

/// `error` with the last errors of the log `name` in `directory`, whose path is `shown`.
pub fn explain(error: Error, directory: BorrowedFd<'_>, shown: &Path, name: &str) -> Error {
    let path = shown.join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let text = fs::open(directory, Path::new(name), flags, Mode::empty())
        .and_then(|log| spawn::tail(log.as_fd(), LOOKED_AT));
    let Ok(text) = text else {
        // It failed before it had a log.
        return error;
    };
    let errors = errors(&String::from_utf8_lossy(&text));
    let path = path.display();
    match errors.as_str() {
        "" => error.remedy(format!("its log is {path}")),
        errors => error.remedy(format!("the last errors of its log {path} are: {errors}")),
    }
}

/// The last lines that are errors, without their times.
fn errors(text: &str) -> String {
    let found = text.lines().filter_map(|line| {
        let at = line.find("Error (")?;
        line.get(at..).map(str::trim)
    });
    let found: Vec<_> = found.collect();
    found[found.len().saturating_sub(QUOTED)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_are_quoted() {
        let cases = [
            ("", ""),
            ("(00.1) Dumping\n", ""),
            (
                "(00.447003) Error (criu/util.c:1534): a\nx\n(01.3)   7: Error (b): b\n",
                "Error (criu/util.c:1534): a | Error (b): b",
            ),
            (
                "Error (1): \nError (2): \nError (3): \nError (4): \nError (5): \n",
                "Error (2): | Error (3): | Error (4): | Error (5):",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(errors(text), wanted, "{text}");
        }
    }
}
