// SPDX-License-Identifier: Apache-2.0
//! The same Dockerfiles by buildah, where it is installed: the trees and the configs must agree.
//!
//! Accepted differences, with reasons:
//! - buildah labels its images `io.buildah.version`.
//! - `COPY dir /new` gives the new directory the mode of `dir` here, as BuildKit does; buildah gives it 0755.
//! - Directories that COPY makes on the way belong to --chown's owner here, as in BuildKit; to root in buildah.
//! - A file of the context keeps setuid and setgid bits here, as in BuildKit; buildah takes them away.
//! - The mount points that a RUN needed stay in buildah's image; here they never were in it.
//! - HEALTHCHECK, SHELL and ONBUILD are kept here, as by BuildKit; buildah drops them from OCI images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use corten_image::Store;

use crate::support::{Bench, Seen, config_in, files_in, output};

const DOCKERFILES: [&str; 9] = [
    "COPY a.txt /f\nCOPY a.txt b.txt /d/\nCOPY *.txt /e/\nCOPY dir /g\nCOPY dir/ /h/\n",
    "WORKDIR /w/v\nCOPY a.txt .\nCOPY --chown=5:6 a.txt c\nCOPY --chown=user:extra --chmod=600 a.txt e\nCOPY links /l/\n",
    "ADD tree.tar /t/\nADD tree.tgz /u\nADD a.txt /v/\n",
    "RUN mkdir -p /r/s && echo hi > /r/s/f && ln -s f /r/s/l && ln /r/s/f /r/s/h && chmod 2755 /r/s\nRUN rm -r /r/s/f /etc/group\n",
    "ENV A=1 B=\"x y\"\nENV C=${A:-z}${D:-w}${B:+v}\nARG E=\"e e\"\nRUN echo \"$A$B$C$E\" > /env\nLABEL l=$E \"m n\"=o\n",
    "RUN mkdir -m 1777 /tmp\nUSER user\nWORKDIR /home/user\nRUN id -u > /tmp/id; id -g >> /tmp/id; echo $HOME >> /tmp/id; pwd >> /tmp/id\n",
    "EXPOSE 80 90/udp\nVOLUME /vol\nSTOPSIGNAL SIGINT\nCMD [\"a\", \"b\"]\nENTRYPOINT [\"/c\"]\nMAINTAINER me\n",
    "CMD a b\nENTRYPOINT c $d\n",
    "RUN echo one > /one\nFROM base AS second\nRUN echo two > /two\nFROM base\nCOPY --from=0 /one /\nCOPY --from=second /two /n/\nCOPY --from=base /etc/passwd /p\n",
];

/// What buildah's RUN leaves.
pub const MOUNT_POINTS: [&str; 7] = [
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "run",
    "sys",
];

pub struct Buildah {
    dir: String,
}

impl Buildah {
    pub fn new(bench: &Bench) -> Self {
        Self {
            dir: bench.dir.join("buildah").to_str().unwrap().to_owned(),
        }
    }

    pub fn run(&self, args: &[&str]) {
        if let Err(text) = self.attempt(args) {
            panic!("{args:?}: {text}");
        }
    }

