// SPDX-License-Identifier: Apache-2.0
//! Several stages, the cache, and equal bytes.

use corten_image::build::Cache;

use crate::support::Bench;

#[test]
fn copies_between_stages_and_skips_the_rest() {
    let mut bench = Bench::with_base();
    bench.file("f", "f");
    let dockerfile = "ARG FROM_HERE=one\n\
        FROM base AS One\nRUN echo 1 > /one\nENV E=1\nARG A=a\n\
        FROM base AS broken\nRUN exit 1\n\
        FROM $FROM_HERE AS two\nRUN echo $E$A > /two\nCOPY --chown=3 f /mine\n\
        FROM scratch\nCOPY --from=one /one /from-name\nCOPY --from=2 /two /mine /n/\nCOPY --from=base /etc/passwd /p\n";
    bench.build("image", dockerfile).unwrap();
    let files = bench.files("image");
    assert_eq!(files["from-name"].content, "1\n");
    assert_eq!(files["n/two"].content, "1a\n");
    assert_eq!(files["n/mine"].owner, (3, 3));
    assert!(files["p"].content.starts_with("root:"));
    for (target, present) in [("ONE", "one"), ("0", "one"), ("two", "two")] {
        bench.options.target = Some(target.into());
        bench.build("image", dockerfile).unwrap();
        assert!(bench.files("image").contains_key(present), "{target}");
    }
    for target in ["three", "9"] {
        bench.options.target = Some(target.into());
        assert_eq!(
            bench.fail(dockerfile),
            format!("Dockerfile: no stage is called {target:?}")
        );
    }
    let on_broken = format!("{dockerfile}FROM broken\n");
    for (dockerfile, target) in [(dockerfile, Some("broken".into())), (&on_broken, None)] {
        bench.options.target = target;
        let found = bench.fail(dockerfile);
        assert_eq!(found, "Dockerfile:7: RUN: exited with status 1");
    }
}

