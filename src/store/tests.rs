// SPDX-License-Identifier: Apache-2.0
//! The store as a whole, in a directory of the test's own.

use std::path::{Path, PathBuf};

use super::*;

/// A directory that goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "corten-store-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const MOMENT: Duration = Duration::from_secs(5);

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}

fn record(name: &str) -> Record {
    record::tests::record(name)
}

fn made(store: &Store, name: &str) -> Container {
    let reservation = store.reserve(record(name), b"{}").unwrap();
    reservation.commit(record(name)).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn one_that_is_removed_while_it_is_made_does_not_exist() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path());
    let reservation = store.reserve(record("c"), b"{}").unwrap();
    let container = store.load(&id("c")).unwrap();
    drop(reservation);
    let error = container.status().unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let text = "container \"c\": container does not exist";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_container_is_reserved_made_loaded_and_removed() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path().join("a/b"));
    assert_eq!(store.ids().unwrap_err().kind(), Kind::NotFound);
    let reservation = store.reserve(record("x"), b"{\"a\":1}").unwrap();
    let container = store.load(&id("x")).unwrap();
    assert_eq!(container.status().unwrap(), Status::Creating);
    assert_eq!(container.config().unwrap(), b"{\"a\":1}");
    assert!(
        store.lock(&id("x"), Duration::ZERO).is_err(),
        "its maker has it"
    );

    let mut record = record("x");
    record.oci_version = "1.9.9".into();
    reservation.commit(record).unwrap();
    let mut container = store.load(&id("x")).unwrap();
    assert_eq!(container.record().oci_version, "1.9.9");
    assert_eq!(store.ids().unwrap(), [id("x")]);
    assert_eq!(
        names(container.directory()),
        ["config.json", "intent.json", "state.json"]
    );

    let lock = container.lock(MOMENT).unwrap();
    fs::write(container.directory().join("unknown"), "").unwrap();
    container.remove(lock).unwrap();
    assert_eq!(names(store.root()), Vec::<String>::new());
    assert_eq!(store.load(&id("x")).unwrap_err().kind(), Kind::NotFound);
    assert!(store.lock(&id("x"), MOMENT).unwrap().is_none());
}

#[test]
fn directories_and_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let store = Store::open(scratch.path().join("root"));
    let container = made(&store, "x");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(store.root()), 0o700);
    assert_eq!(mode(container.directory()), 0o700);
    for name in names(container.directory()) {
        assert_eq!(mode(&container.directory().join(name)), 0o600);
    }
}

#[test]
fn a_dropped_reservation_leaves_nothing() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path());
    drop(store.reserve(record("x"), b"").unwrap());
    assert_eq!(names(scratch.path()), Vec::<String>::new());
    made(&store, "x");
}

#[test]
fn one_of_a_hundred_gets_the_id_and_the_others_leave_it_alone() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path().join("root"));
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| store.reserve(record("x"), b"{}")))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut winners = 0;
    for result in results {
        match result {
            Ok(reservation) => {
                reservation.commit(record("x")).unwrap();
                winners += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Exists, "{error}");
                assert_eq!(
                    error.to_string(),
                    "container with given ID already exists: x"
                );
            }
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(
        store.load(&id("x")).unwrap().status().unwrap(),
        Status::Stopped
    );
}

/// What a runtime that is killed after each step of `reserve`, `commit` and `remove` leaves behind.
/// Its maker may be the last to hear that it was removed, and another was made in its place.
#[test]
fn a_maker_is_not_let_at_a_later_container_of_the_id() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path());
    // Now and then a file system gives the same inode to the second directory.
    for _ in 0..50 {
        let first = made(&store, "x");
        assert!(store.lock_own(&first, MOMENT).unwrap().is_some());
        let lock = store.lock(&id("x"), MOMENT).unwrap().unwrap();
        store.remove(&id("x"), lock).unwrap();
        assert!(store.lock_own(&first, MOMENT).unwrap().is_none(), "gone");
        let second = made(&store, "x");
        assert!(store.lock_own(&first, MOMENT).unwrap().is_none(), "another");
        let lock = store.lock_own(&second, MOMENT).unwrap().unwrap();
        store.remove(&id("x"), lock).unwrap();
    }
}

#[test]
fn every_crash_point_can_be_cleaned_up() {
    let steps: [(&str, &[&str], Option<Status>); 6] = [
        ("mkdir", &[], None),
        ("half an intent", &[".new"], None),
        ("intent", &["intent.json"], Some(Status::Stopped)),
        (
            "config",
            &["intent.json", "config.json"],
            Some(Status::Stopped),
        ),
        (
            "half a state",
            &["intent.json", "config.json", ".new"],
            Some(Status::Stopped),
        ),
        (
            "state",
            &["intent.json", "config.json", "state.json"],
            Some(Status::Stopped),
        ),
    ];
    for (step, files, status) in steps {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path());
        let directory = scratch.path().join("x");
        fs::create_dir(&directory).unwrap();
        for file in files {
            fs::write(directory.join(file), record("x").encode().unwrap()).unwrap();
        }
        match store.load(&id("x")) {
            Ok(container) => assert_eq!(Some(container.status().unwrap()), status, "{step}"),
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotFound, "{step}");
                assert_eq!(status, None, "{step}");
            }
        }
        let taken = store.reserve(record("x"), b"").unwrap_err();
        assert_eq!(taken.kind(), Kind::Exists, "{step}");
        let lock = store.lock(&id("x"), MOMENT).unwrap().unwrap();
        store.remove(&id("x"), lock).unwrap();
        assert_eq!(names(scratch.path()), Vec::<String>::new(), "{step}");
    }
}

