// SPDX-License-Identifier: Apache-2.0
//! Idmapped mounts: maps of a mount's own, the container's, crun's words for them, mounts below, and who owns on the
//! host what was made inside.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use corten_integration::{Draft, Mounts, Trial, kernel_is_since, trial};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

const FIRST: u32 = 100_000;

/// A directory that anybody may write to, with a file of each of these owners, named by it.
fn owned(t: &Trial, owners: &[u32]) -> PathBuf {
    let dir = t.directory("owned");
    for &id in owners {
        let file = dir.join(id.to_string());
        fs::write(&file, "").unwrap();
        chown(&file, Some(id), Some(id)).unwrap();
        rustix::fs::chmod(&file, 0o666.into()).unwrap();
    }
    rustix::fs::chmod(&dir, 0o777.into()).unwrap();
    dir
}

fn ranges(of: &[[u32; 3]]) -> Value {
    of.iter()
        .map(|[inside, outside, size]| json!({"containerID": inside, "hostID": outside, "size": size}))
        .collect()
}

/// Adds the bind of `source` at /data with these mappings, for users and groups alike.
fn mapped<'t>(draft: Draft<'t>, source: &PathBuf, options: &[&str], of: &[[u32; 3]]) -> Draft<'t> {
    draft.with(
        "/mounts/-",
        json!({"destination": "/data", "type": "bind", "source": source, "options": options,
            "uidMappings": ranges(of), "gidMappings": ranges(of)}),
    )
}

/// Runs it; the owners that are seen of the files named by their owners on the host.
#[track_caller]
fn owners(draft: Draft<'_>, files: &[u32]) -> Vec<u64> {
    let paths: Vec<_> = files.iter().map(|id| format!("/data/{id}")).collect();
    let out = draft
        .probe(&format!("stat {}", paths.join(" ")))
        .done()
        .run()
        .ok();
    let stat = out.seen("stat");
    let owner = |path: &String| {
        let (uid, gid) = (&stat[path]["uid"], &stat[path]["gid"]);
        assert_eq!(uid, gid, "{path}");
        uid.as_u64().unwrap()
    };
    paths.iter().map(owner).collect()
}

#[test]
fn owners_are_shown_through_the_maps_of_the_mount() {
    trial(|t| {
        let source = owned(t, &[0, 1000, 3000]);
        let maps = [[0, 0, 1], [1000, 5000, 10]];
        let draft = mapped(t.container(), &source, &["bind", "idmap"], &maps);
        assert_eq!(owners(draft, &[0, 1000, 3000]), [0, 5000, 65534]);
        // The fields alone mean the same, and so does a bind by its type.
        for options in [&["rbind"][..], &[]] {
            let draft = mapped(t.container(), &source, options, &maps);
            assert_eq!(owners(draft, &[1000]), [5000], "{options:?}");
        }
    });
}

#[test]
fn what_is_made_inside_belongs_to_the_id_that_is_mapped_back() {
    trial(|t| {
        let source = owned(t, &[]);
        chown(&source, Some(7000), Some(7000)).unwrap();
        let c = mapped(t.container(), &source, &["bind", "idmap"], &[[7000, 0, 10]])
            .probe("create /data/made + stat /data/made")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("create")["ok"], true, "{}", out.stdout);
        assert_eq!(out.seen("stat")["/data/made"]["uid"], 0);
        let made = fs::metadata(source.join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (7000, 7000));
    });
}

#[test]
fn users_and_groups_have_maps_of_their_own() {
    trial(|t| {
        let source = owned(t, &[1000]);
        let c = t
            .container()
            .with(
                "/mounts/-",
                json!({"destination": "/data", "type": "bind", "source": source, "options": ["idmap"],
                    "uidMappings": ranges(&[[1000, 1, 1]]), "gidMappings": ranges(&[[1000, 2, 1]])}),
            )
            .probe("stat /data/1000")
            .done();
        let stat = c.run().ok().seen("stat")["/data/1000"].clone();
        assert_eq!((&stat["uid"], &stat["gid"]), (&json!(1), &json!(2)));
    });
}

