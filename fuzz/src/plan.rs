// SPDX-License-Identifier: Apache-2.0
//! What has to hold of every plan, whatever document it was made of: the invariants that the code which carries it out
//! relies on. Called by the targets `config` and `process`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use corten::cgroup::resources::{Missing, Resources};
use corten::cgroup::{Entry, Paths};
use corten::host::{Layout, V1};
use corten::plan::devices::Device;
use corten::plan::namespaces::Caller;
use corten::plan::process::Process;
use corten::plan::{Keyring, Options, Plan, rootfs::Pivot};

/// A pure v2 host, and a hybrid one with every controller that is joined.
pub fn layouts() -> [Layout; 2] {
    let v1 = |names: &[&str]| V1 {
        controllers: names.iter().map(|name| (*name).to_owned()).collect(),
        path: Path::new("/cg").join(names.join(",")),
    };
    [
        Layout {
            unified: "/cg".into(),
            v1: Vec::new(),
        },
        Layout {
            unified: "/cg/unified".into(),
            v1: vec![
                v1(&["blkio"]),
                v1(&["cpu", "cpuacct"]),
                v1(&["cpuset"]),
                v1(&["hugetlb"]),
                v1(&["memory"]),
                v1(&["net_cls", "net_prio"]),
                v1(&["pids"]),
                v1(&["rdma"]),
            ],
        },
    ]
}

/// What `create` would be told.
pub fn options(cgroup: Paths) -> Options {
    Options {
        id: "fuzz".into(),
        pivot: Pivot::PivotRoot,
        keyring: Keyring::New,
        preserved: 0,
        env: Vec::new(),
        cgroup,
        entry: Entry::Cloned,
        caller: Caller::Host,
        filter: None,
    }
}

/// Every level is a plain name: nothing leads out.
fn is_below(path: &Path) -> bool {
    path.components()
        .all(|component| matches!(component, Component::Normal(_)))
}

/// Holds a plan against what `child` and `parent` rely on.
pub fn assert_plan(plan: &Plan) {
    assert_process(&plan.process);
    assert!(plan.rootfs.path.is_absolute(), "{:?}", plan.rootfs);
    for mount in &plan.mounts {
        let inside = mount.target.strip_prefix("/");
        assert!(
            inside.is_ok_and(|inside| is_below(inside) && inside != Path::new("")),
            "{mount:?}"
        );
    }
    for (path, value, name) in &plan.sysctls {
        assert!(is_below(Path::new(path)), "{name}: {path}");
        assert!(!value.contains(['\n', '\0']), "{name}: {value:?}");
    }
    let mut nodes: BTreeMap<_, &Device> = BTreeMap::new();
    for node in &plan.devices.nodes {
        // One that is there twice is the same, or the second could not be made.
        let known = nodes.entry(&node.path).or_insert(node);
        let pointer = node.pointer.clone();
        assert_eq!(
            *node,
            Device {
                pointer,
                ..known.clone()
            }
        );
        assert!(
            node.path.is_absolute() && node.mode & !0o7777 == 0,
            "{node:?}"
        );
    }
    for path in plan.masked_paths.iter().chain(&plan.readonly_paths) {
        assert!(path.starts_with('/') && !path.contains('\0'), "{path:?}");
    }
    if let Some(maps) = &plan.namespaces.maps {
        assert!(!maps.uids.is_empty() && !maps.gids.is_empty(), "{maps:?}");
        for map in maps.uids.iter().chain(&maps.gids) {
            let ends = [map.inside, map.outside].map(|first| first.checked_add(map.size));
            assert!(map.size > 0 && !ends.contains(&None), "{map:?}");
        }
    }
    for name in [&plan.hostname, &plan.domainname].into_iter().flatten() {
        assert!((1..=64).contains(&name.len()), "{name:?}");
    }
    for join in &plan.namespaces.join {
        assert!(join.path.is_absolute(), "{join:?}");
    }
    assert_cgroup(&plan.cgroup);
    if let Some(rdt) = &plan.rdt {
        // The root's own group, or one directory in it.
        let name = Path::new(&rdt.group.name);
        assert!(is_below(name) && name.components().count() <= 1, "{rdt:?}");
        let reserved = ["info", "mon_groups", "mon_data"];
        assert!(!reserved.contains(&rdt.group.name.as_str()), "{rdt:?}");
        for line in &rdt.schemata {
            assert!(!line.is_empty() && !line.contains(['\n', '\0']), "{rdt:?}");
        }
    }
    for device in &plan.net_devices {
        assert_device_name(&device.name);
        assert_device_name(&device.inside.replace("%d", "0"));
    }
}

/// What the kernel takes for the name of a network device (dev_valid_name).
fn assert_device_name(name: &str) {
    let good = (1..16).contains(&name.len()) && name != "." && name != "..";
    let odd = |c: char| c == '/' || c == ':' || c == '%' || c == '\0' || c.is_ascii_whitespace();
    assert!(good && !name.contains(odd), "{name:?}");
}

/// The cgroup is below its mount, and not the mount itself.
pub fn assert_cgroup(paths: &Paths) {
    for place in paths.v1.iter().chain([&paths.unified]) {
        assert!(
            is_below(&place.cgroup) && place.cgroup != Path::new(""),
            "{place:?}"
        );
    }
}

/// Holds a planned process against what execve and the credentials rely on.
pub fn assert_process(process: &Process) {
    assert!(!process.args.is_empty());
    assert!(process.cwd.is_absolute(), "{:?}", process.cwd);
    let all = process.args.iter().chain(&process.env);
    for text in all {
        assert!(!text.contains('\0'), "{text:?}");
    }
    let names = process.env.iter().map(|entry| entry.split('=').next());
    assert_eq!(
        names.collect::<BTreeSet<_>>().len(),
        process.env.len(),
        "{:?}",
        process.env
    );
    for id in process.groups.iter().chain([&process.uid, &process.gid]) {
        assert_ne!(*id, u32::MAX, "setresuid(2) would leave the id as it is");
    }
    assert_eq!(process.umask & !0o777, 0);
    let sets = process.capabilities;
    assert_eq!(sets.effective & !sets.permitted, 0, "{sets:?}");
    assert_eq!(
        sets.ambient & !(sets.permitted & sets.inheritable),
        0,
        "{sets:?}"
    );
    for limit in &process.limits {
        assert!(limit.resource < 16, "{limit:?}");
        // No limit is the highest one.
        let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        assert!(number(limit.soft) <= number(limit.hard), "{limit:?}");
    }
}

/// Every file that would be written is one of the cgroup's own directory.
pub fn assert_resources(resources: &Resources, layout: &Layout) {
    for setting in &resources.settings {
        let instead = match &setting.missing {
            Missing::Instead { file, .. } => Some(file),
            Missing::Refuse | Missing::Accept => None,
        };
        for file in [Some(&setting.file), instead].into_iter().flatten() {
            let mut parts = Path::new(file).components();
            let only = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
            assert!(only && !file.contains('\0'), "{setting:?}");
        }
        if let corten::cgroup::resources::Hierarchy::V1(index) = setting.hierarchy {
            assert!(index < layout.v1.len(), "{setting:?}");
        }
        assert!(!setting.value.contains('\0'), "{setting:?}");
    }
}
