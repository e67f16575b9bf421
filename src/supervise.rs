// SPDX-License-Identifier: Apache-2.0
//! What a supervisor asks of a container without starting a process for it: as the verbs of the same names do.
//!
//! Runs in the supervisor's process (the shim's), as root, and not in the runtime's: the runtime's program has none of
//! it. Nothing here waits for longer than the caller says, who has other containers to look after: what takes longer is
//! left so that `corten`, run for it, can do it.

use std::path::Path;
use std::time::Duration;

use corten_sys::Errno;
use corten_sys::fs::Procfs;

use crate::cgroup::{Cgroup, Paths};
use crate::cli::meant::KillArgs;
use crate::command::{self, kill, pause, ps};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::store::{Container, ContainerId, Store};

/// A container of which corten had a record when it was found. Whether it still is there, each question finds out anew.
#[derive(Debug, Clone)]
pub struct Supervised {
    store: Store,
    id: ContainerId,
}

/// What became of something that may take its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is done.
    Done,
    /// It takes longer: the verb, run by itself, does it. A container is not left half frozen meanwhile.
    Later,
}

impl Supervised {
    /// The container `id` in the store at `root`; `None` where it is another runtime's, whose records are of another
    /// shape, or nobody's. A damaged record of corten's own counts as none: the program says what is wrong with it.
    pub fn find(root: &Path, id: &str) -> Option<Self> {
        let store = Store::open(root);
        let container = store.load(&ContainerId::new(id).ok()?).ok()?;
        Some(Self {
            id: container.id().clone(),
            store,
        })
    }

    /// Sends `signal` to its init, or to all of its processes.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let id = self.id.clone();
        kill::kill(&self.store, &KillArgs { id, signal, all })
    }

    /// Freezes it.
    pub fn pause(&self, patience: Duration) -> Result<Progress> {
        in_time(pause::pause(&self.store, &self.id, patience / 2))
    }

    /// Lets it go on.
    pub fn resume(&self, patience: Duration) -> Result<Progress> {
        in_time(pause::resume(&self.store, &self.id, patience / 2))
    }

    /// Its processes, by their numbers on the host, ascending.
    pub fn processes(&self) -> Result<Vec<i32>> {
        ps::processes(self.load()?.record())
    }

    /// Its cgroup, as long as that is its own.
    pub fn cgroup(&self) -> Result<Option<Cgroup>> {
        command::own_cgroup(self.load()?.record())
    }

    fn load(&self) -> Result<Container> {
        self.store.load(&self.id)
    }
}

/// The verbs wait twice, for the lock and for the freezer: each gets half of the caller's patience.
fn in_time(answer: Result<()>) -> Result<Progress> {
    match answer {
        Ok(()) => Ok(Progress::Done),
        Err(error) if error.kind() == Kind::TimedOut => Ok(Progress::Later),
        Err(error) => Err(error),
    }
}

/// The cgroup of another runtime's container, whose init is `pid`. `None` where the process is gone, and where it is in the
/// root of the hierarchy: that is the host's.
pub fn cgroup_of(pid: i32) -> Result<Option<Cgroup>> {
    let layout = host::cgroups()?;
    let membership = match host::membership(&Procfs::open()?, pid) {
        Err(error) if is_gone(&error) => return Ok(None),
        membership => membership?.as_mounted(&layout)?,
    };
    let paths = Paths::of(&membership, &layout)?;
    if paths.unified.cgroup.as_os_str().is_empty() {
        return Ok(None);
    }
    Cgroup::open(&paths)
}

