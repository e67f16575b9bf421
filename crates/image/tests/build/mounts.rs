// SPDX-License-Identifier: Apache-2.0
//! `RUN --mount`: what the command sees, and that nothing of it is in a layer, a key or a log.

use std::os::unix::fs::MetadataExt;

use corten_image::build::{Secret, Surroundings};
use corten_image::options;
use corten_image::store::gc::{BuildCache, Collected};

use crate::support::Bench;

/// The content of /out after a RUN with `mounts` of `command`.
fn out(bench: &mut Bench, mounts: &str, command: &str) -> String {
    let dockerfile = format!(
        "FROM base AS other\nRUN mkdir -p /d/e && echo other > /d/f && chown -R 5:6 /d && ln -s d /l\n\
         FROM base\nWORKDIR /w\nRUN {mounts} {command}\n"
    );
    bench.build("image", &dockerfile).unwrap();
    bench
        .files("image")
        .get("out")
        .map(|seen| seen.content.clone())
        .unwrap_or_default()
}

#[test]
fn binds() {
    let mut bench = Bench::with_base();
    bench.file("a/b", "content");
    bench.file("hidden", "hidden");
    bench.file("x,y", "comma");
    bench.file(".dockerignore", "hidden\n");
    std::os::unix::fs::chown(bench.context("a/b"), Some(7), Some(8)).unwrap();
    for (mounts, command, expected) in [
        ("--mount=source=a,target=/m", "cat /m/b > /out", "content"),
        (
            "--mount=type=bind,src=a/b,dst=/m/n",
            "cat /m/n > /out",
            "content",
        ),
        (
            "--mount=source=a,target=/m",
            "stat -c %u:%g /m/b > /out",
            "0:0\n",
        ),
        ("--mount=target=.", "ls /w > /out", "Dockerfile\na\nx,y\n"),
        ("--mount=\"source=x,y\",target=/m", "cat /m > /out", "comma"),
        (
            "--mount=source=a,target=/m",
            "touch /m/c 2>/dev/null || echo ro > /out",
            "ro\n",
        ),
        (
            "--mount=source=a,target=/m,rw",
            "echo x >> /m/b && cat /m/b > /out",
            "contentx\n",
        ),
        (
            "--mount=from=other,source=/d,target=/m",
            "cat /m/f > /out; stat -c %u:%g /m/f >> /out; touch /m/x 2>/dev/null || echo ro >> /out",
            "other\n5:6\nro\n",
        ),
        (
            "--mount=from=other,source=l/f,target=/m",
            "cat /m > /out",
            "other\n",
        ),
        (
            "--mount=from=0,target=/m,rw",
            "rm -r /m/d && test ! -e /m/d && echo gone > /out",
            "gone\n",
        ),
        (
            "--mount=from=base,source=etc/passwd,target=m",
            "head -c4 /w/m > /out",
            "root",
        ),
        (
            "--mount=source=a,target=/m --mount=type=tmpfs,target=/m/t --mount=type=bind,source=a/b,target=/m/new",
            "touch /m/t/x && ls /m > /out",
            "b\nnew\nt\n",
        ),
    ] {
        assert_eq!(out(&mut bench, mounts, command), expected, "{mounts}");
    }
    // Writing to a bind mount changed neither the context nor the other stage.
    assert_eq!(std::fs::read(bench.context("a/b")).unwrap(), b"content");
    let found = bench.fail("FROM base\nRUN --mount=source=hidden,target=/m true\n");
    assert_eq!(
        found,
        "Dockerfile:2: RUN: --mount: no source \"hidden\": .dockerignore leaves it out"
    );
}

#[test]
fn mount_points_are_in_no_layer() {
    let mut bench = Bench::with_base();
    bench.file("f", "f");
    bench
        .build(
            "holes",
            "FROM base\nRUN mkdir -p /gone/x /kept/y && chmod 1777 /kept && ln -s kept /link\nRUN rm -r /gone && rm -r /kept/y\n",
        )
        .unwrap();
    let dockerfile = "FROM holes\nRUN \
        --mount=type=tmpfs,target=/new/deep/dir --mount=source=f,target=/new/file \
        --mount=type=cache,target=/gone/x --mount=type=tmpfs,target=/kept/y \
        --mount=type=tmpfs,target=/link/z --mount=type=tmpfs,target=/dev/t \
        --mount=type=secret,id=s --mount=type=tmpfs,target=/etc \
        stat -c %a /kept > /out && test -d /dev/t && test -d /kept/z && touch /new/deep/dir/x /gone/x/y /etc/y\n";
    bench.build("image", dockerfile).unwrap();
    let top: Vec<_> = bench.top("image").into_keys().collect();
    assert_eq!(top, ["out"]);
    assert_eq!(bench.files("image")["out"].content, "1777\n");
    // What is written beside a mount point stays, with the directory that it is in.
    let dockerfile = "FROM holes\nRUN --mount=type=tmpfs,target=/gone/x touch /gone/beside\n";
    bench.build("image", dockerfile).unwrap();
    let top: Vec<_> = bench.top("image").into_keys().collect();
    assert_eq!(top, ["gone", "gone/beside"]);
    let found = bench.fail("FROM base\nRUN --mount=type=tmpfs,target=/etc/passwd true\n");
    assert_eq!(
        found,
        "Dockerfile:2: RUN: /etc/passwd is no directory in the image"
    );
    let found =
        bench.fail("FROM base\nRUN ln -s nowhere /l\nRUN --mount=type=tmpfs,target=/l/x true\n");
    assert_eq!(
        found,
        "Dockerfile:3: RUN: mount on /l/x: /l is a link that leads nowhere"
    );
}

