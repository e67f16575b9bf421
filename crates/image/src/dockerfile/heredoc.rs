// SPDX-License-Identifier: Apache-2.0
//! Logical lines: physical lines joined at their escape character, with the here-documents that follow them.
//!
//! Pure; called by `read`. The parser crate knows a here-document only as the first word of RUN, so the bodies that
//! it would take for instructions are turned into comments before it sees them:
//!
//! ```text
//! RUN python3 <<EOF        RUN python3 <<EOF
//! print(1)            ->   #
//! EOF                      #
//! ```

use super::SyntaxError;
use super::word;

/// One instruction's lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Logical {
    /// Of its first line, counted from 1.
    pub line: usize,
    /// Without line ends, escapes before them, and the comments between.
    pub text: String,
    /// In the order of their words.
    pub documents: Vec<Document>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    /// The word that ends it.
    pub name: String,
    /// With a line end after each line; without leading tabs after `<<-`.
    pub text: String,
    /// As [`Document::text`] with its tabs and the line that ends it, for a shell to read again.
    pub raw: String,
    /// Whether variables in it are expanded: the word was not quoted.
    pub expand: bool,
}

/// A Dockerfile as the parser crate can read it, and what it can't.
#[derive(Debug)]
pub(super) struct Lines {
    /// As many lines as the file.
    pub masked: String,
    /// In the order of the file.
    pub logical: Vec<Logical>,
}

/// The character of the `escape` directive, among the directives at the file's start.
pub(super) fn escape_of(text: &str) -> char {
    for line in text.lines() {
        let Some((name, value)) = line.strip_prefix('#').and_then(|rest| rest.split_once('='))
        else {
            break;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "escape" => return value.trim().chars().next().unwrap_or('\\'),
            "syntax" | "check" => {}
            _ => break,
        }
    }
    '\\'
}

/// Splits `text`.
pub(super) fn lines(text: &str, escape: char) -> Result<Lines, SyntaxError> {
    let physical: Vec<&str> = text.lines().collect();
    let mut masked: Vec<&str> = physical.clone();
    let mut logical = Vec::new();
    let mut at = 0;
    while at < physical.len() {
        if is_skipped(physical[at]) {
            at += 1;
            continue;
        }
        let line = at + 1;
        let (text, next) = join(&physical, at, escape);
        at = next;
        if is_empty_entrypoint(&text) && next == line {
            // The crate wants an argument; `read` looks at the line itself.
            masked[line - 1] = "ENTRYPOINT [\"\"]";
        }
        let mut documents = Vec::new();
        let words = document_words(&text, escape);
        let own = words.iter().take_while(|word| word.of_the_crate).count();
        for (n, word) in words.iter().enumerate() {
            let (document, next) =
                read_document(&physical, at, word).ok_or_else(|| SyntaxError {
                    line,
                    instruction: None,
                    text: format!("here-document {} has no end", word.name),
                })?;
            if n >= own {
                masked[at..next].fill("#");
            }
            at = next;
            documents.push(document);
        }
        logical.push(Logical {
            line,
            text,
            documents,
        });
    }
    let mut masked = masked.join("\n");
    masked.push('\n');
    Ok(Lines { masked, logical })
}

/// `ENTRYPOINT []`, which takes away the base image's.
pub(super) fn is_empty_entrypoint(text: &str) -> bool {
    let (keyword, arguments) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_list = |list: &str| list.trim_start().is_empty();
    keyword.eq_ignore_ascii_case("ENTRYPOINT")
        && arguments
            .trim()
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(is_list)
}

fn is_skipped(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The logical line that starts at `first`, and the number of the line after it.
fn join(physical: &[&str], first: usize, escape: char) -> (String, usize) {
    let mut text = String::new();
    let mut at = first;
    let mut open = true;
    while open && at < physical.len() {
        let line = physical[at];
        at += 1;
        if at - 1 > first && is_skipped(line) {
            continue;
        }
        open = match line.trim_end().strip_suffix(escape) {
            Some(before) => {
                text.push_str(before);
                true
            }
            None => {
                text.push_str(line);
                false
            }
        };
    }
    (text.trim().to_owned(), at)
}

/// `<<name` as it stands on an instruction's line.
struct Word {
    name: String,
    expand: bool,
    strip_tabs: bool,
    /// COPY's and ADD's, and the one that starts a RUN: the parser crate reads their bodies itself.
    of_the_crate: bool,
}

fn document_words(text: &str, escape: char) -> Vec<Word> {
    let (keyword, arguments) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_run = keyword.eq_ignore_ascii_case("RUN");
    if !is_run
        && !["COPY", "ADD"]
            .iter()
            .any(|name| keyword.eq_ignore_ascii_case(name))
    {
        return Vec::new();
    }
    // A line with an open quote is the shell's business.
    let words = word::split(arguments, escape).unwrap_or_default();
    let command = words.iter().skip_while(|word| word.starts_with("--"));
    command
        .enumerate()
        .filter_map(|(n, word)| document_word(word, !is_run || n == 0))
        .collect()
}

fn document_word(word: &str, of_the_crate: bool) -> Option<Word> {
    let descriptor = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = descriptor.strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (name, is_quoted) = unquote(rest)?;
    if name.is_empty() || name.contains('<') {
        return None;
    }
    Some(Word {
        expand: !is_quoted,
        name,
        strip_tabs,
        of_the_crate: of_the_crate && word.starts_with("<<"),
    })
}

/// A here-document's word without quotes and backslashes (whatever the escape directive says), and whether it had quotes.
fn unquote(word: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut quote = None;
    let mut is_quoted = false;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?),
            c if Some(c) == quote => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                is_quoted = true;
            }
            c => name.push(c),
        }
    }
    Some((name, is_quoted))
}

