// SPDX-License-Identifier: Apache-2.0
//! Groups in a directory that looks as resctrl does. What the kernel does there by itself, filling a new group with files
//! and removing one with them in it, is done by hand.

use std::fs::{create_dir, create_dir_all, read_dir, read_to_string, remove_file, write};
use std::path::PathBuf;

use super::*;
use crate::plan::rdt::plan;

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let own = format!("corten-rdt-{}-{name}", std::process::id());
        let tree = Self(std::env::temp_dir().join(own));
        create_dir_all(tree.0.join("info/L3_MON")).unwrap();
        write(tree.0.join("info/L3_MON/mon_features"), "llc_occupancy\n").unwrap();
        write(tree.0.join("info/last_cmd_status"), "ok\n").unwrap();
        tree.fill("", "L3:0=f\n");
        tree
    }

    /// A group as the kernel makes it.
    fn fill(&self, group: &str, schemata: &str) {
        create_dir_all(self.0.join(group).join("mon_groups")).unwrap();
        write(self.0.join(group).join("schemata"), schemata).unwrap();
        write(self.0.join(group).join("tasks"), "").unwrap();
    }

    /// What the kernel does to a group's own files when the group is removed.
    fn empty(&self, group: &str) {
        for name in ["schemata", "tasks"] {
            remove_file(self.0.join(group).join(name)).unwrap();
        }
        std::fs::remove_dir(self.0.join(group).join("mon_groups")).unwrap();
    }

    fn root(&self) -> Option<Root> {
        Some(Root::over(fs::open_dir(&self.0).unwrap()).unwrap())
    }

    fn reserve(&self, json: &str) -> Result<Reservation> {
        reserve(self.root(), &planned(json))
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    fn text(&self, path: &str) -> String {
        read_to_string(self.0.join(path)).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn planned(json: &str) -> Rdt {
    plan(&serde_json::from_str(json).unwrap(), "web").unwrap()
}

fn message(result: Result<Reservation>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn without_resctrl_it_is_refused_with_the_remedy() {
    let text = message(reserve(None, &planned("{}")));
    assert!(text.contains("/linux/intelRdt"), "{text}");
    assert!(text.contains("mount -t resctrl"), "{text}");
    // What ends or joins is not in the way of a host that has unmounted it.
    let group = planned("{}").group;
    end(None, &group).unwrap();
    assert!(open(None, &group).unwrap().is_none());
}

#[test]
fn a_group_of_its_own_is_made_limited_joined_and_removed() {
    let tree = Tree::new("own");
    let json = r#"{"l3CacheSchema": "L3:0=3", "memBwSchema": "MB:0=20"}"#;
    let rdt = tree.reserve(json).unwrap();
    assert!(rdt.group().is_made);
    assert!(
        !tree.has("web"),
        "nothing is made before it is written down"
    );
    rdt.make_group().unwrap();
    tree.fill("web", "");
    rdt.limit(&planned(json).schemata).unwrap();
    assert_eq!(tree.text("web/schemata"), "L3:0=3\nMB:0=20\n");
    rdt.join(42).unwrap();
    assert_eq!(tree.text("web/tasks"), "42");
    let group = rdt.group().clone();
    rdt.keep();
    let second = open(tree.root(), &group).unwrap().unwrap();
    second.join(43).unwrap();
    drop(second);
    assert_eq!(tree.text("web/tasks"), "43");
    tree.empty("web");
    end(tree.root(), &group).unwrap();
    assert!(!tree.has("web"));
    end(tree.root(), &group).unwrap();
    assert!(open(tree.root(), &group).unwrap().is_none());
}

#[test]
fn a_failed_start_leaves_nothing() {
    let tree = Tree::new("undo");
    let json = r#"{"schemata": ["L3:0=3"]}"#;
    let rdt = tree.reserve(json).unwrap();
    // Nobody fills the group here: its schemata can't be written.
    let error = rdt.make(&planned(json)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::NOENT));
    assert!(tree.has("web"));
    drop(rdt);
    assert!(!tree.has("web"));
}

#[test]
fn a_start_that_fails_before_anything_is_made_removes_nothing_of_others() {
    let tree = Tree::new("others");
    tree.fill("gold", "L3:0=f\n");
    drop(tree.reserve(r#"{"closID": "gold"}"#).unwrap());
    drop(tree.reserve(r#"{"closID": "/"}"#).unwrap());
    drop(tree.reserve("{}").unwrap());
    assert!(tree.has("gold/schemata") && tree.has("schemata"));
}

#[test]
fn a_named_group_without_schemata_must_be_there() {
    let tree = Tree::new("named");
    let text = message(tree.reserve(r#"{"closID": "gold"}"#));
    assert!(text.contains("/linux/intelRdt/closID"), "{text}");
    tree.fill("gold", "L3:0=f\n");
    let rdt = tree.reserve(r#"{"closID": "gold"}"#).unwrap();
    assert!(!rdt.group().is_made);
    rdt.make(&planned(r#"{"closID": "gold"}"#)).unwrap();
    rdt.join(7).unwrap();
    assert_eq!(tree.text("gold/tasks"), "7");
    let group = rdt.group().clone();
    rdt.keep();
    end(tree.root(), &group).unwrap();
    assert!(tree.has("gold"), "it was there before");
}

#[test]
fn a_group_that_is_there_must_have_the_schemata() {
    let tree = Tree::new("match");
    tree.fill("gold", "    L3:0=f;1=3\n    MB:0=100\n");
    let asks = |schemata: &str| format!(r#"{{"closID": "gold", "schemata": {schemata}}}"#);
    tree.reserve(&asks(r#"["L3:0=f;1=3", "MB:0=100"]"#))
        .unwrap();
    for other in [r#"["L3:0=f;1=3"]"#, r#"["L3:0=f;1=1", "MB:0=100"]"#] {
        let text = message(tree.reserve(&asks(other)));
        assert!(text.contains("with other schemata"), "{text}");
    }
    assert_eq!(tree.text("gold/schemata"), "    L3:0=f;1=3\n    MB:0=100\n");
}

#[test]
fn the_root_is_a_group_too() {
    let tree = Tree::new("root");
    let json = r#"{"closID": "/", "enableMonitoring": true}"#;
    let rdt = tree.reserve(json).unwrap();
    rdt.make(&planned(json)).unwrap();
    write(tree.0.join("mon_groups/web/tasks"), "").unwrap();
    rdt.join(9).unwrap();
    assert_eq!(tree.text("tasks"), "9");
    assert_eq!(tree.text("mon_groups/web/tasks"), "9");
    let group = rdt.group().clone();
    rdt.keep();
    remove_file(tree.0.join("mon_groups/web/tasks")).unwrap();
    end(tree.root(), &group).unwrap();
    assert!(tree.has("schemata") && !tree.has("mon_groups/web"));
}

#[test]
fn a_monitoring_group_is_the_container_s_alone() {
    let tree = Tree::new("monitor");
    tree.fill("gold", "L3:0=f\n");
    create_dir(tree.0.join("gold/mon_groups/other")).unwrap();
    let json = r#"{"closID": "gold", "enableMonitoring": true}"#;
    let rdt = tree.reserve(json).unwrap();
    rdt.make(&planned(json)).unwrap();
    assert!(tree.has("gold/mon_groups/web"));
    drop(rdt);
    assert!(!tree.has("gold/mon_groups/web"));
    assert!(tree.has("gold/mon_groups/other"));
}

#[test]
fn a_shared_group_goes_only_when_nobody_uses_it() {
    let tree = Tree::new("shared");
    let group = Group {
        is_made: true,
        ..planned(r#"{"closID": "gold"}"#).group
    };
    tree.fill("gold", "L3:0=f\n");
    write(tree.0.join("gold/tasks"), "77\n").unwrap();
    end(tree.root(), &group).unwrap();
    assert!(tree.has("gold"), "somebody is in it");
    write(tree.0.join("gold/tasks"), "").unwrap();
    create_dir(tree.0.join("gold/mon_groups/other")).unwrap();
    end(tree.root(), &group).unwrap();
    assert!(tree.has("gold/mon_groups/other"), "somebody watches in it");
    std::fs::remove_dir(tree.0.join("gold/mon_groups/other")).unwrap();
    tree.empty("gold");
    end(tree.root(), &group).unwrap();
    assert!(!tree.has("gold"));
}

#[test]
fn what_the_processor_does_not_watch_is_refused() {
    let tree = Tree::new("features");
    tree.reserve(r#"{"enableCMT": true}"#).unwrap();
    let text = message(tree.reserve(r#"{"enableMBM": true}"#));
    assert!(text.contains("/linux/intelRdt/enableMBM"), "{text}");
    assert_eq!(read_dir(&tree.0).unwrap().count(), 4, "nothing was made");
}

#[test]
fn the_tree_is_locked_until_the_container_has_joined() {
    let tree = Tree::new("lock");
    let is_locked = || {
        let other = tree.root().unwrap();
        let taken = lock::exclusive(other.0.as_fd(), Duration::ZERO).unwrap();
        if taken == Lock::Taken {
            lock::release(other.0.as_fd()).unwrap();
        }
        taken == Lock::Busy
    };
    let rdt = tree.reserve(r#"{"closID": "/"}"#).unwrap();
    assert!(is_locked());
    rdt.join(1).unwrap();
    assert!(!is_locked());
    rdt.keep();
}

#[test]
fn a_refusal_tells_what_the_kernel_said() {
    let tree = Tree::new("status");
    write(tree.0.join("info/last_cmd_status"), "Duplicate domain 0\n").unwrap();
    let json = r#"{"schemata": ["L3:0=3;0=1"]}"#;
    let rdt = tree.reserve(json).unwrap();
    let text = rdt.make(&planned(json)).unwrap_err().to_string();
    assert!(text.contains("Duplicate domain 0"), "{text}");
}

#[test]
fn a_group_gets_new_schemata_and_says_what_it_had() {
    let tree = Tree::new("update");
    let group = planned("{}").group;
    let lines = |text: &str| vec![text.to_owned()];
    let error = limit(tree.root(), &group, &lines("L3:0=7")).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
    tree.fill("web", "    L3:0=3\n    MB:0=20\n");
    let former = schemata(tree.root(), &group).unwrap();
    assert_eq!(former, ["L3:0=3", "MB:0=20"]);
    limit(tree.root(), &group, &lines("L3:0=ffffffff;1=ffffffff")).unwrap();
    assert!(
        tree.text("web/schemata")
            .starts_with("L3:0=ffffffff;1=ffffffff\n")
    );
    assert!(limit(None, &group, &former).is_err());
    assert!(schemata(None, &group).is_err());
    // Whoever comes next finds the tree unlocked.
    assert!(
        lock::exclusive(tree.root().unwrap().0.as_fd(), Duration::ZERO).unwrap() == Lock::Taken
    );
    tree.empty("web");
}

/// A group whose `tasks` keeps every number that was written to it.
fn watched(tree: &Tree, group: &str) -> (PathBuf, std::fs::File) {
    let path = tree.0.join(group).join("tasks");
    remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    // Open for both, a pipe blocks neither side.
    let mut both = std::fs::OpenOptions::new();
    let pipe = both.read(true).write(true).open(&path).unwrap();
    (path, pipe)
}

#[test]
fn the_first_class_of_a_container_that_runs_takes_all_its_threads() {
    let tree = Tree::new("first");
    let json = r#"{"l3CacheSchema": "L3:0=3"}"#;
    let rdt = tree.reserve(json).unwrap();
    assert!(rdt.group().is_made);
    rdt.make_group().unwrap();
    tree.fill("web", "");
    rdt.limit(&planned(json).schemata).unwrap();
    let (path, mut pipe) = watched(&tree, "web");
    // What the threads of one round make is found in the next, and nobody is moved twice.
    let rounds = std::cell::Cell::new(0);
    let threads = || {
        rounds.set(rounds.get() + 1);
        Ok(match rounds.get() {
            1 => vec![10],
            2 => vec![10, 23],
            _ => vec![10, 23, 31],
        })
    };
    rdt.join_all(threads).unwrap();
    assert_eq!(rounds.get(), 4);
    let mut written = [0; 64];
    let length = std::io::Read::read(&mut pipe, &mut written).unwrap();
    assert_eq!(&written[..length], b"102331");
    assert_eq!(tree.text("web/schemata"), "L3:0=3\n");
    // A later update finds it by the record, and the container's end removes it.
    let group = rdt.group().clone();
    rdt.keep();
    assert_eq!(schemata(tree.root(), &group).unwrap(), ["L3:0=3"]);
    remove_file(path).unwrap();
    write(tree.0.join("web/tasks"), "").unwrap();
    tree.empty("web");
    end(tree.root(), &group).unwrap();
    assert!(!tree.has("web"));
}

#[test]
fn a_first_class_that_not_all_threads_can_have_goes_again() {
    let tree = Tree::new("none");
    let json = r#"{"l3CacheSchema": "L3:0=3"}"#;
    let rdt = tree.reserve(json).unwrap();
    rdt.make_group().unwrap();
    tree.fill("web", "");
    let failed = || Err(Error::new(Kind::System, "no such cgroup"));
    let error = rdt.join_all(failed).unwrap_err();
    assert!(error.to_string().contains("no such cgroup"), "{error}");
    remove_file(tree.0.join("web/tasks")).unwrap();
    let error = rdt.join_all(|| Ok(vec![10])).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::NOENT));
    write(tree.0.join("web/tasks"), "").unwrap();
    tree.empty("web");
    drop(rdt);
    assert!(!tree.has("web"));
    // A bomb that is always ahead ends the search, not the runtime.
    let rdt = tree.reserve(r#"{"closID": "/"}"#).unwrap();
    let last = std::cell::Cell::new(0);
    let endless = || {
        last.set(last.get() + 1);
        Ok((1..=last.get()).collect())
    };
    rdt.join_all(endless).unwrap();
    assert_eq!(usize::try_from(last.get()).unwrap(), ROUNDS);
    rdt.keep();
}

#[test]
fn stats_tell_of_what_the_machine_has() {
    let tree = Tree::new("stats");
    let put = |path: &str, text: &str| {
        let path = tree.0.join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
    };
    let group = planned(r#"{"enableMonitoring": true}"#).group;
    let shown = |root| {
        let text = stats(root, &group).unwrap().json().compact();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(shown(None), serde_json::json!({}));
    for (name, number) in [
        ("cbm_mask", "fff"),
        ("min_cbm_bits", "2"),
        ("num_closids", "16"),
    ] {
        put(&format!("info/L3/{name}"), &format!("{number}\n"));
    }
    put("schemata", "    MB:0=100;1=100\n    L3:0=fff;1=fff\n");
    put("web/schemata", "    MB:0=100;1=100\n    L3:0=3;1=3\n");
    put(
        "info/L3_MON/mon_features",
        "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n",
    );
    for (cache, occupancy, total, local) in
        [("01", "7", "70", "Unavailable"), ("00", "5", "50", "40")]
    {
        let file = |name: &str| format!("web/mon_groups/web/mon_data/mon_L3_{cache}/{name}");
        put(&file("llc_occupancy"), occupancy);
        put(&file("mbm_total_bytes"), total);
        put(&file("mbm_local_bytes"), local);
    }
    assert_eq!(
        shown(tree.root()),
        serde_json::json!({
            "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 2, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=fff;1=fff",
            "l3_cache_schema": "L3:0=3;1=3",
            "mbm_stats": [
                {"mbm_total_bytes": 50, "mbm_local_bytes": 40},
                {"mbm_total_bytes": 70},
            ],
            "cmt_stats": [{"llc_occupancy": 5}, {"llc_occupancy": 7}],
        })
    );
}
