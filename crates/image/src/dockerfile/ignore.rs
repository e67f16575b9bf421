// SPDX-License-Identifier: Apache-2.0
//! .dockerignore: which files of the context a build does not see.
//!
//! Pure. The rules are moby's patternmatcher, which are not those of .gitignore: every pattern is anchored at the
//! context's root, the last line that matches a path or one of its parents decides, and `!` takes back.

use std::fmt;

use super::glob::{BadPattern, Glob};

/// The rules of one .dockerignore file.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    glob: Glob,
    exclude: bool,
}

/// A line of .dockerignore that has no meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct IgnoreError {
    /// Counted from 1.
    pub line: usize,
    cause: BadPattern,
}

impl fmt::Display for IgnoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.cause)
    }
}

impl std::error::Error for IgnoreError {}

impl Ignore {
    /// The rules in `text`.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let pattern = line.trim();
            if line.starts_with('#') || pattern.is_empty() {
                continue;
            }
            let (exclude, pattern) = match pattern.strip_prefix('!') {
                Some(rest) => (false, rest.trim()),
                None => (true, pattern),
            };
            let failed = |cause| IgnoreError { line: n + 1, cause };
            if pattern.is_empty() {
                return Err(failed(BadPattern(line.to_owned())));
            }
            let pattern = clean(pattern);
            // "." and "/" name the context itself, which is always there.
            if pattern.is_empty() {
                continue;
            }
            let glob = Glob::ignore(&pattern).map_err(failed)?;
            rules.push(Rule { glob, exclude });
        }
        Ok(Self { rules })
    }

    /// The same rules as a list, in which nothing is a comment.
    pub fn patterns(patterns: &[String]) -> Result<Self, BadPattern> {
        let mut rules = Vec::new();
        for pattern in patterns {
            let (exclude, rest) = match pattern.strip_prefix('!') {
                Some(rest) => (false, rest),
                None => (true, pattern.as_str()),
            };
            let cleaned = clean(rest);
            if cleaned.is_empty() {
                return Err(BadPattern(pattern.clone()));
            }
            let glob = Glob::ignore(&cleaned)?;
            rules.push(Rule { glob, exclude });
        }
        Ok(Self { rules })
    }

    /// Whether the file at `path` (relative, with single slashes) is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            // A rule that agrees with what is known can't change it.
            if rule.exclude != excluded && parents_and_self(path).any(|p| rule.glob.matches(p)) {
                excluded = rule.exclude;
            }
        }
        excluded
    }

    /// Whether a `!` rule may bring back files below an excluded directory, so that it must be read all the same.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| !rule.exclude)
    }
}

/// The directories above `path`, topmost first, then itself.
pub fn parents_and_self(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(|(n, _)| &path[..n])
        .chain([path])
}

/// Without `.`, empty and `..` components, as `/` + `pattern` would be cleaned.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_match_wins_and_parents_count() {
        for (rules, path, expected) in [
            ("", "a", false),
            ("a", "a", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("./a/", "a", true),
            ("a", "a/b/c", true),
            ("a\n!a/b", "a/b", false),
            ("a\n!a/b", "a/c", true),
            ("!a/b\na", "a/b", true),
            ("*\n!keep", "keep", false),
            ("*\n!keep", "keep/inside", false),
            ("*\n!keep", "other", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-a.md", false),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                "README-secret.md",
                true,
            ),
            (
                "*.md\nREADME-secret.md\n!README*.md",
                "README-secret.md",
                false,
            ),
            ("*/temp*", "a/tempx", true),
            ("*/temp*", "a/b/tempx", false),
            ("*/*/temp*", "a/b/tempx", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("**/*.go", "a.go", true),
            ("**/*.go", "a/b/c.go", true),
            ("**/node_modules", "x/node_modules/y", true),
            ("docs/**/x", "docs/x", true),
            ("# a\n#a", "a", false),
            (" #a", "#a", true),
            ("\u{feff}a", "a", true),
            ("a\r\nb\r\n", "b", true),
            (".", "a", false),
            ("a/../b", "b", true),
            ("  spaced  ", "spaced", true),
            ("! a\na", "a", true),
            ("a\n! a", "a", false),
        ] {
            let ignore = Ignore::parse(rules).unwrap();
            assert_eq!(ignore.excludes(path), expected, "{path} by {rules:?}");
        }
    }

    #[test]
    fn names_the_bad_line() {
        for (rules, expected) in [
            ("a\n[", "line 2: pattern \"[\" is malformed"),
            ("!", "line 1: pattern \"!\" is malformed"),
        ] {
            assert_eq!(Ignore::parse(rules).unwrap_err().to_string(), expected);
        }
    }
}
