// SPDX-License-Identifier: Apache-2.0
//! The program killed with SIGKILL at random moments: what the store holds is whole, the same verb then does what an
//! undisturbed one does, and a clean-up leaves exactly what it leaves. `CORTEN_KILLS` says how often (default: 6).
#![allow(
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

#[allow(dead_code)]
#[path = "registry/server.rs"]
mod server;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use corten_image::digest::Digest;
use corten_image::layer::{Compression, read};
use corten_image::tar::Limits;
use corten_image::{Image, Reference, Store};
use server::{Server, answer};
use support::{Dir, Random, dir, file, hardlink, image, is_root, symlink as link};

/// How long what was left alone may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A verb, and the store that it starts from.
struct Trial {
    dir: Dir,
    args: Vec<String>,
    /// On the command line or in the environment of all that comes of it.
    marker: String,
}

/// What a store holds: each path and what is there.
type Picture = BTreeMap<String, String>;

impl Trial {
    fn new(name: &str) -> Self {
        let dir = Dir::new(&format!("killed-{name}"));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.join("template"))
            .unwrap();
        Self {
            dir,
            args: Vec::new(),
            marker: format!("corten-killed-{name}-{}", std::process::id()),
        }
    }

    fn template(&self) -> Store {
        Store::open(&self.dir.join("template")).unwrap()
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn command(&self, store: &Path, args: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten-image"));
        let path = std::env::var("PATH").unwrap();
        command
            .arg("--store")
            .arg(store)
            .args(args)
            .env("PATH", format!("{path}:/{}", self.marker))
            .env("CORTEN_RUNTIME", runtime())
            .env("SOURCE_DATE_EPOCH", "1500000000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn succeed(&self, store: &Path, args: &[&str]) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let output = self.command(store, &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
    }

    fn act(&self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.succeed(&self.store(), &args);
    }

    /// A store like the template, in place of the last one.
    fn renew(&self) {
        let _ = std::fs::remove_dir_all(self.store()); // the first time there is none
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .args([self.dir.join("template"), self.store()]);
        assert!(copy.status().unwrap().success());
    }

    fn run(&self) {
        let kills = std::env::var("CORTEN_KILLS").map_or(6, |text| text.parse().unwrap());
        // The shortest of some, or too many rounds would come to their end.
        let mut time = Duration::MAX;
        for _ in 0..3 {
            self.renew();
            let begun = Instant::now();
            self.act();
            time = time.min(begun.elapsed());
        }
        let names = index(&self.store());
        self.succeed(&self.store(), &["prune"]);
        let expected = picture(&self.store());
        assert_swept(&self.store());
        let mut random = Random::new(kills);
        let mut cut_short = 0;
        for round in 0..kills {
            let moment = time.mul_f64(random.below(1100) as f64 / 1000.0);
            eprintln!(
                "{} round {round}: after {moment:?} of {time:?}",
                self.args[0]
            );
            self.renew();
            cut_short += u32::from(self.kill(moment));
            // The next one may come at once, or when all has come to rest.
            if round % 2 == 0 {
                self.assert_at_rest();
                assert_whole(&self.store());
            }
            self.act();
            self.assert_at_rest();
            assert_whole(&self.store());
            assert_eq!(index(&self.store()), names);
            self.succeed(&self.store(), &["prune"]);
            assert_same(&picture(&self.store()), &expected);
            assert_swept(&self.store());
        }
        eprintln!(
            "{}: {kills} rounds, {cut_short} of them before its end ({time:?})",
            self.args[0]
        );
    }

    /// Whether it was killed before it ended.
    fn kill(&self, moment: Duration) -> bool {
        let mut command = self.command(&self.store(), &self.args);
        command.process_group(0).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.code().is_none(), "{status}");
        status.code().is_none()
    }

    /// No process, mount or cgroup is left, once what was left alone has ended.
    fn assert_at_rest(&self) {
        let begun = Instant::now();
        let mut ids = BTreeSet::new();
        loop {
            ids.extend(self.containers());
            let left = self.left(&ids);
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The containers of builds, as far as their runtime has noted them.
    fn containers(&self) -> Vec<String> {
        let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        entries(&self.store().join("tmp"))
            .flat_map(|scratch| entries(&scratch.path().join("state")))
            .map(|id| id.file_name().into_string().unwrap())
            .collect()
    }

    fn left(&self, ids: &BTreeSet<String>) -> Vec<String> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
                continue;
            }
            for file in ["cmdline", "environ"] {
                let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                if text.contains(&self.marker) {
                    left.push(format!("{:?}: {text}", entry.file_name()));
                }
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.dir.0.to_str().unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(own))
                .map(str::to_owned),
        );
        if !ids.is_empty() {
            let found = Command::new("find")
                .args(["/sys/fs/cgroup", "-type", "d"])
                .output()
                .unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            let is_own = |line: &&str| ids.iter().any(|id| line.contains(id.as_str()));
            left.extend(found.lines().filter(is_own).map(str::to_owned));
        }
        left
    }
}

