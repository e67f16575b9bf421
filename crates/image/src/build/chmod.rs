// SPDX-License-Identifier: Apache-2.0
//! What `--chmod` makes of a file's mode: an octal number, or chmod(1)'s words.
//!
//! Pure; called by `transfer`, `place` and `writing`.

use crate::error::{Error, Result};

/// A mode, or a change of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// `755`
    Octal(u32),
    /// `u=rwX,go=rX`
    Symbolic(Vec<Clause>),
}

/// `go-w`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The bits of those who are meant.
    who: u32,
    operator: char,
    /// For everybody.
    bits: u32,
    /// `X`: execution where it makes sense.
    search: bool,
    /// `g=u`: the bits of these, as far as `copied` from.
    copied: Option<char>,
}

impl Chmod {
    /// Reads the value of `--chmod`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "--chmod={text} is no mode: write an octal number such as 755, or u=rwX,go=rX"
            ))
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok();
            let mode = mode.filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(wrong);
        }
        let clauses: Option<Vec<Vec<Clause>>> = text.split(',').map(clauses).collect();
        clauses
            .map(|clauses| Self::Symbolic(clauses.concat()))
            .ok_or_else(wrong)
    }

    /// The mode of a file that has `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = self.bits;
        if self.search && (is_dir || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        if let Some(class) = self.copied {
            let shift = match class {
                'u' => 6,
                'g' => 3,
                _ => 0,
            };
            bits |= (mode >> shift & 0o7) * 0o111;
        }
        let bits = bits & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // What is not said of a directory's setuid and setgid bits stays, as chmod(1) has it.
            _ if is_dir => mode & !(self.who & 0o1777) | bits,
            _ => mode & !self.who | bits,
        }
    }
}

/// `ug+x-w`: several operations for the same classes.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let start = text.find(['+', '-', '='])?;
    let (classes, mut rest) = text.split_at(start);
    let mut who = if classes.is_empty() { 0o7777 } else { 0 };
    for class in classes.chars() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mut clauses = Vec::new();
    while let Some(operator) = rest.chars().next() {
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (permissions, more) = rest.split_at(end);
        rest = more;
        clauses.push(clause(who, operator, permissions)?);
    }
    Some(clauses)
}

fn clause(who: u32, operator: char, permissions: &str) -> Option<Clause> {
    let mut clause = Clause {
        who,
        operator,
        bits: 0,
        search: false,
        copied: None,
    };
    if let "u" | "g" | "o" = permissions {
        clause.copied = permissions.chars().next();
        return Some(clause);
    }
    for permission in permissions.chars() {
        clause.bits |= match permission {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            'X' => {
                clause.search = true;
                0
            }
            _ => return None,
        };
    }
    Some(clause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, file, dir) in [
            ("755", 0o755, 0o755),
            ("0644", 0o644, 0o644),
            ("4755", 0o4755, 0o4755),
            ("u+x", 0o744, 0o755),
            ("+x", 0o755, 0o755),
            ("a-r,u+w", 0o200, 0o311),
            ("go=", 0o600, 0o700),
            ("u=rwX,go=rX", 0o644, 0o755),
            ("g=u", 0o664, 0o775),
            ("o=g-r", 0o640, 0o751),
            ("ug+s,+t", 0o7644, 0o7755),
            ("u=rw,g=s", 0o2604, 0o2605),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            let found = (chmod.apply(0o644, false), chmod.apply(0o755, true));
            assert_eq!(found, (file, dir), "{text}: {:o} {:o}", found.0, found.1);
        }
        for text in ["888", "77777", "", "+7", "u", "u+z", "x+r", "u+x,", "u=ug"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
