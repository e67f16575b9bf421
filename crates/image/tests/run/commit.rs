// SPDX-License-Identifier: Apache-2.0
//! Images made of containers: what they hold is what the container saw, and they run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{World, in_world, wait_for};

/// What a container of `image` sees: each path with what is there, links as links, as its own `find` and `stat` tell.
fn seen(world: &World, image: &str) -> String {
    world.ok(&["run", "--rm", image, "sh", "-c", SEE])
}

/// Names, kinds, modes, owners, times and content of all but what is mounted.
const SEE: &str = "cd /; for top in bin data etc home opt gone new; do [ -e $top ] || continue; \
    find $top -type f -name 'host*' -prune -o -name resolv.conf -prune -o -print | sort | while read -r path; do \
    stat -c '%n %F %a %u:%g %Y %N' \"$path\"; [ -f \"$path\" ] && [ ! -L \"$path\" ] && md5sum < \"$path\"; done; \
    done; true";

/// A base with something to change.
fn make_base(world: &World) {
    let script = "mkdir -p /data/dir/sub /data/whole /home/user; echo a > /data/a; echo b > /data/b; \
        echo c > /data/dir/c; echo d > /data/dir/sub/d; echo w > /data/whole/w; ln /data/a /data/a-too; \
        chown 1000:1001 /home/user; ln -s data /link";
    world.ok(&["run", "--name", "prepare", "base", "sh", "-c", script]);
    world.ok(&["commit", "prepare", "prepared"]);
    world.ok(&["rm", "prepare"]);
}

const CHANGES: &str = "echo new > /new; chmod 4711 /new; touch -d @1234567 /new; echo more >> /data/a; rm /data/b; \
    rm -r /data/whole; mkdir /data/whole; echo x > /data/whole/x; rm -r /data/dir/sub; chown 5:6 /data/dir; \
    mkdir -p /opt/deep/er; mkfifo /opt/pipe; ln -s ../nowhere /opt/dangling; echo l > /opt/l; ln /opt/l /opt/deep/l; \
    chmod 1777 /home; : > /opt/empty; mv /data/dir/c /data/c; mkdir /gone; rmdir /gone";

#[test]
fn holds_what_the_container_saw() {
    in_world(|world| {
        make_base(world);
        let script = format!("{CHANGES}; {SEE}");
        let before = world.ok(&["run", "--name", "c", "prepared", "sh", "-c", &script]);
        let id = world.ok(&["commit", "-m", "why", "-a", "me", "c", "changed:1"]);
        let after = seen(world, "changed:1");
        assert!(after.contains("data/whole/x"), "{after}");
        assert!(
            !after.contains("data/whole/w") && !after.contains("data/b "),
            "{after}"
        );
        assert!(
            after.contains("new regular file 4711 0:0 1234567 new"),
            "{after}"
        );
        assert_eq!(before, after);
        let linked = "[ /opt/l -ef /opt/deep/l ]";
        world.ok(&["run", "--rm", "changed:1", "sh", "-c", linked]);
        let inspected = inspect(world, "changed:1");
        assert_eq!(inspected["id"], id.as_str());
        let history = inspected["config"]["history"].as_array().unwrap();
        let last = history.last().unwrap();
        assert_eq!(
            (&last["comment"], &last["author"]),
            (&"why".into(), &"me".into())
        );
        assert_eq!(last["created_by"], format!("sh -c {script}").as_str());
        assert_eq!(last["empty_layer"], serde_json::Value::Null);
        // What was base's stays so, byte for byte, and there is one layer more.
        let (base, top) = (diff_ids(world, "prepared"), diff_ids(world, "changed:1"));
        assert_eq!(top[..base.len()], base);
        assert_eq!(top.len(), base.len() + 1);
        // Others see the same.
        world.ok(&["verify", "changed:1"]);
        foreign(world, &after);
    });
}

fn inspect(world: &World, image: &str) -> serde_json::Value {
    serde_json::from_str(&world.ok(&["inspect", image])).unwrap()
}

fn diff_ids(world: &World, image: &str) -> Vec<String> {
    let found = inspect(world, image)["config"]["rootfs"]["diff_ids"].clone();
    serde_json::from_value(found).unwrap()
}

