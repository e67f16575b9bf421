// SPDX-License-Identifier: Apache-2.0
//! A store and a context in a directory of their own, builds in it, and what the built images hold.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use corten_image::build::{Built, Failure, Interrupt, Options, build};
use corten_image::image::Layer;
use corten_image::layer::LayerReader;
use corten_image::progress::Progress;
use corten_image::tar::{EntryKind, Limits};
use corten_image::{Image, Reference, Store};

/// Where everything of one test is; removed at its end, which proves that nothing is mounted there any more.
pub struct Bench {
    pub dir: PathBuf,
    pub store: Store,
    pub options: Options,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: &'static str,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Of a file (by whatever name) its content, of a link its target.
    pub content: String,
    pub mtime: i64,
    pub xattrs: Vec<(String, String)>,
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The runtime that RUN is tested with.
pub fn runtime() -> OsString {
    if let Some(named) = std::env::var_os("CORTEN_RUNTIME") {
        return named;
    }
    let own = std::env::current_exe().unwrap();
    let beside = own.parent().unwrap().parent().unwrap().join("corten");
    match beside.exists() {
        true => beside.into(),
        false => "runc".into(),
    }
}

impl Bench {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(is_root(), "builds need root");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("corten-build-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("context")).unwrap();
        let store = Store::open(&dir.join("store")).unwrap();
        let mut options = Options::new(dir.join("context"));
        options.runtime = Some(runtime());
        Self {
            dir,
            store,
            options,
        }
    }

    /// With an image `base` that has a shell.
    pub fn with_base() -> Self {
        let mut bench = Self::new();
        bench.make_base();
        bench
    }

    fn make_base(&mut self) {
        let dockerfile = self.make_root();
        self.build("base", &dockerfile).unwrap();
        std::fs::remove_dir_all(self.context("root")).unwrap();
    }

    /// Puts a root with busybox into the context, and returns the Dockerfile for it.
    pub fn make_root(&self) -> String {
        std::fs::create_dir_all(self.context("root/bin")).unwrap();
        std::fs::create_dir_all(self.context("root/etc")).unwrap();
        std::fs::copy("/bin/busybox", self.context("root/bin/busybox")).unwrap();
        for applet in output("/bin/busybox", &["--list"]).lines() {
            if applet != "busybox" {
                self.link(&format!("root/bin/{applet}"), "busybox");
            }
        }
        self.file(
            "root/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n",
        );
        self.file(
            "root/etc/group",
            "root:x:0:\nuser:x:1001:\nextra:x:1002:user\n",
        );
        "FROM scratch\nCOPY root /\nENV PATH=/bin\n".to_owned()
    }

    pub fn context(&self, path: &str) -> PathBuf {
        self.dir.join("context").join(path)
    }

    /// Writes a file of the context.
    pub fn file(&self, path: &str, content: &str) {
        let path = self.context(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        symlink(target, self.context(path)).unwrap();
    }

    /// Builds `dockerfile` and calls the result `name`.
    pub fn build(&mut self, name: &str, dockerfile: &str) -> Result<Built, Failure> {
        self.file("Dockerfile", dockerfile);
        self.options.names = vec![Reference::parse(name).unwrap()];
        let interrupt = Interrupt::new().unwrap();
        let built = build(&self.store, &self.options, &interrupt, &Progress::Silent);
        corten_sys::signal::unblock_all().unwrap();
        self.assert_clean();
        built
    }

    /// Builds, and tells the error.
    pub fn fail(&mut self, dockerfile: &str) -> String {
        let failure = self.build("failed", dockerfile).expect_err(dockerfile);
        let text = failure.error.to_string();
        // The Dockerfile's own path is nobody's business here.
        text.replace(&self.context("").display().to_string(), "")
    }

    /// No mount, no unfinished file, no container.
    fn assert_clean(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.to_str().unwrap()), "{mounts}");
        let left: Vec<_> = std::fs::read_dir(self.dir.join("store/tmp"))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub fn image(&self, name: &str) -> Image {
        image_in(&self.store, name)
    }

    /// The config as JSON.
    pub fn config(&self, name: &str) -> serde_json::Value {
        config_in(&self.store, name)
    }

    /// The paths in all layers, without a thought for whiteouts.
    pub fn store_paths(&self, name: &str) -> Vec<String> {
        let mut paths = Vec::new();
        for layer in &self.image(name).layers {
            let mut reader =
                LayerReader::open(&self.store, layer, Limits::default(), None).unwrap();
            while let Some(entry) = reader.tar.next().unwrap() {
                let path = String::from_utf8(entry.path).unwrap();
                paths.push(path.trim_end_matches('/').to_owned());
            }
        }
        paths
    }

