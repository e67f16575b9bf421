// SPDX-License-Identifier: Apache-2.0
//! `hosts.toml`, as containerd has it: where else a registry's content is, and how each of these places is spoken to.
//! Read out of its text; files that it names are read by `place`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, Result};

/// What a place may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Content by its digest.
    Pull,
    /// What a tag leads to: it is believed.
    Resolve,
    /// Taking images.
    Push,
    /// What refers to an image: it is believed.
    Referrers,
}

impl Capability {
    const ALL: [(&'static str, Self); 4] = [
        ("pull", Self::Pull),
        ("resolve", Self::Resolve),
        ("push", Self::Push),
        ("referrers", Self::Referrers),
    ];

    /// What a place can do of which nothing is said.
    pub fn all() -> Vec<Self> {
        Self::ALL.map(|(_, capability)| capability).to_vec()
    }

    /// As the file has it.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, other)| *other == self);
        found.map_or("", |(name, _)| name)
    }

    fn parse(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, capability)| capability)
            .ok_or_else(|| Error::unsupported(format!("capability {text:?} is not known")))
    }
}

/// A client's certificate and its key: files, the key's in the same one if there is no second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate: String,
    pub key: Option<String>,
}

/// How a place is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub capabilities: Vec<Capability>,
    /// Files.
    pub authorities: Vec<String>,
    pub client: Option<Pair>,
    pub skip_verify: bool,
    pub headers: Vec<(String, String)>,
    /// The URL's path is the whole of it: no `/v2` follows.
    pub override_path: bool,
    /// To be connected to, in place of the limit for all.
    pub dial_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capabilities: Capability::all(),
            authorities: Vec::new(),
            client: None,
            skip_verify: false,
            headers: Vec::new(),
            override_path: false,
            dial_timeout: None,
        }
    }
}

/// A whole file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// The registry itself, where it is not at its own name.
    pub server: Option<String>,
    /// The registry itself.
    pub own: Settings,
    /// The other places, in the order in which they are to be asked.
    pub others: Vec<(String, Settings)>,
}

/// What isn't carried out is refused by its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    /// The order of a table is not kept by the reader, but its keys' places are.
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Table>,
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Many(Vec<OneOrMany>),
}

impl Hosts {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)
            .map_err(|error| Error::invalid(error.to_string().trim_end().replace('\n', " ")))?;
        let mut others: Vec<(Spanned<String>, Table)> = file.host.into_iter().collect();
        others.sort_by_key(|(name, _)| name.span().start);
        let others = others
            .into_iter()
            .map(|(name, table)| Ok((name.into_inner(), table.settings()?)))
            .collect::<Result<_>>()?;
        let own = Table {
            capabilities: file.capabilities,
            ca: file.ca,
            client: file.client,
            skip_verify: file.skip_verify,
            header: file.header,
            override_path: file.override_path,
            dial_timeout: file.dial_timeout,
        };
        Ok(Self {
            server: file.server,
            own: own.settings()?,
            others,
        })
    }
}

impl Table {
    fn settings(self) -> Result<Settings> {
        let capabilities = match self.capabilities.filter(|names| !names.is_empty()) {
            Some(names) => names
                .iter()
                .map(|name| Capability::parse(name))
                .collect::<Result<_>>()?,
            None => Capability::all(),
        };
        let mut headers = Vec::new();
        for (name, values) in self.header {
            headers.extend(values.list().into_iter().map(|value| (name.clone(), value)));
        }
        Ok(Settings {
            capabilities,
            authorities: self.ca.map(OneOrMany::list).unwrap_or_default(),
            client: self.client.map(Clients::pair).transpose()?.flatten(),
            skip_verify: self.skip_verify.unwrap_or_default(),
            headers,
            override_path: self.override_path.unwrap_or_default(),
            dial_timeout: match self.dial_timeout {
                Some(text) => Some(duration(&text).ok_or_else(|| {
                    Error::invalid(format!("dial_timeout: {text:?} is no time such as 1m30s"))
                })?),
                None => None,
            },
        })
    }
}