#[test]
fn a_map_shifts_ids_into_a_user_namespace() {
    trial(|t| {
        let source = owned(t, &[0, 1000, 70_000]);
        let user = || t.container().user_namespace(FIRST, 65536);
        let plain = user().mount("/data", "bind", &source, &["bind"]);
        assert_eq!(owners(plain, &[0, 1000]), [65534, 65534]);
        // The container's own namespace, told by its maps or by none; then maps that are not its own.
        let own = mapped(user(), &source, &["bind", "idmap"], &[[0, FIRST, 65536]]);
        assert_eq!(owners(own, &[0, 1000, 70_000]), [0, 1000, 65534]);
        let bare = user().mount("/data", "bind", &source, &["rbind", "ridmap"]);
        assert_eq!(owners(bare, &[0, 1000, 70_000]), [0, 1000, 65534]);
        let other = mapped(user(), &source, &["bind"], &[[1000, FIRST + 7, 1]]);
        assert_eq!(owners(other, &[0, 1000]), [65534, 7]);
    });
}

#[test]
fn root_of_a_user_namespace_writes_as_the_host_s() {
    trial(|t| {
        let source = owned(t, &[]);
        let c = t
            .container()
            .user_namespace(FIRST, 65536)
            .mount("/data", "bind", &source, &["bind", "idmap"])
            .probe("create /data/made")
            .done();
        c.run().ok();
        let made = fs::metadata(source.join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (0, 0));
    });
}

#[test]
fn the_maps_of_a_joined_user_namespace() {
    trial(|t| {
        let source = owned(t, &[0, 1000]);
        let first = t
            .container()
            .user_namespace(FIRST, 65536)
            .probe("print up + pause")
            .done();
        let out = first.run_detached();
        first.says(&out, "up");
        let path = format!("/proc/{}/ns/user", first.pid());
        let second = t
            .container()
            .user_namespace(FIRST, 65536)
            .namespace("user", Some(&path))
            .without("/linux/uidMappings")
            .without("/linux/gidMappings")
            .mount("/data", "bind", &source, &["bind", "idmap"]);
        assert_eq!(owners(second, &[0, 1000]), [0, 1000]);
        first.end();
    });
}

/// `idmap` stops at the mount itself, `ridmap` goes on below.
#[test]
fn mounts_below_are_mapped_by_ridmap_alone() {
    trial(|t| {
        let source = owned(t, &[1000]);
        let sub = source.join("sub");
        fs::create_dir(&sub).unwrap();
        rustix::mount::mount("none", &sub, "tmpfs", MountFlags::empty(), None).unwrap();
        let below = Below(sub.clone());
        fs::write(sub.join("file"), "").unwrap();
        chown(sub.join("file"), Some(1000), Some(1000)).unwrap();
        for (word, top, lower) in [("idmap", 5000, 1000), ("ridmap", 5000, 5000)] {
            // tmpfs can be idmapped since then.
            let is_possible = word == "idmap" || kernel_is_since(6, 3);
            let c = mapped(
                t.container(),
                &source,
                &["rbind", word],
                &[[0, 0, 1], [1000, 5000, 1]],
            )
            .probe("stat /data/1000 /data/sub/file")
            .done();
            if !is_possible {
                c.run().fails();
                continue;
            }
            let stat = c.run().ok().seen("stat");
            assert_eq!(stat["/data/1000"]["uid"], top, "{word}");
            assert_eq!(stat["/data/sub/file"]["uid"], lower, "{word}");
        }
        drop(below);
    });
}

