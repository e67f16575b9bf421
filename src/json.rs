// SPDX-License-Identifier: Apache-2.0
//! JSON to print, whose keys stay in the order in which they are given, as runc's do. Pure; made for the verbs that
//! print a document of their own, and read by engines and people, who read the first keys first.
//!
//! A tree and one writer, where derived serializers would be a writer for each type: a tenth of the code.

use std::borrow::Cow;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json<'a> {
    /// true or false.
    Flag(bool),
    /// A whole number.
    Number(u64),
    /// One that may be negative.
    Signed(i64),
    /// A number of hundredths, without the zeros at its end.
    Hundredths(u64),
    /// null
    Null,
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Vec<(&'a str, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// An array of strings.
    pub fn texts<T: Into<Cow<'a, str>>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::from).collect())
    }

    /// The text on one line, without blanks.
    pub fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// The text, one value per line, with runc's indentation and a line break at its end.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out.push('\n');
        out
    }

    /// Without a depth, on one line.
    fn write(&self, out: &mut String, depth: Option<usize>) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Signed(number) => out.push_str(&number.to_string()),
            Self::Hundredths(number) => {
                let text = format!("{}.{:02}", number / 100, number % 100);
                out.push_str(text.trim_end_matches('0').trim_end_matches('.'));
            }
            Self::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Text(text) => write_text(text, out),
            Self::List(items) => {
                let items = items.iter().map(|item| (None, item));
                write_all(items, ['[', ']'], out, depth);
            }
            Self::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (Some(*key), value));
                write_all(fields, ['{', '}'], out, depth);
            }
        }
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Json<'a> {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

fn write_all<'a>(
    values: impl Iterator<Item = (Option<&'a str>, &'a Json<'a>)>,
    [open, close]: [char; 2],
    out: &mut String,
    depth: Option<usize>,
) {
    out.push(open);
    let deeper = depth.map(|depth| depth + 1);
    let mut empty = true;
    for (key, value) in values {
        if !empty {
            out.push(',');
        }
        empty = false;
        new_line(out, deeper);
        if let Some(key) = key {
            write_text(key, out);
            out.push_str(if depth.is_some() { ": " } else { ":" });
        }
        value.write(out, deeper);
    }
    if !empty {
        new_line(out, depth);
    }
    out.push(close);
}

fn new_line(out: &mut String, depth: Option<usize>) {
    let Some(depth) = depth else { return };
    out.push('\n');
    for _ in 0..depth {
        out.push_str("    ");
    }
}

/// The members of an object in the making.
#[derive(Debug, Default)]
pub struct Members<'a>(Vec<(&'a str, Json<'a>)>);

impl<'a> Members<'a> {
    /// Adds a member.
    pub fn put(&mut self, key: &'a str, value: Json<'a>) {
        self.0.push((key, value));
    }

    /// Adds numbers.
    pub fn numbers(&mut self, numbers: &[(&'a str, u64)]) {
        for (key, number) in numbers {
            self.put(key, Json::Number(*number));
        }
    }

    /// Adds those numbers that are not 0, as Go's `omitempty` does.
    pub fn counted(&mut self, numbers: &[(&'a str, u64)]) {
        for (key, number) in numbers {
            if *number != 0 {
                self.put(key, Json::Number(*number));
            }
        }
    }

    /// Adds a list, unless it is empty.
    pub fn list(&mut self, key: &'a str, values: impl Iterator<Item = Json<'a>>) {
        let values: Vec<_> = values.collect();
        if !values.is_empty() {
            self.put(key, Json::List(values));
        }
    }

    /// The object.
    pub fn object(self) -> Json<'a> {
        Json::Object(self.0)
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_go_would_print_on_one_line() {
        let mut members = Members::default();
        members.numbers(&[("zero", 0), ("most", u64::MAX)]);
        members.counted(&[("none", 0), ("one", 1)]);
        members.list("empty", std::iter::empty());
        let shares = [0, 5, 50, 150, 9603, 10_000].map(Json::Hundredths);
        members.list("shares", shares.into_iter());
        members.put("level", Json::Signed(-1));
        members.put("nothing", Json::Null);
        assert_eq!(
            members.object().compact(),
            "{\"zero\":0,\"most\":18446744073709551615,\"one\":1,\"shares\":[0,0.05,0.5,1.5,96.03,100],\
             \"level\":-1,\"nothing\":null}"
        );
    }

    #[test]
    fn is_what_runc_would_print() {
        let json = Json::Object(vec![
            ("z", Json::from("a \"b\"\n")),
            ("list", Json::texts(["x", "y"])),
            ("none", Json::List(Vec::new())),
            ("inner", Json::Object(vec![("flag", Json::Flag(true))])),
            ("nothing", Json::Object(Vec::new())),
        ]);
        assert_eq!(
            json.pretty(),
            "{\n    \"z\": \"a \\\"b\\\"\\n\",\n    \"list\": [\n        \"x\",\n        \"y\"\n    ],\n    \"none\": [],\n    \
             \"inner\": {\n        \"flag\": true\n    },\n    \"nothing\": {}\n}\n"
        );
    }
}