fn is_gone(error: &Error) -> bool {
    [Some(Errno::NOENT), Some(Errno::SRCH)].contains(&error.errno())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::process::{Child, Command};
    use std::time::Instant;

    use super::*;
    use crate::cgroup::resources::{Resources, default_rules};
    use crate::store::{Init, Record, Scratch};

    const LONG: Duration = Duration::from_secs(10);

    /// A container as `create` leaves one, but for its namespaces: a process in a cgroup, and a record of both.
    struct Ground {
        scratch: Scratch,
        child: Child,
        cgroup: Paths,
    }

    impl Ground {
        /// `None`, with a word on stderr, where cgroups can't be made.
        fn new(id: &str) -> Option<Self> {
            if corten_sys::process::effective_uid() != 0 {
                eprintln!("skipped: making cgroups takes root");
                return None;
            }
            let scratch = Scratch::new();
            let layout = host::cgroups().unwrap();
            let name = format!("supervise-{}-{id}", std::process::id());
            let mut cgroup = Paths::plan(None, &name, &layout, Path::new("")).unwrap();
            cgroup.owner = id.into();
            let resources = Resources {
                devices: default_rules(),
                ..Resources::default()
            };
            let made = Cgroup::create(&cgroup, &resources).unwrap();
            let child = Command::new("sleep").arg("1000").spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            for place in std::iter::once(&cgroup.unified).chain(&cgroup.v1) {
                fs::write(place.path().join("cgroup.procs"), pid.to_string()).unwrap();
            }
            let store = Store::open(scratch.path());
            let container = ContainerId::new(id).unwrap();
            let record = || {
                Record::intent(
                    container.clone(),
                    "/b".into(),
                    "/b/r".into(),
                    0,
                    cgroup.clone(),
                )
            };
            let reservation = store.reserve(record(), b"{}").unwrap();
            let pidfd = corten_sys::process::pidfd(pid).unwrap();
            let mut written = record();
            written.init = Some(Init::observe(pid, pidfd.as_fd()).unwrap());
            reservation.commit(written).unwrap();
            made.keep().unwrap();
            Some(Self {
                scratch,
                child,
                cgroup,
            })
        }

        fn find(&self, id: &str) -> Supervised {
            Supervised::find(self.scratch.path(), id).unwrap()
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.child.id()).unwrap()
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let own = || Cgroup::open_marked(&self.cgroup);
            let ended = crate::cgroup::end(&self.cgroup, own, Instant::now() + LONG);
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }

    #[test]
    fn only_records_of_cortens_own_are_found() {
        let scratch = Scratch::new();
        let state = |id: &str, text: &str| {
            let directory = scratch.path().join(id);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("state.json"), text).unwrap();
        };
        state(
            "runc",
            r#"{"id":"runc","init_process_pid":7,"init_process_start":8}"#,
        );
        state("torn", r#"{"version":1,"id":"torn""#);
        fs::create_dir(scratch.path().join("empty")).unwrap();
        for id in ["runc", "torn", "empty", "absent", "", "../runc", "a/b"] {
            assert!(Supervised::find(scratch.path(), id).is_none(), "{id:?}");
        }
        assert!(Supervised::find(Path::new("/nonexistent"), "x").is_none());
    }

    #[test]
    fn it_is_seen_signalled_and_gone() {
        let Some(mut ground) = Ground::new("seen") else {
            return;
        };
        let found = ground.find("seen");
        assert_eq!(found.processes().unwrap(), [ground.pid()]);
        assert_eq!(found.cgroup().unwrap().unwrap().paths(), &ground.cgroup);
        let others = cgroup_of(ground.pid()).unwrap().unwrap();
        assert_eq!(others.paths().unified, ground.cgroup.unified);
        assert_eq!(others.paths().v1, ground.cgroup.v1);

        found.kill(0, false).unwrap();
        found.kill(15, true).unwrap();
        ground.child.wait().unwrap();
        let error = found.kill(15, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Status, "{error}");
        found.kill(9, true).unwrap();
        assert_eq!(found.processes().unwrap(), [0; 0]);
        assert!(cgroup_of(ground.pid()).unwrap().is_none());
        fs::remove_dir_all(ground.scratch.path().join("seen")).unwrap();
        let error = found.kill(9, true).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }

    #[test]
    fn it_is_paused_and_goes_on() {
        let Some(ground) = Ground::new("paused") else {
            return;
        };
        let found = ground.find("paused");
        assert_eq!(found.pause(LONG).unwrap(), Progress::Done);
        assert!(found.cgroup().unwrap().unwrap().frozen().unwrap());
        let error = found.pause(LONG).unwrap_err();
        assert_eq!(error.kind(), Kind::Status, "{error}");
        assert_eq!(found.resume(LONG).unwrap(), Progress::Done);
        let error = found.resume(LONG).unwrap_err();
        assert_eq!(error.kind(), Kind::Status, "{error}");
    }

    #[test]
    fn without_patience_nothing_has_changed() {
        let Some(ground) = Ground::new("hasty") else {
            return;
        };
        let found = ground.find("hasty");
        let frozen = || fs::read_to_string(ground.cgroup.unified.path().join("cgroup.freeze"));
        let lock = found.store.lock(&found.id, LONG).unwrap();
        assert_eq!(found.pause(Duration::ZERO).unwrap(), Progress::Later);
        assert_eq!(found.resume(Duration::ZERO).unwrap(), Progress::Later);
        assert_eq!(frozen().unwrap(), "0\n");
        drop(lock);
        // The freezer may be faster than the first look.
        let wanted = match found.pause(Duration::ZERO).unwrap() {
            Progress::Done => "1\n",
            Progress::Later => "0\n",
        };
        assert_eq!(frozen().unwrap(), wanted);
        if wanted == "0\n" {
            assert_eq!(found.pause(LONG).unwrap(), Progress::Done);
        }
        while found
            .resume(Duration::ZERO)
            .is_ok_and(|progress| progress == Progress::Later)
        {}
        assert_eq!(frozen().unwrap(), "0\n");
    }

    #[test]
    fn the_hosts_own_cgroup_is_nobodys() {
        // A thread of the kernel's is in the root of every hierarchy.
        let kthreadd = fs::read_to_string("/proc/2/cgroup").unwrap_or_default();
        if kthreadd.lines().any(|line| line == "0::/") {
            assert!(cgroup_of(2).unwrap().is_none());
        }
        assert!(cgroup_of(i32::MAX).unwrap().is_none());
    }
}