#[test]
fn caches_outlive_the_build() {
    let mut bench = Bench::with_base();
    let count = "RUN --mount=type=cache,target=/c,MORE echo x >> /c/n; wc -l < /c/n > /out #";
    for (more, number, expected) in [
        ("id=one", 1, "1\n"),
        ("id=one", 2, "2\n"),
        ("id=one,sharing=locked", 3, "3\n"),
        ("id=one,sharing=private", 4, "4\n"),
        ("id=two", 5, "1\n"),
        ("id=../../../one", 6, "1\n"),
        ("id=/c", 7, "1\n"),
        ("sharing=shared", 8, "2\n"),
        // Another look is another cache.
        ("id=one,mode=0700,uid=5", 9, "1\n"),
    ] {
        let step = count.replace("MORE", more);
        bench
            .build("image", &format!("FROM base\n{step} {number}\n"))
            .unwrap();
        let found = bench.files("image")["out"].content.clone();
        assert_eq!(found, expected, "{more}");
    }
    for (options, expected) in [
        ("mode=0700,uid=5,gid=6", "700 5:6\n"),
        ("id=plain", "755 0:0\n"),
    ] {
        let step =
            format!("RUN --mount=type=cache,target=/c,{options} stat -c '%a %u:%g' /c > /out");
        bench
            .build("image", &format!("FROM base\n{step}\n"))
            .unwrap();
        assert_eq!(bench.files("image")["out"].content, expected);
    }
    // What a cache holds at first.
    bench
        .build("image", "FROM base AS a\nRUN mkdir /d && echo first > /d/f\nFROM base\nRUN --mount=type=cache,target=/c,from=a,source=d cat /c/f > /out && echo more >> /c/f\n")
        .unwrap();
    assert_eq!(bench.files("image")["out"].content, "first\n");
    let dir = bench.dir.join("store/caches");
    assert!(std::fs::read_dir(&dir).unwrap().count() > 5);
    for entry in std::fs::read_dir(&dir).unwrap() {
        assert!(
            entry
                .unwrap()
                .path()
                .join("tree")
                .metadata()
                .unwrap()
                .is_dir()
        );
    }
    for (how, left) in [(BuildCache::Keep, true), (BuildCache::Drop, false)] {
        let collected = bench.store.collect(how).unwrap();
        assert!(matches!(collected, Collected::Removed { .. }));
        assert_eq!(std::fs::read_dir(&dir).unwrap().next().is_some(), left);
    }
}

