// SPDX-License-Identifier: Apache-2.0
//! The program as several processes, and killed in the middle. A script stands for the runtime: what is tested here is
//! what comes before and after it. Needs root.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use corten_image::Store;
use corten_image::layer::Compression;
use corten_image::tar::{Entry, EntryKind};
use support::{Dir, Item, dir, file, is_root};

struct Bench {
    dir: Dir,
    store: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = Dir::new(name);
        let store = dir.join("store");
        Self { dir, store }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten-image"));
        command.arg("--store").arg(&self.store).args(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env_remove("CORTEN_RUNTIME");
        command
    }

    fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A runtime that does `script` for `run`, with the bundle as `$B`, and nothing for other verbs.
    fn runtime(&self, name: &str, script: &str) -> String {
        let path = self.dir.join(name);
        let text = format!(
            "#!/bin/sh\nwhile [ \"${{1#--}}\" != \"$1\" ]; do shift 2; done\n\
             [ \"$1\" = run ] || exit 0\nB=\"$3\"\n{script}\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn image(&self, name: &str, layers: &[Vec<Item>]) {
        let store = Store::open(&self.store).unwrap();
        support::image(&store, name, Compression::Gzip, layers).unwrap();
    }

    fn count(&self, sub: &str) -> usize {
        std::fs::read_dir(self.store.join(sub)).unwrap().count()
    }

    /// The next one that works on the store takes away what crashed ones left.
    fn assert_swept(&self) {
        drop(Store::open(&self.store).unwrap().lease().unwrap());
        let left: Vec<_> = std::fs::read_dir(self.store.join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.0.to_str().unwrap()), "{mounts}");
    }
}

/// Many small files: enough to be killed in between.
fn many(prefix: &str, count: usize) -> Vec<Item> {
    let mut items = vec![dir(&format!("{prefix}/"))];
    for number in 0..count {
        if number % 50 == 0 {
            items.push(dir(&format!("{prefix}/d{}/", number / 50)));
        }
        items.push(file(
            &format!("{prefix}/d{}/f{number}", number / 50),
            b"some content",
        ));
    }
    let link = Entry::new(
        format!("{prefix}/link"),
        EntryKind::Symlink(b"d0/f0".to_vec()),
        0o777,
    );
    items.push((link, b""));
    items
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        text(&output.stderr)
    );
}

#[test]
fn several_unpack_the_same_image_at_once() {
    if !is_root("several_unpack_the_same_image_at_once") {
        return;
    }
    let bench = Bench::new("several");
    bench.image(
        "t",
        &[
            many("a", 800),
            many("b", 800),
            vec![file(".wh.b", b""), file("c", b"1")],
        ],
    );
    let runtime = bench.runtime(
        "runtime",
        "[ \"$(ls \"$B/rootfs\")\" = \"a\nc\ndev\netc\nproc\nsys\" ] && find \"$B/rootfs/a\" | wc -l",
    );
    for round in 0..3 {
        let children: Vec<Child> = (0..4)
            .map(|_| bench.spawn(&["run", "--runtime", &runtime, "t"]))
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_success(&output);
            assert_eq!(text(&output.stdout).trim(), "818");
        }
        assert_eq!(bench.count("layers"), 3);
        assert_eq!(bench.count("tmp"), 0);
        if round == 1 {
            // Once from nothing, once from everything, once from a part.
            let layer = std::fs::read_dir(bench.store.join("layers"))
                .unwrap()
                .next()
                .unwrap()
                .unwrap();
            std::fs::remove_dir_all(layer.path()).unwrap();
        }
    }
    bench.assert_swept();
}

#[test]
fn killed_while_unpacking() {
    if !is_root("killed_while_unpacking") {
        return;
    }
    let bench = Bench::new("killed");
    bench.image("t", &[many("a", 500), many("b", 500)]);
    let runtime = bench.runtime("runtime", "find \"$B/rootfs\" | wc -l");
    let whole = bench.run(&["run", "--runtime", &runtime, "t"]);
    assert_success(&whole);
    let layers = bench.store.join("layers");
    let pictures = pictures(&layers);
    let mut killed_early = 0;
    for step in 0..15 {
        std::fs::remove_dir_all(&layers).unwrap();
        let mut child = bench.spawn(&["run", "--runtime", &runtime, "t"]);
        std::thread::sleep(Duration::from_millis(step * 8));
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever has its name is whole.
        for (name, picture) in self::pictures(&layers) {
            assert_eq!(
                Some(&picture),
                pictures
                    .iter()
                    .find(|(other, _)| *other == name)
                    .map(|(_, p)| p),
                "{name}"
            );
        }
        killed_early += usize::from(!layers.is_dir() || bench.count("layers") < 2);
        let again = bench.run(&["run", "--runtime", &runtime, "t"]);
        assert_success(&again);
        assert_eq!(again.stdout, whole.stdout);
    }
    assert!(killed_early > 0, "every one was done before it was killed");
    bench.assert_swept();
}