    /// What it complains of, if it fails.
    fn attempt(&self, args: &[&str]) -> Result<(), String> {
        let output = Command::new("buildah")
            .args(["--root", &format!("{}/root", self.dir)])
            .args(["--runroot", &format!("{}/run", self.dir)])
            .args(["--storage-driver", "vfs"])
            .args(args)
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub fn build(&self, name: &str, context: &Path, dockerfile: &str) {
        self.try_build(name, context, dockerfile).unwrap();
    }

    pub fn try_build(&self, name: &str, context: &Path, dockerfile: &str) -> Result<(), String> {
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let context = context.to_str().unwrap();
        let how = [
            "--isolation",
            "oci",
            "--runtime",
            "runc",
            "--pull-never",
            "--network",
            "host",
            "--format",
            "docker",
        ];
        let secret = format!("{}/../secret", self.dir);
        let secret = match Path::new(&secret).exists() {
            true => vec!["--secret".to_owned(), format!("id=corpus,src={secret}")],
            false => Vec::new(),
        };
        let secret: Vec<&str> = secret.iter().map(String::as_str).collect();
        self.attempt(&[&["bud"], how.as_slice(), &secret, &["-t", name, context]].concat())
    }

    /// The image as `docker save` writes it, in a store of its own: nothing of its config is lost.
    pub fn archive(&self, name: &str) -> Store {
        let archive = format!("{}/{name}.tar", self.dir);
        self.run(&[
            "push",
            "-q",
            name,
            &format!("docker-archive:{archive}:{name}:latest"),
        ]);
        let store = Store::open(Path::new(&format!("{}/store-{name}", self.dir))).unwrap();
        let reference = corten_image::Reference::parse(name).unwrap();
        let silent = corten_image::progress::Progress::Silent;
        corten_image::archive::import(&store, Path::new(&archive), Some(&reference), &silent)
            .unwrap();
        std::fs::remove_file(archive).unwrap();
        store
    }

    /// The image as a store of its own.
    fn export(&self, name: &str) -> Store {
        let layout = format!("{}/layout-{name}", self.dir);
        self.run(&["push", "-q", name, &format!("oci:{layout}:{name}:latest")]);
        Store::open(Path::new(&layout)).unwrap()
    }
}

pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What of a tree must agree: not the times, and a hard link may have either name.
pub fn comparable(files: BTreeMap<String, Seen>) -> BTreeMap<String, Seen> {
    let mut comparable = BTreeMap::new();
    for (path, mut seen) in files {
        if path.is_empty() || path == "." {
            continue;
        }
        seen.mtime = 0;
        if seen.kind == "hardlink" {
            seen.kind = "file";
        }
        comparable.insert(path, seen);
    }
    comparable
}

#[test]
fn agrees_with_buildah() {
    if !["buildah", "runc"].into_iter().all(is_installed) {
        println!("skipped: buildah or runc is not installed");
        return;
    }
    let mut bench = Bench::new();
    let buildah = Buildah::new(&bench);
    let base = bench.make_root();
    buildah.build("base", &bench.context(""), &base);
    bench.build("base", &base).unwrap();
    fill(&bench);
    for (number, steps) in DOCKERFILES.iter().enumerate() {
        let name = format!("image{number}");
        let dockerfile = format!("FROM base\n{steps}");
        buildah.build(&name, &bench.context(""), &dockerfile);
        bench.build(&name, &dockerfile).unwrap();
        let store = buildah.export(&name);
        let (ours, theirs) = (bench.files(&name), files_in(&store, &name));
        let (ours, theirs) = (comparable(ours), comparable(theirs));
        let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for path in paths {
            if !MOUNT_POINTS.contains(&path.as_str()) {
                assert_eq!(ours.get(path), theirs.get(path), "{path} of {dockerfile}");
            }
        }
        assert!(
            MOUNT_POINTS.iter().all(|path| !ours.contains_key(*path)),
            "{dockerfile}"
        );
        let (ours, theirs) = (bench.config(&name), config_in(&store, &name));
        for key in [
            "Env",
            "Cmd",
            "Entrypoint",
            "User",
            "WorkingDir",
            "ExposedPorts",
            "Volumes",
            "StopSignal",
        ] {
            assert_eq!(
                ours["config"][key], theirs["config"][key],
                "{key} of {dockerfile}"
            );
        }
        let mut labels = theirs["config"]["Labels"].clone();
        labels.as_object_mut().unwrap().remove("io.buildah.version");
        let own = ours["config"]["Labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        assert_eq!(serde_json::Value::Object(own), labels, "{dockerfile}");
        assert_eq!(ours["author"], theirs["author"]);
    }
    buildah.run(&["rmi", "--all", "--force"]);
}

pub fn fill(bench: &Bench) {
    for path in [
        "a.txt",
        "b.txt",
        "dir/x",
        "dir/sub/y",
        "tree/t/z",
        "links/real",
    ] {
        bench.file(path, path);
    }
    bench.link("links/link", "real");
    bench.link("links/dangling", "/nowhere");
    let dir = bench.context("");
    let dir = dir.to_str().unwrap();
    output("chmod", &["751", &format!("{dir}/dir/sub")]);
    output("chmod", &["711", &format!("{dir}/b.txt")]);
    output(
        "tar",
        &[
            "-C",
            dir,
            "--owner=7",
            "--group=8",
            "-cf",
            &format!("{dir}/tree.tar"),
            "tree",
        ],
    );
    output(
        "tar",
        &[
            "-C",
            dir,
            "--owner=7",
            "--group=8",
            "-czf",
            &format!("{dir}/tree.tgz"),
            "tree",
        ],
    );
}