/// skopeo copies what umoci unpacks, and a shell in that sees what the container saw.
fn foreign(world: &World, expected: &str) {
    let have = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !have("skopeo") || !have("umoci") {
        eprintln!("SKIPPED: no skopeo and umoci");
        return;
    }
    let (archive, layout, bundle) = (
        world.dir.join("changed.tar"),
        world.dir.join("layout"),
        world.dir.join("bundle"),
    );
    world.ok(&["export", "changed:1", archive.to_str().unwrap()]);
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(Command::new("skopeo")
        .args(["copy", "--insecure-policy"])
        .args([
            format!("oci-archive:{}", archive.display()),
            format!("oci:{}:x", layout.display()),
        ]));
    let image = format!("{}:x", layout.display());
    run(Command::new("umoci")
        .args(["unpack", "--image", &image])
        .arg(&bundle));
    let see = format!("export PATH=/bin; {SEE}");
    let found = run(Command::new("chroot").arg(bundle.join("rootfs")).args([
        "/bin/busybox",
        "sh",
        "-c",
        &see,
    ]));
    assert_eq!(found.trim_end(), expected);
}

#[test]
fn attributes_and_mount_points() {
    in_world(|world| {
        let host = world.dir.join("host");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("secret"), "s").unwrap();
        let volume = |to: &str| format!("{}:{to}", host.display());
        let args = [
            "run",
            "-d",
            "--name",
            "c",
            "-v",
            &volume("/mnt/volume"),
            "-v",
            &volume("/kept"),
            "--tmpfs",
            "/memory",
            "base",
            "sleep",
            "1000",
        ];
        let id = world.ok(&args);
        world.ok(&[
            "exec",
            "c",
            "sh",
            "-c",
            "echo f > /f; mkdir /linked; echo t > /memory/t",
        ]);
        // Of the file system that changes are kept on: busybox has no setcap.
        let upper = world.container(&id).join("upper");
        let capability: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set_attribute(&upper.join("f"), "security.capability", &capability);
        set_attribute(&upper.join("f"), "user.note", b"hello");
        world.ok(&["commit", "c", "with"]);
        let files = layer(world, "with");
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["f", "linked", "mnt"], "{files:?}");
        let rootfs = world.dir.join("bundle");
        world.ok(&["unpack", "with", rootfs.to_str().unwrap()]);
        let f = rootfs.join("rootfs/f");
        assert_eq!(attribute(&f, "security.capability"), capability);
        assert_eq!(attribute(&f, "user.note"), b"hello");
        world.ok(&["rm", "-f", "c"]);
    });
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0u8; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
    value[..length].to_vec()
}

/// What the image's topmost layer has: each name and its content's length.
fn layer(world: &World, image: &str) -> BTreeMap<String, u64> {
    use corten_image::layer::LayerReader;
    let store = corten_image::Store::open(&world.dir.join("store")).unwrap();
    let image = store
        .image(&corten_image::Reference::parse(image).unwrap())
        .unwrap();
    let limits = corten_image::tar::Limits::default();
    let mut reader = LayerReader::open(&store, image.layers.last().unwrap(), limits, None).unwrap();
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.tar.next().unwrap() {
        let path = String::from_utf8(entry.path).unwrap();
        found.insert(path.trim_end_matches('/').to_owned(), entry.size);
    }
    found
}

/// A writer that keeps two files equal, and says so with a third.
const WRITE: &str = "n=0; while :; do n=$((n+1)); echo $n > /one; echo $n > /two; done";

#[test]
fn a_running_container_stands_still_and_goes_on() {
    in_world(|world| {
        let before = world.census();
        let id = world.ok(&["run", "-d", "--name", "c", "base", "sh", "-c", WRITE]);
        let count = || -> Option<u64> {
            let text = std::fs::read_to_string(world.container(&id).join("upper/one")).ok()?;
            text.trim().parse().ok()
        };
        wait_for("a write", || count().filter(|n| *n > 10));
        for round in 0..5 {
            let name = format!("at:{round}");
            world.ok(&["commit", "c", &name]);
            let text = world.ok(&["run", "--rm", &name, "sh", "-c", "cat /one /two"]);
            let numbers: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
            // At most between the two writes, or in the middle of one.
            assert!(
                numbers.len() < 2 || numbers[0].abs_diff(numbers[1]) <= 1,
                "{numbers:?}"
            );
            let now = count();
            wait_for("the next write", || (count() > now).then_some(()));
        }
        // It goes on where the commit fails, too.
        std::fs::write(world.container(&id).join("upper/.wh.bad"), "").unwrap();
        let failed = world.run(&["commit", "c", "bad"]);
        assert!(
            failed.err.contains(".wh. means a deletion"),
            "{}",
            failed.err
        );
        let now = count();
        wait_for("the next write", || (count() > now).then_some(()));
        std::fs::remove_file(world.container(&id).join("upper/.wh.bad")).unwrap();
        // What is changed just then is not committed as something in between.
        let moving = world.run(&["commit", "--no-pause", "c", "moving"]);
        let is_told = moving
            .err
            .contains("without --no-pause nothing changes meanwhile");
        assert!(moving.code == Some(0) || is_told, "{}", moving.err);
        world.ok(&["rm", "-f", "c"]);
        assert_eq!(world.census(), before);
    });
}