impl OneOrMany {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

impl Clients {
    /// `"file"`, `["file"]` or `[["certificate", "key"]]`.
    fn pair(self) -> Result<Option<Pair>> {
        let mut pairs = match self {
            Self::One(text) => vec![OneOrMany::One(text)],
            Self::Many(pairs) => pairs,
        };
        if pairs.len() > 1 {
            return Err(Error::unsupported(
                "client: more than one certificate is not supported",
            ));
        }
        let Some(pair) = pairs.pop() else {
            return Ok(None);
        };
        match pair.list().as_slice() {
            [certificate] => Ok(Some(Pair {
                certificate: certificate.clone(),
                key: None,
            })),
            [certificate, key] => Ok(Some(Pair {
                certificate: certificate.clone(),
                key: Some(key.clone()).filter(|key| !key.is_empty()),
            })),
            _ => Err(Error::invalid("client: want a certificate and a key")),
        }
    }
}

/// A time as Go writes it, `1m30s` or `1.5s`; none is no limit that could be kept.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(sum)
        .ok()
        .filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_as_containerd_documents_them() {
        let text = r#"
            server = "https://registry-1.docker.io"
            ca = "own.pem"

            [host."https://z.example"]
              capabilities = ["pull", "resolve"]
              ca = ["/a.pem", "b.pem"]
              client = [["c.cert", "c.key"]]

            [host."http://a.example:5000/prefix/v2"]
              skip_verify = true
              override_path = true
              client = "both.pem"
              [host."http://a.example:5000/prefix/v2".header]
                x-one = "1"
                x-two = ["2", "3"]
        "#;
        let hosts = Hosts::parse(text).unwrap();
        assert_eq!(
            hosts.server.as_deref(),
            Some("https://registry-1.docker.io")
        );
        assert_eq!(hosts.own.authorities, ["own.pem"]);
        let names: Vec<&str> = hosts.others.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["https://z.example", "http://a.example:5000/prefix/v2"],
            "in their own order"
        );
        let [(_, first), (_, second)] = hosts.others.as_slice() else {
            panic!()
        };
        assert_eq!(first.capabilities, [Capability::Pull, Capability::Resolve]);
        assert_eq!(first.authorities, ["/a.pem", "b.pem"]);
        let pair = first.client.clone().unwrap();
        assert_eq!(
            (pair.certificate.as_str(), pair.key.as_deref()),
            ("c.cert", Some("c.key"))
        );
        assert_eq!(second.capabilities, Capability::all());
        assert!(second.skip_verify && second.override_path);
        assert_eq!(second.client.clone().unwrap().key, None);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            second.headers,
            [
                header("x-one", "1"),
                header("x-two", "2"),
                header("x-two", "3")
            ]
        );
        assert_eq!(Hosts::parse("").unwrap(), Hosts::default());
    }

    #[test]
    fn times_as_go_writes_them() {
        for (text, millis) in [
            ("3s", Some(3000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1500)),
            ("250ms", Some(250)),
            ("2000000ns", Some(2)),
            ("5000µs", Some(5)),
            ("1h", Some(3_600_000)),
            ("0s", None),
            ("", None),
            ("3", None),
            ("s", None),
            ("-3s", None),
            ("3 s", None),
            ("1..5s", None),
            ("3days", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_not_carried_out_is_refused_by_name() {
        for (text, named) in [
            ("dial_timeout = \"soon\"", "dial_timeout"),
            ("insecure = true", "insecure"),
            ("[host.\"https://a\"]\nrewrite = 1", "rewrite"),
            ("[host.\"https://a\"]\ncapabilities = [\"fly\"]", "fly"),
            ("client = [\"a\", \"b\"]", "client"),
            ("client = [[\"a\", \"b\", \"c\"]]", "client"),
            ("skip_verify = \"yes\"", "skip_verify"),
            ("server = 5", "server"),
            ("server = ", "line 1"),
        ] {
            let error = Hosts::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
