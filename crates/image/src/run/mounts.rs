// SPDX-License-Identifier: Apache-2.0
//! `--volume`, `--mount` and `--tmpfs` as mounts. Pure; that a source exists is seen when the container is made.

use std::path::{Path, PathBuf};

use super::settings::{Mount, MountKind};
use crate::error::{Context, Error, Result};
use crate::options::bytes;

/// What `--volume` takes beside ro and rw, as the runtime takes it as well.
const VOLUME_OPTIONS: [&str; 14] = [
    "nosuid", "suid", "nodev", "dev", "noexec", "exec", "private", "rprivate", "shared", "rshared",
    "slave", "rslave", "bind", "rbind",
];

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// Reads `HOST:CONTAINER[:OPTION[,OPTION…]]`.
pub fn volume(text: &str) -> Result<Mount> {
    let read = || {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts.as_slice() {
            [source, destination] => (*source, *destination, ""),
            [source, destination, options] => (*source, *destination, *options),
            _ => return Err(Error::invalid("want HOST:CONTAINER[:OPTIONS]")),
        };
        if !source.starts_with('/') {
            return Err(
                Error::invalid(format!("{source:?} is no absolute path of the host"))
                    .remedy("there are no named volumes"),
            );
        }
        let mut mount = bind(source, destination)?;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "rw" => mount.options.push(option.to_owned()),
                "z" | "Z" => {
                    return Err(Error::unsupported(format!(
                        "option {option} (a new SELinux label) is not supported"
                    )));
                }
                "U" | "copy" | "nocopy" | "O" | "idmap" | "delegated" | "cached" | "consistent" => {
                    return Err(Error::unsupported(format!(
                        "option {option} is not supported"
                    )));
                }
                other if VOLUME_OPTIONS.contains(&other) => mount.options.push(other.to_owned()),
                other => return Err(Error::invalid(format!("unknown option {other:?}"))),
            }
        }
        Ok(settle(mount))
    };
    read().with_context(|| format!("volume {text:?}"))
}

/// Reads `type=bind|tmpfs,…`.
pub fn mount(text: &str) -> Result<Mount> {
    read_mount(text).with_context(|| format!("mount {text:?}"))
}

fn read_mount(text: &str) -> Result<Mount> {
    let (mut kind, mut source, mut destination) = (None, None, None);
    let mut options = Vec::new();
    for field in text.split(',') {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let needed = || value.ok_or_else(|| Error::invalid(format!("{key} needs a value")));
        match key {
            "type" => kind = Some(needed()?),
            "source" | "src" => source = Some(needed()?),
            "target" | "destination" | "dst" => destination = Some(needed()?),
            "readonly" | "ro" => {
                options.push(if truth(value)? { "ro" } else { "rw" }.to_owned());
            }
            "bind-propagation" => match needed()? {
                propagation if PROPAGATIONS.contains(&propagation) => {
                    options.push(propagation.to_owned());
                }
                other => {
                    return Err(Error::invalid(format!("unknown propagation {other:?}")));
                }
            },
            "bind-nonrecursive" => {
                options.push(if truth(value)? { "bind" } else { "rbind" }.to_owned());
            }
            "tmpfs-size" => options.push(format!("size={}", bytes(needed()?)?)),
            "tmpfs-mode" => options.push(format!("mode={:o}", mode(needed()?)?)),
            other => return Err(Error::unsupported(format!("{other:?} is not supported"))),
        }
    }
    let destination = destination.ok_or_else(|| Error::invalid("it has no target"))?;
    let is_tmpfs = |option: &String| option.starts_with("size=") || option.starts_with("mode=");
    let mut mount = match (kind, source) {
        (Some("bind"), Some(source)) => {
            if !source.starts_with('/') {
                return Err(Error::invalid(format!(
                    "source {source:?} is no absolute path"
                )));
            }
            if options.iter().any(is_tmpfs) {
                return Err(Error::invalid("tmpfs-size and tmpfs-mode are for a tmpfs"));
            }
            bind(source, destination)?
        }
        (Some("bind"), None) => return Err(Error::invalid("a bind mount needs a source")),
        (Some("tmpfs"), None) => {
            if options
                .iter()
                .any(|option| !is_tmpfs(option) && option != "ro" && option != "rw")
            {
                return Err(Error::invalid("bind-… is for a bind mount"));
            }
            memory(destination)?
        }
        (Some("tmpfs"), Some(_)) => return Err(Error::invalid("a tmpfs has no source")),
        (Some("volume") | None, _) => {
            return Err(Error::unsupported("there are no named volumes")
                .remedy("say type=bind or type=tmpfs"));
        }
        (Some(other), _) => {
            return Err(Error::unsupported(format!(
                "type {other:?} is not supported"
            )));
        }
    };
    mount.options.extend(options);
    Ok(settle(mount))
}

/// Reads `CONTAINER[:OPTION[,OPTION…]]`.
pub fn tmpfs(text: &str) -> Result<Mount> {
    let read = || {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        let mut mount = memory(destination)?;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => mount.options.push(format!("size={}", bytes(value)?)),
                Some(("mode", value)) => mount.options.push(format!("mode={:o}", mode(value)?)),
                Some((key @ ("uid" | "gid" | "nr_inodes"), value))
                    if value.parse::<u32>().is_ok() =>
                {
                    mount.options.push(format!("{key}={value}"));
                }
                None if matches!(
                    option,
                    "ro" | "rw" | "nosuid" | "suid" | "nodev" | "dev" | "noexec" | "exec"
                ) =>
                {
                    mount.options.push(option.to_owned());
                }
                _ => return Err(Error::invalid(format!("unknown option {option:?}"))),
            }
        }
        Ok(settle(mount))
    };
    read().with_context(|| format!("tmpfs {text:?}"))
}

