// SPDX-License-Identifier: Apache-2.0
//! Root filesystems really mounted, in a mount namespace of the test's own. A program of its own without the test
//! harness, because whoever clones has one thread. As root, or it says so.

// clippy takes a program without the test harness for a program.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use containerd_shim_protos::types::mount::Mount;
use corten_shim::error::Code;
use corten_shim::rootfs::{mount, unmount};
use corten_sys::mount::{Propagation, set_propagation_everywhere};
use corten_sys::process::{Namespaces, effective_uid, unshare};

/// A directory on a tmpfs of its own, with an empty `rootfs`.
struct Ground(PathBuf);

impl Ground {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("corten-rootfs-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "nosuid,nodev", "tmpfs", text(&path)],
        );
        let ground = Self(path.canonicalize().unwrap());
        ground.make("rootfs");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    fn make(&self, name: &str) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        text(&self.path(name)).to_owned()
    }

    fn write(&self, name: &str, content: &str) {
        self.make(text(Path::new(name).parent().unwrap()));
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.rootfs().join(name)).unwrap()
    }

    /// The options of whatever is mounted at `name`, the one on top last, as the kernel has them.
    fn mounted(&self, name: &str) -> Vec<String> {
        let wanted = text(&self.path(name)).trim_end_matches('/').to_owned();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines = table
            .lines()
            .filter(|line| line.split(' ').nth(4) == Some(&wanted));
        lines.map(str::to_owned).collect()
    }

    fn only(&self) -> String {
        let mut all = self.mounted("rootfs");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn unmount(&self) {
        unmount(&self.rootfs()).unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(text(&self.rootfs())), "{table}");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        run("umount", &["-R", text(&self.0)]);
        fs::remove_dir(&self.0).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

fn of(kind: &str, source: &str, target: &str, options: &str) -> Mount {
    Mount {
        type_: kind.into(),
        source: source.into(),
        target: target.into(),
        options: options.split(' ').map(str::to_owned).collect(),
        ..Mount::default()
    }
}

fn a_bind_keeps_what_its_source_forbids(ground: &Ground) {
    ground.write("source/file", "one");
    let source = text(&ground.path("source")).to_owned();
    mount(&[of("bind", &source, "", "rbind ro")], &ground.rootfs()).unwrap();
    assert_eq!(ground.read("file"), "one");
    let options = ground.mounted("rootfs").pop().unwrap();
    assert!(options.contains(" ro,nosuid,nodev,"), "{options}");
    let error = fs::write(ground.rootfs().join("file"), "two").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    fs::write(ground.path("source/file"), "two").unwrap();
    ground.unmount();

    mount(
        &[of("bind", &source, "", "bind rw noexec")],
        &ground.rootfs(),
    )
    .unwrap();
    let options = ground.mounted("rootfs").pop().unwrap();
    assert!(options.contains(" rw,nosuid,nodev,noexec,"), "{options}");
    ground.unmount();
}

fn remounting_adds_no_mount(ground: &Ground) {
    let tmpfs = of("tmpfs", "tmpfs", "", "size=1m");
    mount(
        &[tmpfs, of("", "", "", "remount bind ro")],
        &ground.rootfs(),
    )
    .unwrap();
    let options = ground.only();
    assert!(
        options.contains(" ro,") && options.ends_with("rw,size=1024k"),
        "{options}"
    );
    mount(
        &[of("tmpfs", "tmpfs", "", "remount ro size=2m")],
        &ground.rootfs(),
    )
    .unwrap();
    let options = ground.only();
    assert!(options.ends_with("ro,size=2048k"), "{options}");
    ground.unmount();
}

fn propagation_is_set_afterwards(ground: &Ground) {
    for (options, wanted) in [
        ("shared", "shared:"),
        ("shared unbindable", "unbindable"),
        ("size=1m", ""),
    ] {
        mount(&[of("tmpfs", "tmpfs", "", options)], &ground.rootfs()).unwrap();
        let line = ground.mounted("rootfs").pop().unwrap();
        assert!(
            line.split(' ').nth(6).unwrap().starts_with(wanted),
            "{options}: {line}"
        );
        ground.unmount();
    }
}

fn an_overlay_of_more_layers_than_a_page_holds(ground: &Ground) {
    let layers: Vec<String> = (0..100)
        .map(|number| {
            let name = format!("{}/{number}/fs", "x".repeat(80));
            ground.write(&format!("{name}/{number}"), "layer");
            text(&ground.path(&name)).to_owned()
        })
        .collect();
    let (upper, work) = (ground.make("upper"), ground.make("work"));
    let options = format!(
        "lowerdir={} workdir={work} upperdir={upper} X-containerd.x=y",
        layers.join(":")
    );
    assert!(options.len() > 8192);
    let before = std::env::current_dir().unwrap();
    mount(&[of("overlay", "overlay", "", &options)], &ground.rootfs()).unwrap();
    assert_eq!(std::env::current_dir().unwrap(), before);
    for number in 0..100 {
        assert_eq!(ground.read(&number.to_string()), "layer");
    }
    fs::write(ground.rootfs().join("new"), "up").unwrap();
    ground.unmount();
    assert_eq!(fs::read_to_string(ground.path("upper/new")).unwrap(), "up");

    let far: Vec<String> = (0..3)
        .map(|number| format!("/{number}/{}", "x".repeat(2000)))
        .collect();
    let options = format!("lowerdir={}", far.join(":"));
    let error = mount(&[of("overlay", "overlay", "", &options)], &ground.rootfs()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(
        error
            .text()
            .ends_with("bytes of options are more than a page"),
        "{error}"
    );
}

fn owners_are_seen_through_a_map(ground: &Ground) {
    for layer in ["low", "high"] {
        ground.write(&format!("{layer}/{layer}"), layer);
        std::os::unix::fs::chown(ground.path(layer).join(layer), Some(5), Some(6)).unwrap();
    }
    let map = "uidmap=0:100000:10 gidmap=0:200000:1,1:300000:9";
    let owner = |name: &str| {
        let status = fs::metadata(ground.rootfs().join(name)).unwrap();
        (status.uid(), status.gid())
    };
    let (low, high) = (ground.make("low"), ground.make("high"));
    mount(
        &[of("bind", &low, "", &format!("rbind ro {map}"))],
        &ground.rootfs(),
    )
    .unwrap();
    assert_eq!(owner("low"), (100_005, 300_005));
    let options = ground.mounted("rootfs");
    assert_eq!(options.len(), 1);
    assert!(options[0].contains(" ro,nosuid,nodev,"), "{options:?}");
    ground.unmount();

    let (upper, work) = (ground.make("mapped/upper"), ground.make("mapped/work"));
    let options = format!("lowerdir={high}:{low} upperdir={upper} workdir={work} {map}");
    mount(&[of("overlay", "overlay", "", &options)], &ground.rootfs()).unwrap();
    assert_eq!(
        (owner("low"), owner("high")),
        ((100_005, 300_005), (100_005, 300_005))
    );
    assert_eq!(
        (ground.read("low"), ground.read("high")),
        ("low".into(), "high".into())
    );
    assert_eq!(ground.mounted("rootfs").len(), 1);
    ground.unmount();

    let options = format!("lowerdir={high}:/nonexistent {map}");
    let error = mount(&[of("overlay", "overlay", "", &options)], &ground.rootfs()).unwrap_err();
    assert!(
        error
            .text()
            .ends_with("open_tree \"/nonexistent\": no such file or directory"),
        "{error}"
    );
    assert_eq!(ground.mounted("rootfs").len(), 0);
    let error = mount(
        &[of("bind", &low, "", "bind uidmap=0:1 gidmap=0:1:1")],
        &ground.rootfs(),
    );
    assert_eq!(error.unwrap_err().code(), Code::InvalidArgument);
}

fn an_image_is_mounted_and_let_go(ground: &Ground) {
    let image = ground.path("image");
    fs::File::create(&image).unwrap().set_len(2 << 20).unwrap();
    if !Path::new("/dev/loop-control").exists()
        || Command::new("mkfs.ext4").arg("-V").output().is_err()
    {
        println!("skipped: images take loop devices and mkfs.ext4");
        return;
    }
    run("mkfs.ext4", &["-q", "-F", text(&image)]);
    for options in ["loop rw", "loop ro"] {
        mount(&[of("ext4", text(&image), "", options)], &ground.rootfs()).unwrap();
        assert!(ground.rootfs().join("lost+found").is_dir());
        let line = ground.mounted("rootfs").pop().unwrap();
        assert!(line.contains(" - ext4 /dev/loop"), "{line}");
        ground.unmount();
    }
    let error = mount(&[of("ext4", "/nonexistent", "", "loop")], &ground.rootfs()).unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
}

fn places_within_are_looked_up_within(ground: &Ground) {
    ground.make("layer/inner/place");
    ground.write("layer/file", "");
    ground.write("other/file", "bound");
    symlink("/inner/../../../..", ground.path("layer/up")).unwrap();
    let other = text(&ground.path("other")).to_owned();
    let file = format!("{other}/file");
    let mounts = [
        of("bind", text(&ground.path("layer")), "", "rbind"),
        of("bind", &other, "/up/inner/place", "bind ro"),
        of("bind", &file, "../up/file", "bind"),
    ];
    mount(&mounts, &ground.rootfs()).unwrap();
    assert_eq!(ground.read("inner/place/file"), "bound");
    assert_eq!(ground.read("file"), "bound");
    let line = ground.mounted("rootfs/inner/place").pop().unwrap();
    assert!(line.contains(" ro,"), "{line}");
    ground.unmount();

    let missing = [mounts[0].clone(), of("bind", &other, "missing", "bind")];
    let error = mount(&missing, &ground.rootfs()).unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert_eq!(ground.mounted("rootfs").len(), 0);
}

fn what_was_mounted_is_undone(ground: &Ground) {
    mount(&[of("tmpfs", "before", "", "")], &ground.rootfs()).unwrap();
    let mounts = [
        of("tmpfs", "first", "", ""),
        of("tmpfs", "second", "", "mode=700"),
        of("nosuchfs", "third", "", "a=b ro"),
    ];
    let error = mount(&mounts, &ground.rootfs()).unwrap_err();
    let rootfs = ground.rootfs();
    let wanted = format!(
        "mount nosuchfs on {0}: mount \"third\" {0:?} \"nosuchfs\" 0x1 \"a=b\": no such device",
        Shown(&rootfs)
    );
    assert_eq!(error.text(), wanted);
    let left = ground.mounted("rootfs");
    assert!(
        left.len() == 1 && left[0].contains(" - tmpfs before "),
        "{left:?}"
    );
    ground.unmount();
}

/// A path, with and without quotes.
struct Shown<'a>(&'a Path);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn all_is_unmounted(ground: &Ground) {
    let tmpfs = || of("tmpfs", "tmpfs", "", "size=1m");
    mount(&[tmpfs(), tmpfs()], &ground.rootfs()).unwrap();
    ground.make("rootfs/a b/c");
    mount(&[of("tmpfs", "tmpfs", "a b/c", "")], &ground.rootfs()).unwrap();
    let held = fs::File::open(ground.rootfs().join("a b/c")).unwrap();
    ground.unmount();
    drop(held);

    // Mounts below a directory that is none, through a link in its path.
    ground.make("rootfs/a b/c");
    mount(&[of("tmpfs", "tmpfs", "a b", "")], &ground.rootfs()).unwrap();
    ground.make("rootfs/a b/c");
    mount(&[of("tmpfs", "tmpfs", "a b/c", "")], &ground.rootfs()).unwrap();
    symlink(&ground.0, ground.path("link")).unwrap();
    unmount(&ground.path("link/rootfs")).unwrap();
    ground.unmount();
    assert!(ground.rootfs().join("a b/c").is_dir());
    // Neighbours whose names begin alike stay.
    ground.make("rootfs2");
    mount(&[tmpfs()], &ground.path("rootfs2")).unwrap();
    unmount(&ground.rootfs()).unwrap();
    assert_eq!(ground.mounted("rootfs2").len(), 1);
    unmount(&ground.path("rootfs2")).unwrap();
}

fn main() {
    if effective_uid() != 0 {
        println!("skipped: mounting takes root");
        return;
    }
    unshare(Namespaces::MOUNT).unwrap();
    set_propagation_everywhere(Propagation::Private).unwrap();
    type Test = fn(&Ground);
    let tests: [(&str, Test); 9] = [
        (
            "a_bind_keeps_what_its_source_forbids",
            a_bind_keeps_what_its_source_forbids,
        ),
        ("remounting_adds_no_mount", remounting_adds_no_mount),
        (
            "propagation_is_set_afterwards",
            propagation_is_set_afterwards,
        ),
        (
            "an_overlay_of_more_layers_than_a_page_holds",
            an_overlay_of_more_layers_than_a_page_holds,
        ),
        (
            "owners_are_seen_through_a_map",
            owners_are_seen_through_a_map,
        ),
        (
            "an_image_is_mounted_and_let_go",
            an_image_is_mounted_and_let_go,
        ),
        (
            "places_within_are_looked_up_within",
            places_within_are_looked_up_within,
        ),
        ("what_was_mounted_is_undone", what_was_mounted_is_undone),
        ("all_is_unmounted", all_is_unmounted),
    ];
    for (name, test) in tests {
        println!("{name}");
        test(&Ground::new());
    }
}
