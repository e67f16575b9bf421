// SPDX-License-Identifier: Apache-2.0
//! What a RUN's container has around it beside its image: network, names, limits, and the files that it is given.
//!
//! Runs as root; called by `run`.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use corten_sys::Call;
use rustix::fs::{Mode, OFlags};

use super::made::{Made, Source};
use super::place::Owner;
use super::run::{HOSTNAME, SCRIPT};
use crate::dockerfile::Network;
use crate::dockerfile::mount::Access;
use crate::error::Result;
use crate::options::Ulimit;

/// Larger files of the host are not taken into the container.
const HOST_FILE_CAP: usize = 1 << 20;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `--network`: of the RUNs that don't say.
    pub network: Network,
    /// `--add-host`: name and address.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--shm-size`: bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            network: Network::Host,
            hosts: Vec::new(),
            shm_size: None,
            ulimits: Vec::new(),
        }
    }
}

impl Surroundings {
    /// What of it a RUN depends on, beside the network.
    pub(super) fn key(&self) -> String {
        format!("{:?}{:?}{:?}", self.hosts, self.shm_size, self.ulimits)
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
