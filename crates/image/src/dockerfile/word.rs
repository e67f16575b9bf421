// SPDX-License-Identifier: Apache-2.0
//! Words of a Dockerfile: quotes, escapes and `$name`, `${name:-word}` and their kin.
//!
//! Pure. The rules are those of BuildKit's shell lexer, which are a shell's with these limits: no command
//! substitution, and a backslash (or the `escape` directive's character) quotes one character.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Where a variable's value comes from.
pub trait Variables {
    /// The value of `name`, none if it is unset.
    fn value(&self, name: &str) -> Option<&str>;
}

/// Why a word can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordError(pub(super) String);

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WordError {}

pub(super) fn error<T>(text: impl Into<String>) -> Result<T, WordError> {
    Err(WordError(text.into()))
}

/// `word` with its variables replaced and its quotes and escapes taken away.
pub fn expand(word: &str, escape: char, variables: &dyn Variables) -> Result<String, WordError> {
    Ok(Lexer::new(word, escape, variables)
        .run(None, Escapes::Remove)?
        .text)
}

/// A here-document's `text` with its variables replaced: quotes are plain characters there, and the escape only quotes
/// `$` and itself.
pub fn expand_text(
    text: &str,
    escape: char,
    variables: &dyn Variables,
) -> Result<String, WordError> {
    let mut lexer = Lexer::new(text, escape, variables);
    let mut out = String::new();
    while let Some(&c) = lexer.rest.peek() {
        if c == '$' {
            out.push_str(&lexer.dollar()?);
            continue;
        }
        lexer.rest.next();
        let quoted = lexer
            .rest
            .next_if(|next| c == escape && (*next == '$' || *next == escape));
        out.push(quoted.unwrap_or(c));
    }
    Ok(out)
}

/// As [`expand`], split at the blanks that are not quoted, those of the variables' values too (EXPOSE).
pub fn expand_fields(
    word: &str,
    escape: char,
    variables: &dyn Variables,
) -> Result<Vec<String>, WordError> {
    let expanded = Lexer::new(word, escape, variables).run(None, Escapes::Remove)?;
    let mut fields = Vec::new();
    let mut field: Option<String> = None;
    for (n, c) in expanded.text.chars().enumerate() {
        let quoted = expanded.quoted.get(n).copied().unwrap_or_default();
        if c.is_whitespace() && !quoted {
            fields.extend(field.take());
        } else {
            field.get_or_insert_default().push(c);
        }
    }
    fields.extend(field);
    Ok(fields)
}

/// Splits a line at blanks outside quotes and keeps quotes, escapes and variables as they stand.
pub fn split(line: &str, escape: char) -> Result<Vec<String>, WordError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
    }
    if let Some(quote) = quote {
        return error(format!("quote {quote} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Whether an escape goes away with its quoting, or stays for the pattern that it is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    Remove,
    Keep,
}

/// Text with a mark for each character that a quote or escape protects from splitting.
#[derive(Default)]
pub(super) struct Expanded {
    pub text: String,
    quoted: Vec<bool>,
}

impl Expanded {
    fn push(&mut self, c: char, quoted: bool) {
        self.text.push(c);
        self.quoted.push(quoted);
    }

    fn push_str(&mut self, text: &str, quoted: bool) {
        for c in text.chars() {
            self.push(c, quoted);
        }
    }

    /// A character that quotes or an escape made plain: in a pattern it needs a backslash to stay so.
    fn push_literal(&mut self, c: char, escapes: Escapes) {
        if escapes == Escapes::Keep {
            self.push('\\', true);
        }
        self.push(c, true);
    }
}

pub(super) struct Lexer<'a> {
    pub rest: Peekable<Chars<'a>>,
    escape: char,
    pub variables: &'a dyn Variables,
}

impl<'a> Lexer<'a> {
    fn new(word: &'a str, escape: char, variables: &'a dyn Variables) -> Self {
        Self {
            rest: word.chars().peekable(),
            escape,
            variables,
        }
    }

    /// Everything up to `stop`, which is consumed, or to the end of the word.
    pub fn run(&mut self, stop: Option<char>, escapes: Escapes) -> Result<Expanded, WordError> {
        let mut out = Expanded::default();
        while let Some(&c) = self.rest.peek() {
            if Some(c) == stop {
                self.rest.next();
                return Ok(out);
            }
            match c {
                '\'' => self.single_quoted(&mut out, escapes)?,
                '"' => self.double_quoted(&mut out, escapes)?,
                '$' => {
                    let value = self.dollar()?;
                    out.push_str(&value, false);
                }
                c if c == self.escape => {
                    self.rest.next();
                    if let Some(next) = self.rest.next() {
                        out.push_literal(next, escapes);
                    }
                }
                c => {
                    self.rest.next();
                    out.push(c, false);
                }
            }
        }
        match stop {
            Some(stop) => error(format!("{stop} is missing")),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self, out: &mut Expanded, escapes: Escapes) -> Result<(), WordError> {
        self.rest.next();
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.push_literal(c, escapes),
                None => return error("quote ' is not closed"),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut Expanded, escapes: Escapes) -> Result<(), WordError> {
        self.rest.next();
        loop {
            match self.rest.peek().copied() {
                None => return error("quote \" is not closed"),
                Some('"') => {
                    self.rest.next();
                    return Ok(());
                }
                Some('$') => {
                    let value = self.dollar()?;
                    out.push_str(&value, true);
                }
                Some(c) => {
                    self.rest.next();
                    match self.rest.peek().copied() {
                        // Within double quotes only these lose their escape.
                        Some(next) if c == self.escape => {
                            self.rest.next();
                            if !(matches!(next, '"' | '$') || next == self.escape) {
                                out.push_literal(c, escapes);
                            }
                            out.push_literal(next, escapes);
                        }
                        _ => out.push_literal(c, escapes),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "word_tests.rs"]
mod tests;