#[test]
fn cache_depends_on_content() {
    let mut bench = Bench::with_base();
    bench.file("f", "1");
    let dockerfile = "FROM base\nCOPY f /f\nRUN cat /f > /g\nENV X=1\nRUN echo $X\n";
    let first = bench.build("image", dockerfile).unwrap();
    assert_eq!(first.cached, 0);
    // Times are no content.
    bench.file("f", "1");
    let second = bench.build("image", dockerfile).unwrap();
    assert_eq!(second.cached, 3);
    assert_eq!(bench.image("image").layers.len(), 3);
    bench.file("f", "2");
    assert_eq!(bench.build("image", dockerfile).unwrap().cached, 0);
    assert_eq!(bench.files("image")["g"].content, "2");
    let changed = dockerfile.replace("X=1", "X=2");
    assert_eq!(bench.build("image", &changed).unwrap().cached, 2);
    bench.options.args.insert("Y".into(), "y".into());
    let with_arg = dockerfile.replace("ENV X=1", "ARG Y\nENV X=1");
    assert_eq!(bench.build("image", &with_arg).unwrap().cached, 2);
    bench.options.cache = Cache::Ignore;
    assert_eq!(bench.build("image", dockerfile).unwrap().cached, 0);
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let mut first = Bench::with_base();
    let mut second = Bench::with_base();
    let dockerfile = "FROM base\nWORKDIR /w/v\nCOPY d /etc/\nCOPY <<x /w/x\n1\nx\nRUN echo hi > /etc/new\nLABEL b=2 a=1\n";
    let mut digests = Vec::new();
    for bench in [&mut first, &mut second] {
        bench.options.source_date_epoch = Some("1700000000".into());
        bench.file("d/f", "f");
        bench.file("d/e/g", "g");
        let built = bench.build("image", dockerfile).unwrap();
        digests.push((built.id, built.manifest));
        let files = bench.files("image");
        let times: Vec<_> = ["w", "w/v", "w/x", "etc/f", "etc/new"]
            .map(|path| files[path].mtime)
            .into();
        assert!(times.iter().all(|time| *time <= 1_700_000_000), "{times:?}");
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let config = first.config("image");
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    // The base has its own time; all above it is equal.
    let tops = |bench: &Bench| {
        let image = bench.image("image");
        image.layers[1..]
            .iter()
            .map(|layer| layer.diff_id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(tops(&first), tops(&second));
}

#[test]
fn copy_alone_is_reproducible_without_an_epoch() {
    let mut digests = Vec::new();
    for _ in 0..2 {
        let mut bench = Bench::new();
        for path in ["d/f", "d/e/g"] {
            bench.file(path, path);
        }
        let dir = bench.context("d");
        crate::support::output(
            "find",
            &[
                dir.to_str().unwrap(),
                "-exec",
                "touch",
                "-d",
                "@1000000000",
                "{}",
                "+",
            ],
        );
        bench
            .build(
                "image",
                "FROM scratch\nCOPY d /a/b/\nCOPY d/f /a/c/f\nWORKDIR /a/w\n",
            )
            .unwrap();
        let image = bench.image("image");
        digests.push(
            image
                .layers
                .iter()
                .map(|layer| layer.digest.clone())
                .collect::<Vec<_>>(),
        );
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn triggers_run_in_the_next_build() {
    let mut bench = Bench::with_base();
    bench
        .build(
            "trigger",
            "FROM base\nONBUILD COPY f /f\nONBUILD RUN cat /f > /g\n",
        )
        .unwrap();
    assert_eq!(bench.config("trigger")["config"]["OnBuild"][0], "COPY f /f");
    bench.file("f", "f");
    bench
        .build("image", "FROM trigger\nRUN cat /g > /h\n")
        .unwrap();
    assert_eq!(bench.files("image")["h"].content, "f");
    assert!(bench.config("image")["config"]["OnBuild"].is_null());
    std::fs::remove_file(bench.context("f")).unwrap();
    let found = bench.fail("FROM trigger\n");
    assert!(
        found.starts_with("Dockerfile:1: ONBUILD COPY f /f: no source"),
        "{found}"
    );
}

#[test]
fn what_is_cached_needs_nothing_unpacked() {
    let mut bench = Bench::with_base();
    bench.file("f", "f");
    let dockerfile = "FROM base AS one\nRUN echo 1 > /one\n\
        FROM base\nCOPY f /f\nCOPY --from=one /one /\nWORKDIR /w\n\
        RUN --mount=from=one,source=one,target=/m --mount=source=f,target=/n cat /m /n > /o\n";
    bench.build("image", dockerfile).unwrap();
    let layers = bench.dir.join("store/layers");
    std::fs::remove_dir_all(&layers).unwrap();
    std::fs::create_dir(&layers).unwrap();
    bench.store = corten_image::Store::open(&bench.dir.join("store")).unwrap();
    // No runtime is looked for either.
    bench.options.runtime = Some("/nonexistent".into());
    assert_eq!(bench.build("image", dockerfile).unwrap().cached, 5);
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 0);
}

#[test]
fn what_a_build_unpacked_has_its_manifest() {
    let mut bench = Bench::with_base();
    let dockerfile = "FROM base\nRUN echo 1 > /f; ln /f /g; rm -r /etc/group; mkdir /d; chmod 2750 /d\n\
        COPY Dockerfile /d/\nCOPY --link Dockerfile /e/\nRUN true; rm -r /d; mkdir /d\n";
    bench.build("image", dockerfile).unwrap();
    let lease = bench.store.lease().unwrap();
    let layers = bench.image("image").layers;
    assert_eq!(layers.len(), 5);
    for layer in &layers {
        let dir = bench.store.layer_dir(&lease, &layer.chain_id).unwrap();
        assert_eq!(bench.store.damages(&dir.unwrap()).unwrap(), []);
    }
    let dir = bench.store.layer_dir(&lease, &layers[1].chain_id).unwrap();
    let dir = dir.unwrap();
    std::fs::write(dir.path().join("f"), "2\n").unwrap();
    assert!(!bench.store.damages(&dir).unwrap().is_empty());
}
