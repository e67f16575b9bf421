// SPDX-License-Identifier: Apache-2.0
//! What the command line asks for beside an image in the store.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use crate::program::program;
use crate::support::{Bench, output};

fn run(bench: &Bench, args: &[&str]) -> String {
    let run = program(bench, args).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{args:?}: {errors}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

fn fail(bench: &Bench, args: &[&str]) -> String {
    let run = program(bench, args).output().unwrap();
    assert!(!run.status.success(), "{args:?}");
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    errors.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn files_and_archives() {
    let bench = Bench::with_base();
    bench.file(
        "Dockerfile",
        "FROM base AS b\nRUN mkdir -p /d && echo one > /d/f && ln -s f /d/l && ln /d/f /d/h && chmod 4711 /d/f\n\
         FROM scratch\nCOPY --from=b /d /d\n",
    );
    let out = bench.dir.join("out");
    let path = |name: &str| out.join(name).to_str().unwrap().to_owned();
    // Twice: what is there is replaced, what is not of the image stays, and no link leads out.
    std::fs::create_dir_all(out.join("local")).unwrap();
    std::os::unix::fs::symlink(&bench.dir, out.join("local/d")).unwrap();
    let found = fail(&bench, &["-o", &path("local")]);
    assert!(
        found.ends_with("/d is there and no directory (perhaps a link to one)"),
        "{found}"
    );
    std::fs::remove_file(out.join("local/d")).unwrap();
    std::fs::write(out.join("local/own"), "own").unwrap();
    for _ in 0..2 {
        run(&bench, &["-o", &path("local")]);
        let file = out.join("local/d/f").metadata().unwrap();
        assert_eq!(
            (file.permissions().mode() & 0o7777, file.nlink()),
            (0o4711, 2)
        );
        assert_eq!(
            std::fs::read_link(out.join("local/d/l")).unwrap().to_str(),
            Some("f")
        );
        assert_eq!(std::fs::read(out.join("local/own")).unwrap(), b"own");
    }
    for _ in 0..2 {
        run(&bench, &["-o", &format!("type=tar,dest={}", path("t.tar"))]);
        assert_eq!(
            output("tar", &["-tf", &path("t.tar")]),
            "d/\nd/f\nd/h\nd/l\n"
        );
    }
    let piped = run(&bench, &["-o", "-"]);
    assert_eq!(piped.as_bytes(), std::fs::read(path("t.tar")).unwrap());
    for kind in ["oci", "docker"] {
        let to = format!("type={kind},dest={}", path(kind));
        run(&bench, &["-t", "image", "-o", &to]);
        run(&bench, &["-t", "image", "-o", &to]);
        assert!(
            fail(&bench, &["-o", &to]).contains("an image without a name; give it one with --tag")
        );
        let imported = corten_image::archive::import(
            &bench.store,
            &out.join(kind),
            None,
            &corten_image::progress::Progress::Silent,
        );
        assert_eq!(imported.unwrap()[0].names, ["image:latest"]);
    }
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn names_labels_and_files_about_it() {
    let bench = Bench::with_base();
    bench.file("Dockerfile", "FROM base\nLABEL a=1 b=2\n");
    let (id, meta) = (bench.dir.join("id"), bench.dir.join("meta"));
    let printed = run(
        &bench,
        &[
            "-t",
            "one",
            "--tag",
            "two:v2",
            "--label",
            "b=3",
            "--label",
            "c=4=5",
            "--annotation",
            "x=y",
            "--annotation",
            "manifest:z=w",
            "-q",
            "--iidfile",
            id.to_str().unwrap(),
            "--metadata-file",
            meta.to_str().unwrap(),
        ],
    );
    let image = bench.image("two:v2");
    assert_eq!(
        image.descriptor.digest(),
        bench.image("one").descriptor.digest()
    );
    assert_eq!(printed.trim_end(), image.id().unwrap().as_str());
    assert_eq!(std::fs::read_to_string(id).unwrap(), printed.trim_end());
    let labels = &bench.config("one")["config"]["Labels"];
    assert_eq!(labels.to_string(), r#"{"a":"1","b":"3","c":"4=5"}"#);
    let annotations = image.manifest.annotations().clone().unwrap();
    assert_eq!(
        (annotations["x"].as_str(), annotations["z"].as_str()),
        ("y", "w")
    );
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
    assert_eq!(
        meta["containerimage.digest"],
        image.descriptor.digest().to_string()
    );
    assert_eq!(meta["image.name"], "one,two:v2");
}

#[test]
fn where_things_come_from() {
    let bench = Bench::with_base();
    let other = bench.dir.join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("f"), "other").unwrap();
    std::fs::write(other.join("g"), "ignored").unwrap();
    std::fs::write(other.join(".dockerignore"), "g\n").unwrap();
    let dockerfile = "FROM golang AS build\nCOPY --from=files / /n/\nRUN --mount=from=files,target=/m cat /m/f > /seen\n";
    let mut child = program(
        &bench,
        &[
            "-t",
            "image",
            "-f",
            "-",
            "--build-context",
            "golang=docker-image://base",
            "--build-context",
            &format!("files={}", other.display()),
        ],
    )
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(dockerfile.as_bytes())
        .unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let files = bench.files("image");
    assert_eq!(files["seen"].content, "other");
    assert_eq!(files["n/f"].owner, (0, 0));
    assert!(!files.contains_key("n/g"));
    bench.file("Dockerfile", "FROM files\n");
    let context = format!("files={}", other.display());
    let found = fail(&bench, &["-t", "x", "--build-context", &context]);
    assert!(
        found.ends_with("no stage can be based on; start FROM scratch and COPY --from it"),
        "{found}"
    );
}

#[test]
fn platforms() {
    let bench = Bench::new();
    bench.file("f", "f");
    bench.file(
        "Dockerfile",
        "FROM --platform=$BUILDPLATFORM scratch AS tools\nCOPY f /tool\n\
         FROM scratch\nARG TARGETARCH TARGETVARIANT BUILDARCH\nCOPY --from=tools /tool /\nLABEL t=$TARGETARCH$TARGETVARIANT b=$BUILDARCH\n",
    );
    run(&bench, &["-t", "image", "--platform", "linux/arm/v7"]);
    let entry = bench
        .store
        .find(&corten_image::Reference::parse("image").unwrap())
        .unwrap();
    let digest = corten_image::Digest::try_from(entry.descriptor.digest()).unwrap();
    let manifest = bench
        .store
        .read_document(&digest, entry.descriptor.size())
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let id = corten_image::Digest::parse(manifest["config"]["digest"].as_str().unwrap()).unwrap();
    let size = manifest["config"]["size"].as_u64().unwrap();
    let config: serde_json::Value =
        serde_json::from_slice(&bench.store.read_document(&id, size).unwrap()).unwrap();
    assert_eq!(
        (&config["architecture"], &config["variant"]),
        (&"arm".into(), &"v7".into())
    );
    assert_eq!(config["config"]["Labels"]["t"], "armv7");
    let found = fail(&bench, &["-t", "image", "--platform", "arm"]);
    assert!(
        found.ends_with("--platform arm: write OS/ARCHITECTURE[/VARIANT]"),
        "{found}"
    );
}

#[test]
fn output_of_stages_has_their_names_in_front() {
    let bench = Bench::with_base();
    bench.file(
        "Dockerfile",
        "FROM base AS one\nRUN echo from-one; echo to-stderr >&2\nFROM base\nRUN echo from-two\nCOPY --from=one /bin/sh /x\n",
    );
    let run = program(&bench, &["-t", "image", "--no-cache-filter", "one"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    for line in ["[one] from-one", "[one] to-stderr", "[1] from-two"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    // The id alone is on standard output.
    let printed = String::from_utf8(run.stdout).unwrap();
    assert_eq!(
        printed.trim_end(),
        bench.image("image").id().unwrap().as_str()
    );
    let again = program(&bench, &["-t", "image", "--no-cache-filter", "one"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        text.contains("[one] from-one") && !text.contains("[1] from-two"),
        "{text}"
    );
    let quiet = program(&bench, &["-t", "image", "-q", "--no-cache"]);
    let quiet = { quiet }.output().unwrap();
    assert!(quiet.status.success() && quiet.stderr.is_empty());
}
