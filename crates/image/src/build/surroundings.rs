// SPDX-License-Identifier: Apache-2.0
//! What a RUN's container has around it beside its image: network, names, limits, and the files that it is given.
//!
//! Runs as root; called by `run`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use corten_sys::Call;
use rustix::fs::{Mode, OFlags};

use super::made::{Made, Source};
use super::place::Owner;
use super::run::{HOSTNAME, SCRIPT};
use crate::dockerfile::mount::Access;
use crate::dockerfile::{Network, options};
use crate::error::{Error, Result};

/// Larger files of the host are not taken into the container.
const HOST_FILE_CAP: usize = 1 << 20;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `--network`: of the RUNs that don't say.
    pub network: Network,
    /// `--add-host`: name and address.
    pub hosts: Vec<(String, String)>,
    /// `--shm-size`: bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub limits: Vec<Limit>,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_NOFILE`, ...
    pub name: String,
    /// What processes begin with.
    pub soft: u64,
    /// What they may raise it to.
    pub hard: u64,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            network: Network::Host,
            hosts: Vec::new(),
            shm_size: None,
            limits: Vec::new(),
        }
    }
}

impl Surroundings {
    /// Reads `--add-host NAME:ADDRESS` (or `NAME=ADDRESS`).
    pub fn add_host(&mut self, text: &str) -> Result<()> {
        let wrong = || Error::invalid(format!("--add-host {text}: write NAME:ADDRESS"));
        let (name, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .ok_or_else(wrong)?;
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !is_name || address.parse::<std::net::IpAddr>().is_err() {
            return Err(wrong());
        }
        self.hosts.push((name.to_owned(), address.to_owned()));
        Ok(())
    }

    /// Reads `--shm-size`.
    pub fn set_shm_size(&mut self, text: &str) -> Result<()> {
        let size = options::size(text).filter(|size| *size > 0);
        let size = size.ok_or_else(|| Error::invalid(format!("--shm-size {text} is no size")))?;
        self.shm_size = Some(size);
        Ok(())
    }

    /// Reads `--ulimit NAME=SOFT[:HARD]`; -1 is no limit.
    pub fn add_limit(&mut self, text: &str) -> Result<()> {
        const NAMES: [&str; 16] = [
            "as",
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ];
        let wrong = || Error::invalid(format!("--ulimit {text}: write NAME=SOFT[:HARD]"));
        let (name, values) = text.split_once('=').ok_or_else(wrong)?;
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            text => text.parse::<u64>().map_err(|_| wrong()),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if !NAMES.contains(&name) || soft > hard {
            return Err(wrong());
        }
        let name = format!("RLIMIT_{}", name.to_ascii_uppercase());
        self.limits.retain(|limit| limit.name != name);
        self.limits.push(Limit { name, soft, hard });
        Ok(())
    }

    /// What of it a RUN depends on, beside the network.
    pub(super) fn key(&self) -> String {
        format!("{:?}{:?}{:?}", self.hosts, self.shm_size, self.limits)
    }
}

/// One more mount of a container.
pub(super) struct Given {
    /// In the container.
    pub destination: PathBuf,
    pub kind: &'static str,
    pub source: PathBuf,
    pub options: Vec<String>,
}

/// The files that every RUN has: copies, so that one that writes to them changes neither the host nor the image.
pub(super) fn given_files(
    dir: BorrowedFd<'_>,
    private: &Path,
    network: Network,
    surroundings: &Surroundings,
    script: Option<&str>,
) -> Result<Vec<Given>> {
    let mut given = Vec::new();
    let mut give =
        |name: &str, destination: &str, content: &[u8], options: &[&str]| -> Result<()> {
            let mode = if destination == SCRIPT { 0o755 } else { 0o644 };
            write_file(dir, name, content, mode)?;
            given.push(bind(destination.into(), private.join(name), options));
            Ok(())
        };
    let (resolv, mut hosts) = match network {
        Network::Host => (host_file("/etc/resolv.conf")?, host_file("/etc/hosts")?),
        Network::None => (Vec::new(), b"127.0.0.1 localhost\n::1 localhost\n".to_vec()),
    };
    hosts.extend(format!("\n127.0.0.1 {HOSTNAME}\n").as_bytes());
    for (name, address) in &surroundings.hosts {
        hosts.extend(format!("{address} {name}\n").as_bytes());
    }
    let file = ["rw", "nosuid", "nodev", "noexec"];
    give("resolv.conf", "/etc/resolv.conf", &resolv, &file)?;
    give("hosts", "/etc/hosts", &hosts, &file)?;
    if let Some(script) = script {
        give(
            "script",
            SCRIPT,
            script.as_bytes(),
            &["ro", "nosuid", "nodev"],
        )?;
    }
    Ok(given)
}

/// A mount of the user's; the content of a secret is written to the private directory.
pub(super) fn of_mount(
    dir: BorrowedFd<'_>,
    private: &Path,
    number: usize,
    made: &Made<'_>,
) -> Result<Given> {
    let access = match made.access {
        Access::Read => "ro",
        Access::Write => "rw",
    };
    let target = made.target.clone();
    Ok(match &made.source {
        Source::Path(path, _) => bind(target, path.clone(), &[access, "nodev"]),
        Source::View(_, path, inside, _) => bind(target, path.join(inside), &[access, "nodev"]),
        Source::Cache(cache) => bind(target, cache.path().to_owned(), &[access, "nodev"]),
        Source::Tmpfs(size) => {
            let mut options = vec![
                "nosuid".to_owned(),
                "nodev".to_owned(),
                "mode=1777".to_owned(),
            ];
            options.extend(size.map(|size| format!("size={size}")));
            options.push(access.to_owned());
            Given {
                destination: target,
                kind: "tmpfs",
                source: "tmpfs".into(),
                options,
            }
        }
        Source::Secret(content, look) => {
            let name = format!("secret-{number}");
            let mode = look.mode.unwrap_or(0o400);
            let fd = write_file(dir, &name, content, mode)?;
            let owner = Owner {
                uid: look.uid.unwrap_or(0),
                gid: look.gid.unwrap_or(0),
            };
            super::leaf::set_attributes(&fd, owner, mode)?;
            bind(
                target,
                private.join(name),
                &["ro", "nosuid", "nodev", "noexec"],
            )
        }
    })
}

fn bind(destination: PathBuf, source: PathBuf, options: &[&str]) -> Given {
    let options = ["bind"].iter().chain(options);
    Given {
        destination,
        kind: "bind",
        source,
        options: options.map(|option| (*option).to_owned()).collect(),
    }
}

/// A file of the host's; empty if there is none.
pub(crate) fn host_file(path: &str) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    match corten_sys::fs::open(corten_sys::fs::CWD, Path::new(path), flags, Mode::empty()) {
        Ok(fd) => Ok(corten_sys::fs::read_to_end(fd.as_fd(), HOST_FILE_CAP)?),
        Err(error) if error.errno() == corten_sys::Errno::NOENT => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn write_file(
    dir: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<std::os::fd::OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let fd = rustix::fs::openat(dir, name, flags, mode).call("openat", || format!("{name:?}"))?;
    // Whatever the umask is.
    corten_sys::fs::chmod(fd.as_fd(), mode)?;
    corten_sys::fs::write_all(fd.as_fd(), bytes)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_options() {
        let mut surroundings = Surroundings::default();
        for (text, good) in [
            ("a:1.2.3.4", true),
            ("b=::1", true),
            ("c:[::1]", true),
            ("d:::1", true),
            ("a", false),
            ("a:nowhere", false),
            (":1.2.3.4", false),
            ("a b:1.2.3.4", false),
        ] {
            assert_eq!(surroundings.add_host(text).is_ok(), good, "{text}");
        }
        assert_eq!(surroundings.hosts[2], ("c".to_owned(), "::1".to_owned()));
        for (text, expected) in [
            ("nofile=1:2", Some((1, 2))),
            ("nproc=-1", Some((u64::MAX, u64::MAX))),
            ("core=5", Some((5, 5))),
            ("nofile=2:1", None),
            ("bogus=1", None),
            ("nofile", None),
            ("nofile=x", None),
        ] {
            let found = surroundings.add_limit(text).ok();
            let found = found.and_then(|()| surroundings.limits.last());
            assert_eq!(
                found.map(|limit| (limit.soft, limit.hard)),
                expected,
                "{text}"
            );
        }
        for (text, good) in [("64m", true), ("0", false), ("x", false)] {
            assert_eq!(surroundings.set_shm_size(text).is_ok(), good, "{text}");
        }
    }
}