/// Whoever is killed while a container stands still, it goes on.
#[test]
fn a_killed_commit_leaves_nothing_paused() {
    in_world(|world| {
        let id = world.ok(&["run", "-d", "--name", "c", "base", "sh", "-c", WRITE]);
        // Enough to be in the middle of it.
        world.ok(&[
            "exec",
            "c",
            "dd",
            "if=/dev/urandom",
            "of=/large",
            "bs=1M",
            "count=24",
        ]);
        let before = world.census();
        let frozen = || {
            world.cgroups(&id).iter().any(|group| {
                let events = std::fs::read_to_string(Path::new(group).join("cgroup.events"));
                events.is_ok_and(|events| events.contains("frozen 1"))
            })
        };
        for round in 0..6 {
            let mut child = world.spawn(&["commit", "c", "never"]);
            match round {
                0 => wait_for("the pause", || frozen().then_some(())),
                // From its first instruction on.
                _ => std::thread::sleep(Duration::from_millis(round * round * 4)),
            }
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().code(), None);
            wait_for("the holder's end", || {
                let left = world.census();
                let more: Vec<_> = left.difference(&before).collect();
                more.iter()
                    .all(|line| line.starts_with("unfinished"))
                    .then_some(())
            });
            assert!(!frozen(), "round {round}");
        }
        assert_ne!(world.run(&["inspect", "never"]).code, Some(0));
        // What it had begun is swept, and the next one is whole.
        world.ok(&["commit", "c", "whole"]);
        assert_eq!(world.census(), before);
        world.ok(&["verify", "whole"]);
        world.ok(&["rm", "-f", "c"]);
    });
}

#[test]
fn names_changes_and_times() {
    in_world(|world| {
        world.ok(&[
            "run",
            "--name",
            "c",
            "base",
            "sh",
            "-c",
            "echo x > /x; touch -d @2000000000 /late",
        ]);
        // Without a name it is there, and stays.
        let id = world.ok(&["commit", "c"]);
        let hex = id.strip_prefix("sha256:").unwrap();
        world.ok(&["prune"]);
        assert_eq!(world.ok(&["run", "--rm", &hex[..12], "cat", "/x"]), "x");
        assert!(world.ok(&["list"]).contains("<none>"));
        world.ok(&["rm", &hex[..12]]);
        assert!(!world.ok(&["list"]).contains("<none>"));
        // The same container gives the same image at the same time.
        let at = |name: &str| {
            let mut command = world.command(&["commit", "c", name, "--format", "json"]);
            let ran = crate::support::ran(
                command
                    .env("SOURCE_DATE_EPOCH", "1500000000")
                    .output()
                    .unwrap(),
            );
            let found: serde_json::Value = serde_json::from_str(&ran.out).expect(&ran.err);
            found
        };
        let (first, second) = (at("one"), at("two"));
        assert_eq!(
            (&first["id"], &first["manifest"]),
            (&second["id"], &second["manifest"])
        );
        assert_eq!(first["name"], "one:latest");
        assert_eq!(
            inspect(world, "one")["config"]["created"],
            "2017-07-14T02:40:00Z"
        );
        assert_eq!(
            world.ok(&["run", "--rm", "one", "stat", "-c", "%Y", "/late"]),
            "1500000000"
        );
        world.ok(&[
            "commit",
            "-c",
            "ENV A=1",
            "-c",
            "WORKDIR /etc",
            "-c",
            "USER user",
            "-c",
            "CMD [\"sh\", \"-c\", \"id -u; pwd; echo $A\"]",
            "c",
            "changed",
        ]);
        assert_eq!(world.ok(&["run", "--rm", "changed"]), "1000\n/etc\n1");
        let refused = |args: &[&str]| world.run(args).err;
        assert!(refused(&["commit", "-c", "RUN x", "c", "y"]).contains("RUN has no place here"));
        assert!(refused(&["commit", "none", "y"]).contains("there is no container none"));
        assert!(refused(&["commit", "c", "Y"]).contains("path component"));
        // One that changed nothing has no layer more.
        world.ok(&["run", "--name", "same", "base", "true"]);
        world.ok(&["commit", "same", "same"]);
        assert_eq!(diff_ids(world, "same"), diff_ids(world, "base"));
        let config = inspect(world, "same");
        let history = config["config"]["history"].as_array().unwrap();
        assert_eq!(history.last().unwrap()["empty_layer"], true);
    });
}
