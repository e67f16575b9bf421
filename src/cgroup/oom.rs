// SPDX-License-Identifier: Apache-2.0
//! Hearing of a cgroup's want of memory: on v2 by its count of killed processes, on v1 by an eventfd that the kernel
//! raises. Descriptors to wait on, no thread and no clock. And what is left to say of its memory after its last process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::cgroup_fs;
use corten_sys::event::EventFd;
use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::signal::Interest;
use serde::{Deserialize, Serialize};

use super::control::{is_gone, read_at, write_at};
use super::stats::find_key;
use super::{Cgroup, Place};
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

/// Whose memory had run out when processes were killed for want of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OomLevel {
    /// The container's, or that of a cgroup below it.
    Container,
    /// That of a cgroup above, as far as its own count of it can be the container's.
    Ancestor,
    /// The host's.
    Host,
}

/// What the counters of a cgroup tell when all is over; what nobody counts is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastMemory {
    /// Processes killed for want of memory, whoever's.
    pub kills: Option<u64>,
    /// How often all of a cgroup were.
    pub group_kills: Option<u64>,
    /// Whose memory had run out, if some were.
    pub level: Option<OomLevel>,
    /// The most that was used at once.
    pub peak: Option<u64>,
}

impl Cgroup {
    /// What is left to say of its memory. Of a cgroup that goes meanwhile, nothing.
    pub fn last_memory(&self) -> Result<LastMemory> {
        let read = || -> corten_sys::Result<LastMemory> {
            let has = |name: &String| name == "memory";
            let mut places = self.paths().v1.iter();
            match places.find(|place| place.controllers.iter().any(has)) {
                Some(place) => last_on_v1(&place.path()),
                None => last_on_unified(&self.paths().unified),
            }
        };
        read().context("read what the cgroup has counted of memory")
    }
}

fn last_on_unified(place: &Place) -> corten_sys::Result<LastMemory> {
    let dir = place.path();
    let events = text(&dir.join("memory.events"))?;
    let kills = find_key(&events, "oom_kill");
    let level = match kills {
        None | Some(0) => None,
        // `oom` counts the times that a limit here or below was the one that was hit.
        Some(_) if find_key(&events, "oom").is_some_and(|count| count > 0) => {
            Some(OomLevel::Container)
        }
        Some(_) => level_above(place)?,
    };
    Ok(LastMemory {
        kills,
        group_kills: find_key(&events, "oom_group_kill"),
        level,
        peak: number(&text(&dir.join("memory.peak"))?),
    })
}

/// Whether a limit above was ever hit. Where the mount begins below the host's root, as in a cgroup namespace, there may be
/// more above, and nobody can say.
fn level_above(place: &Place) -> corten_sys::Result<Option<OomLevel>> {
    let mut levels = place.levels();
    levels.pop();
    for level in levels.iter().chain([&place.mount]) {
        let local = text(&level.join("memory.events.local"))?;
        if find_key(&local, "oom").is_some_and(|count| count > 0) {
            return Ok(Some(OomLevel::Ancestor));
        }
    }
    // Every cgroup but the host's root has it.
    let root = text(&place.mount.join("cgroup.events"))?;
    Ok(root.is_empty().then_some(OomLevel::Host))
}

/// v1 does not count whose limit was hit.
fn last_on_v1(dir: &Path) -> corten_sys::Result<LastMemory> {
    let control = text(&dir.join("memory.oom_control"))?;
    Ok(LastMemory {
        kills: find_key(&control, "oom_kill"),
        group_kills: None,
        level: None,
        peak: number(&text(&dir.join("memory.max_usage_in_bytes"))?),
    })
}

/// A file's text; empty where there is none, or no cgroup any more.
fn text(file: &Path) -> corten_sys::Result<String> {
    match read_at(fs::CWD, file) {
        Err(error) if is_gone(&error) => Ok(String::new()),
        read => read,
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("corten-oom-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn place(mount: &Path) -> Place {
        Place {
            controllers: Vec::new(),
            mount: mount.into(),
            cgroup: "above/own".into(),
        }
    }

    /// In directories that look like the host's root and cgroups below it.
    #[test]
    fn a_limit_is_looked_for_from_the_container_up() {
        let scratch = Scratch::new("v2");
        let (root, own) = (scratch.path(), scratch.path().join("above/own"));
        std::fs::create_dir_all(&own).unwrap();
        let write =
            |path: &Path, name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
        let last = || last_on_unified(&place(root)).unwrap();
        assert_eq!(last(), LastMemory::default(), "nobody counts");
        write(&own, "memory.events", "max 3\noom 0\noom_kill 0\n");
        write(&own, "memory.peak", "4096\n");
        let calm = LastMemory {
            kills: Some(0),
            peak: Some(4096),
            ..LastMemory::default()
        };
        assert_eq!(last(), calm);
        write(
            &own,
            "memory.events",
            "oom 0\noom_kill 2\noom_group_kill 1\n",
        );
        let killed = |level| LastMemory {
            kills: Some(2),
            group_kills: Some(1),
            level,
            peak: Some(4096),
        };
        assert_eq!(last(), killed(Some(OomLevel::Host)));
        write(root, "cgroup.events", "populated 1\n");
        assert_eq!(last(), killed(None), "there may be more above");
        write(&root.join("above"), "memory.events.local", "oom 1\n");
        assert_eq!(last(), killed(Some(OomLevel::Ancestor)));
        write(
            &own,
            "memory.events",
            "oom 1\noom_kill 2\noom_group_kill 1\n",
        );
        assert_eq!(last(), killed(Some(OomLevel::Container)));
    }

    #[test]
    fn v1_counts_kills_and_not_whose_limit_it_was() {
        let scratch = Scratch::new("v1");
        let write =
            |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).unwrap();
        write(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        );
        write("memory.max_usage_in_bytes", "8192\n");
        let found = last_on_v1(scratch.path()).unwrap();
        let wanted = LastMemory {
            kills: Some(1),
            peak: Some(8192),
            ..LastMemory::default()
        };
        assert_eq!(found, wanted);
    }
}