fn truth(value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(Error::invalid(format!(
            "{other:?} is neither true nor false"
        ))),
    }
}

fn mode(text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| Error::invalid(format!("mode {text:?} is no octal number up to 7777")))
}

fn bind(source: &str, destination: &str) -> Result<Mount> {
    Ok(Mount {
        kind: MountKind::Bind,
        source: Some(PathBuf::from(source)),
        destination: absolute(destination)?,
        options: Vec::new(),
    })
}

fn memory(destination: &str) -> Result<Mount> {
    Ok(Mount {
        kind: MountKind::Tmpfs,
        source: None,
        destination: absolute(destination)?,
        options: ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec(),
    })
}

/// An absolute path without anything that leads up or nowhere: two ways to write one place would be two mounts.
fn absolute(text: &str) -> Result<String> {
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') {
        return Err(Error::invalid(format!(
            "{text:?} is no absolute path in the container"
        )));
    }
    let mut clean = String::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => {
                clean.push('/');
                clean.push_str(&name.to_string_lossy());
            }
            std::path::Component::RootDir => {}
            _ => return Err(Error::invalid(format!("{text:?} has a .. in it"))),
        }
    }
    match clean.is_empty() {
        true => Err(Error::invalid("nothing can be mounted on the root")),
        false => Ok(clean),
    }
}

/// What a bind mount does unless it is said: all that is mounted below is seen, and nothing goes back to the host.
fn settle(mut mount: Mount) -> Mount {
    if mount.kind == MountKind::Bind {
        let has = |wanted: &[&str]| mount.options.iter().any(|o| wanted.contains(&o.as_str()));
        let (bound, spread) = (has(&["bind", "rbind"]), has(&PROPAGATIONS));
        if !bound {
            mount.options.insert(0, "rbind".to_owned());
        }
        if !spread {
            mount.options.push("rprivate".to_owned());
        }
    }
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mount: Result<Mount>) -> String {
        match mount {
            Ok(mount) => format!(
                "{}{} {}",
                mount
                    .source
                    .map_or(String::new(), |s| format!("{} ", s.display())),
                mount.destination,
                mount.options.join(",")
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn volumes() {
        for (text, expected) in [
            ("/a:/b", "/a /b rbind,rprivate"),
            ("/a:/b/:ro", "/a /b rbind,ro,rprivate"),
            (
                "/a:/b//c/.:rw,nosuid,rshared",
                "/a /b/c rbind,rw,nosuid,rshared",
            ),
            ("/a:/b:bind", "/a /b bind,rprivate"),
        ] {
            assert_eq!(shown(volume(text)), expected, "{text}");
        }
        for (text, expected) in [
            ("a:/b", "no named volumes"),
            ("/b", "want HOST:CONTAINER"),
            ("/a:b", "no absolute path in the container"),
            ("/a:/b:z", "SELinux"),
            ("/a:/b:Z", "SELinux"),
            ("/a:/b:x", "unknown option \"x\""),
            ("/a:/b/../c", ".. in it"),
            ("/a:/", "on the root"),
            ("/a:/b:ro:c", "want HOST:CONTAINER"),
        ] {
            let error = shown(volume(text));
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn mounts() {
        for (text, expected) in [
            (
                "type=bind,src=/a,dst=/b,readonly",
                "/a /b rbind,ro,rprivate",
            ),
            (
                "type=bind,source=/a,target=/b,bind-propagation=rslave,ro=false",
                "/a /b rbind,rslave,rw",
            ),
            (
                "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777",
                "/t nosuid,nodev,noexec,size=1048576,mode=1777",
            ),
        ] {
            assert_eq!(shown(mount(text)), expected, "{text}");
        }
        for (text, expected) in [
            ("type=bind,dst=/b", "needs a source"),
            ("type=bind,src=/a", "no target"),
            ("src=v,dst=/b", "no named volumes"),
            ("type=volume,src=v,dst=/b", "no named volumes"),
            ("type=npipe,dst=/b", "\"npipe\" is not supported"),
            ("type=tmpfs,src=/a,dst=/b", "no source"),
            ("type=bind,src=/a,dst=/b,tmpfs-size=1", "for a tmpfs"),
            (
                "type=tmpfs,dst=/b,bind-propagation=shared",
                "for a bind mount",
            ),
            ("type=bind,src=/a,dst=/b,volume-nocopy", "not supported"),
            ("type=bind,src=/a,dst=/b,ro=x", "neither true nor false"),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=x",
                "unknown propagation",
            ),
            ("type=tmpfs,dst=/b,tmpfs-mode=9", "octal"),
        ] {
            let error = shown(mount(text));
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn tmpfses() {
        assert_eq!(
            shown(tmpfs("/t:size=64k,exec,mode=755,uid=5")),
            "/t nosuid,nodev,noexec,size=65536,exec,mode=755,uid=5"
        );
        for bad in ["t", "/t:size=x", "/t:foo", "/t:uid=x", "/"] {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }
}
