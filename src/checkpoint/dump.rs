// SPDX-License-Identifier: Apache-2.0
//! `checkpoint`: what CRIU is told of a container that runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::fs::{self, Mode, OFlags, Procfs};

use super::images::Images;
use super::outside::{self, EXTERNAL};
use super::rpc::{self, Ask, Feature, Options};
use super::swrk::{self, Criu, Setting};
use super::yard::Yard;
use super::{CGROUPS, EMPTY_NETWORK, config_file, stdio};
use crate::bundle::spec::Spec;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::cgroup_paths::Paths;
use crate::plan::devices::{self, Making};
use crate::plan::mounts::{self, Around};
use crate::plan::namespaces::{self, Caller};

const LOG: &str = "dump.log";

/// The container that is written down.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Its first process, which the caller knows to be alive.
    pub pid: i32,
    /// Its config.json.
    pub spec: &'a Spec,
    /// Its bundle.
    pub bundle: &'a Path,
    /// See `Record`.
    pub annotations: &'a BTreeMap<String, String>,
    /// Its directory in the store.
    pub directory: &'a Path,
    /// Where its cgroups are.
    pub cgroup: &'a Paths,
    /// What its standard descriptors are outside.
    pub stdio: &'a [String],
}

/// How much is written down.
#[derive(Debug)]
pub enum Extent {
    /// Everything.
    Whole,
    /// The memory alone, before the last one; the container runs on.
    Memory,
}

/// Writes it down into `images`. `options` are those of the command line; `ready` is told once pages are served.
pub fn dump(
    subject: &Subject<'_>,
    mut options: Options,
    extent: &Extent,
    images: &Images,
    ready: Option<OwnedFd>,
) -> Result<()> {
    if let Some(parent) = &options.parent_images {
        images.check_parent(Path::new(parent))?;
        options.track_memory = true;
    }
    if options.lazy_pages {
        swrk::check_feature(Feature::LazyPages)?;
    }
    if matches!(extent, Extent::Memory) {
        swrk::check_feature(Feature::MemoryTracking)?;
        options.track_memory = true;
    }
    images.name_in(&mut options);
    options.pid = Some(subject.pid);
    options.log_file = LOG;
    options.empty_namespaces = EMPTY_NETWORK;
    options.orphan_pts_master = true;
    options.config_file = config_file(subject.annotations);
    if !subject.cgroup.is_none() {
        // The v2 freezer, on a hybrid host too: it is what `pause` uses, and CRIU must see that.
        options.freezer = Some(outside::text(&subject.cgroup.unified.path())?);
    }
    let yard = Yard::of_links(subject.directory.join(CGROUPS))?;
    let yard_path = yard.as_ref().map(|yard| outside::text(yard.path()));
    options.cgroup_yard = yard_path.transpose()?;
    tell_outside(subject, extent, &mut options)?;
    if matches!(extent, Extent::Whole) {
        images.write_descriptors(subject.stdio)?;
    }
    serve(&options, extent, images, ready)
}

/// What is not to be written down.
fn tell_outside(subject: &Subject<'_>, extent: &Extent, options: &mut Options) -> Result<()> {
    let spec = subject.spec;
    let linux = spec.linux.as_ref();
    let linux = linux.ok_or_else(|| Error::new(Kind::System, "its config.json has no /linux"))?;
    let namespaces = namespaces::plan(linux, Caller::Host)?;
    let proc = Procfs::open()?;
    for (kind, link, name) in EXTERNAL {
        if namespaces.joins(kind) {
            let inode = fs::stat(proc.namespace(subject.pid, link)?.as_fd())?.st_ino;
            options.external.push(format!("{link}[{inode}]:{name}"));
        }
    }
    options
        .external
        .extend(stdio::files(subject.stdio).cloned());
    if matches!(extent, Extent::Memory) {
        return Ok(());
    }
    let around = Around {
        bundle: subject.bundle,
        label: None,
        namespaces: &namespaces,
    };
    let planned = mounts::plan(&spec.mounts, around, &mut Vec::new())?;
    let making = match namespaces.has_user() {
        true => Making::Bind,
        false => Making::Node,
    };
    let devices = devices::plan(&linux.devices, &planned, making)?;
    let outside = outside::mounts(&planned, &devices, &namespaces, subject.cgroup)?;
    // The magic link of a process that the caller holds on to: nothing else leads into another mount namespace.
    let root = format!("/proc/{}/root", subject.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let root = fs::open(fs::CWD, Path::new(&root), flags, Mode::empty())
        .context("open the container's root directory")?;
    options.mounts = outside::to_dump(&outside, &linux.masked_paths, &root)
        .context("find the container's mounts")?;
    Ok(())
}

fn serve(
    options: &Options,
    extent: &Extent,
    images: &Images,
    mut ready: Option<OwnedFd>,
) -> Result<()> {
    let ask = match extent {
        Extent::Whole => Ask::Dump,
        Extent::Memory => Ask::PreDump,
    };
    let setting = Setting {
        prepare: &|| images.reopen(),
        ..Setting::PLAIN
    };
    let criu = Criu::start(&setting, &|_| Ok(()))?;
    let mut notified = |question: &rpc::Answer, _| -> Result<()> {
        if question.script == "status-ready"
            && let Some(ready) = ready.take()
        {
            let told = File::from(ready).write_all(b"\0");
            told.map_err(|error| Error::new(Kind::System, error.to_string()))
                .context("write to --status-fd")?;
        }
        // Networks are the engine's to lock, and its hooks': nothing else is asked of who dumps.
        Ok(())
    };
    let answer = criu.ask(&rpc::request(ask, Some(options)), &mut notified)?;
    images.judge(&answer, LOG)?;
    match extent {
        Extent::Whole => criu.end(),
        // It would wait for the dump that these images come before, which is another CRIU's.
        Extent::Memory => {
            drop(criu);
            Ok(())
        }
    }
}
