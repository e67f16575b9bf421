// SPDX-License-Identifier: Apache-2.0
//! What is refused, and in which words.

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
            "FROM --platform=plan9/vax scratch",
            "Dockerfile:1: FROM scratch: --platform=plan9/vax is not supported: this machine is linux/amd64",
        ),
        (
            "FROM scratch\nRUN --mount=type=cache,target=/c x",
            "Dockerfile:2: RUN: flag --mount is not supported yet",
        ),
        (
            "FROM scratch\nCOPY --link f /",
            "Dockerfile:2: COPY: flag --link is not supported yet",
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
            "FROM scratch\nCOPY --chmod=u+x f /",
            "Dockerfile:2: COPY: --chmod=u+x is not supported: it takes an octal number such as 755",
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
            "FROM scratch\nADD https://example.com/x /",
            "Dockerfile:2: ADD: https://example.com/x is a URL, which is not supported yet; fetch it with RUN, or before the build",
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
    bench.options.file = Some(bench.context("none"));
    assert_eq!(bench.fail("FROM scratch\n"), "no Dockerfile none");
    bench.options.file = None;
    bench.options.context = bench.context("absent");
    assert!(
        bench
            .fail("FROM scratch\n")
            .starts_with("no Dockerfile absent/Dockerfile")
    );
    std::fs::write(bench.context("Dockerfile"), b"FROM scratch\n\xff").unwrap();
    bench.options.context = bench.context("");
}
