// SPDX-License-Identifier: Apache-2.0
//! Signals by name or number, as `kill` takes them.
//!
//! Pure.

use crate::error::{Error, Kind, Result};

/// The first real-time signal that the C library leaves to programs; the kernel's own first is 32.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The numbers of x86-64, arm64 and every other architecture but alpha, mips, parisc and sparc.
const NAMES: [(&str, i32); 36] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("RTMAX", RTMAX),
    ("RTMIN", RTMIN),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
];

/// Reads `KILL`, `SIGKILL`, `sigkill`, `9`, `0`, `RTMIN+3`, `SIGRTMAX-1`.
pub fn number(text: &str) -> Result<i32> {
    find(text).ok_or_else(|| Error::new(Kind::Invalid, format!("unknown signal {text:?}")))
}

fn find(text: &str) -> Option<i32> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| *number <= RTMAX);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let (start, sign, distance) = if let Some(distance) = name.strip_prefix("RTMIN+") {
        (RTMIN, 1, distance)
    } else {
        (RTMAX, -1, name.strip_prefix("RTMAX-")?)
    };
    if !distance.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let distance: i32 = distance.parse().ok()?;
    let number = start.checked_add(sign * distance)?;
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, expected) in [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("Term", 15),
            ("0", 0),
            ("9", 9),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("RTMIN+0", 34),
            ("rtmin+3", 37),
            ("SIGRTMIN+30", 64),
            ("RTMAX", 64),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "SIG",
            "65",
            "-1",
            "+9",
            "9 ",
            "KILLER",
            "SIGSIGKILL",
            "RTMIN+",
            "RTMIN+31",
            "RTMIN+-1",
            "RTMIN-1",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+99999999999",
            "4294967305",
        ] {
            assert_eq!(number(text).unwrap_err().kind(), Kind::Invalid, "{text:?}");
        }
    }
}