struct Below(PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

#[test]
fn the_option_may_have_the_maps() {
    trial(|t| {
        let source = owned(t, &[0, 11, 1000]);
        let cases: [(&str, [u64; 3]); 2] = [
            (
                "idmap=uids=0-0-1#11-22-1;gids=0-0-1#11-22-1",
                [0, 22, 65534],
            ),
            ("ridmap=gids=1000-5-1;uids=1000-5-1", [65534, 65534, 5]),
        ];
        for (option, wanted) in cases {
            let draft = t
                .container()
                .mount("/data", "bind", &source, &["rbind", option]);
            assert_eq!(owners(draft, &[0, 11, 1000]), wanted, "{option}");
        }
        let relative = t.container().user_namespace(FIRST, 65536).mount(
            "/data",
            "bind",
            &source,
            &["bind", "idmap=uids=@11-3-1;gids=@11-3-1"],
        );
        assert_eq!(owners(relative, &[11, 1000]), [3, 65534]);
    });
}

/// Two maps for three mounts, one of a single file, with attributes and propagation beside.
#[test]
fn several_mounts_with_several_maps() {
    trial(|t| {
        let source = owned(t, &[1000]);
        let file = source.join("1000");
        let mount = |to: &str, from: &PathBuf, options: Value, shown: u32| {
            json!({"destination": to, "type": "bind", "source": from, "options": options,
                "uidMappings": ranges(&[[1000, shown, 1]]), "gidMappings": ranges(&[[1000, shown, 1]])})
        };
        let c = t
            .container()
            .with(
                "/mounts/-",
                mount("/data", &source, json!(["ro", "nosuid", "idmap"]), 1),
            )
            .with(
                "/mounts/-",
                mount("/tmp", &source, json!(["rslave", "idmap"]), 2),
            )
            .with("/mounts/-", mount("/etc/file", &file, json!(["idmap"]), 2))
            .probe("stat /data/1000 /tmp/1000 /etc/file + mounts + write /data/1000 x")
            .done();
        let out = c.run().ok();
        let stat = out.seen("stat");
        let seen = ["/data/1000", "/tmp/1000", "/etc/file"].map(|path| stat[path]["uid"].clone());
        assert_eq!(seen, [json!(1), json!(2), json!(2)]);
        let mounts = Mounts::of(&out.seen("mounts"));
        for (point, ro) in [("/data", true), ("/tmp", false), ("/etc/file", false)] {
            let mount = mounts.at(point);
            assert!(mount.has("idmapped"), "{}", mount.get("options"));
            assert_eq!(mount.has("ro"), ro, "{point}");
        }
        assert_eq!(out.seen("write")["errno"], "EROFS");
    });
}

/// The same source without a map, beside: the map is the mount's, not the file system's.
#[test]
fn the_source_itself_is_not_mapped() {
    trial(|t| {
        let source = owned(t, &[1000]);
        let c = mapped(t.container(), &source, &["bind"], &[[1000, 1, 1]])
            .mount("/tmp", "bind", &source, &["bind"])
            .probe("stat /data/1000 /tmp/1000")
            .done();
        let stat = c.run().ok().seen("stat");
        assert_eq!(stat["/data/1000"]["uid"], 1);
        assert_eq!(stat["/tmp/1000"]["uid"], 1000);
        assert_eq!(fs::metadata(source.join("1000")).unwrap().uid(), 1000);
    });
}

/// A link that is copied has no mount whose owners could be mapped.
#[test]
fn a_copied_link_needs_no_map() {
    trial(|t| {
        let link = t.dir.join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let c = t
            .container()
            .user_namespace(FIRST, 65536)
            .mount(
                "/data/link",
                "bind",
                &link,
                &["bind", "idmap", "copy-symlink"],
            )
            .probe("stat /data/link")
            .done();
        let stat = c.run().ok().seen("stat");
        assert_eq!(stat["/data/link"]["target"], "/etc/passwd");
    });
}

/// The runtime may need many descriptors for the sources; the program's limit is the caller's all the same.
#[test]
fn the_limit_of_open_files_is_the_caller_s() {
    trial(|t| {
        let source = owned(t, &[]);
        for (draft, limits) in [
            (t.container(), None),
            (t.container().user_namespace(FIRST, 65536), None),
            (
                t.container(),
                Some(json!([{"type": "RLIMIT_NOFILE", "soft": 600, "hard": 700}])),
            ),
        ] {
            let wanted = match limits {
                None => ["500", "1000"],
                Some(_) => ["600", "700"],
            };
            let limits = limits.unwrap_or(json!([]));
            let c = mapped(draft, &source, &["bind"], &[[0, 0, 1]])
                .with("/process/rlimits", limits)
                .probe("rlimits")
                .done();
            let out = t
                .program(std::path::Path::new("/usr/bin/prlimit"))
                .arg("--nofile=500:1000")
                .arg(&t.runtime.path)
                .arg("--root")
                .arg(t.state_root())
                .args(["run", "--bundle", c.bundle.to_str().unwrap(), &c.id])
                .end()
                .ok();
            assert_eq!(out.seen("rlimits")["Max open files"], json!(wanted));
        }
    });
}
