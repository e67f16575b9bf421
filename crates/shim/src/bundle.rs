// SPDX-License-Identifier: Apache-2.0
//! The directory that containerd makes for a container: what the shim reads of its config.json, and the files that it leaves
//! there for the `delete` of a later process. It is the host owner's, not the container's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Code, Context, Error, Result};
use crate::options::Options;

/// config.json, as far as a shim looks at it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Whatever engines note.
    pub annotations: BTreeMap<String, String>,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: String,
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

impl Config {
    /// Which shim it belongs to: the pod's, or one of its own.
    pub fn group<'a>(&'a self, id: &'a str) -> &'a str {
        let named = [
            "io.containerd.runc.v2.group",
            "io.kubernetes.cri.sandbox-id",
        ];
        let found = named.iter().find_map(|name| self.annotations.get(*name));
        found.map_or(id, String::as_str)
    }

    /// Whether its processes outlive its init: they are in somebody else's PID namespace.
    pub fn shares_pid_namespace(&self) -> bool {
        let mut namespaces = self.linux.namespaces.iter();
        let own = namespaces.find(|namespace| namespace.kind == "pid");
        own.is_none_or(|namespace| !namespace.path.is_empty())
    }

    /// Whether its cgroup is written as a unit of systemd's, `slice:prefix:name`.
    pub fn asks_for_systemd(&self) -> bool {
        let parts = self.linux.cgroups_path.split(':');
        !self.linux.cgroups_path.contains('/') && parts.count() == 3
    }
}

/// A bundle's directory.
#[derive(Debug, Clone)]
pub struct Bundle(PathBuf);

impl Bundle {
    /// The one at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the root file system is mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// What is of interest in config.json.
    pub fn config(&self) -> Result<Config> {
        let path = self.0.join("config.json");
        let bytes = fs::read(&path).map_err(|error| failed("read", &path, &error))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("read {}: {error}", path.display())))
    }

    /// Makes the directory of the root file system, where there is none.
    pub fn make_rootfs(&self) -> Result<()> {
        let path = self.rootfs();
        let made = fs::DirBuilder::new().mode(0o711).create(&path);
        match made {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(|error| failed("mkdir", &path, &error)),
        }
    }

    /// Leaves what `delete` needs: the options, and the name of the runtime.
    pub fn write_options(&self, options: &Options) -> Result<()> {
        let text = serde_json::to_vec(options)
            .map_err(|error| Error::new(Code::Unknown, format!("write the options: {error}")))?;
        self.write("options.json", &text)?;
        self.write("runtime", options.binary_name.as_bytes())
    }

    /// What [`Bundle::write_options`] has left; the defaults where it has not.
    pub fn read_options(&self) -> Result<Options> {
        match fs::read(self.0.join("options.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::invalid(format!("read options.json: {error}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Options::default()),
            Err(error) => Err(failed("read", &self.0.join("options.json"), &error)),
        }
    }

    /// Where its shim listens, or did.
    pub fn address(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.0.join("address")).ok()?;
        text.strip_prefix("unix://").map(PathBuf::from)
    }

    /// Where the runtime writes init's number.
    pub fn pid_file(&self) -> PathBuf {
        self.0.join("init.pid")
    }

    /// Writes a file of the shim's own, for its owner's eyes.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
        written.map_err(|error| failed("write", &path, &error))
    }
}

/// The number that a runtime has written to `path`.
pub fn read_pid(path: &Path) -> Result<i32> {
    let text = fs::read_to_string(path).map_err(|error| failed("read", path, &error))?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| {
        let text = format!("{}: {text:?} is no process", path.display());
        Error::new(Code::Unknown, text)
    })
}

/// An error of the standard library's, with the call and the path.
pub fn failed(call: &str, path: &Path, error: &std::io::Error) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::NotFound,
        std::io::ErrorKind::AlreadyExists => Code::AlreadyExists,
        _ => Code::Unknown,
    };
    let errno = error
        .raw_os_error()
        .map(corten_sys::Errno::from_raw_os_error);
    let words = errno.map_or_else(|| error.to_string(), corten_sys::describe);
    Error::new(code, format!("{call} {path:?}: {words}"))
}

/// Removes a file of the shim's own; that there is none is no error, and nobody waits for the space.
pub fn remove(path: &Path) {
    // What stays is in a bundle, which containerd removes as a whole.
    let _ = fs::remove_file(path);
}

/// A directory for sockets, for its owner alone.
pub fn make_private_dir(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| failed("mkdir", path, &error))
        .context(|| "make the directory for sockets")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_pods_containers_are_of_one_group() {
        for (annotations, group) in [
            ("{}", "c"),
            (r#"{"io.kubernetes.cri.sandbox-id": "pod"}"#, "pod"),
            (
                r#"{"io.kubernetes.cri.sandbox-id": "pod", "io.containerd.runc.v2.group": "mine"}"#,
                "mine",
            ),
        ] {
            let config = config(&format!(r#"{{"annotations": {annotations}}}"#));
            assert_eq!(config.group("c"), group);
        }
    }

    #[test]
    fn processes_outlive_init_where_the_namespace_is_not_its_own() {
        for (namespaces, shared) in [
            ("[]", true),
            (r#"[{"type": "mount"}]"#, true),
            (r#"[{"type": "pid"}]"#, false),
            (r#"[{"type": "pid", "path": "/proc/1/ns/pid"}]"#, true),
        ] {
            let text = format!(r#"{{"linux": {{"namespaces": {namespaces}}}}}"#);
            assert_eq!(config(&text).shares_pid_namespace(), shared, "{text}");
        }
    }

    #[test]
    fn units_of_systemd_are_known_by_their_form() {
        for (path, asks) in [
            ("", false),
            ("/a/b", false),
            ("system.slice:cri:abc", true),
            (":cri:abc", true),
            ("a/b:c:d", false),
        ] {
            let text = format!(r#"{{"linux": {{"cgroupsPath": "{path}"}}}}"#);
            assert_eq!(config(&text).asks_for_systemd(), asks, "{path}");
        }
    }
}
