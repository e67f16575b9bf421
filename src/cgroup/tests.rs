// SPDX-License-Identifier: Apache-2.0
//! Cgroups really made, on this machine's own hierarchies, each test in a cgroup of its own. They need root and say so
//! where they can't run.

mod devices;
mod life;
mod limits;
mod removal;
mod update;
mod views;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::resources::{DeviceRule, Resources, Setting, default_rules};
use super::*;
use crate::host::{self, Layout};

/// The cgroup of one test. Whatever is left of it is removed at the end, and the test fails if something stays.
struct Ground {
    paths: Paths,
    layout: Layout,
    children: Vec<Child>,
}

/// Which view of the machine a test takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// cgroup v2 only, whatever else the host has.
    Unified,
    /// The host as it is.
    Host,
}

impl Ground {
    /// `None`, with a word on stderr, where cgroups can't be made.
    fn new(name: &str, view: View) -> Option<Self> {
        if corten_sys::process::effective_uid() != 0 {
            eprintln!("skipped: making cgroups takes root");
            return None;
        }
        let mut layout = host::cgroups().unwrap();
        if view == View::Unified {
            layout.v1.clear();
        }
        let id = format!("test-{}-{name}", std::process::id());
        let paths = Paths::plan(None, &id, &layout, Path::new("")).unwrap();
        Some(Self {
            paths,
            layout,
            children: Vec::new(),
        })
    }

    fn create(&self) -> Reservation {
        self.create_with(Vec::new(), default_rules()).unwrap()
    }

    fn create_with(
        &self,
        settings: Vec<Setting>,
        devices: Vec<DeviceRule>,
    ) -> crate::error::Result<Reservation> {
        Cgroup::create(
            &self.paths,
            &Resources {
                settings,
                devices,
                ..Resources::default()
            },
        )
    }

    fn path(&self) -> PathBuf {
        self.paths.unified.path()
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.paths.unified).chain(&self.paths.v1)
    }

    fn open(&self) -> Cgroup {
        Cgroup::open(&self.paths).unwrap().unwrap()
    }

    /// Runs `script` in the cgroup on every hierarchy of the test's view, and returns once it is there.
    fn spawn(&mut self, script: &str) -> i32 {
        let places: Vec<PathBuf> = self.places().map(Place::path).collect();
        self.spawn_in(&places, script)
    }

    /// The same in the cgroups `dirs`. Not by CLONE_INTO_CGROUP, which takes a process of one thread.
    fn spawn_in(&mut self, dirs: &[PathBuf], script: &str) -> i32 {
        // Everything that the shell needs is open before device rules bite.
        let mut whole = "exec 3>&1 > /dev/null 2>&1 && ".to_owned();
        for dir in dirs {
            whole.push_str(&format!("echo 0 > {}/cgroup.procs && ", dir.display()));
        }
        whole.push_str(&format!("echo joined >&3 && exec 3>&- && {{ {script}\n}}"));
        let mut command = Command::new("sh");
        command.arg("-c").arg(whole).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = child.id() as i32;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        self.children.push(child);
        assert_eq!(line, "joined\n", "{script}");
        pid
    }

    /// Runs `script` as [`Ground::spawn`] does and waits for it: whether it succeeded.
    fn succeeds(&mut self, script: &str) -> bool {
        self.spawn(script);
        let mut child = self.children.pop().unwrap();
        child.wait().unwrap().success()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let ended = end(&self.paths, || Cgroup::open_marked(&self.paths), soon());
        for child in &mut self.children {
            // One that never reached the cgroup would be waited for without an end.
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if !std::thread::panicking() {
            ended.unwrap();
            for place in self.places() {
                assert!(!place.path().exists(), "{place:?} is left");
            }
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(200)
}
