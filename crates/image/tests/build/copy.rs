// SPDX-License-Identifier: Apache-2.0
//! COPY and ADD: where files go, what they look like there, and what can't be reached.

use std::sync::atomic::{AtomicBool, Ordering};

use corten_image::build::Cache;
use rustix::fs::RenameFlags;

use crate::support::{Bench, Seen, Sentinel, output};

fn paths(bench: &Bench, name: &str) -> Vec<String> {
    bench.files(name).into_keys().collect()
}

fn file(content: &str, mode: u32, owner: (u32, u32)) -> (&str, u32, (u32, u32)) {
    (content, mode, owner)
}

fn look(seen: &Seen) -> (&str, u32, (u32, u32)) {
    (&seen.content, seen.mode, seen.owner)
}

#[test]
fn destinations() {
    let mut bench = Bench::new();
    for path in ["a.txt", "b.txt", "c.md", "dir/x", "dir/sub/y", "we[i]rd"] {
        bench.file(path, path);
    }
    for (instruction, expected) in [
        ("COPY a.txt /f", &["f"][..]),
        ("COPY a.txt /d/", &["d", "d/a.txt"]),
        ("COPY a.txt d/e/f", &["d", "d/e", "d/e/f"]),
        ("COPY a.txt b.txt /d/", &["d", "d/a.txt", "d/b.txt"]),
        ("COPY *.txt /d/", &["d", "d/a.txt", "d/b.txt"]),
        ("COPY ?.md /", &["c.md"]),
        ("COPY dir /", &["sub", "sub/y", "x"]),
        ("COPY dir /d", &["d", "d/sub", "d/sub/y", "d/x"]),
        ("COPY dir/ /d/", &["d", "d/sub", "d/sub/y", "d/x"]),
        ("COPY d*/s* /d/", &["d", "d/y"]),
        ("COPY ./a.txt ./dir/../b.txt .", &["a.txt", "b.txt"]),
        ("COPY /a.txt /../../f", &["f"]),
        ("COPY [\"a.txt\", \"/a b\"]", &["a b"]),
        ("COPY we[[]i]rd /", &["we[i]rd"]),
        ("WORKDIR /w/v\nCOPY a.txt .", &["w", "w/v", "w/v/a.txt"]),
        ("ENV D=/e\nARG S=a\nCOPY $S.txt ${D:-x}/", &["e", "e/a.txt"]),
        (
            "COPY <<one <<two /d/\n1\none\n2\ntwo",
            &["d", "d/one", "d/two"],
        ),
    ] {
        let dockerfile = format!("FROM scratch\n{instruction}\n");
        bench.build("image", &dockerfile).unwrap();
        assert_eq!(paths(&bench, "image"), expected, "{instruction}");
    }
}

#[test]
fn owners_modes_and_times() {
    let mut bench = Bench::with_base();
    bench.file("f", "text");
    output("chown", &["77:88", bench.context("f").to_str().unwrap()]);
    output("chmod", &["4751", bench.context("f").to_str().unwrap()]);
    output(
        "touch",
        &["-d", "@1000000000", bench.context("f").to_str().unwrap()],
    );
    for (flags, owner, mode) in [
        ("", (0, 0), 0o4751),
        ("--chown=5", (5, 5), 0o4751),
        ("--chown=5:6", (5, 6), 0o4751),
        ("--chown=user", (1000, 1001), 0o4751),
        ("--chown=user:extra", (1000, 1002), 0o4751),
        ("--chown=0:extra --chmod=640", (0, 1002), 0o640),
        ("--chmod=0700", (0, 0), 0o700),
    ] {
        bench
            .build("image", &format!("FROM base\nCOPY {flags} f /new/f\n"))
            .unwrap();
        let top = bench.top("image");
        assert_eq!(look(&top["new/f"]), file("text", mode, owner), "{flags}");
        assert_eq!(top["new/f"].mtime, 1_000_000_000);
        assert_eq!(
            (top["new"].mode, top["new"].owner),
            (0o755, owner),
            "{flags}"
        );
    }
}