/// The runtime that RUN is tested with.
fn runtime() -> OsString {
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

/// What has a name, and what that leads to.
fn index(store: &Path) -> BTreeSet<(Option<String>, String)> {
    let entries = Store::open(store).unwrap().entries().unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.name, entry.descriptor.digest().to_string()))
        .collect()
}

/// Every image is whole, and so is every unpacked layer, whether or not anybody needs it.
fn assert_whole(store: &Path) {
    let store = Store::open(store).unwrap();
    for entry in store.entries().unwrap() {
        let image = Image::read(&store, &entry.descriptor).unwrap();
        for layer in &image.layers {
            read::verify(&store, layer, Limits::default(), None).unwrap();
        }
    }
    let lease = store.lease().unwrap();
    for entry in std::fs::read_dir(store.path().join("layers")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let chain = Digest::parse(&format!("sha256:{name}")).unwrap();
        let layer = store.layer_dir(&lease, &chain).unwrap().unwrap();
        assert_eq!(store.damages(&layer).unwrap(), [], "{name}");
    }
}

/// Nothing unfinished is left, nor a lock of something.
fn assert_swept(store: &Path) {
    for place in ["tmp", "locks"] {
        let left: Vec<_> = std::fs::read_dir(store.join(place)).unwrap().collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
}

/// All that is kept, but times: those of an unpacked layer are when its step ran.
fn picture(store: &Path) -> Picture {
    let mut found = Picture::new();
    for place in [
        "blobs",
        "layers",
        "sums",
        "origins",
        "mounts",
        "containers",
        "cache",
    ] {
        look(&store.join(place), place, &mut found);
    }
    found
}

fn look(path: &Path, name: &str, found: &mut Picture) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let mut line = format!(
        "{:o} {}:{} {:x}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.rdev()
    );
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let inner = format!("{name}/{}", entry.file_name().to_string_lossy());
            look(&entry.path(), &inner, found);
        }
    } else if kind.is_symlink() {
        line += &format!(" {}", std::fs::read_link(path).unwrap().display());
    } else if kind.is_file() && !name.starts_with("sums/") {
        line += &format!(
            " {}x {}",
            meta.nlink(),
            Digest::of(&std::fs::read(path).unwrap())
        );
    }
    found.insert(name.to_owned(), line);
}

fn assert_same(found: &Picture, expected: &Picture) {
    let more: Vec<_> = found
        .iter()
        .filter(|line| expected.get(line.0) != Some(line.1))
        .collect();
    let less: Vec<_> = expected
        .iter()
        .filter(|line| found.get(line.0) != Some(line.1))
        .collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "has {more:#?}\nand should {less:#?}"
    );
}

/// Bytes that no compression makes fewer: large enough that a pull goes on with a part of it.
fn noise(seed: u64, size: usize) -> &'static [u8] {
    let mut random = Random::new(seed);
    let bytes: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
    bytes.leak()
}

/// Layers of all that a layer may have, large and small.
fn layers(seed: u64) -> Vec<Vec<support::Item>> {
    let mut many = vec![dir("many")];
    for number in 0..300 {
        many.push(file(&format!("many/{number}"), noise(seed + number, 100)));
    }
    vec![
        vec![
            dir("usr/lib"),
            link("lib", "usr/lib"),
            file("usr/lib/large", noise(seed, 3 << 20)),
            hardlink("usr/lib/again", "usr/lib/large"),
        ],
        many,
        vec![
            file("lib/b", b"b"),
            file("usr/lib/.wh.again", b""),
            file("many/.wh..wh..opq", b""),
        ],
        vec![file("second", noise(seed + 1, 2 << 20))],
    ]
}

