// SPDX-License-Identifier: Apache-2.0
//! Wildcards: the three dialects that a build needs, matched in time linear in pattern times text.
//!
//! Pure; runs in `corten-image build` without privileges. Called by `word` (shell patterns), `ignore` (.dockerignore)
//! and the copy instructions (file names). A pattern may come from an untrusted context, so there is no backtracking:
//! each token turns the set of reachable positions into the next set.

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Char(char),
    /// One character; not `/` in paths.
    One { slash: bool },
    /// Any run of characters; without `/` in paths.
    Run { slash: bool },
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**` before more: nothing, or whole directories and their slash.
    Directories,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

/// A pattern that has no meaning: an open bracket, an empty class, or a trailing backslash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern(pub String);

impl std::fmt::Display for BadPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pattern {:?} is malformed", self.0)
    }
}

impl std::error::Error for BadPattern {}

impl Glob {
    /// A file name or path pattern: `*` and `?` stay within a name, `[a-z]` and `\` as in a shell.
    pub fn path(pattern: &str) -> Result<Self, BadPattern> {
        compile(pattern, false)
    }

    /// A line of .dockerignore: as [`Glob::path`], and `**` goes across directories.
    pub fn ignore(pattern: &str) -> Result<Self, BadPattern> {
        compile(pattern, true)
    }

    /// The pattern of `${name#pattern}` and its kin: `*` and `?` match any character, brackets are plain.
    pub fn shell(pattern: &str) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Run { slash: true },
                '?' => Token::One { slash: true },
                '\\' => Token::Char(chars.next().ok_or_else(|| bad(pattern))?),
                c => Token::Char(c),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether the pattern matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.ends(&text).last().copied().unwrap_or_default()
    }

    /// For every n whether the pattern matches the first n characters of `text`; one longer than `text`.
    pub fn ends(&self, text: &[char]) -> Vec<bool> {
        let mut at = vec![false; text.len() + 1];
        at[0] = true;
        for token in &self.tokens {
            at = advance(token, text, &at);
        }
        at
    }
}

/// Whether `text` holds a wildcard, so that it names files by pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

fn bad(pattern: &str) -> BadPattern {
    BadPattern(pattern.to_owned())
}

fn compile(pattern: &str, across: bool) -> Result<Glob, BadPattern> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' if across && rest.peek() == Some(&'*') => {
                while rest.next_if_eq(&'*').is_some() {}
                rest.next_if_eq(&'/');
                match rest.peek() {
                    None => Token::Run { slash: true },
                    // `**.txt` is any path that ends so, which moby's matcher takes for a special case.
                    Some(_) if is_plain_suffix(pattern) => Token::Run { slash: true },
                    Some(_) => Token::Directories,
                }
            }
            '*' => Token::Run { slash: false },
            '?' => Token::One { slash: false },
            '[' => class(&mut rest).ok_or_else(|| bad(pattern))?,
            '\\' => Token::Char(rest.next().ok_or_else(|| bad(pattern))?),
            c => Token::Char(c),
        });
    }
    Ok(Glob { tokens })
}

/// `**` at the start, then plain characters that are not a new directory.
fn is_plain_suffix(pattern: &str) -> bool {
    let rest = pattern.strip_prefix("**").unwrap_or(pattern);
    rest.len() < pattern.len() && !rest.starts_with('/') && !is_pattern(rest) && !rest.contains(']')
}

/// The rest of `[...]`; none if it is empty, open or has a bad range.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if rest.peek() == Some(&']') && !ranges.is_empty() {
            rest.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = class_char(rest)?;
        let high = match rest.next_if_eq(&'-') {
            Some(_) => class_char(rest)?,
            None => low,
        };
        if high < low {
            return None;
        }
        ranges.push((low, high));
    }
}

fn class_char(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

/// The positions that `token` leads to from those in `at`.
fn advance(token: &Token, text: &[char], at: &[bool]) -> Vec<bool> {
    let mut next = vec![false; at.len()];
    match token {
        Token::Run { slash } => {
            let mut reached = false;
            for (n, &here) in at.iter().enumerate() {
                let crossed = n > 0 && !slash && text[n - 1] == '/';
                reached = here || (reached && !crossed);
                next[n] = reached;
            }
        }
        Token::Directories => {
            let mut reached = false;
            for (n, &here) in at.iter().enumerate() {
                next[n] = here || (reached && text[n - 1] == '/');
                reached |= here;
            }
        }
        single => {
            for (n, &here) in at.iter().enumerate().take(text.len()) {
                next[n + 1] = here && accepts(single, text[n]);
            }
        }
    }
    next
}

fn accepts(token: &Token, c: char) -> bool {
    match token {
        Token::Char(wanted) => *wanted == c,
        Token::One { slash } => *slash || c != '/',
        Token::Class { negated, ranges } => {
            c != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
        Token::Run { .. } | Token::Directories => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_patterns() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{263a}b", true),
            ("a[^a]b", "a\u{263a}b", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("*.txt", "notes.txt", true),
            ("**", "a/b", false),
        ] {
            let glob = Glob::path(pattern).unwrap();
            assert_eq!(glob.matches(text), expected, "{pattern} on {text}");
        }
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a", "[^", "a[", "a\\", "[b-a]",
        ] {
            assert_eq!(Glob::path(pattern), Err(bad(pattern)), "{pattern}");
        }
    }

    #[test]
    fn ignore_patterns() {
        for (pattern, text, expected) in [
            ("**", "a/b/c", true),
            ("**/", "a/b", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/a/b", true),
            ("dir/**", "dir", false),
            ("**/file", "file", true),
            ("**/file", "a/b/file", true),
            ("**/file", "a/b/filex", false),
            ("**/*.txt", "a/b/c.txt", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a**b", "axyb", false),
            ("a**b", "a/x/b", true),
            ("a**/*.txt", "a/x.txt", true),
            ("a**/*.txt", "a/b/c/x.txt", true),
            ("**file", "a/b/file", true),
            ("**file", "xfile", true),
            ("**/**/*.txt", "x.txt", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "aae", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("**/foo/bar", "x/foo/bar", true),
            ("**/.foo", "bar.foo", false),
            ("abc.def", "abcdef", false),
            ("*", "a/b", false),
        ] {
            let glob = Glob::ignore(pattern).unwrap();
            assert_eq!(glob.matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn long_hostile_patterns_end_at_once() {
        let glob = Glob::ignore(&"*a".repeat(200)).unwrap();
        assert!(!glob.matches(&"a".repeat(4000).replace("aaaa", "aaab")));
    }
}
