// SPDX-License-Identifier: Apache-2.0
//! `restore`: what CRIU is told of a container that is to be made again, and what it asks on the way.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use corten_sys::fs::{self, Mode, OFlags, Procfs};
use corten_sys::net;
use corten_sys::process::{self, Namespaces as Kinds};

use super::images::Images;
use super::outside::{self, EXTERNAL, JOINED};
use super::rpc::{self, Answer, Ask, Feature, Options};
use super::swrk::{self, Criu, FIRST_HANDED_ON, Setting, Stdio};
use super::yard::Yard;
use super::{CGROUPS, EMPTY_NETWORK, config_file, stage, stdio};
use crate::error::{Context, Error, Kind, Result};
use crate::host;
use crate::plan::Plan;

const LOG: &str = "restore.log";

/// What CRIU asks for on the way, in this order.
#[derive(Debug)]
pub enum Event {
    /// The namespaces are there, with this first process in them, and nothing of the container runs: time for hooks.
    SetUp(i32),
    /// The master of the container's terminal.
    Terminal(OwnedFd),
    /// All processes are there, this one first, and go on once this is answered.
    Restored(i32),
}

/// A container that is made again.
pub struct Restore<'a> {
    /// As `create` would make it.
    pub plan: &'a Plan,
    /// What was written down of it.
    pub images: &'a Images,
    /// Of the command line.
    pub options: Options,
    /// The container's directory in the store.
    pub directory: &'a Path,
    /// One in there, for the rootfs: CRIU needs a mount to begin with, by a path.
    pub root: &'a Path,
    /// Takes a process into the container's cgroups and resctrl group: CRIU, whose children begin where it is.
    pub join_groups: &'a dyn Fn(i32) -> Result<()>,
}

impl Restore<'_> {
    /// Has CRIU make it. `happened` is told what happens on the way, and can end it. The processes are this one's
    /// children; what is left of them after a failure is in the cgroup.
    pub fn run(mut self, happened: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        if self.options.lazy_pages {
            swrk::check_feature(Feature::LazyPages)?;
        }
        let yard = Yard::of_places(self.directory.join(CGROUPS))?;
        let yard_path = yard.as_ref().map(|yard| outside::text(yard.path()));
        self.options.cgroup_yard = yard_path.transpose()?;
        let joined = self.tell()?;
        self.serve(&joined, yard.as_ref(), happened)
    }

    /// Fills the request in; the answer is the namespaces that CRIU has beside the directories.
    fn tell(&mut self) -> Result<Vec<OwnedFd>> {
        let plan = self.plan;
        let options = &mut self.options;
        let first = FIRST_HANDED_ON + self.images.name_in(options);
        options.log_file = LOG;
        options.root = Some(outside::text(self.root)?);
        options.empty_namespaces = EMPTY_NETWORK;
        options.orphan_pts_master = true;
        options.siblings = true;
        options.evasive_devices = true;
        options.config_file = config_file(&plan.annotations);
        let outside = outside::mounts(&plan.mounts, &plan.devices, &plan.namespaces, &plan.cgroup)?;
        options.mounts = outside::to_restore(&outside, &plan.masked_paths)?;
        options.descriptors = stdio::inherited(&self.images.descriptors()?);
        let mut joined = Vec::new();
        for join in &plan.namespaces.join {
            let of_kind = |(kind, ..): &&(Kinds, &str, &str)| *kind == join.kind;
            if let Some((_, _, name)) = EXTERNAL.iter().find(of_kind) {
                let file = fs::open(fs::CWD, &join.path, OFlags::RDONLY, Mode::empty())
                    .with_context(|| format!("open the namespace {}", join.path.display()))
                    .at(|| join.pointer.clone())?;
                let number = first + joined.len() as i32;
                options.descriptors.push(((*name).to_owned(), number));
                joined.push(file);
            } else if let Some((_, name)) = JOINED.iter().find(|(kind, _)| *kind == join.kind) {
                let pair = ((*name).to_owned(), outside::text(&join.path)?);
                options.joined_namespaces.push(pair);
            } else {
                let text = "CRIU can't restore into a namespace of this kind that exists";
                return Err(Error::unsupported(join.pointer.clone(), text));
            }
        }
        Ok(joined)
    }

    fn serve(
        &mut self,
        joined: &[OwnedFd],
        yard: Option<&Yard>,
        happened: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        let (plan, images, root) = (self.plan, self.images, self.root);
        let setting = Setting {
            // What is mounted for CRIU is seen by nobody else, and goes with it, however it ends.
            namespaces: Kinds::MOUNT,
            stdio: Stdio::Callers,
            prepare: &|| {
                stage::set(plan, root)?;
                yard.map_or(Ok(()), Yard::mount)?;
                let mut handed_on = images.reopen()?;
                for file in joined {
                    let copy = process::copy_descriptor(file.as_raw_fd(), 3);
                    handed_on.push(copy.context("hand a namespace on")?);
                }
                Ok(handed_on)
            },
        };
        let criu = Criu::start(&setting, self.join_groups)?;
        let membership = host::membership(&Procfs::open()?, criu.pid())?;
        for (controllers, path) in membership.all() {
            let path = outside::text(path)?;
            let mut names: Vec<_> = controllers.to_vec();
            if names.is_empty() {
                // The v2 hierarchy has no name.
                names.push(String::new());
            }
            let roots = names.into_iter().map(|name| (name, path.clone()));
            self.options.cgroup_roots.extend(roots);
        }
        let request = rpc::request(Ask::Restore, Some(&self.options));
        let mut notified = |question: &Answer, fd: Option<OwnedFd>| {
            let pid = || {
                let pid = question.pid.filter(|pid| *pid > 0);
                pid.ok_or_else(|| Error::new(Kind::System, "CRIU names no process"))
            };
            match (question.script.as_str(), fd) {
                ("setup-namespaces", _) => {
                    let pid = pid()?;
                    if plan.namespaces.create.contains(Kinds::NETWORK) {
                        bring_loopback_up(pid)?;
                    }
                    happened(Event::SetUp(pid))
                }
                ("orphan-pts-master", Some(master)) => happened(Event::Terminal(master)),
                ("post-restore", _) => happened(Event::Restored(pid()?)),
                _ => Ok(()),
            }
        };
        let answer = criu.ask(&request, &mut notified)?;
        images.judge(&answer, LOG)?;
        criu.end()
    }
}

/// A network namespace is not in the images: this one is as new as one that `create` makes, and is of as little use as
/// that without its loopback device. Before hooks run, and before sockets are bound to its address.
fn bring_loopback_up(pid: i32) -> Result<()> {
    let proc = Procfs::open()?;
    let theirs = proc.namespace(pid, "net")?;
    let own = proc.namespace(process::own_pid(), "net")?;
    process::join_file(theirs.as_fd(), Kinds::NETWORK)?;
    let up = net::bring_loopback_up();
    process::join_file(own.as_fd(), Kinds::NETWORK).context("return to the runtime's network")?;
    up.context("bring the loopback device up")
}
