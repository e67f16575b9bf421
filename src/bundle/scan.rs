// SPDX-License-Identifier: Apache-2.0
//! Looks at a document's text beside the typed reader: which fields are unknown, refused or ignored, which keys of a map
//! come twice, where a NUL hides, and which field a position belongs to. Pure; called by `parse.rs`.
//!
//! The typed reader has the last word on what is JSON. This one only follows brackets, strings and commas, stops where
//! it can't go on, and decodes keys just as the typed reader does: `"\u0073eccomp"` is `seccomp` to both.

use std::borrow::Cow;

use super::finding::Report;
use super::support::{Field, Shape, Support};

/// A part of a JSON pointer.
#[derive(Debug)]
enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

/// Reports all that `shape` says about `text`, which the typed reader has accepted.
pub fn review(text: &[u8], shape: &'static Shape, report: &mut Report) {
    let mut review = Review {
        tokens: Tokens { text, at: 0 },
        path: Vec::new(),
        report,
    };
    // It ends early only where the text is no JSON, and then the typed reader has said so.
    let _end = review.value(shape);
}

struct Review<'a, 'r> {
    tokens: Tokens<'a>,
    path: Vec<Step<'a>>,
    report: &'r mut Report,
}

impl<'a> Review<'a, '_> {
    /// One value and all below it; `None` where the text ends or is no JSON.
    fn value(&mut self, shape: &'static Shape) -> Option<()> {
        match (shape, self.tokens.peek()?) {
            (Shape::Object(fields), b'{') => self.object(fields),
            (Shape::Map(item), b'{') => self.map(item),
            (Shape::List(item), b'[') => self.list(item),
            (Shape::Text | Shape::Word(_), b'"') => {
                let string = self.tokens.string()?;
                if string.nul {
                    self.report.refuse(
                        pointer(&self.path),
                        "a NUL character can't reach the kernel",
                    );
                }
                Some(())
            }
            // The typed reader also takes a word as an object, `{"pid": null}`; no other reader does.
            (Shape::Word(_), b'{') => {
                self.report
                    .refuse(pointer(&self.path), "expected a string, found an object");
                self.tokens.skip()
            }
            _ => self.tokens.skip(),
        }
    }

    fn object(&mut self, fields: &'static [Field]) -> Option<()> {
        self.tokens.open()?;
        while let Some(key) = self.tokens.key()? {
            match fields.iter().find(|field| field.name == key) {
                Some(field) => {
                    self.path.push(Step::Key(Cow::Borrowed(field.name)));
                    self.field(field)?;
                }
                None => {
                    let known = fields
                        .iter()
                        .find(|field| field.name.eq_ignore_ascii_case(&key));
                    self.path.push(Step::Key(key));
                    self.unknown(known);
                    self.tokens.skip()?;
                }
            }
            self.path.pop();
        }
        Some(())
    }

    fn field(&mut self, field: &'static Field) -> Option<()> {
        let why = match field.support {
            Support::Yes => return self.value(&field.shape),
            Support::Refused(why) | Support::Ignored(why) => why,
        };
        if !self.tokens.absent(&field.shape) {
            match field.support {
                Support::Refused(_) => self.report.unsupported(pointer(&self.path), why),
                _ => self
                    .report
                    .ignore(pointer(&self.path), format!("this field is ignored: {why}")),
            }
        }
        self.tokens.skip()
    }

    fn unknown(&mut self, known: Option<&Field>) {
        let hint = known.map_or_else(String::new, |known| {
            format!("; the spec writes it `{}`", known.name)
        });
        self.report.unknown(pointer(&self.path), &hint);
    }

    fn map(&mut self, item: &'static Shape) -> Option<()> {
        let mut keys: Vec<Cow<'a, str>> = Vec::new();
        self.tokens.open()?;
        while let Some(key) = self.tokens.key()? {
            let nul = key.contains('\0') && !matches!(item, Shape::Free);
            self.path.push(Step::Key(key.clone()));
            keys.push(key);
            if nul {
                self.report.refuse(
                    pointer(&self.path),
                    "a NUL character can't reach the kernel",
                );
            }
            self.value(item)?;
            self.path.pop();
        }
        keys.sort_unstable();
        // SECURITY: of two values one reader takes the first and another the last, so neither is taken.
        for pair in keys.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.path.push(Step::Key(pair[0].clone()));
            self.report
                .refuse(pointer(&self.path), "this key is there twice");
            self.path.pop();
        }
        Some(())
    }

    fn list(&mut self, item: &'static Shape) -> Option<()> {
        self.tokens.open()?;
        let mut index = 0;
        while self.tokens.another()? {
            self.path.push(Step::Index(index));
            self.value(item)?;
            self.path.pop();
            index += 1;
        }
        Some(())
    }
}

/// Whether a position is asked for as a value or as what holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The innermost value.
    Value,
    /// The innermost object: a field is missing in it.
    Object,
}

/// The JSON pointer of the value at `offset`, where the typed reader stopped.
pub fn pointer_at(text: &[u8], offset: usize, wanted: Wanted) -> String {
    let mut tokens = Tokens { text, at: 0 };
    let mut path = Vec::new();
    // Ends early where the text does; the path up to there is the answer.
    let _end = tokens.follow(offset, wanted, &mut path);
    pointer(&path)
}

