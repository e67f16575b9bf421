// SPDX-License-Identifier: Apache-2.0
//! Hearing of a cgroup's want of memory: on v2 by its count of killed processes, on v1 by an eventfd that the kernel
//! raises. Descriptors to wait on, no thread and no clock.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::cgroup_fs;
use corten_sys::event::EventFd;
use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::signal::Interest;

use super::Cgroup;
use super::control::{is_gone, write_at};
use crate::error::{Context, Result};

/// A watch on one cgroup and all below it.
#[derive(Debug)]
pub struct OomWatch(Source);

#[derive(Debug)]
enum Source {
    /// memory.events, whose change poll(2) tells, and its `oom_kill` when it was last read.
    Unified { events: OwnedFd, kills: u64 },
    /// The event, and what it is bound to: the kernel lets go of both when either is closed.
    V1 {
        raised: EventFd,
        _control: OwnedFd,
        dir: PathBuf,
    },
}

impl Cgroup {
    /// Starts to watch; `None` where nobody counts the cgroup's memory.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let has = |name: &String| name == "memory";
        let mut places = self.paths().v1.iter();
        let place = places.find(|place| place.controllers.iter().any(has));
        let source = match place {
            Some(place) => watch_v1(place.path()),
            None => watch_unified(self.dir()),
        };
        match source {
            Ok(source) => Ok(Some(OomWatch(source))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error).context("watch the cgroup's memory"),
        }
    }
}

fn watch_unified(dir: BorrowedFd<'_>) -> corten_sys::Result<Source> {
    let file = Path::new("memory.events");
    let events = fs::open(dir, file, OFlags::RDONLY, Mode::empty())?;
    let kills = kills(events.as_fd())?;
    Ok(Source::Unified { events, kills })
}

fn kills(events: BorrowedFd<'_>) -> corten_sys::Result<u64> {
    let text = cgroup_fs::reread(events)?;
    let text = String::from_utf8_lossy(&text);
    Ok(super::stats::of_key(&text, "oom_kill"))
}

fn watch_v1(dir: PathBuf) -> corten_sys::Result<Source> {
    let file = dir.join("memory.oom_control");
    let control = fs::open(fs::CWD, &file, OFlags::RDONLY, Mode::empty())?;
    let raised = EventFd::new()?;
    let bound = format!("{} {}", raised.as_fd().as_raw_fd(), control.as_raw_fd());
    write_at(fs::CWD, &dir.join("cgroup.event_control"), &bound)?;
    Ok(Source::V1 {
        raised,
        _control: control,
        dir,
    })
}

impl OomWatch {
    /// What to wait for.
    pub fn wanted(&self) -> (BorrowedFd<'_>, Interest) {
        match &self.0 {
            Source::Unified { events, .. } => (events.as_fd(), Interest::Change),
            Source::V1 { raised, .. } => (raised.as_fd(), Interest::Read),
        }
    }

    /// Whether memory has run out since this was last asked.
    pub fn happened(&mut self) -> Result<bool> {
        match &mut self.0 {
            Source::Unified { events, kills: old } => match kills(events.as_fd()) {
                Ok(new) => Ok(std::mem::replace(old, new) < new),
                Err(error) if is_gone(&error) => Ok(false),
                Err(error) => Err(error).context("read memory.events"),
            },
            // The end of the cgroup raises the event as well.
            Source::V1 { raised, dir, .. } => Ok(raised.take()? && dir.exists()),
        }
    }
}
