// SPDX-License-Identifier: Apache-2.0
//! The instructions that only change the config.

use serde_json::json;

use crate::support::Bench;

/// What an image from nothing begins with.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn config() {
    let mut bench = Bench::new();
    for (dockerfile, key, expected) in [
        (
            "ENV A=1 B=\"x y\"\nENV A=$B C=$A",
            "Env",
            json!([PATH, "A=x y", "B=x y", "C=1"]),
        ),
        ("ENV old form", "Env", json!([PATH, "old=form"])),
        ("ENTRYPOINT [\"a\"]", "Entrypoint", json!(["a"])),
        (
            "ENTRYPOINT a b",
            "Entrypoint",
            json!(["/bin/sh", "-c", "a b"]),
        ),
        ("CMD [\"a\"]\nENTRYPOINT [\"b\"]", "Cmd", json!(["a"])),
        (
            "SHELL [\"/s\", \"-x\"]\nCMD a",
            "Cmd",
            json!(["/s", "-x", "a"]),
        ),
        ("ENTRYPOINT a\nENTRYPOINT []", "Entrypoint", json!(null)),
        ("CMD a\nCMD []", "Cmd", json!(null)),
        ("SHELL [\"/s\", \"-x\"]", "Shell", json!(["/s", "-x"])),
        (
            "EXPOSE 80 90/udp 100-101",
            "ExposedPorts",
            json!({"80/tcp":{},"90/udp":{},"100/tcp":{},"101/tcp":{}}),
        ),
        ("VOLUME /a \"/b\"", "Volumes", json!({"/a":{},"/b":{}})),
        ("VOLUME [\"/a b\"]", "Volumes", json!({"/a b":{}})),
        (
            "LABEL a=1 \"b c\"='d e'",
            "Labels",
            json!({"a":"1","b c":"d e"}),
        ),
        ("USER u:g", "User", json!("u:g")),
        ("WORKDIR /a\nWORKDIR b/../c", "WorkingDir", json!("/a/c")),
        ("STOPSIGNAL SIGINT", "StopSignal", json!("SIGINT")),
        ("HEALTHCHECK NONE", "Healthcheck", json!({"Test":["NONE"]})),
        (
            "HEALTHCHECK --interval=1s --retries=2 CMD a b",
            "Healthcheck",
            json!({"Test":["CMD-SHELL","a b"],"Interval":1_000_000_000,"Retries":2}),
        ),
        ("ARG x=1\nLABEL y=$x$TARGETARCH", "Labels", json!({"y":"1"})),
        (
            "ARG TARGETOS\nLABEL y=$TARGETOS",
            "Labels",
            json!({"y":"linux"}),
        ),
    ] {
        bench
            .build("image", &format!("FROM scratch\n{dockerfile}\n"))
            .unwrap();
        assert_eq!(
            bench.config("image")["config"][key],
            expected,
            "{dockerfile}"
        );
    }
}

#[test]
fn inheritance() {
    let mut bench = Bench::new();
    bench
        .build(
            "parent",
            "FROM scratch\nENV A=1\nCMD [\"c\"]\nLABEL l=1\nMAINTAINER me\n",
        )
        .unwrap();
    bench
        .build("image", "FROM parent\nENTRYPOINT [\"e\"]\nLABEL m=$A\n")
        .unwrap();
    let config = bench.config("image");
    assert_eq!(config["author"], "me");
    assert_eq!(config["config"]["Labels"], json!({"l":"1","m":"1"}));
    // It was made for another entrypoint.
    assert!(config["config"]["Cmd"].is_null());
    let history = config["history"].as_array().unwrap();
    let by: Vec<_> = history
        .iter()
        .map(|entry| entry["created_by"].as_str().unwrap())
        .collect();
    let expected = [
        "ENV A=1",
        "CMD [\"c\"]",
        "LABEL l=1",
        "MAINTAINER me",
        "ENTRYPOINT [\"e\"]",
        "LABEL m=$A",
    ];
    assert_eq!(by, expected);
    assert!(history.iter().all(|entry| entry["empty_layer"] == true));
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert!(diff_ids.is_empty());
}

#[test]
fn build_arguments() {
    let mut bench = Bench::new();
    bench.options.args.insert("v".into(), "given".into());
    for (dockerfile, expected) in [
        ("ARG v=top\nFROM scratch\nLABEL l=$v", ""),
        ("ARG v=top\nFROM scratch\nARG v\nLABEL l=$v", "given"),
        ("FROM scratch\nARG v=own\nLABEL l=$v", "given"),
        ("FROM scratch\nARG w=own\nLABEL l=$w", "own"),
        ("ARG w=top\nFROM scratch\nARG w\nLABEL l=$w", "top"),
        ("FROM scratch AS a\nARG v\nFROM a\nLABEL l=$v", "given"),
        ("FROM scratch\nARG v\nENV v=env\nLABEL l=$v", "env"),
    ] {
        bench.build("image", dockerfile).unwrap();
        assert_eq!(
            bench.config("image")["config"]["Labels"]["l"],
            expected,
            "{dockerfile}"
        );
    }
}
