// SPDX-License-Identifier: Apache-2.0
//! A network's configuration: a file of the administrator's, or the built-in one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Context, Error, Kind, Result};
use crate::store::{DOCUMENT_CAP, files};

/// The built-in network's name.
pub const DEFAULT: &str = "corten";

/// Where networks are configured.
const USUAL_DIR: &str = "/etc/cni/net.d";

/// A network as plugins are called for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The version of the specification that its plugins are spoken to in.
    pub version: String,
    /// Each plugin's part, in the order in which they are called.
    pub plugins: Vec<Value>,
}

impl Config {
    /// Whether a plugin takes the capability `name`.
    pub fn has_capability(&self, name: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| capabilities(plugin).contains(&name))
    }

    /// The programs that are called, by their plugins or by those for the addresses.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().flat_map(|plugin| {
            let ipam = plugin["ipam"]["type"]
                .as_str()
                .filter(|kind| !kind.is_empty());
            plugin["type"].as_str().into_iter().chain(ipam)
        })
    }
}

/// The capabilities that a plugin's part turns on.
pub fn capabilities(plugin: &Value) -> Vec<&str> {
    let all = plugin["capabilities"].as_object();
    all.into_iter()
        .flatten()
        .filter(|(_, on)| **on == Value::Bool(true))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// The network `name`: of `conf_dir`, or of the usual directory; [`DEFAULT`] is made in `own_dir` if none is called so.
pub fn load(name: &str, conf_dir: Option<&Path>, own_dir: &Path) -> Result<Config> {
    let dir = conf_dir.unwrap_or(Path::new(USUAL_DIR));
    let mut names = Vec::new();
    let mut unreadable = Vec::new();
    for path in candidates(dir)? {
        match read(&path) {
            Ok(config) if config.name == name => return Ok(config),
            Ok(config) => names.push(config.name),
            // Another network's file must not be in the way of this one.
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    if name == DEFAULT {
        return built_in(own_dir);
    }
    names.push(DEFAULT.to_owned());
    let mut text = format!(
        "there is none of that name in {}: there are {}",
        dir.display(),
        names.join(", ")
    );
    for error in unreadable {
        text.push_str("; ");
        text.push_str(&error);
    }
    Err(Error::new(Kind::NotFound, text))
}

/// The files that may be networks, in the order of their names.
fn candidates(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", dir.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("read {}", dir.display()))?
            .path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("conf" | "conflist" | "json")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Config> {
    let read = || {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            return Err(Error::invalid("its name is odd"));
        };
        // A link is followed: what the directory holds is the administrator's.
        let dir = corten_sys::fs::open_dir(dir)?;
        let target = corten_sys::fs::open(
            std::os::fd::AsFd::as_fd(&dir),
            Path::new(name),
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
            rustix::fs::Mode::empty(),
        )?;
        let limit = usize::try_from(DOCUMENT_CAP).unwrap_or(usize::MAX);
        let bytes = corten_sys::fs::read_to_end(std::os::fd::AsFd::as_fd(&target), limit)?;
        parse(&bytes)
    };
    read().with_context(|| format!("read {}", path.display()))
}

/// A list of plugins, or a single one.
fn parse(bytes: &[u8]) -> Result<Config> {
    let document: Value =
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(error.to_string()))?;
    let text = |name: &str| {
        document[name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid(format!("it has no {name:?}")))
    };
    let name = text("name")?;
    let version = text("cniVersion").remedy("plugins must be told what they are spoken to in")?;
    if !matches!(
        version.as_str(),
        "0.3.0" | "0.3.1" | "0.4.0" | "1.0.0" | "1.1.0"
    ) {
        return Err(Error::unsupported(format!(
            "cniVersion {version:?} is not supported: 0.3.0 to 1.1.0 are"
        )));
    }
    let plugins = match document.get("plugins") {
        Some(Value::Array(plugins)) => plugins.clone(),
        Some(_) => return Err(Error::invalid("\"plugins\" is no list")),
        None => vec![document.clone()],
    };
    if plugins.is_empty() {
        return Err(Error::invalid("it has no plugins"));
    }
    for plugin in &plugins {
        for kind in [&plugin["type"], &plugin["ipam"]["type"]] {
            // SECURITY: the name of a program in a directory of programs, never a path out of there.
            if kind.as_str().is_some_and(|kind| kind.contains('/')) {
                return Err(Error::invalid(format!("the plugin {kind} has a path")));
            }
        }
        if plugin["type"].as_str().is_none_or(str::is_empty) {
            return Err(Error::invalid("a plugin has no \"type\""));
        }
    }
    Ok(Config {
        name,
        version,
        plugins,
    })
}

/// The built-in network's file, written if it is not there: whoever changes it, has it changed.
fn built_in(own_dir: &Path) -> Result<Config> {
    let name = format!("{DEFAULT}.conflist");
    let make = || -> Result<Config> {
        if let Err(error) = std::fs::create_dir(own_dir)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(error.into());
        }
        let dir = files::open_dir(rustix::fs::CWD, own_dir)?;
        let dir = std::os::fd::AsFd::as_fd(&dir);
        if let Some(bytes) = files::read_file(dir, &name, DOCUMENT_CAP)? {
            return parse(&bytes);
        }
        let text = serde_json::to_string_pretty(&document())
            .map_err(|error| Error::invalid(error.to_string()))?;
        files::replace_file(dir, dir, &name, text.as_bytes())?;
        parse(text.as_bytes())
    };
    make().with_context(|| format!("{}", own_dir.join(&name).display()))
}

fn document() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": DEFAULT,
        "plugins": [
            {
                "type": "bridge", "bridge": "corten0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.89.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
            // Where the host forwards nothing by itself, as one does that runs docker.
            {"type": "firewall"},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_and_single_plugins() {
        let list = parse(document().to_string().as_bytes()).unwrap();
        assert_eq!(list.name, DEFAULT);
        assert!(list.has_capability("portMappings") && !list.has_capability("bandwidth"));
        let programs: Vec<_> = list.programs().collect();
        assert_eq!(programs, ["bridge", "host-local", "portmap", "firewall"]);
        let single = parse(br#"{"cniVersion":"0.4.0","name":"a","type":"ptp"}"#).unwrap();
        assert_eq!(single.plugins.len(), 1);
        for (bad, expected) in [
            (r#"{"name":"a","type":"ptp"}"#, "no \"cniVersion\""),
            (
                r#"{"cniVersion":"0.2.0","name":"a","type":"ptp"}"#,
                "not supported",
            ),
            (r#"{"cniVersion":"1.0.0","type":"ptp"}"#, "no \"name\""),
            (r#"{"cniVersion":"1.0.0","name":"a"}"#, "no \"type\""),
            (
                r#"{"cniVersion":"1.0.0","name":"a","plugins":[]}"#,
                "no plugins",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":"a","plugins":1}"#,
                "no list",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":"a","type":"../x"}"#,
                "has a path",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":"a","type":"b","ipam":{"type":"/x"}}"#,
                "has a path",
            ),
            ("x", "expected value"),
        ] {
            let error = parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