#[test]
fn special_files() {
    let mut bench = Bench::new();
    bench.file("d/one", "1");
    bench.link("d/link", "/anywhere/../..");
    std::fs::hard_link(bench.context("d/one"), bench.context("d/two")).unwrap();
    output("mkfifo", &[bench.context("d/fifo").to_str().unwrap()]);
    bench.build("image", "FROM scratch\nCOPY d /\n").unwrap();
    let files = bench.files("image");
    let kinds: Vec<_> = files
        .iter()
        .map(|(path, seen)| (path.as_str(), seen.kind))
        .collect();
    let expected = [
        ("fifo", "fifo"),
        ("link", "link"),
        ("one", "file"),
        ("two", "hardlink"),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(files["link"].content, "/anywhere/../..");
    let _socket = std::os::unix::net::UnixListener::bind(bench.context("d/socket")).unwrap();
    assert_eq!(
        bench.fail("FROM scratch\nCOPY d /\n"),
        "Dockerfile:2: COPY: read \"d\": \"d/socket\" is a socket, which no image can hold"
    );
}

#[test]
fn merges_with_what_is_there() {
    let mut bench = Bench::new();
    bench.file("one/etc/a", "a");
    bench.file("one/usr/lib/b", "b");
    bench.link("one/lib", "usr/lib");
    bench.file("two/etc/a", "new");
    bench.file("two/x", "x");
    bench
        .build(
            "image",
            "FROM scratch\nCOPY one /\nCOPY two /\nCOPY two/x /lib/x\n",
        )
        .unwrap();
    let files = bench.files("image");
    assert_eq!(files["etc/a"].content, "new");
    // Through the link, as the stage itself would see it.
    assert_eq!(files["usr/lib/x"].content, "x");
    assert_eq!(files["lib"].kind, "link");
    bench.file("three/lib/c", "c");
    bench.file("four/etc", "a file");
    for (source, expected) in [
        (
            "three",
            "copy \"three/lib\" to /lib: /lib is there and no directory (perhaps a link to one)",
        ),
        (
            "four",
            "copy \"four/etc\" to /etc: \"etc\" is a directory there",
        ),
    ] {
        let found = bench.fail(&format!("FROM image\nCOPY {source} /\n"));
        assert_eq!(found, format!("Dockerfile:2: COPY: {expected}"));
    }
}

#[test]
fn dockerignore() {
    let mut bench = Bench::new();
    for path in [
        "a",
        "b.log",
        "keep.log",
        "dir/x",
        "dir/y",
        "other/z",
        "other/deep/w",
    ] {
        bench.file(path, path);
    }
    bench.file(
        ".dockerignore",
        "Dockerfile\n.dockerignore\n*.log\n!keep.log\ndir\n!dir/y\nother\n",
    );
    bench.link("secret", "b.log");
    bench.build("image", "FROM scratch\nCOPY . /\n").unwrap();
    assert_eq!(
        paths(&bench, "image"),
        ["a", "dir", "dir/y", "keep.log", "secret"]
    );
    for (source, expected) in [
        ("b.log", "no source \"b.log\": .dockerignore leaves it out"),
        ("other", "no source \"other\": .dockerignore leaves it out"),
        (
            "secret",
            "no source \"secret\": .dockerignore leaves it out",
        ),
        ("nothing", "no source \"nothing\""),
        ("*.none", "no source \"*.none\""),
    ] {
        let found = bench.fail(&format!("FROM scratch\nCOPY {source} /x\n"));
        assert_eq!(found, format!("Dockerfile:2: COPY: {expected}"));
    }
    // Podman's name before docker's.
    bench.file(".containerignore", "*\n!a\n");
    bench.build("image", "FROM scratch\nCOPY . /\n").unwrap();
    assert_eq!(paths(&bench, "image"), ["a"]);
    // The Dockerfile's own list comes first.
    bench.file("Dockerfile.dockerignore", "*\n!b.log\n");
    bench.build("image", "FROM scratch\nCOPY . /\n").unwrap();
    assert_eq!(paths(&bench, "image"), ["b.log"]);
    bench.file("Dockerfile.dockerignore", "a\n[\n");
    let found = bench.fail("FROM scratch\n");
    assert_eq!(
        found,
        "Dockerfile.dockerignore: line 2: pattern \"[\" is malformed"
    );
}

#[test]
fn nothing_outside_the_context_is_reached() {
    let mut bench = Bench::new();
    let sentinel = Sentinel::new(&bench);
    bench.link("absolute", sentinel.path());
    bench.link("relative", "../sentinel");
    bench.link("proc", "/proc/self/root");
    bench.file("real/x", "x");
    bench.link("real/up", "../../sentinel/secret");
    for (source, expected) in [
        (
            "../sentinel/secret",
            "\"../sentinel/secret\" leads out of the tree",
        ),
        (
            "real/../../sentinel",
            "\"real/../../sentinel\" leads out of the tree",
        ),
        ("absolute", "\"absolute\" leads out of the build context"),
        (
            "absolute/secret",
            "\"absolute/secret\" leads out of the build context",
        ),
        ("relative", "\"relative\" leads out of the build context"),
        ("relative/s*", "\"relative\" leads out of the build context"),
        ("real/up", "\"real/up\" leads out of the build context"),
        ("proc", "\"proc\" leads out of the build context"),
    ] {
        for verb in ["COPY", "ADD"] {
            let found = bench.fail(&format!("FROM scratch\n{verb} {source} /x\n"));
            assert_eq!(found, format!("Dockerfile:2: {verb}: {expected}"));
        }
    }
    // A link within a directory is a link, wherever it leads.
    bench.build("image", "FROM scratch\nCOPY real /\n").unwrap();
    assert_eq!(bench.files("image")["up"].kind, "link");
    sentinel.assert_same();
}

#[test]
fn nothing_outside_a_stage_is_reached_or_written() {
    let mut bench = Bench::new();
    let sentinel = Sentinel::new(&bench);
    bench.file("x", "x");
    bench.file("in/secret", "inside");
    bench.link("in/abs", sentinel.path());
    bench.link(
        "in/up",
        &format!("../../../../../../../..{}", sentinel.path()),
    );
    bench.link("in/root", "/");
    let stage = "FROM scratch AS s\nCOPY in /\n";
    // As the stage's own processes: its root is the root.
    bench
        .build(
            "image",
            &format!("{stage}FROM scratch\nCOPY --from=s /root/secret /x\n"),
        )
        .unwrap();
    assert_eq!(bench.files("image")["x"].content, "inside");
    for source in ["abs/secret", "up/secret"] {
        let found = bench.fail(&format!(
            "{stage}FROM scratch\nCOPY --from=s /{source} /x\n"
        ));
        assert_eq!(
            found,
            format!("Dockerfile:4: COPY: no source \"/{source}\"")
        );
    }
    // The links lead to nothing in the stage, and nothing is made behind them.
    for dest in ["/abs/new", "/up/new"] {
        let found = bench.fail(&format!("{stage}COPY x {dest}\n"));
        assert!(found.starts_with("Dockerfile:3: COPY: "), "{found}");
    }
    bench
        .build("image", &format!("{stage}COPY x /root/new\nCOPY x /abs\n"))
        .unwrap();
    let files = bench.files("image");
    assert_eq!((files["new"].kind, files["abs"].kind), ("file", "file"));
    sentinel.assert_same();
}

#[test]
fn add_unpacks_archives() {
    let mut bench = Bench::new();
    bench.file("tree/a", "a");
    bench.file("tree/b/c", "c");
    let dir = bench.context("");
    let dir = dir.to_str().unwrap();
    output(
        "tar",
        &["-C", dir, "-cf", &format!("{dir}/plain.tar"), "tree"],
    );
    output(
        "tar",
        &["-C", dir, "-czf", &format!("{dir}/small.tgz"), "tree"],
    );
    output(
        "tar",
        &["-C", dir, "-cJf", &format!("{dir}/x.tar.xz"), "tree"],
    );
    output("sh", &["-c", &format!("echo text | gzip > {dir}/text.gz")]);
    for archive in ["plain.tar", "small.tgz"] {
        bench
            .build("image", &format!("FROM scratch\nADD {archive} /d/\n"))
            .unwrap();
        let expected = ["d", "d/tree", "d/tree/a", "d/tree/b", "d/tree/b/c"];
        let found: Vec<_> = bench.store_paths("image");
        assert_eq!(found, expected, "{archive}");
        bench
            .build("image", &format!("FROM scratch\nCOPY {archive} /d/\n"))
            .unwrap();
        assert_eq!(
            paths(&bench, "image"),
            ["d".to_owned(), format!("d/{archive}")]
        );
    }
    bench
        .build("image", "FROM scratch\nADD text.gz /d/\n")
        .unwrap();
    assert_eq!(paths(&bench, "image"), ["d", "d/text.gz"]);
    let found = bench.fail("FROM scratch\nADD x.tar.xz /\n");
    assert!(
        found.contains("compressed by xz or bzip2 can't be unpacked yet"),
        "{found}"
    );
    // No deletion of a `b` elsewhere, but a name that no layer can hold.
    bench.file("tree/.wh.b", "no whiteout");
    output(
        "tar",
        &["-C", dir, "-cf", &format!("{dir}/plain.tar"), "tree"],
    );
    let found = bench.fail("FROM scratch\nADD plain.tar /\n");
    assert!(
        found.ends_with("in a layer, a name with .wh. means a deletion"),
        "{found}"
    );
}

#[test]
fn add_keeps_archives_inside() {
    let mut bench = Bench::new();
    let sentinel = Sentinel::new(&bench);
    let dir = bench.context("");
    let dir = dir.to_str().unwrap();
    bench.file("f", "f");
    bench.link("out", sentinel.path());
    output(
        "tar",
        &[
            "-C",
            dir,
            "-cf",
            &format!("{dir}/a.tar"),
            "--transform",
            "s,^f,../../f,",
            "f",
        ],
    );
    output("tar", &["-C", dir, "-cPf", &format!("{dir}/b.tar"), "out"]);
    output(
        "tar",
        &[
            "-C",
            dir,
            "-rPf",
            &format!("{dir}/b.tar"),
            "--transform",
            "s,^f,out/new,",
            "f",
        ],
    );
    for archive in ["a.tar", "b.tar"] {
        // Refused, or put below the destination: never outside.
        let built = bench.build("image", &format!("FROM scratch\nADD {archive} /d/\n"));
        if built.is_ok() {
            let files = bench.store_paths("image");
            assert!(
                files
                    .iter()
                    .all(|path| path == "d" || path.starts_with("d/")),
                "{files:?}"
            );
        }
        sentinel.assert_same();
    }
}

/// Somebody swaps a directory of the context with a link out of it, over and over: what is copied is what was inside,
/// or the build fails.
#[test]
fn a_context_that_changes_meanwhile() {
    let mut bench = Bench::new();
    let sentinel = Sentinel::new(&bench);
    bench.file("dir/secret", "inside");
    bench.link("swap", sentinel.path());
    let context = corten_sys::fs::open_dir(&bench.context("")).unwrap();
    let stop = AtomicBool::new(false);
    let mut built = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let exchange = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&context, "dir", &context, "swap", exchange).unwrap();
            }
        });
        bench.options.cache = Cache::Ignore;
        for source in ["dir/secret", "dir", "."].repeat(30) {
            if bench
                .build("image", &format!("FROM scratch\nCOPY {source} /x/\n"))
                .is_ok()
            {
                built += 1;
                let files = bench.files("image");
                assert!(
                    files.values().all(|seen| seen.content != "secret"),
                    "{files:?}"
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(built > 0);
    sentinel.assert_same();
}
