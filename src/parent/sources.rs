// SPDX-License-Identifier: Apache-2.0
//! The sources of bind mounts that only the runtime can open, and the maps that idmapped ones show owners through. Runs
//! in the runtime with the caller's privileges: init inherits what is opened here, as detached mounts.
//!
//! A map is a user namespace. The container's own exists once init has its maps, and its mounts are mapped then, through
//! descriptors that init has copies of; any other is made before, by a process that does nothing and ends at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::fs::Procfs;
use corten_sys::mount::{self, Reach};
use corten_sys::process::{self, ChildOf, Cloned, Namespaces as Kinds, OpenFiles};
use corten_sys::{Errno, signal, socket};

use super::idmap;
use crate::error::{Context, Error, Result};
use crate::plan::Plan;
use crate::plan::mount_ids::{Through, Users};
use crate::plan::mounts::{Mount, Source};
use crate::plan::options::SourceLink;
use crate::source::{self, is_link};

/// Bind sources.
#[derive(Debug, Default)]
pub struct Sources {
    /// By index in config.json; `None` where init opens it itself.
    pub files: Vec<Option<OwnedFd>>,
    /// The limit of open files, where it was raised for them: init goes back to it once it has mounted all, so that
    /// createContainer hooks, which run before, still see the raised one.
    pub limit: Option<OpenFiles>,
}

/// Whoever may copy the mounts that the container begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// The runtime.
    Runtime,
    /// Init, which has the right to in its new user and mount namespaces alone.
    Init,
}

/// Opens what the plan leaves to the runtime; where `opener` is init, makes room for what that opens.
pub fn open(plan: &Plan, opener: Opener) -> Result<Sources> {
    let mut sources = Sources::default();
    let mut users = Vec::new();
    for (wanted, path, reach, link) in plan.sources_to_open() {
        if opener == Opener::Init {
            if wanted.id_map.is_some() {
                return Err(Error::unsupported(
                    wanted.pointer(),
                    "map the owners of its files",
                ))
                .remedy(DENIED);
            }
            if sources.limit.is_none() {
                sources.limit = Some(OpenFiles::raise()?);
            }
            continue;
        }
        if sources.files.is_empty() {
            sources.limit = Some(OpenFiles::raise()?);
            sources.files.resize_with(plan.mounts.len(), || None);
            users = make_users(&plan.mount_users)?;
        }
        let source = open_one(plan, path, reach, link, wanted, &users);
        let source = source
            .with_context(|| format!("mount {}", wanted.target.display()))
            .at(|| wanted.pointer())?;
        sources.files[wanted.index] = Some(source);
    }
    Ok(sources)
}

fn open_one(
    plan: &Plan,
    path: &Path,
    reach: Reach,
    link: SourceLink,
    wanted: &Mount,
    users: &[OwnedFd],
) -> Result<OwnedFd> {
    let source = source::open(path, reach, link, plan.rootfs.copies)?;
    if let Some(id_map) = wanted.id_map
        && let Through::Own(index) = id_map.through
    {
        map(source.as_fd(), id_map.reach, users[index].as_fd())?;
    }
    Ok(source)
}

/// Maps the sources that are to show owners through the user namespace of the container, whose init is `pid`, and lets
/// all of them go.
pub fn map_containers(plan: &Plan, sources: Sources, pid: i32) -> Result<()> {
    let mut users = None;
    for wanted in &plan.mounts {
        let source = sources.files.get(wanted.index).and_then(Option::as_ref);
        if let (Some(id_map), Some(source)) = (wanted.id_map, source)
            && id_map.through == Through::Container
            && !is_copied(wanted, source)?
        {
            let users = match &mut users {
                Some(users) => users,
                none => none.insert(Procfs::open()?.namespace(pid, "user")?),
            };
            map(source.as_fd(), id_map.reach, users.as_fd())
                .with_context(|| format!("mount {}", wanted.target.display()))
                .at(|| wanted.pointer())?;
        }
    }
    // Init has copies of them all.
    drop(sources.files);
    Ok(sources.limit.map_or(Ok(()), OpenFiles::restore)?)
}

/// Whether it is a link to be copied, which has no mount to be mapped.
fn is_copied(wanted: &Mount, source: &OwnedFd) -> Result<bool> {
    let copies = matches!(&wanted.source, Source::Bind { link, .. } if *link == SourceLink::Copied);
    Ok(copies && is_link(source)?)
}

fn map(source: BorrowedFd<'_>, reach: Reach, users: BorrowedFd<'_>) -> Result<()> {
    let answer = mount::set_id_map(source, reach, users);
    let remedy = match &answer {
        Err(error) if error.errno() == Errno::INVAL => UNABLE,
        _ => DENIED,
    };
    answer.context("map the owners of its files").remedy(remedy)
}

const UNABLE: &str = "the file system there, or with ridmap one mounted below it, can't be idmapped: ext4 and xfs can \
                      since Linux 5.12, btrfs since 5.15, overlay since 5.19, tmpfs since 6.3";
const DENIED: &str = "idmapping takes CAP_SYS_ADMIN in the user namespace of the file system, and a mount that isn't \
                      idmapped already";

/// One user namespace for each of `all`.
fn make_users(all: &[Users]) -> Result<Vec<OwnedFd>> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let proc = Procfs::open()?;
    all.iter().map(|users| make(&proc, users)).collect()
}

/// A process that has the user namespace for as long as it takes to write the maps. Dropped, it is killed and reaped.
struct Holder {
    pidfd: OwnedFd,
    /// It ends by itself when this is closed: with the runtime, too, however that ends.
    line: Option<OwnedFd>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.line = None;
        // Both fail only where it has ended and been reaped already.
        let _ = signal::send(self.pidfd.as_fd(), 9);
        let _ = process::reap(self.pidfd.as_fd(), process::Wait::Block);
    }
}

fn make(proc: &Procfs, users: &Users) -> Result<OwnedFd> {
    let (line, end) = socket::pair()?;
    let cloned = process::clone(Kinds::USER, None, ChildOf::Caller)
        .context("make a user namespace for the mappings of a mount")
        .at(|| users.pointers[0].clone())
        .remedy(super::REMEDY)?;
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop(line);
        // Nothing is ever sent: it returns when the other end is closed.
        let _ = socket::receive(end.as_fd(), 1);
        process::exit_now(0)
    };
    let line = Some(line);
    let _holder = Holder { pidfd, line };
    idmap::write(proc, pid, &users.maps, &users.pointers)?;
    Ok(proc.namespace(pid, "user")?)
}