    /// Everything that the image holds, by its layers' blobs.
    pub fn files(&self, name: &str) -> BTreeMap<String, Seen> {
        files_in(&self.store, name)
    }

    /// What the topmost layer of the image holds.
    pub fn top(&self, name: &str) -> BTreeMap<String, Seen> {
        let mut files = BTreeMap::new();
        apply(
            &self.store,
            self.image(name).layers.last().unwrap(),
            &mut files,
        );
        files
    }
}

pub fn image_in(store: &Store, name: &str) -> Image {
    store.image(&Reference::parse(name).unwrap()).unwrap()
}

pub fn config_in(store: &Store, name: &str) -> serde_json::Value {
    serde_json::from_slice(&image_in(store, name).config_bytes).unwrap()
}

pub fn files_in(store: &Store, name: &str) -> BTreeMap<String, Seen> {
    let mut files = BTreeMap::new();
    for layer in &image_in(store, name).layers {
        apply(store, layer, &mut files);
    }
    files
}

fn apply(store: &Store, layer: &Layer, files: &mut BTreeMap<String, Seen>) {
    let mut reader = LayerReader::open(store, layer, Limits::default(), None).unwrap();
    while let Some(entry) = reader.tar.next().unwrap() {
        let path = String::from_utf8(entry.path.clone()).unwrap();
        let path = path.trim_end_matches('/').to_owned();
        if let Some(dir) = path.strip_suffix(".wh..wh..opq") {
            files.retain(|path, _| !path.starts_with(dir));
            continue;
        }
        if let Some((dir, name)) = whiteout(&path) {
            let gone = format!("{dir}{name}");
            files.retain(|path, _| *path != gone && !path.starts_with(&format!("{gone}/")));
            continue;
        }
        let (kind, content) = match entry.kind {
            EntryKind::File => ("file", content(&mut reader.tar)),
            EntryKind::Dir => ("dir", String::new()),
            EntryKind::Symlink(target) => ("link", String::from_utf8(target).unwrap()),
            EntryKind::Hardlink(target) => {
                let target = String::from_utf8(target).unwrap();
                ("hardlink", files[&target].content.clone())
            }
            EntryKind::Fifo => ("fifo", String::new()),
            EntryKind::Char { .. } | EntryKind::Block { .. } => ("device", String::new()),
        };
        let seen = Seen {
            kind,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            content,
            mtime: entry.mtime.seconds,
            xattrs: entry
                .xattrs
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        };
        files.insert(path, seen);
    }
    reader.finish().unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `dir/.wh.name` as (`dir/`, `name`).
fn whiteout(path: &str) -> Option<(&str, &str)> {
    let at = path.rfind('/').map_or(0, |at| at + 1);
    let (dir, name) = path.split_at(at);
    Some((dir, name.strip_prefix(".wh.")?))
}

fn content<R: std::io::BufRead>(tar: &mut corten_image::tar::Reader<R>) -> String {
    let mut content = Vec::new();
    loop {
        let part = tar.content().unwrap();
        if part.is_empty() {
            break;
        }
        let length = part.len();
        content.extend_from_slice(part);
        tar.consume(length).unwrap();
    }
    String::from_utf8_lossy(&content).into_owned()
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.dir).unwrap();
        }
    }
}

/// A directory outside of everything, and proof that nothing in it changed.
pub struct Sentinel {
    path: PathBuf,
    before: Vec<(String, u32, i64, i64, u64)>,
}

impl Sentinel {
    pub fn new(bench: &Bench) -> Self {
        let path = bench.dir.join("sentinel");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("secret"), "secret").unwrap();
        let before = look(&path);
        Self { path, before }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub fn assert_same(&self) {
        assert_eq!(look(&self.path), self.before);
    }
}

fn look(path: &Path) -> Vec<(String, u32, i64, i64, u64)> {
    let mut seen = Vec::new();
    for path in [path.to_owned(), path.join("secret")] {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let content = std::fs::read_to_string(&path).unwrap_or_default();
        seen.push((content, stat.mode(), stat.mtime(), stat.ctime(), stat.ino()));
    }
    seen.push((
        String::new(),
        std::fs::read_dir(path).unwrap().count() as u32,
        0,
        0,
        0,
    ));
    seen
}

/// Runs a program and returns what it prints.
pub fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