#[test]
fn who_is_deleted_while_he_is_looked_at_does_not_exist() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path());
    let reserved = store.reserve(record("x"), b"{}").unwrap();
    reserved.commit(record("x")).unwrap();
    let container = store.load(&id("x")).unwrap();
    let config = scratch.path().join("x/config.json");
    fs::remove_file(&config).unwrap();
    let damaged = container.config().unwrap_err();
    assert_eq!(
        damaged.kind(),
        Kind::System,
        "only the file is gone: {damaged}"
    );
    let lock = store.lock(&id("x"), MOMENT).unwrap().unwrap();
    store.remove(&id("x"), lock).unwrap();
    assert_eq!(container.config().unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_removal_that_was_cut_short_is_finished_and_hinders_nobody() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path());
    let trash = scratch.path().join(".trash-x");
    let leave_trash = || {
        fs::create_dir(&trash).unwrap();
        fs::write(trash.join("config.json"), "").unwrap();
    };
    leave_trash();
    assert_eq!(store.ids().unwrap(), []);
    assert_eq!(store.load(&id("x")).unwrap_err().kind(), Kind::NotFound);
    store.sweep(&id("x")).unwrap();
    store.sweep(&id("x")).unwrap();
    assert!(!trash.exists());

    leave_trash();
    let mut container = made(&store, "x");
    let lock = container.lock(MOMENT).unwrap();
    container.remove(lock).unwrap();
    assert_eq!(names(scratch.path()), Vec::<String>::new());
}

#[test]
fn damaged_records_are_errors_and_the_intent_remains() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path());
    let container = made(&store, "x");
    let path = container.directory().join("state.json");
    let whole = fs::read(&path).unwrap();
    let mut kinds: Vec<Vec<u8>> = (0..whole.len())
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            bytes
        })
        .collect();
    kinds.push(Vec::new());
    kinds.push(b"garbage".to_vec());
    kinds.push(whole[..whole.len() / 2].to_vec());
    for bytes in kinds {
        fs::write(&path, bytes).unwrap();
        let error = store.load(&id("x")).unwrap_err();
        assert_ne!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("delete --force x"), "{error}");
        let intent = store.load_intent(&id("x")).unwrap();
        assert_eq!(
            intent.record().cgroup.unified.path(),
            Path::new("/sys/fs/cgroup/unified/x")
        );
    }
}

#[test]
fn ids_are_sorted_and_only_containers() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path());
    for name in ["b", "a", ".trash-c", "not an id"] {
        fs::create_dir(scratch.path().join(name)).unwrap();
    }
    fs::write(scratch.path().join("file"), "").unwrap();
    assert_eq!(store.ids().unwrap(), [id("a"), id("b")]);
}

mod life {
    //! The status of containers whose init is a real process.

    use std::os::fd::AsFd;
    use std::process::{Child, Command};

    use super::*;

    /// A container whose init is `sleep`.
    fn living(store: &Store, name: &str) -> (Container, Child) {
        let child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = corten_sys::process::pidfd(pid).unwrap();
        let reservation = store.reserve(record(name), b"{}").unwrap();
        let mut record = record(name);
        record.cgroup.unified.mount = store.root().to_owned();
        record.cgroup.unified.cgroup = "cgroup".into();
        record.init = Some(Init::observe(pid, pidfd.as_fd()).unwrap());
        (reservation.commit(record).unwrap(), child)
    }

    #[test]
    fn init_decides() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path());
        let (container, mut child) = living(&store, "x");
        assert_eq!(container.status().unwrap(), Status::Running);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(container.status().unwrap(), Status::Stopped);
    }

    #[test]
    fn a_frozen_cgroup_is_paused() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path());
        let (container, mut child) = living(&store, "x");
        let cgroup = container.record().cgroup.unified.path();
        fs::create_dir(&cgroup).unwrap();
        for (text, status) in [("1\n", Status::Paused), ("0\n", Status::Running)] {
            fs::write(cgroup.join("cgroup.freeze"), text).unwrap();
            assert_eq!(container.status().unwrap(), status);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_init_that_listens_at_its_gate_is_created() {
        let scratch = Scratch::new();
        // Longer than a socket's address.
        let store = Store::open(scratch.path().join("long".repeat(30)));
        let (container, mut child) = living(&store, "x");
        let directory = fs::File::open(container.directory()).unwrap();
        let gate = corten_sys::socket::listen(directory.as_fd(), "gate").unwrap();
        for _ in 0..3 {
            assert_eq!(container.status().unwrap(), Status::Created);
        }
        assert!(
            !corten_sys::socket::is_readable(&gate).unwrap(),
            "looking left no trace"
        );
        drop(gate);
        assert!(container.gate_path().exists());
        assert_eq!(container.status().unwrap(), Status::Running);
        container.remove_gate().unwrap();
        container.remove_gate().unwrap();
        assert_eq!(container.status().unwrap(), Status::Running);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn another_boot_or_start_time_is_stopped() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path());
        let (mut container, mut child) = living(&store, "x");
        let lock = container.lock(MOMENT).unwrap();
        let whole = container.record().clone();
        let mut stale = whole.clone();
        stale.init.as_mut().unwrap().boot_id = "another".into();
        container.save(stale, &lock).unwrap();
        assert_eq!(container.status().unwrap(), Status::Stopped);
        let mut reused = whole.clone();
        reused.init.as_mut().unwrap().start_time -= 1;
        container.save(reused, &lock).unwrap();
        drop(lock);
        let container = store.load(&id("x")).unwrap();
        assert_eq!(container.status().unwrap(), Status::Stopped);
        assert!(child.try_wait().unwrap().is_none(), "the decoy lives on");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