fn pointer(path: &[Step<'_>]) -> String {
    let mut pointer = String::new();
    for step in path {
        pointer.push('/');
        match step {
            Step::Key(key) => pointer.push_str(&escaped(key)),
            Step::Index(index) => pointer.push_str(&index.to_string()),
        }
    }
    pointer
}

/// A key as a JSON pointer writes it.
pub fn escaped(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) {
        Cow::Owned(key.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(key)
    }
}

/// A string as it stands in the text.
struct Raw<'a> {
    /// With its quotes.
    quoted: &'a [u8],
    escapes: bool,
    nul: bool,
}

struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The first byte of the next token.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Steps into an object or array.
    fn open(&mut self) -> Option<()> {
        self.peek()?;
        self.at += 1;
        Some(())
    }

    /// Whether an array has another item; steps over the comma or the closing bracket.
    fn another(&mut self) -> Option<bool> {
        match self.peek()? {
            b']' | b'}' => {
                self.at += 1;
                return Some(false);
            }
            b',' => self.at += 1,
            _ => {}
        }
        self.peek().map(|_| true)
    }

    /// The next key of an object, with its colon; `Some(None)` at the object's end.
    fn key(&mut self) -> Option<Option<Cow<'a, str>>> {
        if !self.another()? {
            return Some(None);
        }
        let string = self.string()?;
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        string.decoded().map(Some)
    }

    fn string(&mut self) -> Option<Raw<'a>> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at;
        let (mut escapes, mut nul) = (false, false);
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..)?;
            self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if self.text[self.at] == b'"' {
                self.at += 1;
                let quoted = &self.text[start..self.at];
                return Some(Raw {
                    quoted,
                    escapes,
                    nul,
                });
            }
            escapes = true;
            nul |= self.text[self.at..].starts_with(b"\\u0000");
            self.at += 2;
        }
    }

    /// Steps over a value of any depth, without recursion: unknown fields may nest deeper than any stack.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                _ => self.bare(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Steps over a number, `true`, `false` or `null`.
    fn bare(&mut self) {
        let rest = &self.text[self.at..];
        let end = rest.iter().position(|byte| {
            matches!(
                byte,
                b',' | b'}' | b']' | b':' | b'"' | b' ' | b'\n' | b'\r' | b'\t'
            )
        });
        self.at += end.unwrap_or(rest.len()).max(1);
    }

    /// Whether the value that follows means the same as no value.
    fn absent(&mut self, shape: &Shape) -> bool {
        let Some(first) = self.peek() else {
            return true;
        };
        let rest = &self.text[self.at..];
        let empty = |open: &[u8], close: u8| {
            let rest = rest.strip_prefix(open).unwrap_or_default();
            rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&close)
        };
        match (first, shape) {
            (b'n', _) => true,
            (b'f', Shape::Flag) => true,
            (b'"', _) => rest.starts_with(b"\"\""),
            (b'[', Shape::List(_)) => empty(b"[", b']'),
            (b'{', Shape::Map(_)) => empty(b"{", b'}'),
            _ => false,
        }
    }

    /// Follows the text up to `offset` and leaves the way there in `path`.
    fn follow(&mut self, offset: usize, wanted: Wanted, path: &mut Vec<Step<'a>>) -> Option<()> {
        // The innermost container's opening bracket is the last one here.
        let mut open: Vec<u8> = Vec::new();
        loop {
            let byte = self.peek()?;
            if self.at > offset {
                return None;
            }
            match byte {
                b'{' | b'[' => {
                    // What is wrong with a container as a whole is reported at its start, with anything else at its end.
                    if self.at >= offset {
                        return None;
                    }
                    self.at += 1;
                    if self.at >= offset && !matches!(self.text.get(self.at), Some(b'{' | b'[')) {
                        return None;
                    }
                    open.push(byte);
                    if byte == b'[' {
                        path.push(Step::Index(0));
                    }
                }
                b'}' | b']' => {
                    if open.pop()? == b'[' {
                        path.pop();
                    }
                    self.at += 1;
                    if self.at >= offset {
                        return None;
                    }
                    self.leave(&open, path);
                }
                b',' => {
                    self.at += 1;
                    if let (Some(b'['), Some(Step::Index(index))) = (open.last(), path.last_mut()) {
                        *index += 1;
                    }
                }
                b'"' if open.last() == Some(&b'{') && !self.inside(path, &open) => {
                    let key = self.string()?.decoded()?;
                    path.push(Step::Key(key));
                    // What is wrong with a key is that it is there twice.
                    if self.at >= offset {
                        return None;
                    }
                    self.peek()?;
                    self.at += 1;
                }
                _ => {
                    if byte == b'"' {
                        self.string()?;
                    } else {
                        self.bare();
                    }
                    if self.at >= offset {
                        if wanted == Wanted::Object {
                            path.pop();
                        }
                        return None;
                    }
                    self.leave(&open, path);
                }
            }
        }
    }

    /// After a value: an object's key goes, an array's index stays for the next item.
    fn leave(&self, open: &[u8], path: &mut Vec<Step<'a>>) {
        if open.last() == Some(&b'{') {
            path.pop();
        }
    }

    /// Whether the innermost object has its key already: one step of the path for each open bracket.
    fn inside(&self, path: &[Step<'a>], open: &[u8]) -> bool {
        path.len() == open.len()
    }
}

impl<'a> Raw<'a> {
    fn decoded(&self) -> Option<Cow<'a, str>> {
        if self.escapes {
            return serde_json::from_slice::<String>(self.quoted)
                .ok()
                .map(Cow::Owned);
        }
        let inner = self.quoted.get(1..self.quoted.len().checked_sub(1)?)?;
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }
}
