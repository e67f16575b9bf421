// SPDX-License-Identifier: Apache-2.0
//! JSON to print, whose keys stay in the order in which they are given, as runc's do. Pure; made by the verbs that
//! print a document of their own, and read by engines and people, who read the first keys first.

use std::borrow::Cow;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json<'a> {
    /// true or false.
    Flag(bool),
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

    /// The text, one value per line, with runc's indentation and a line break at its end.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
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
    depth: usize,
) {
    out.push(open);
    let mut empty = true;
    for (key, value) in values {
        if !empty {
            out.push(',');
        }
        empty = false;
        new_line(out, depth + 1);
        if let Some(key) = key {
            write_text(key, out);
            out.push_str(": ");
        }
        value.write(out, depth + 1);
    }
    if !empty {
        new_line(out, depth);
    }
    out.push(close);
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("    ");
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

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
