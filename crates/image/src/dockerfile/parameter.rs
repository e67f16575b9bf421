// SPDX-License-Identifier: Apache-2.0
//! `$name` and `${name...}`: values, alternatives, trimmed and replaced parts.
//!
//! Pure; called by `word`.

use super::glob::Glob;
use super::word::{Escapes, Lexer, WordError, error};

impl Lexer<'_> {
    /// The value of `$name` or `${...}`; a `$` that starts neither is itself.
    pub(super) fn dollar(&mut self) -> Result<String, WordError> {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(match name.is_empty() {
                true => "$".to_owned(),
                false => self.variables.value(&name).unwrap_or_default().to_owned(),
            });
        }
        let name = self.name();
        if name.is_empty() {
            return error("${ is followed by no name");
        }
        let value = self.variables.value(&name).map(str::to_owned);
        match self.rest.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => match self.rest.next() {
                Some(op @ ('-' | '+' | '?')) => {
                    self.alternative(&name, op, value.filter(|value| !value.is_empty()), "empty")
                }
                op => unsupported(&name, ':', op),
            },
            Some(op @ ('-' | '+' | '?')) => self.alternative(&name, op, value, "unset"),
            Some(op @ ('#' | '%')) => self.trim(op, value),
            Some('/') => self.replace(value),
            Some(op) => unsupported(&name, op, None),
            None => error(format!("}} is missing after ${{{name}")),
        }
    }

    /// A name, a positional parameter's digits or one special parameter; empty if there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        if let Some(c) = self.rest.next_if(|c| "@*#?-$!".contains(*c)) {
            name.push(c);
            return name;
        }
        let numeric = self.rest.peek().is_some_and(char::is_ascii_digit);
        while let Some(c) = self
            .rest
            .next_if(|c| c.is_ascii_digit() || (!numeric && (c.is_alphabetic() || *c == '_')))
        {
            name.push(c);
        }
        name
    }

    /// `-`, `+` and `?`; `value` is none where the operator takes the variable as missing, for `reason`.
    fn alternative(
        &mut self,
        name: &str,
        op: char,
        value: Option<String>,
        reason: &str,
    ) -> Result<String, WordError> {
        let word = self.run(Some('}'), Escapes::Remove)?.text;
        match (op, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => error(format!("{name} must not be {reason}")),
            (_, None) => error(format!("{name}: {word}")),
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trim(&mut self, op: char, value: Option<String>) -> Result<String, WordError> {
        let longest = self.rest.next_if_eq(&op).is_some();
        let pattern = self.run(Some('}'), Escapes::Keep)?.text;
        let glob = Glob::shell(&pattern).map_err(|error| WordError(error.to_string()))?;
        let text: Vec<char> = value.unwrap_or_default().chars().collect();
        let kept = match op {
            '#' => {
                let ends = glob.ends(&text);
                let end = match longest {
                    true => ends.iter().rposition(|matched| *matched),
                    false => ends.iter().position(|matched| *matched),
                };
                &text[end.unwrap_or_default()..]
            }
            _ => {
                let matches_from = |start: &usize| glob.ends(&text[*start..]).last() == Some(&true);
                let start = match longest {
                    true => (0..=text.len()).find(matches_from),
                    false => (0..=text.len()).rev().find(matches_from),
                };
                &text[..start.unwrap_or(text.len())]
            }
        };
        Ok(kept.iter().collect())
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replace(&mut self, value: Option<String>) -> Result<String, WordError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.run(Some('/'), Escapes::Keep)?.text;
        let replacement = self.run(Some('}'), Escapes::Remove)?.text;
        let glob = Glob::shell(&pattern).map_err(|error| WordError(error.to_string()))?;
        let text: Vec<char> = value.unwrap_or_default().chars().collect();
        let mut out = String::new();
        let mut at = 0;
        while at < text.len() {
            let longest = glob.ends(&text[at..]).iter().rposition(|matched| *matched);
            match longest {
                Some(length) if length > 0 => {
                    out.push_str(&replacement);
                    at += length;
                    if !all {
                        break;
                    }
                }
                _ => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out.extend(&text[at..]);
        Ok(out)
    }
}

fn unsupported<T>(name: &str, op: char, next: Option<char>) -> Result<T, WordError> {
    let next = next.map(String::from).unwrap_or_default();
    error(format!("modifier {op}{next} of ${{{name}}} is not known"))
}
