// SPDX-License-Identifier: Apache-2.0
//! How far a pull is, for people, for programs and for nobody; and results for programs.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_image::Digest;
use serde_json::{Value, json};

use super::hostile::Served;
use super::resume::ranged;
use super::server::Server;
use super::supply::program;
use super::support::Dir;

/// A server that stops for a while in the middle of a layer.
fn slow(image: &Arc<Served>) -> Server {
    let served = image.clone();
    Server::new(move |request| {
        let mut found = ranged(&served, request);
        if served.is_layer(request) && found.status == 200 {
            found.cut = Some(2_000_000);
            found.stall = Some(Duration::from_millis(700));
        }
        found
    })
}

fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_program_can_follow_a_pull() {
    let image = Arc::new(Served::new());
    let server = slow(&image);
    let dir = Dir::new("registry-events");
    let name = format!("{}/team/x:1", server.address);
    let start = Instant::now();
    let output = program(
        &dir,
        &["--progress", "json", "pull", "--format", "json", &name],
    );
    let took = start.elapsed();
    assert!(output.status.success(), "{output:?}");
    let events: Vec<Value> = lines(&output.stderr)
        .iter()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let task = format!("pull {}", Digest::of(&image.layer).short());
    let of = |kind: &str| -> Vec<&Value> {
        let wanted = |event: &&Value| event["event"] == kind && event["task"] == task.as_str();
        events.iter().filter(wanted).collect()
    };
    let told = of("progress");
    assert_eq!(
        (&told[0]["done"], &told[0]["total"]),
        (&json!(0), &json!(3_000_000))
    );
    let most = took.as_millis() / 100 + 2;
    assert!(
        (2..=most).contains(&(told.len() as u128)),
        "{told:?} in {took:?}"
    );
    let done = of("done");
    assert_eq!((&done[0]["done"], done.len()), (&json!(3_000_000), 1));
    assert!(done[0]["seconds"].as_f64().unwrap() >= 0.7);

    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["name"], name.as_str());
    assert_eq!(result["digest"], json!(Digest::of(&image.manifest)));

    // A failure is an event as well.
    let output = program(&dir, &["--progress", "json", "pull", "demo"]);
    let last: Value = serde_json::from_str(lines(&output.stderr).last().unwrap()).unwrap();
    let text = "corten-image: pull demo: image name demo has no registry; write HOST/demo";
    assert_eq!(last, json!({"event": "error", "text": text}));
}

#[test]
fn people_get_lines_or_bars_or_nothing() {
    let image = Arc::new(Served::new());
    let server = slow(&image);
    let name = format!("{}/team/x:1", server.address);
    let task = format!("pull {}", Digest::of(&image.layer).short());
    for (style, is_told) in [("plain", true), ("auto", true), ("none", false)] {
        let dir = Dir::new("registry-lines");
        let output = program(&dir, &["pull", "--progress", style, &name]);
        assert_eq!(lines(&output.stdout), [name.as_str()]);
        assert_eq!(lines(&output.stderr).contains(&task), is_told, "{style}");
        assert_eq!(output.stderr.is_empty(), !is_told, "{style}");
    }
    let error = program(&Dir::new("registry-style"), &["--progress", "loud", "list"]);
    assert!(!error.status.success());

    // On a terminal.
    let dir = Dir::new("registry-bars");
    let command = format!(
        "{} --store {} pull {name}",
        env!("CARGO_BIN_EXE_corten-image"),
        dir.join("store").display()
    );
    let Ok(output) = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("REGISTRY_AUTH_FILE", dir.join("no-auth.json"))
        .env("TERM", "xterm")
        .output()
    else {
        eprintln!(
            "SKIPPED people_get_lines_or_bars_or_nothing, its last part: script is not installed"
        );
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&task) && text.contains("iB/s"), "{text:?}");
    assert!(
        text.contains("MiB/2.86 MiB") && text.contains("=>"),
        "{text:?}"
    );
}

#[test]
fn results_are_documents_if_that_is_wanted() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let server = Server::new(move |request| served.honest(request));
    let dir = Dir::new("registry-format");
    let name = format!("{}/team/x:1", server.address);
    assert!(program(&dir, &["pull", &name]).status.success());
    for flag in ["--json", "--format=json"] {
        let output = program(&dir, &["list", flag]);
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&rows[0]["name"], &rows[0]["size"]),
            (&json!(name), &json!(3_000_000))
        );
    }
    let output = program(&dir, &["inspect", "--format", "json", &name]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["name"], json!(name));
    assert!(
        !program(&dir, &["inspect", "--format", "text", &name])
            .status
            .success()
    );
}

#[test]
fn what_a_registry_wants_known_is_told_once() {
    let image = Served::new();
    let server = Server::new(move |request| {
        let warning = "299 - \"moves\tsoon\"";
        image.honest(request).header("Warning", warning)
    });
    let dir = Dir::new("registry-warning");
    let output = program(&dir, &["pull", &format!("{}/team/x:1", server.address)]);
    assert!(output.status.success());
    let told = lines(&output.stderr);
    let warnings: Vec<_> = told.iter().filter(|line| line.contains("warns")).collect();
    let expected = format!("http://{}/v2/ warns: moves?soon", server.address);
    assert_eq!(warnings, [&expected]);
}