#[test]
fn pull() {
    if !is_root("pull") {
        return;
    }
    let mut trial = Trial::new("pull");
    let source = Store::open(&trial.dir.join("source")).unwrap();
    image(&source, "t", Compression::Gzip, &layers(1)).unwrap();
    let top = source.image(&Reference::parse("t").unwrap()).unwrap();
    let (top, blobs) = (
        top.descriptor.digest().to_string(),
        source.path().join("blobs/sha256"),
    );
    let server = Server::new(move |request| {
        let Some(name) = request.path().strip_prefix("/v2/team/x/") else {
            return answer(404, "");
        };
        let digest = match name {
            "manifests/1" => top.as_str(),
            name => name.split_once('/').unwrap().1,
        };
        let bytes = std::fs::read(blobs.join(digest.strip_prefix("sha256:").unwrap())).unwrap();
        // What was begun is gone on with.
        let from = request.header("range").and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
        let answer = match from {
            Some(from) => answer(206, &bytes[from..]).header(
                "Content-Range",
                format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
            ),
            None => answer(200, bytes),
        };
        let answer = answer.header("Docker-Content-Digest", digest);
        match name.starts_with("manifests/") {
            true => answer.header("Content-Type", "application/vnd.oci.image.manifest.v1+json"),
            false => answer,
        }
    });
    drop(trial.template());
    let name = format!("{}/team/x:1", server.address);
    trial.args = ["pull", "--unpack", &name].map(str::to_owned).to_vec();
    trial.run();
}

#[test]
fn unpack() {
    if !is_root("unpack") {
        return;
    }
    let mut trial = Trial::new("unpack");
    image(&trial.template(), "t", Compression::Gzip, &layers(2)).unwrap();
    trial.args = ["unpack", "t"].map(str::to_owned).to_vec();
    trial.run();
}

/// Makes a root with busybox in `context`, and an image of it.
fn make_base(trial: &Trial) -> PathBuf {
    let context = trial.dir.join("context");
    let root = context.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    std::fs::write(
        context.join("Dockerfile"),
        "FROM scratch\nCOPY root /\nENV PATH=/bin\n",
    )
    .unwrap();
    drop(trial.template());
    let template = trial.dir.join("template");
    trial.succeed(
        &template,
        &["build", "-t", "base", context.to_str().unwrap()],
    );
    std::fs::remove_dir_all(root).unwrap();
    context
}

#[test]
fn build() {
    if !is_root("build") {
        return;
    }
    let mut trial = Trial::new("build");
    let context = make_base(&trial);
    std::fs::write(context.join("large"), noise(3, 2 << 20)).unwrap();
    std::fs::create_dir(context.join("many")).unwrap();
    for number in 0..200 {
        std::fs::write(context.join(format!("many/{number}")), noise(number, 100)).unwrap();
    }
    let dockerfile = format!(
        "FROM base\nCOPY large many /data/\nRUN : {0}; cp /data/large /copy; rm -r /data; mkdir /data; echo x > /data/x\n\
         COPY many /data\nRUN : {0}; ln /copy /link; chmod 600 /data/1\nCMD [\"sh\"]\n",
        trial.marker
    );
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    trial.args = ["build", "-t", "built", context.to_str().unwrap()]
        .map(str::to_owned)
        .to_vec();
    trial.run();
}

#[test]
fn commit() {
    if !is_root("commit") {
        return;
    }
    let mut trial = Trial::new("commit");
    make_base(&trial);
    let script = "dd if=/dev/urandom of=/large bs=1M count=3; mkdir -p /a/b; n=0; \
        while [ $n -lt 200 ]; do n=$((n+1)); echo $n > /a/b/$n; done; rm /bin/vi; ln /large /too";
    let template = trial.dir.join("template");
    trial.succeed(
        &template,
        &["run", "--name", "c", "base", "sh", "-c", script],
    );
    trial.args = ["commit", "c", "committed"].map(str::to_owned).to_vec();
    trial.run();
}

#[test]
fn prune() {
    if !is_root("prune") {
        return;
    }
    let mut trial = Trial::new("prune");
    let store = trial.template();
    for (seed, name) in [(4, "kept"), (5, "one"), (6, "two"), (7, "three")] {
        image(&store, name, Compression::Gzip, &layers(seed)).unwrap();
        trial.succeed(store.path(), &["unpack", name]);
    }
    for name in ["one", "two", "three"] {
        store.remove_name(&Reference::parse(name).unwrap()).unwrap();
    }
    // Of one that was killed.
    std::fs::create_dir_all(store.path().join("tmp/0123456789abcdef/upper/a")).unwrap();
    std::fs::write(store.path().join("tmp/0123456789abcdee"), noise(1, 100)).unwrap();
    trial.args = vec!["prune".to_owned()];
    trial.run();
}
