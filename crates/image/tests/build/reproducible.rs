// SPDX-License-Identifier: Apache-2.0
//! One context and one SOURCE_DATE_EPOCH give one digest, whatever else differs: the store, its file system, the order
//! and times of the context's files, threads, umask, time zone, locale. `CORTEN_BUILD_RUNS` says how often (10).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bench, output, runtime};

const DOCKERFILE: &str = r#"FROM scratch AS base
COPY root /
ENV PATH=/bin
FROM base AS made
RUN mkdir -p /m/d && for n in $(seq 40 | shuf); do echo $n > /m/f$n; done && ln /m/f1 /m/d/hard && ln -s f2 /m/soft
RUN --mount=type=cache,target=/c date > /c/now; rm /m/f3; chmod 4711 /m/f4; chown 5:6 /m/f5; mkfifo /m/p
FROM base AS copied
COPY --chown=7:8 d /d/
COPY --link d/f1 /linked/
ADD t.tar /t/
WORKDIR /w/v
FROM base
COPY --from=made /m /m
COPY --from=copied /d /d
COPY --parents --exclude=**/f2 d/**/f* /p/
RUN --mount=from=made,source=/m,target=/mnt --network=none cp -r /mnt/d /n && umask > /umask && env | sort > /env
LABEL b=2 a=1
"#;

/// The context's files, in an order of their making that depends on `seed`.
fn make_context(dir: &Path, template: &Path, seed: usize) {
    let list = output(
        "find",
        &[
            template.to_str().unwrap(),
            "-mindepth",
            "1",
            "-printf",
            "%P\\n",
        ],
    );
    let mut paths: Vec<&str> = list.lines().collect();
    let mut state = seed.wrapping_mul(2_654_435_761) + 1;
    for at in (1..paths.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        paths.swap(at, (state >> 33) % (at + 1));
    }
    for path in paths {
        let (from, to) = (template.join(path), dir.join(path));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let metadata = from.symlink_metadata().unwrap();
        if metadata.is_dir() {
            std::fs::create_dir_all(&to).unwrap();
        } else if metadata.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&from).unwrap(), &to).unwrap();
        } else {
            std::fs::write(&to, std::fs::read(&from).unwrap()).unwrap();
        }
    }
    for path in list.lines() {
        let metadata = template.join(path).symlink_metadata().unwrap();
        if !metadata.is_symlink() {
            let mode = metadata.permissions().mode() & 0o7777;
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(dir.join(path), permissions).unwrap();
        }
    }
}

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn one_digest() {
    let runs = std::env::var("CORTEN_BUILD_RUNS").map_or(10, |text| text.parse().unwrap());
    let bench = Bench::new();
    bench.make_root();
    for number in 0..30 {
        bench.file(&format!("d/f{number}"), &format!("content {number}"));
        bench.file(&format!("d/e{}/f{number}", number % 3), "");
    }
    let dir = bench.context("");
    let dir = dir.to_str().unwrap();
    let tar = [
        "-C",
        dir,
        "--mtime=@1600000000",
        "--sort=name",
        "--owner=3",
        "--group=4",
    ];
    let to = format!("{dir}/t.tar");
    output("tar", &[&tar[..], &["-cf", &to, "d"]].concat());
    output("chmod", &["-R", "go=rX", dir]);
    bench.file("Dockerfile", DOCKERFILE);
    let mut digests = Vec::new();
    for run in 0..runs {
        let on = ["/tmp", "/dev/shm"][run % 2];
        let place = Place(Path::new(on).join(format!("corten-same-{}-{run}", std::process::id())));
        std::fs::create_dir_all(place.0.join("context")).unwrap();
        make_context(&place.0.join("context"), &bench.context(""), run);
        let script = format!(
            "umask {}; exec \"$@\"",
            ["022", "077", "000", "027"][run % 4]
        );
        let built = Command::new("sh")
            .args([
                "-c",
                &script,
                "sh",
                env!("CARGO_BIN_EXE_corten-image"),
                "--store",
            ])
            .arg(place.0.join("store"))
            .args([
                "build",
                "-q",
                "-t",
                "image",
                "--jobs",
                &(run % 5 + 1).to_string(),
                "--runtime",
            ])
            .arg(runtime())
            .arg("--metadata-file")
            .arg(place.0.join("meta"))
            .arg(place.0.join("context"))
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("TZ", ["UTC", "Asia/Kathmandu", "America/St_Johns"][run % 3])
            .env("LC_ALL", ["C", "de_DE.UTF-8", "tr_TR.UTF-8"][run % 3])
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let meta = std::fs::read(place.0.join("meta")).unwrap();
        let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
        digests.push(meta["containerimage.digest"].to_string());
    }
    assert_eq!(digests.len(), runs);
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
}
