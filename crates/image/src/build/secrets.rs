// SPDX-License-Identifier: Apache-2.0
//! Secrets of a build: read when a RUN asks for one, and given to its container alone. They are in no key, no layer and
//! no message.
//!
//! Runs in `corten-image build`; filled by the command line, called by `mounts`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Kind, Result};

/// As in BuildKit: a larger one is no secret but data.
const CAP: usize = 500 << 10;

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In a file.
    File(PathBuf),
    /// In the environment, which was read when the build began.
    Value(OsString),
}

/// By their ids.
pub type Secrets = BTreeMap<String, Secret>;

/// SECURITY: a value is not for logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Value(_) => f.write_str("Value"),
        }
    }
}

impl Secret {
    /// Reads `id=…[,src=FILE|,env=NAME]` of `--secret`. Without either, it is the variable of that name, or else the file.
    pub fn parse(
        text: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(String, Self)> {
        let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
        for field in text.split(',') {
            let (name, value) = field.split_once('=').ok_or_else(|| {
                Error::invalid(format!("--secret: {field:?} is not of the form name=value"))
            })?;
            let place = match name {
                "id" => &mut id,
                "src" | "source" => &mut file,
                "env" => &mut env,
                "type" => &mut kind,
                _ => return Err(Error::invalid(format!("--secret: {name:?} is not known"))),
            };
            *place = Some(value.to_owned());
        }
        let id = id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Error::invalid("--secret has no id"))?;
        match kind.as_deref() {
            None => {}
            Some("file") if env.is_none() => {}
            // The source of a variable is its name.
            Some("env") => env = env.or_else(|| file.take()),
            Some(kind) => {
                let text = format!("--secret: type={kind} does not fit: it is file or env");
                return Err(Error::invalid(text));
            }
        }
        let missing = |name: &str| {
            let text = format!("--secret id={id}: the environment has no variable {name}");
            Error::new(Kind::NotFound, text)
        };
        let secret = match (file, env) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!(
                    "--secret id={id}: src or env, not both"
                )));
            }
            (Some(path), None) => Self::File(path.into()),
            (None, Some(name)) => Self::Value(variable(&name).ok_or_else(|| missing(&name))?),
            (None, None) => match variable(&id).filter(|_| kind.as_deref() != Some("file")) {
                Some(value) => Self::Value(value),
                None => Self::File(id.clone().into()),
            },
        };
        Ok((id, secret))
    }

    /// Its bytes.
    pub fn read(&self, id: &str) -> Result<Vec<u8>> {
        let read = || match self {
            Self::File(path) => read_file(path),
            Self::Value(value) => Ok(value.clone().into_vec()),
        };
        let bytes = read().with_context(|| format!("read secret {id}"))?;
        match bytes.len() > CAP {
            true => Err(Error::new(
                Kind::Limit,
                format!("secret {id} is larger than {CAP} bytes"),
            )),
            false => Ok(bytes),
        }
    }
}

/// A file of the user's: its links are followed, and it may be a pipe (`<(pass show x)`).
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let cwd = corten_sys::fs::CWD;
    let fd = corten_sys::fs::open(cwd, path, OFlags::RDONLY, Mode::empty())?;
    Ok(corten_sys::fs::read_to_end(fd.as_fd(), CAP)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_secret_is() {
        let variable = |name: &str| (name == "SET").then(|| OsString::from("value"));
        let file = |path: &str| Some(Secret::File(path.into()));
        let value = Some(Secret::Value("value".into()));
        for (text, expected) in [
            ("id=a,src=/x", file("/x")),
            ("id=a,source=/x,type=file", file("/x")),
            ("id=a,env=SET", value.clone()),
            ("type=env,id=a,src=SET", value.clone()),
            ("id=SET", value),
            ("type=file,id=SET", file("SET")),
            ("id=a", file("a")),
            ("id=a,env=UNSET", None),
            ("id=a,env=SET,src=b", None),
            ("id=a,type=vault", None),
            ("id=", None),
            ("src=x", None),
            ("id", None),
            ("id=a,mode=1", None),
        ] {
            let found = Secret::parse(text, variable).map(|(_, secret)| secret).ok();
            assert_eq!(found, expected, "{text}");
        }
        let (_, secret) = Secret::parse("id=SET", variable).unwrap();
        assert_eq!(format!("{secret:?}"), "Value");
    }
}