fn read_document(physical: &[&str], first: usize, word: &Word) -> Option<(Document, usize)> {
    let mut text = String::new();
    let mut raw = String::new();
    for (n, line) in physical.iter().enumerate().skip(first) {
        let stripped = match word.strip_tabs {
            true => line.trim_start_matches('\t'),
            false => line,
        };
        raw.push_str(line);
        raw.push('\n');
        if stripped == word.name {
            let document = Document {
                name: word.name.clone(),
                text,
                raw,
                expand: word.expand,
            };
            return Some((document, n + 1));
        }
        text.push_str(stripped);
        text.push('\n');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, escape: char) -> Vec<(usize, String)> {
        let lines = lines(text, escape).unwrap();
        lines
            .logical
            .into_iter()
            .map(|l| (l.line, l.text))
            .collect()
    }

    #[test]
    fn joins_lines() {
        for (text, escape, expected) in [
            ("RUN a\nRUN b", '\\', vec![(1, "RUN a"), (2, "RUN b")]),
            ("# c\n\n  RUN a", '\\', vec![(3, "RUN a")]),
            (
                "RUN a \\\n  b\nRUN c",
                '\\',
                vec![(1, "RUN a   b"), (3, "RUN c")],
            ),
            ("RUN a \\  \n b", '\\', vec![(1, "RUN a  b")]),
            (
                "RUN a && \\\n# note\n\n  b",
                '\\',
                vec![(1, "RUN a &&   b")],
            ),
            (
                "RUN a `\n b\\\nRUN c",
                '`',
                vec![(1, "RUN a  b\\"), (3, "RUN c")],
            ),
            ("RUN a \\", '\\', vec![(1, "RUN a")]),
            ("RUN a\r\nRUN b\r\n", '\\', vec![(1, "RUN a"), (2, "RUN b")]),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(n, t)| (n, t.to_owned()))
                .collect();
            assert_eq!(texts(text, escape), expected, "{text}");
        }
    }

    #[test]
    fn lifts_documents() {
        let text = "RUN python3 - <<EOF >x\nprint(1)\nEOF\nRUN <<A cat 3<<-'B'\na\nA\n\tb\n\tB\nCOPY <<X <<\"Y\" /\nx\nX\ny\nY\nRUN sh -c 'cat <<E'\n";
        let lines = lines(text, '\\').unwrap();
        assert_eq!(
            lines.masked,
            "RUN python3 - <<EOF >x\n#\n#\nRUN <<A cat 3<<-'B'\na\nA\n#\n#\nCOPY <<X <<\"Y\" /\nx\nX\ny\nY\nRUN sh -c 'cat <<E'\n"
        );
        let found: Vec<_> = lines
            .logical
            .iter()
            .flat_map(|l| {
                l.documents
                    .iter()
                    .map(|d| (l.line, d.name.as_str(), d.text.as_str(), d.expand))
            })
            .collect();
        assert_eq!(
            found,
            [
                (1, "EOF", "print(1)\n", true),
                (4, "A", "a\n", true),
                (4, "B", "b\n", false),
                (9, "X", "x\n", true),
                (9, "Y", "y\n", false),
            ]
        );
        assert_eq!(lines.logical[1].documents[1].raw, "\tb\n\tB\n");
        let open = super::lines("FROM x\nRUN <<EOF\na\n", '\\').unwrap_err();
        assert_eq!(open.to_string(), "2: here-document EOF has no end");
    }

    #[test]
    fn words_of_documents() {
        for (word, expected) in [
            ("<<E", Some(("E", true))),
            ("<<-E", Some(("E", true))),
            ("3<<E", Some(("E", true))),
            ("<<'E'", Some(("E", false))),
            ("<<e'o'f", Some(("eof", false))),
            ("<<'e'o\\'f", Some(("eo'f", false))),
            ("<<eo\\'f", Some(("eo'f", true))),
            ("<<\"one two\"", Some(("one two", false))),
            ("<<", None),
            ("<<-", None),
            ("<<''", None),
            ("<<<x", None),
            ("a<<b", None),
        ] {
            let found = document_word(word, true);
            let found = found.as_ref().map(|word| (word.name.as_str(), word.expand));
            assert_eq!(found, expected, "{word}");
        }
    }

    #[test]
    fn finds_the_escape_directive() {
        for (text, expected) in [
            ("FROM x", '\\'),
            ("# escape=`\nFROM x", '`'),
            ("#syntax=docker/dockerfile:1\n# Escape = `\nFROM x", '`'),
            ("# a comment\n# escape=`\nFROM x", '\\'),
            ("\n# escape=`\nFROM x", '\\'),
        ] {
            assert_eq!(escape_of(text), expected, "{text:?}");
        }
    }
}
