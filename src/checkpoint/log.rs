// SPDX-License-Identifier: Apache-2.0
//! CRIU's log, whose errors are the reason of a failure. Pure.

/// How many of its errors are quoted.
const QUOTED: usize = 3;

/// What goes wrong without harm while CRIU looks at the kernel, and what is only a consequence.
const HARMLESS: [&str; 3] = [
    "rlimit: Can't setup RLIMIT_NOFILE",
    "tun: Unable to create tun",
    " FAILED.",
];

/// The last lines of it that are errors, without their times, on one line.
pub fn errors(text: &str) -> String {
    let found = text.lines().filter_map(|line| {
        let at = line.find("Error (")?;
        line.get(at..).map(str::trim)
    });
    let found: Vec<_> = found
        .filter(|line| !HARMLESS.iter().any(|harmless| line.contains(harmless)))
        .collect();
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
                "(00.447003) Error (criu/x.c:1534): a\nx\n(01.3)   7: Error (b): b\n",
                "Error (criu/x.c:1534): a | Error (b): b",
            ),
            (
                "(00.4) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
                 (01.3) Error (b): b\n(01.4) Error (criu/cr-dump.c:1975): Dumping FAILED.",
                "Error (b): b",
            ),
            (
                "Error (1): \nError (2): \nError (3): \nError (4): \n",
                "Error (2): | Error (3): | Error (4):",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(errors(text), wanted, "{text}");
        }
    }
}
