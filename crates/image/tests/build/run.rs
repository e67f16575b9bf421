// SPDX-License-Identifier: Apache-2.0
//! RUN: what it sees, what it leaves, and how it ends.

use crate::support::Bench;

#[test]
fn makes_a_layer_of_what_changed() {
    let mut bench = Bench::with_base();
    bench
        .build("image", "FROM base\nRUN mkdir /d && echo hi > /d/f && chmod 600 /d/f && ln -s f /d/l && rm /etc/group\n")
        .unwrap();
    let top = bench.top("image");
    assert_eq!(
        (top["d/f"].content.as_str(), top["d/f"].mode),
        ("hi\n", 0o600)
    );
    assert_eq!(top["d/l"].content, "f");
    let files = bench.files("image");
    assert!(!files.contains_key("etc/group") && files.contains_key("etc/passwd"));
    // Nothing of what the runtime needed is left.
    for path in ["dev", "proc", "sys", "etc/resolv.conf", "etc/hosts"] {
        assert!(!files.contains_key(path), "{path}");
    }
}

#[test]
fn forms_and_surroundings() {
    let mut bench = Bench::with_base();
    for (dockerfile, expected) in [
        ("RUN echo $0 > /out", "/bin/sh\n"),
        ("RUN [\"sh\", \"-c\", \"echo $0 > /out\"]", "sh\n"),
        (
            "SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN echo $- > /out",
            "ce\n",
        ),
        ("ENV A=1\nARG B=2\nARG A=3\nRUN echo $A$B > /out", "12\n"),
        ("WORKDIR /w\nRUN pwd > /out", "/w\n"),
        ("RUN echo a \\\n# note\n  b > /out", "a b\n"),
        (
            "RUN <<EOF\necho one > /out\necho two >> /out\nEOF",
            "one\ntwo\n",
        ),
        ("RUN <<EOF\n#!/bin/cat\nEOF\nRUN echo ran > /out", "ran\n"),
        (
            "RUN cat <<A > /out && cat <<'B' >> /out\n$((1+1))\nA\n$x\nB",
            "2\n$x\n",
        ),
        (
            "RUN mkdir -m 777 /o\nUSER user:extra\nRUN id -u > /o/x; id -g >> /o/x\nUSER 0\nRUN cat /o/x > /out",
            "1000\n1002\n",
        ),
        ("RUN cat /proc/1/comm > /out", "cat\n"),
        (
            "RUN test -s /etc/hosts && test -e /etc/resolv.conf && echo > /etc/resolv.conf && echo ok > /out",
            "ok\n",
        ),
        ("RUN --network=none ls /sys/class/net > /out", "lo\n"),
        ("RUN cat > /out", ""),
    ] {
        bench
            .build("image", &format!("FROM base\n{dockerfile}\n"))
            .unwrap();
        assert_eq!(
            bench.files("image")["out"].content,
            expected,
            "{dockerfile}"
        );
    }
    let hosts: Vec<_> = bench
        .files("image")
        .into_keys()
        .filter(|path| path.contains("resolv"))
        .collect();
    assert!(hosts.is_empty(), "{hosts:?}");
}

#[test]
fn failure_has_the_commands_status() {
    let mut bench = Bench::with_base();
    for (command, status) in [
        ("exit 7", 7),
        ("false", 1),
        ("sh -c 'kill -9 $$'; exit $?", 137),
    ] {
        let failure = bench
            .build("image", &format!("FROM base\n\nRUN {command}\n"))
            .unwrap_err();
        assert_eq!(failure.status, status, "{command}");
        let text = failure.error.to_string();
        assert!(
            text.ends_with(&format!("Dockerfile:3: RUN: exited with status {status}")),
            "{text}"
        );
    }
}

#[test]
fn needs_a_runtime() {
    let mut bench = Bench::with_base();
    for runtime in ["/nonexistent/runtime", "no-such-runtime"] {
        bench.options.runtime = Some(runtime.into());
        assert_eq!(
            bench.fail("FROM base\nRUN true\n"),
            format!(
                "Dockerfile:2: RUN: no runtime {runtime}; name one with --runtime or in CORTEN_RUNTIME"
            )
        );
    }
}

#[test]
fn runs_without_a_layer_below() {
    let mut bench = Bench::new();
    std::fs::copy("/bin/busybox", bench.context("busybox")).unwrap();
    let dockerfile = "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"mkdir\", \"/made\"]\n";
    bench.build("image", dockerfile).unwrap();
    let top: Vec<_> = bench.top("image").into_keys().collect();
    assert_eq!(top, ["made"]);
}
