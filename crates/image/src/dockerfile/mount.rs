// SPDX-License-Identifier: Apache-2.0
//! `RUN --mount`: its options as they are written, and what they mean when their variables are expanded.
//!
//! Pure; called by `flagged` and, for each RUN, by `build`.

use super::RawMount;
use super::options::{fields, number, truth};
use crate::options::bytes;

/// What a `--mount` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is seen; relative to the working directory.
    pub target: Option<String>,
    /// Whether the command may write to it.
    pub access: Access,
    /// What is seen there.
    pub kind: Kind,
}

/// Whether a mount can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It can't.
    Read,
    /// It can; what is written to a bind mount is thrown away.
    Write,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Files of the context, or of a stage or image.
    Bind {
        /// Without it the context.
        from: Option<String>,
        /// A path in it; the whole by default.
        source: String,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name; that of the target by default.
        id: Option<String>,
        /// What it holds at first: nothing by default.
        from: Option<String>,
        /// A path in that.
        source: String,
        /// Who else may use it meanwhile.
        sharing: Sharing,
        /// Of the directory, when it is made.
        look: Look,
    },
    /// Memory.
    Tmpfs {
        /// At most so many bytes.
        size: Option<u64>,
    },
    /// A file or variable that is in no layer.
    Secret {
        /// Its name.
        id: String,
        /// Whether it is an error if it was not given.
        need: Need,
        /// The variable that holds it.
        env: Option<String>,
        /// Of the file.
        look: Look,
    },
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// One user; others get another directory.
    Private,
    /// One user; others wait.
    Locked,
}

/// Whether a secret may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It may not.
    Required,
    /// Then there is no mount.
    Optional,
}

/// Mode and owner, as far as they are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// `mode`
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
}

/// Splits the value of one `--mount`, and refuses what can't be right whatever its variables hold.
pub(super) fn read(text: &str) -> Result<RawMount, String> {
    let mut options = Vec::new();
    for field in fields(text)? {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (field.as_str(), None),
        };
        let name = name.to_ascii_lowercase();
        match (name.as_str(), value.as_deref()) {
            ("ro" | "readonly" | "rw" | "readwrite" | "required", _) => {}
            ("from", Some(value)) if value.contains('$') => {
                return Err(
                    "from takes no variables: give the stage a name with FROM $name AS stage"
                        .to_owned(),
                );
            }
            (
                "type" | "from" | "source" | "src" | "target" | "dst" | "destination" | "id"
                | "sharing" | "mode" | "uid" | "gid" | "size" | "env",
                Some(_),
            ) => {}
            (_, None) => return Err(format!("{name:?} is not of the form name=value")),
            _ => return Err(format!("{name:?} is not known")),
        }
        options.push((name, value));
    }
    let raw = RawMount { options };
    match raw
        .options
        .iter()
        .any(|(_, value)| value.as_ref().is_some_and(|value| value.contains('$')))
    {
        // Looked at when the variables are known.
        true => Ok(raw),
        false => parse(&raw).map(|_| raw),
    }
}

/// The stage, image or context that `raw` names.
pub fn from(raw: &RawMount) -> Option<&str> {
    let option = raw.options.iter().rfind(|(name, _)| name == "from");
    option.and_then(|(_, value)| value.as_deref())
}

/// What was read so far.
#[derive(Default)]
struct Options {
    kind: Option<String>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    access: Option<Access>,
    id: Option<String>,
    sharing: Option<Sharing>,
    need: Option<Need>,
    env: Option<String>,
    size: Option<u64>,
    look: Look,
}

/// What `raw`, whose variables are expanded, means.
pub fn parse(raw: &RawMount) -> Result<Mount, String> {
    let mut options = Options::default();
    for (name, value) in &raw.options {
        options.take(name, value.as_deref())?;
    }
    options.mount()
}