#[test]
fn secrets_leave_no_trace() {
    const VALUE: &str = "c0rten-s3cret-v4lue";
    let mut bench = Bench::with_base();
    let path = bench.dir.join("secret-file");
    std::fs::write(&path, VALUE).unwrap();
    for (id, secret) in [
        ("file", Secret::File(path.clone())),
        ("env", Secret::Value(VALUE.into())),
    ] {
        bench.options.secrets.insert(id.into(), secret);
    }
    let length = VALUE.len();
    for (mounts, command) in [
        ("--mount=type=secret,id=file", "cat /run/secrets/file"),
        ("--mount=type=secret,id=env", "cat /run/secrets/env"),
        (
            "--mount=type=secret,source=env,target=/root/.token",
            "cat /root/.token",
        ),
        ("--mount=type=secret,target=/x/env", "cat /x/env"),
        (
            "--mount=type=secret,id=env,env=TOKEN",
            "test ! -e /run/secrets/env; echo -n \"$TOKEN\"",
        ),
        (
            "--mount=type=secret,id=env,env=TOKEN,target=t",
            "test -n \"$TOKEN\"; cat /w/t",
        ),
    ] {
        let command = format!("set -e; ({command}) | wc -c > /out");
        assert_eq!(
            out(&mut bench, mounts, &command),
            format!("{length}\n"),
            "{mounts}"
        );
    }
    for (options, expected) in [
        ("id=file", "400 0:0\n"),
        ("id=file,mode=0440,uid=1000,gid=1001", "440 1000:1001\n"),
    ] {
        let mount = format!("--mount=type=secret,target=/s,{options}");
        let found = out(&mut bench, &mount, "stat -c '%a %u:%g' /s > /out");
        assert_eq!(found, expected);
    }
    let optional = "--mount=type=secret,id=none --mount=type=secret,id=none2,env=N";
    assert_eq!(
        out(
            &mut bench,
            optional,
            "ls /run 2>&1 | wc -l > /out; echo \"$N\" >> /out"
        ),
        "1\n\n"
    );
    let found = bench.fail("FROM base\nRUN --mount=type=secret,id=none,required true\n");
    assert_eq!(
        found,
        "Dockerfile:2: RUN: secret none was not given; give it with --secret id=none"
    );
    let found = bench.fail("FROM base\nRUN --mount=type=secret,id=env,env=TOKEN exit 3\n");
    assert!(!found.contains(VALUE));
    // Another value is no other key.
    let dockerfile =
        "FROM base\nRUN --mount=type=secret,id=env,env=TOKEN,required true; echo > /made\n";
    bench.build("image", dockerfile).unwrap();
    bench
        .options
        .secrets
        .insert("env".into(), Secret::Value("other".into()));
    assert_eq!(bench.build("image", dockerfile).unwrap().cached, 1);
    std::fs::remove_file(path).unwrap();
    let traces = crate::support::output(
        "sh",
        &[
            "-c",
            &format!("grep -rl {VALUE} {} || true", bench.dir.display()),
        ],
    );
    assert_eq!(traces, "");
    for layer in &bench.image("image").layers {
        assert!(layer.size > 0);
    }
}

#[test]
fn tmpfs_and_surroundings() {
    let mut bench = Bench::with_base();
    bench.options.surroundings = Surroundings {
        hosts: vec![options::host("away:10.9.8.7").unwrap()],
        shm_size: Some(1 << 20),
        ulimits: options::ulimits(&["nofile=77:88".to_owned()]).unwrap(),
        ..Surroundings::default()
    };
    for (mounts, command, expected) in [
        (
            "--mount=type=tmpfs,target=/t,size=64k",
            "stat -c %a /t > /out; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2 >> /out",
            "1777\n64\n",
        ),
        (
            "",
            "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 > /out",
            "1024\n",
        ),
        ("", "grep -c '10.9.8.7 away' /etc/hosts > /out", "1\n"),
        ("", "ulimit -n > /out", "77\n"),
    ] {
        assert_eq!(out(&mut bench, mounts, command), expected, "{command}");
    }
}

#[test]
fn keys_depend_on_what_is_bound() {
    let mut bench = Bench::with_base();
    bench.file("used/f", "1");
    bench.file("unused", "1");
    let dockerfile = "FROM base AS a\nRUN echo 1 > /used; echo 1 > /unused\nFROM base\n\
        RUN --mount=source=used,target=/m cat /m/f > /x\n\
        RUN --mount=from=a,source=used,target=/m cat /m > /y\n";
    bench.build("image", dockerfile).unwrap();
    bench.file("unused", "2");
    assert_eq!(bench.build("image", dockerfile).unwrap().cached, 3);
    bench.file("used/f", "2");
    // The last one is on top of what changed.
    assert_eq!(bench.build("image", dockerfile).unwrap().cached, 1);
    assert_eq!(bench.files("image")["x"].content, "2");
    // Other content: the same within the same second would be the same layer.
    let target = dockerfile.replace("/m cat /m/f", "/n cat /n/f /n/f");
    assert_eq!(bench.build("image", &target).unwrap().cached, 1);
}

#[test]
fn a_private_cache_in_use_is_another_directory() {
    let mut bench = Bench::with_base();
    let user = |name: &str, sharing: &str| {
        format!(
            "FROM base AS {name}\nRUN --mount=type=cache,id=i,target=/c,sharing={sharing} echo {name} >> /c/n; sleep 1; cat /c/n > /{name}\n"
        )
    };
    for (sharing, together) in [("private", 2), ("locked", 3), ("shared", 4)] {
        let dockerfile = format!(
            "{}{}FROM base\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
            user("one", sharing),
            user("two", sharing)
        );
        bench.options.jobs = Some(2);
        bench.build("image", &dockerfile).unwrap();
        let files = bench.files("image");
        let lines = |name: &str| files[name].content.lines().count();
        let found = lines("one") + lines("two");
        assert_eq!(found, together, "{sharing}: {files:?}");
        bench.store.collect(BuildCache::Drop).unwrap();
        bench
            .build("base", &format!("FROM base\nLABEL s={sharing}\n"))
            .unwrap();
    }
    assert!(bench.dir.metadata().unwrap().is_dir() && bench.dir.metadata().unwrap().uid() == 0);
}
