// SPDX-License-Identifier: Apache-2.0
//! Removing what a container may have made of its cgroup.

use super::*;

/// Makes `depth` cgroups, one below the other, each with `width` others beside it.
fn grow(top: &Path, depth: usize, width: usize) -> PathBuf {
    let mut level = top.to_owned();
    for _ in 0..depth {
        for index in 0..width {
            std::fs::create_dir(level.join(format!("wide{index}"))).unwrap();
        }
        level.push("deep");
        std::fs::create_dir(&level).unwrap();
    }
    level
}

#[test]
fn a_tree_of_cgroups_is_removed_with_its_processes() {
    let Some(mut ground) = Ground::new("tree", View::Host) else {
        return;
    };
    ground.create().keep().unwrap();
    let bottoms: Vec<PathBuf> = ground
        .places()
        .map(Place::path)
        .map(|top| grow(&top, 12, 3))
        .collect();
    let is_cpuset = |path: &PathBuf| path.starts_with("/sys/fs/cgroup/cpuset");
    let joined: Vec<PathBuf> = bottoms
        .into_iter()
        .filter(|path| !is_cpuset(path))
        .collect();
    let pid = ground.spawn_in(&joined, "sleep 1000 & wait");
    assert!(ground.open().processes().unwrap().contains(&pid));
    end(&ground.paths, || Cgroup::open_marked(&ground.paths), soon()).unwrap();
    assert!(!ground.path().exists());
}

#[test]
fn deep_and_wide_trees_need_no_stack_and_few_descriptors() {
    let Some(ground) = Ground::new("deep", View::Unified) else {
        return;
    };
    ground.create().keep().unwrap();
    grow(&ground.path(), 300, 0);
    for index in 0..300 {
        std::fs::create_dir(ground.path().join(format!("wide{index}"))).unwrap();
    }
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    remove(&ground.paths, soon()).unwrap();
    assert!(!ground.path().exists());
    let after = std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests of this process open and close theirs meanwhile, but not hundreds.
    assert!(after < before + 100, "{before} {after}");
}

#[test]
fn a_process_that_stays_makes_removal_fail_in_time_and_by_name() {
    let Some(mut ground) = Ground::new("busy", View::Host) else {
        return;
    };
    ground.create().keep().unwrap();
    let pid = ground.spawn("exec sleep 1000");
    let start = Instant::now();
    let error = remove(&ground.paths, shortly()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(
        error.to_string().contains(&format!("processes [{pid}]")),
        "{error}"
    );
}

#[test]
fn a_process_that_ends_in_time_lets_removal_succeed() {
    let Some(mut ground) = Ground::new("ending", View::Host) else {
        return;
    };
    ground.create().keep().unwrap();
    ground.spawn("exec sleep 0.3");
    remove(&ground.paths, soon()).unwrap();
    assert!(!ground.path().exists());
}

#[test]
fn an_intent_cleans_up_its_own_only() {
    let Some(mut ground) = Ground::new("intent", View::Host) else {
        return;
    };
    // Killed between making the directory and marking it.
    for place in ground.places() {
        std::fs::create_dir(place.path()).unwrap();
    }
    end_intended(&ground.paths, soon()).unwrap();
    assert!(!ground.path().exists());

    // Killed before it was refused: the processes are another container's.
    ground.create().keep().unwrap();
    ground.spawn("exec sleep 1000");
    let mut other = ground.paths.clone();
    other.owner = "another".to_owned();
    assert!(Cgroup::open_marked(&other).unwrap().is_none());
    end_intended(&other, soon()).unwrap();
    assert!(ground.open().populated().unwrap());

    // A longer and a shorter name are other names.
    for name in [
        format!("{}x", ground.paths.owner),
        ground.paths.owner[1..].to_owned(),
    ] {
        other.owner = name;
        assert!(
            Cgroup::open_marked(&other).unwrap().is_none(),
            "{}",
            other.owner
        );
    }

    // Killed after init was cloned.
    assert!(Cgroup::open_marked(&ground.paths).unwrap().is_some());
    end_intended(&ground.paths, soon()).unwrap();
    assert!(!ground.path().exists());
}