impl Options {
    fn take(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let text = value.unwrap_or_default();
        let owned = || Some(text.to_owned());
        match name {
            "type" => self.kind = owned(),
            "from" => self.from = owned(),
            "source" | "src" => self.source = owned(),
            "target" | "dst" | "destination" => self.target = owned(),
            "ro" | "readonly" => self.access = Some(access(truth(name, value)?)),
            "rw" | "readwrite" => self.access = Some(access(!truth(name, value)?)),
            "required" => {
                self.need = Some(match truth(name, value)? {
                    true => Need::Required,
                    false => Need::Optional,
                });
            }
            "id" => self.id = owned(),
            "sharing" => {
                self.sharing = Some(match text.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => {
                        return Err(format!(
                            "sharing={text} is not known: it is shared, private or locked"
                        ));
                    }
                });
            }
            "env" => self.env = owned(),
            "size" => self.size = Some(bytes(text).map_err(|_| format!("size={text} is no size"))?),
            "mode" => self.look.mode = Some(number(name, text, 8, 0o7777)?),
            "uid" => self.look.uid = Some(number(name, text, 10, u32::MAX - 1)?),
            "gid" => self.look.gid = Some(number(name, text, 10, u32::MAX - 1)?),
            _ => return Err(format!("{name:?} is not known")),
        }
        Ok(())
    }

    fn mount(self) -> Result<Mount, String> {
        let kind = self
            .kind
            .clone()
            .unwrap_or_else(|| "bind".to_owned())
            .to_ascii_lowercase();
        self.refuse_strangers(&kind)?;
        let source = self.source.clone().unwrap_or_default();
        let (access, kind) = match kind.as_str() {
            "bind" => (
                Access::Read,
                Kind::Bind {
                    from: self.from,
                    source,
                },
            ),
            "cache" => {
                let kind = Kind::Cache {
                    id: self.id.filter(|id| !id.is_empty()),
                    from: self.from,
                    source,
                    sharing: self.sharing.unwrap_or(Sharing::Shared),
                    look: self.look,
                };
                (Access::Write, kind)
            }
            "tmpfs" => (Access::Write, Kind::Tmpfs { size: self.size }),
            "secret" => {
                let kind = Kind::Secret {
                    id: secret_id(&self.source, &self.id, &self.target)?,
                    need: self.need.unwrap_or(Need::Optional),
                    env: self.env,
                    look: self.look,
                };
                (Access::Read, kind)
            }
            "ssh" => {
                return Err("type=ssh is not supported: there is no agent to forward".to_owned());
            }
            other => {
                return Err(format!(
                    "type={other} is not known: it is bind, cache, tmpfs or secret"
                ));
            }
        };
        Ok(Mount {
            target: self.target.filter(|target| !target.is_empty()),
            access: self.access.unwrap_or(access),
            kind,
        })
    }

    /// An option that its type has no use for is a mistake, not to be passed over.
    fn refuse_strangers(&self, kind: &str) -> Result<(), String> {
        let looks = self.look != Look::default();
        for (name, given, kinds) in [
            ("from", self.from.is_some(), ["bind", "cache"].as_slice()),
            (
                "source",
                self.source.is_some(),
                &["bind", "cache", "secret"],
            ),
            ("id", self.id.is_some(), &["cache", "secret"]),
            ("sharing", self.sharing.is_some(), &["cache"]),
            ("required", self.need.is_some(), &["secret"]),
            ("env", self.env.is_some(), &["secret"]),
            ("size", self.size.is_some(), &["tmpfs"]),
            ("mode, uid or gid", looks, &["cache", "secret"]),
        ] {
            if given && !kinds.contains(&kind) && kind != "ssh" {
                return Err(format!("{name} has no meaning with type={kind}"));
            }
        }
        match (kind, self.env.as_deref(), self.access) {
            ("secret", Some(""), _) => Err("env names no variable".to_owned()),
            ("secret", _, Some(_)) => Err("a secret is read-only by itself".to_owned()),
            _ => Ok(()),
        }
    }
}

fn secret_id(
    source: &Option<String>,
    id: &Option<String>,
    target: &Option<String>,
) -> Result<String, String> {
    let named = match (source, id, target) {
        (Some(_), Some(_), _) => return Err("a secret has a source or an id, not both".to_owned()),
        (Some(name), None, _) | (None, Some(name), _) => name.as_str(),
        (None, None, Some(target)) => target.rsplit('/').next().unwrap_or_default(),
        (None, None, None) => return Err("a secret needs an id or a target".to_owned()),
    };
    match named.is_empty() {
        true => Err("the secret's id is empty".to_owned()),
        false => Ok(named.to_owned()),
    }
}

fn access(read_only: bool) -> Access {
    match read_only {
        true => Access::Read,
        false => Access::Write,
    }
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