fn pictures(layers: &Path) -> Vec<(String, std::collections::BTreeMap<String, String>)> {
    let Ok(entries) = std::fs::read_dir(layers) else {
        return Vec::new();
    };
    let mut all: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let mut picture = support::picture(&entry.path());
            // Its times are those of the unpacking where no entry says.
            picture.remove("/");
            (entry.file_name().to_string_lossy().into_owned(), picture)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn killed_while_making_a_bundle() {
    if !is_root("killed_while_making_a_bundle") {
        return;
    }
    let bench = Bench::new("bundle");
    bench.image("t", &[many("a", 2000)]);
    let bundle = bench.dir.join("bundle");
    let path = bundle.to_str().unwrap();
    for step in 0..12 {
        let mut child = bench.spawn(&["unpack", "t", path]);
        std::thread::sleep(Duration::from_millis(step * 15));
        child.kill().unwrap();
        child.wait().unwrap();
        if bundle.exists() {
            // It has its name, so it is whole.
            assert_eq!(support::picture(&bundle.join("rootfs")).len(), 2043);
            assert!(bundle.join("config.json").is_file());
            std::fs::remove_dir_all(&bundle).unwrap();
        }
    }
    assert_success(&bench.run(&["unpack", "t", path]));
    assert_eq!(support::picture(&bundle.join("rootfs")).len(), 2043);
    assert!(!bench.dir.join(".bundle.unfinished").exists());
    let again = bench.run(&["unpack", "t", path]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(
        text(&again.stderr).trim(),
        format!("corten-image: make bundle {path}: it exists and is not empty")
    );
}

#[test]
fn killed_while_importing() {
    let bench = Bench::new("import");
    bench.image("t", &[many("a", 300)]);
    let archive = bench.dir.join("t.tar");
    let path = archive.to_str().unwrap().to_owned();
    assert_success(&bench.run(&["export", "t", &path]));
    let other = Bench::new("import2");
    for step in 0..15 {
        let mut child = other.spawn(&["import", &path]);
        std::thread::sleep(Duration::from_millis(step * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        // A name leads to a whole image, or is not there.
        if other.store.join("oci-layout").exists() {
            assert_success(&other.run(&["verify"]));
        }
    }
    assert_success(&other.run(&["import", &path]));
    assert_success(&other.run(&["verify", "t"]));
    other.assert_swept();
}

#[test]
fn what_a_container_uses_is_not_removed() {
    if !is_root("what_a_container_uses_is_not_removed") {
        return;
    }
    let bench = Bench::new("used");
    bench.image("t", &[vec![file("a", b"still here")]]);
    let (begun, go) = (bench.dir.join("begun"), bench.dir.join("go"));
    let runtime = bench.runtime(
        "runtime",
        &format!(
            "touch {}; while ! [ -e {} ]; do sleep 0.05; done; cat \"$B/rootfs/a\"",
            begun.display(),
            go.display()
        ),
    );
    let child = bench.spawn(&["run", "--rm", "--runtime", &runtime, "t"]);
    wait_for(&begun);
    // The name goes, what the container was made of stays.
    assert_success(&bench.run(&["rm", "t"]));
    assert_eq!((bench.count("layers"), bench.count("blobs/sha256")), (1, 3));
    std::fs::write(go, "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_success(&output);
    assert_eq!(text(&output.stdout), "still here");
    assert_success(&bench.run(&["prune"]));
    assert_eq!((bench.count("layers"), bench.count("tmp")), (0, 0));
    assert_eq!(bench.count("blobs/sha256"), 0);
}

#[test]
fn what_a_stopped_container_was_made_of_is_not_removed() {
    if !is_root("what_a_stopped_container_was_made_of_is_not_removed") {
        return;
    }
    let bench = Bench::new("stopped");
    bench.image("t", &[vec![file("a", b"1")], vec![file("b", b"2")]]);
    let runtime = bench.runtime("runtime", "cat \"$B/rootfs/a\"; echo x > \"$B/rootfs/c\"");
    assert_success(&bench.run(&["run", "--name", "c", "--runtime", &runtime, "t"]));
    assert_success(&bench.run(&["rm", "--image", "t"]));
    assert_success(&bench.run(&["prune"]));
    assert_eq!((bench.count("layers"), bench.count("blobs/sha256")), (2, 4));
    let store = Store::open(&bench.store).unwrap();
    let container = corten_image::containers::find(&store, "c").unwrap();
    let lock = container.lock().unwrap();
    assert!(lock.is_some());
    let image = container.image(&store).unwrap();
    assert_eq!(image.layers.len(), 2);
    let layers = container.layers(&store, &store.lease().unwrap()).unwrap();
    assert_eq!(layers.len(), 2);
    // Of what the runtime needs nothing is a change of the container's.
    let upper = std::fs::read_dir(container.path().join("upper")).unwrap();
    let changed: Vec<_> = upper.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(changed, ["c"]);
    drop((lock, layers));
    assert_success(&bench.run(&["rm", "c"]));
    assert_success(&bench.run(&["prune"]));
    assert_eq!((bench.count("layers"), bench.count("blobs/sha256")), (0, 0));
    assert_eq!((bench.count("containers"), bench.count("tmp")), (0, 0));
}

/// runc makes the directory of its state where there is none, whatever it is asked for.
#[test]
fn a_runtime_does_not_bring_a_removed_container_back() {
    if !is_root("a_runtime_does_not_bring_a_removed_container_back") {
        return;
    }
    let bench = Bench::new("back");
    bench.image("t", &[vec![file("a", b"1")]]);
    let path = bench.dir.join("runtime");
    std::fs::write(&path, "#!/bin/sh\nmkdir -p \"$2\"\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let runtime = path.to_str().unwrap();
    assert_success(&bench.run(&["run", "--name", "c", "--runtime", runtime, "t"]));
    let store = Store::open(&bench.store).unwrap();
    let container = corten_image::containers::find(&store, "c").unwrap();
    let runtime = corten_image::run::Runtime::of(&container);
    runtime.kill(&container, "KILL").unwrap();
    assert_success(&bench.run(&["rm", "c"]));
    runtime.kill(&container, "KILL").unwrap_err();
    assert_eq!(bench.count("containers"), 0);
}

/// Killed, this program leaves the runtime: the container stays as long as that lives, and is lost afterwards.
#[test]
fn a_container_outlives_its_starter() {
    if !is_root("a_container_outlives_its_starter") {
        return;
    }
    let bench = Bench::new("outlives");
    bench.image("t", &[vec![file("a", b"1")]]);
    let (begun, go, done) = (
        bench.dir.join("begun"),
        bench.dir.join("go"),
        bench.dir.join("done"),
    );
    let runtime = bench.runtime(
        "runtime",
        &format!(
            "touch {}; while ! [ -e {} ]; do sleep 0.05; done; cat \"$B/config.json\" \"$B/rootfs/a\" > {}",
            begun.display(),
            go.display(),
            done.display()
        ),
    );
    let mut child = bench.spawn(&["run", "--rm", "--runtime", &runtime, "t"]);
    wait_for(&begun);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_success(&bench.run(&["ps"]));
    assert_success(&bench.run(&["prune"]));
    assert_eq!(
        bench.count("containers"),
        1,
        "the running container was taken for lost"
    );
    std::fs::write(go, "").unwrap();
    wait_for(&done);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut said = String::new();
    while bench.count("containers") > 0 && Instant::now() < deadline {
        said = text(&bench.run(&["ps", "--all"]).stderr);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        said.contains("was lost") && said.contains("it was removed"),
        "{said}"
    );
    bench.assert_swept();
    assert!(std::fs::read_to_string(done).unwrap().ends_with("}1"));
}

#[test]
fn status_signals_and_errors() {
    if !is_root("status_signals_and_errors") {
        return;
    }
    let bench = Bench::new("status");
    bench.image("t", &[vec![file("a", b"1")]]);
    let seven = bench.runtime("seven", "exit 7");
    assert_eq!(
        bench.run(&["run", "--runtime", &seven, "t"]).status.code(),
        Some(7)
    );
    let dies = bench.runtime("dies", "kill -9 $$");
    assert_eq!(
        bench.run(&["run", "--runtime", &dies, "t"]).status.code(),
        Some(137)
    );
    let begun = bench.dir.join("begun");
    let traps = bench.runtime(
        "traps",
        &format!(
            "trap 'exit 42' TERM; touch {}; while :; do sleep 0.05; done",
            begun.display()
        ),
    );
    let child = bench.spawn(&["run", "--runtime", &traps, "t"]);
    wait_for(&begun);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // The runtime is there before the signals are passed on; the program blocks them a moment later.
    std::thread::sleep(Duration::from_millis(200));
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(42));
    for (args, expected) in [
        (&["run", "none"][..], "image none is not in the store"),
        (&["run", "--runtime", "/none", "t"], "no runtime /none"),
        (
            &["run", "--runtime", &seven, "--user", "who", "t"],
            "look up user \"who\": the image's /etc/passwd has no user \"who\"",
        ),
        (
            &["run", "--runtime", &seven, "--network", "x", "t"],
            "network \"x\": there is none of that name",
        ),
        (&["run", "--runtime", &seven, "A"], "image name \"A\""),
        (
            &["run", "--runtime", &seven, "-e", "=x", "t"],
            "environment variable \"=x\" is not NAME=value",
        ),
    ] {
        let output = bench.run(args);
        assert_eq!(output.status.code(), Some(125), "{args:?}");
        let text = text(&output.stderr);
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("corten-image: ") && last.contains(expected),
            "{args:?}: {text}"
        );
    }
    bench.assert_swept();
}

/// A store is founded by whoever comes first, and is the others' as well.
#[test]
fn several_found_a_store_at_once() {
    for round in 0..20 {
        let bench = Bench::new(&format!("found-{round}"));
        let children: Vec<_> = (0..6).map(|_| bench.spawn(&["list"])).collect();
        for child in children {
            assert_success(&child.wait_with_output().unwrap());
        }
    }
}

/// In a directory of something else nothing is made.
#[test]
fn a_directory_that_is_no_store_stays_as_it_is() {
    let bench = Bench::new("none");
    std::fs::create_dir(&bench.store).unwrap();
    std::fs::write(bench.store.join("mine"), "").unwrap();
    let output = bench.run(&["list"]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output.stderr);
    assert!(
        text.contains("it holds \"mine\" and no oci-layout"),
        "{text}"
    );
    assert_eq!(bench.count(""), 1);
}

/// Nobody is told that `head` has had enough.
#[test]
fn output_that_nobody_reads() {
    let bench = Bench::new("unread");
    bench.image("t", &[vec![file("a", b"1")]]);
    for args in [&["list"][..], &["inspect", "t"], &["history", "t"]] {
        let mut command = bench.command(args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut command = bench.command(&["list"]);
    let output = command.stdout(full.unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "corten-image: write to standard output: no space left on device\n"
    );
}

/// What only reads works on a store that can't be written to; what writes says so.
#[test]
fn a_read_only_store() {
    if !is_root("a_read_only_store") {
        return;
    }
    let bench = Bench::new("read-only");
    bench.image("t", &[vec![file("a", b"1")]]);
    assert_success(&bench.run(&["unpack", "t"]));
    let work = || {
        corten_image::overlay::private_namespace().unwrap();
        rustix::mount::mount_bind(&bench.store, &bench.store).unwrap();
        let flags = rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount_remount(&bench.store, flags, "").unwrap();
        let (archive, bundle) = (bench.dir.join("t.tar"), bench.dir.join("bundle"));
        for args in [
            &["list"][..],
            &["inspect", "t"],
            &["history", "t"],
            &["ps", "--all"],
            &["verify"],
            &["export", "t", archive.to_str().unwrap()],
            &["unpack", "t", bundle.to_str().unwrap()],
        ] {
            assert_success(&bench.run(args));
        }
        for args in [
            &["tag", "t", "u"][..],
            &["rm", "t"],
            &["run", "t", "/a"],
            &["import", archive.to_str().unwrap()],
        ] {
            let output = bench.run(args);
            assert!(!output.status.success(), "{args:?}");
            let text = text(&output.stderr);
            assert!(text.contains("read-only file system"), "{args:?}: {text}");
        }
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap();
}

/// On a disk without a free block images can still be removed, and what fails leaves nothing.
#[test]
fn a_full_disk() {
    if !is_root("a_full_disk") {
        return;
    }
    let bench = Bench::new("full");
    let disk = bench.dir.join("disk");
    std::fs::create_dir(&disk).unwrap();
    // The mount is this thread's, and its children's, alone.
    let work = || {
        corten_image::overlay::private_namespace().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", &disk, "tmpfs", flags, c"size=3m").unwrap();
        let small = Bench {
            dir: Dir::new("full2"),
            store: disk.join("store"),
        };
        small.image("t", &[many("a", 20)]);
        let mut filler = std::fs::File::create(disk.join("filler")).unwrap();
        while std::io::Write::write(&mut filler, &[1; 4096]).is_ok_and(|count| count > 0) {}
        let failed = small.run(&["tag", "t", "u"]);
        assert_success(&failed);
        let archive = bench.dir.join("big.tar");
        bench.image("big", &[many("a", 3000)]);
        assert_success(&bench.run(&["export", "big", archive.to_str().unwrap()]));
        let failed = small.run(&["import", archive.to_str().unwrap()]);
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            text(&failed.stderr)
                .trim_end()
                .ends_with("no space left on device"),
            "{}",
            text(&failed.stderr)
        );
        assert_eq!(small.count("tmp"), 0);
        assert_success(&small.run(&["rm", "u", "t"]));
        assert_eq!(small.count("blobs/sha256"), 0);
        drop(filler);
        std::fs::remove_file(disk.join("filler")).unwrap();
        assert_success(&small.run(&["list"]));
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(
            Instant::now() < deadline,
            "{} did not appear",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
