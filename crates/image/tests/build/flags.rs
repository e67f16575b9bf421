// SPDX-License-Identifier: Apache-2.0
//! The flags of COPY and ADD: --link, --parents, --exclude, --unpack, --chown of archives.

use crate::support::{Bench, output};

/// The paths of the topmost layer.
fn top(bench: &mut Bench, steps: &str) -> Vec<String> {
    bench
        .build("image", &format!("FROM base\n{steps}\n"))
        .unwrap_or_else(|failure| panic!("{steps}: {}", failure.error));
    bench.top("image").into_keys().collect()
}

fn fill(bench: &Bench) {
    for path in [
        "a.txt",
        "b.md",
        "x/a.txt",
        "x/b.md",
        "x/deep/c.txt",
        "y/a.txt",
        "y/z/d.txt",
    ] {
        bench.file(path, path);
    }
    let dir = bench.context("");
    let dir = dir.to_str().unwrap();
    output("chmod", &["750", &format!("{dir}/x/deep")]);
    let tar = ["-C", dir, "--owner=7", "--group=8", "--mode=u=rwX,go="];
    let to = format!("{dir}/t.tar");
    output("tar", &[&tar[..], &["-cf", &to, "x"]].concat());
}

#[test]
fn excludes_and_parents() {
    let mut bench = Bench::with_base();
    fill(&bench);
    for (steps, expected) in [
        ("COPY --exclude=*.md --exclude=deep x /n/", "n n/a.txt"),
        ("COPY --exclude=**/*.txt x /n/", "n n/b.md n/deep"),
        (
            "COPY --exclude=* --exclude=!deep x /n/",
            "n n/deep n/deep/c.txt",
        ),
        ("COPY --exclude=*.txt *.txt *.md /n/", "n n/b.md"),
        (
            "COPY --parents x/a.txt y/a.txt /n/",
            "n n/x n/x/a.txt n/y n/y/a.txt",
        ),
        (
            "COPY --parents ./x/./deep/c.txt /n/",
            "n n/deep n/deep/c.txt",
        ),
        ("COPY --parents y/./z /n/", "n n/z n/z/d.txt"),
        ("COPY --parents **/*.md /n/", "n n/b.md n/x n/x/b.md"),
        (
            "COPY --parents --exclude=**/deep */*.txt x /n",
            "n n/x n/x/a.txt n/x/b.md n/y n/y/a.txt",
        ),
        ("COPY --parents --chown=3:4 x/a.txt /n/", "n n/x n/x/a.txt"),
        ("ADD --exclude=deep x /n/", "n n/a.txt n/b.md"),
        ("ADD --unpack=false t.tar /n/", "n n/t.tar"),
        (
            "ADD --unpack t.tar a.txt /n/",
            "n n/a.txt n/x n/x/a.txt n/x/b.md n/x/deep n/x/deep/c.txt",
        ),
    ] {
        // A destination without a slash is for one source.
        let steps = steps.replace(" x /n", " x /n/").replace("//", "/");
        assert_eq!(top(&mut bench, &steps).join(" "), expected, "{steps}");
    }
    let files = bench.top("image");
    assert_eq!(
        (files["n/x/a.txt"].owner, files["n/x"].mode),
        ((7, 8), 0o700)
    );
    top(&mut bench, "ADD --chown=3:4 --chmod=640 t.tar /n/");
    let files = bench.top("image");
    for path in ["n/x", "n/x/a.txt", "n/x/deep/c.txt"] {
        assert_eq!(
            (files[path].owner, files[path].mode),
            ((3, 4), 0o640),
            "{path}"
        );
    }
    // Parents look as in the source.
    top(&mut bench, "COPY --parents x/deep/c.txt /n/");
    assert_eq!(bench.top("image")["n/x/deep"].mode, 0o750);
    bench
        .build("image", "FROM base AS s\nRUN mkdir -p /p/q && echo f > /p/q/f && chown 9:9 /p/q\nFROM base\nCOPY --from=s --parents /p/q/f /n/\n")
        .unwrap();
    let files = bench.top("image");
    assert_eq!(
        (files["n/p/q"].owner, files["n/p/q/f"].content.as_str()),
        ((9, 9), "f\n")
    );
    // .dockerignore counts as well.
    bench.file(".dockerignore", "x/a.txt\n");
    let found = bench.fail("FROM base\nCOPY --parents x/a.txt /n/\n");
    assert_eq!(found, "Dockerfile:2: COPY: no source \"x/a.txt\"");
}

#[test]
fn a_linked_layer_depends_on_its_content_alone() {
    let mut bench = Bench::with_base();
    fill(&bench);
    let steps = "COPY --link --chown=user a.txt /tmp/in/\nADD --link b.md /l/b.md\n";
    bench
        .build(
            "one",
            &format!("FROM base\nRUN mkdir -m 1777 /tmp && ln -s tmp /l\n{steps}"),
        )
        .unwrap();
    let built = bench
        .build(
            "two",
            &format!("FROM base\nRUN echo other > /other\n{steps}RUN ls -d /l /tmp/in > /seen\n"),
        )
        .unwrap();
    // Another base, the same layers.
    assert_eq!(built.cached, 2);
    let (one, two) = (bench.image("one"), bench.image("two"));
    assert_eq!(one.layers[2].digest, two.layers[2].digest);
    assert_eq!(one.layers[3].digest, two.layers[3].digest);
    assert_ne!(one.layers[2].chain_id, two.layers[2].chain_id);
    assert_eq!(bench.files("two")["seen"].content, "/l\n/tmp/in\n");
    let files = bench.files("one");
    assert_eq!(files["tmp/in/a.txt"].owner, (1000, 1001));
    // Directories on the way are not the layer's: /tmp stays what it was, and a link leads where it led.
    assert_eq!(files["tmp"].mode, 0o1777);
    assert_eq!(files["l/b.md"].content, "b.md");
    let top: Vec<_> = bench.top("one").into_keys().collect();
    assert_eq!(top, ["l/b.md"]);
    // What comes after it sees it.
    bench
        .build(
            "three",
            "FROM one\nRUN stat -c '%a %F' /tmp /l > /seen; cat /tmp/b.md >> /seen\n",
        )
        .unwrap();
    assert_eq!(
        bench.files("three")["seen"].content,
        "1777 directory\n777 symbolic link\nb.md"
    );
    bench.file("a.txt", "changed");
    let again = bench
        .build(
            "two",
            &format!("FROM base\nRUN echo other > /other\n{steps}"),
        )
        .unwrap();
    assert_eq!(again.cached, 2);
    let from = "FROM base AS s\nRUN echo 1 > /made\nFROM base\nCOPY --link --from=s /made /n/\n";
    bench.build("image", from).unwrap();
    assert_eq!(bench.files("image")["n/made"].content, "1\n");
    assert_eq!(bench.build("image", from).unwrap().cached, 2);
}
