// SPDX-License-Identifier: Apache-2.0
//! What is refused, and in which words.

use corten_image::build::Source;

use crate::support::Bench;

#[test]
fn dockerfiles() {
    let mut bench = Bench::new();
    bench.file("f", "f");
    for (dockerfile, expected) in [
        ("", "Dockerfile:0: expected at least one FROM instruction"),
        (
            "FROM scratch\nBOGUS",
            "Dockerfile:2: unknown instruction 'BOGUS'",
        ),
        (
            "FROM nothing",
            "Dockerfile:1: FROM nothing: image nothing is not in the store",
        ),
        ("FROM $x", "Dockerfile:1: FROM $x: the base name is empty"),
        (
            "FROM ${x?given}",
            "Dockerfile:1: FROM ${x?given}: \"${x?given}\": x: given",
        ),
        ("ARG a=${b?no}\nFROM scratch", "Dockerfile:1: ARG: b: no"),
        (
            "FROM --platform=plan9 scratch",
            "Dockerfile:1: FROM scratch: --platform=plan9 is no platform: write linux/arm64",
        ),
        (
            "FROM scratch\nRUN --mount=type=ssh x",
            "Dockerfile:2: RUN: --mount: type=ssh is not supported: there is no agent to forward",
        ),
        (
            "FROM scratch\nRUN --mount=type=cache,target=/ x",
            "Dockerfile:2: RUN: --mount: the target is the root directory",
        ),
        (
            "FROM scratch\nRUN --mount=target=/a --mount=type=tmpfs,target=/a x",
            "Dockerfile:2: RUN: --mount: two mounts on /a",
        ),
        (
            "FROM scratch\nRUN --mount=source=/none,target=/a x",
            "Dockerfile:2: RUN: --mount: no source \"/none\"",
        ),
        (
            "FROM scratch\nRUN --mount=source=../x,target=/a x",
            "Dockerfile:2: RUN: --mount: \"../x\" leads out of the tree",
        ),
        (
            "FROM scratch\nRUN --security=insecure x",
            "Dockerfile:2: RUN: flag --security=insecure is not supported",
        ),
        (
            "FROM scratch\nRUN --device=x x",
            "Dockerfile:2: RUN: flag --device is not supported",
        ),
        (
            "FROM scratch\nCOPY --link=maybe f /",
            "Dockerfile:2: COPY: flag --link=maybe is neither true nor false",
        ),
        (
            "FROM scratch\nADD --keep-git-dir f /",
            "Dockerfile:2: ADD: flag --keep-git-dir is not supported",
        ),
        (
            "FROM scratch\nADD --checksum=sha256:00 f /",
            "Dockerfile:2: ADD: --checksum is for URLs alone",
        ),
        (
            "FROM scratch\nCOPY --exclude=[ f /",
            "Dockerfile:2: COPY: --exclude: pattern \"[\" is malformed",
        ),
        (
            "FROM scratch\nCOPY --parents f/./x /",
            "Dockerfile:2: COPY: \"f\", before /./, is not one directory",
        ),
        (
            "FROM scratch\nCOPY --parents g /",
            "Dockerfile:2: COPY: no source \"g\"",
        ),
        (
            "FROM scratch\nCOPY f f /x",
            "Dockerfile:2: COPY: several sources need a destination that ends with a slash, not \"/x\"",
        ),
        (
            "FROM scratch\nCOPY --chown=user f /",
            "Dockerfile:2: COPY: --chown=user: the image's /etc/passwd has no user \"user\"",
        ),
        (
            "FROM scratch\nCOPY --chown=4294967295 f /",
            "Dockerfile:2: COPY: --chown=4294967295: uid 4294967295 is out of range",
        ),
        (
            "FROM scratch\nCOPY --chmod=u+z f /",
            "Dockerfile:2: COPY: --chmod=u+z is no mode: write an octal number such as 755, or u=rwX,go=rX",
        ),
        (
            "FROM scratch\nCOPY --from=later f /",
            "Dockerfile:2: COPY: --from=later: image later is not in the store",
        ),
        (
            "FROM scratch\nCOPY --from=0 f /",
            "Dockerfile:2: COPY: --from=0 is not an earlier stage",
        ),
        (
            "FROM scratch\nCOPY $none /",
            "Dockerfile:2: COPY: the source is empty",
        ),
        (
            "FROM scratch\nCOPY [[] /",
            "Dockerfile:2: COPY: no source \"[[]\"",
        ),
        (
            "FROM scratch\nCOPY x[ /",
            "Dockerfile:2: COPY: pattern \"x[\" is malformed",
        ),
        (
            "FROM scratch\nADD git@example.com:x/y.git /",
            "Dockerfile:2: ADD: git@example.com:x/y.git is a git repository, which ADD does not fetch; clone it before the build, or in a RUN",
        ),
        (
            "FROM scratch\nADD https://example.com/ /x/",
            "Dockerfile:2: ADD: https://example.com/ has no file name; write a destination that does not end with a slash",
        ),
        (
            "FROM scratch\nADD --checksum=md5:0 http://127.0.0.1/x /",
            "Dockerfile:2: ADD: --checksum: \"md5:0\" is no sha256 digest",
        ),
        (
            "FROM scratch\nEXPOSE http",
            "Dockerfile:2: EXPOSE: \"http\" is no port: write 80, 80/udp or 8000-8010",
        ),
        (
            "FROM scratch\nSTOPSIGNAL SIGNOPE",
            "Dockerfile:2: STOPSIGNAL: \"SIGNOPE\" is no signal",
        ),
        (
            "FROM scratch\nENV a=${b:=c}",
            "Dockerfile:2: ENV: \"${b:=c}\": modifier := of ${b} is not known",
        ),
    ] {
        assert_eq!(bench.fail(dockerfile), expected, "{dockerfile}");
    }
}

#[test]
fn surroundings() {
    let mut bench = Bench::new();
    bench.options.source_date_epoch = Some("yesterday".into());
    let found = bench.fail("FROM scratch\n");
    assert_eq!(
        found,
        "SOURCE_DATE_EPOCH is \"yesterday\", which is no number of seconds since 1970"
    );
    bench.options.source_date_epoch = None;
    bench.options.file = Source::File(bench.context("none"));
    assert_eq!(bench.fail("FROM scratch\n"), "no Dockerfile none");
    bench.options.file = Source::Context;
    bench.options.context = bench.context("absent");
    assert_eq!(
        bench.fail("FROM scratch\n"),
        "context absent is no directory"
    );
    for (context, expected) in [
        (
            "-",
            "context - is no directory; write -f - DIRECTORY to read the Dockerfile alone",
        ),
        (
            "https://example.com/x.git",
            "context https://example.com/x.git is no directory; nothing is fetched: clone it before",
        ),
    ] {
        bench.options.context = context.into();
        assert_eq!(bench.fail("FROM scratch\n"), expected);
    }
    bench.options.context = bench.context("empty");
    std::fs::create_dir(bench.context("empty")).unwrap();
    assert_eq!(
        bench.fail("FROM scratch\n"),
        "no Dockerfile empty/Dockerfile"
    );
    bench.file("empty/Containerfile", "FROM nowhere\n");
    let found = bench.fail("FROM scratch\n");
    assert!(found.starts_with("empty/Containerfile:1: FROM nowhere: "));
    std::fs::write(bench.context("Dockerfile"), b"FROM scratch\n\xff").unwrap();
    bench.options.context = bench.context("");
}
