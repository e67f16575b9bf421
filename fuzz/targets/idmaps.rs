// SPDX-License-Identifier: Apache-2.0
//! Id maps of a user namespace: what the rules accept is what the kernel accepts, and the process's ids are mapped just
//! where a look at every single id says so.

#![no_main]

use arbitrary::Arbitrary;
use corten::bundle;
use corten::bundle::finding::Unknown;
use corten::bundle::spec::{LinuxIdMapping, Mount};
use corten::plan::mount_ids::{self, Through};
use corten::plan::namespaces::{self, IdMap, IdMaps};
use corten::plan::options::IdMapWord;
use corten_sys::mount::Reach;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// An edge of the id space or of another range, and a step from it: numbers that meet are more telling than any.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Number {
    Small(u8),
    Near(u8),
    Any(u32),
}

impl Number {
    fn value(self) -> u32 {
        match self {
            Self::Small(number) => u32::from(number),
            Self::Near(number) => u32::MAX - u32::from(number),
            Self::Any(number) => number,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Input {
    uids: Vec<[Number; 3]>,
    gids: Vec<[Number; 3]>,
    user: [Number; 2],
    groups: Vec<Number>,
    /// The first map as many times: the kernel takes 340.
    many: u16,
    /// What a mount's `idmap=` says: whether it is relative to the container's ids, and the numbers.
    option: [Vec<(bool, [Number; 3])>; 2],
}

fuzz_target!(|input: Input| {
    let triples = |maps: &[[Number; 3]]| -> Vec<[u32; 3]> {
        let maps = maps.iter().take(64);
        maps.map(|map| map.map(Number::value)).collect()
    };
    let mut uids = triples(&input.uids);
    if input.many > 300 && input.many < 400 {
        // One id each, far apart.
        uids = (0..u32::from(input.many))
            .map(|n| [n * 2, n * 3, 1])
            .collect();
    }
    let gids = triples(&input.gids);
    let [uid, gid] = input.user.map(Number::value);
    let groups: Vec<u32> = input
        .groups
        .iter()
        .take(8)
        .map(|group| group.value())
        .collect();
    let listed = |maps: &[[u32; 3]]| -> Vec<Value> {
        let maps = maps.iter();
        maps.map(|[inside, outside, size]| json!({"containerID": inside, "hostID": outside, "size": size}))
            .collect()
    };
    let document = json!({
        "ociVersion": "1.3.0",
        "process": {"args": ["x"], "cwd": "/", "user": {"uid": uid, "gid": gid, "additionalGids": groups}},
        "root": {"path": "rootfs"},
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "user"}],
            "uidMappings": listed(&uids),
            "gidMappings": listed(&gids),
        },
    });
    let (spec, findings) = bundle::judge(document.to_string().as_bytes(), Unknown::Ignored)
        .expect("it fits the types");
    let refused = |pointer: &str| {
        findings
            .iter()
            .any(|finding| finding.pointer == pointer && finding.error().is_some())
    };
    for (name, maps) in [("uidMappings", &uids), ("gidMappings", &gids)] {
        let pointer = format!("/linux/{name}");
        assert_eq!(
            refused(&pointer),
            maps.is_empty() || maps.len() > 340,
            "{maps:?}"
        );
        for (index, map) in maps.iter().enumerate() {
            let item = format!("{pointer}/{index}");
            let size_is_wrong = size_is_wrong(map);
            assert_eq!(refused(&format!("{item}/size")), size_is_wrong, "{maps:?}");
            let overlaps = map[2] > 0 && maps[..index].iter().any(|other| overlap(other, map));
            assert_eq!(refused(&item), overlaps, "{index} of {maps:?}");
        }
    }
    let maps_id = |maps: &[[u32; 3]], id: u32| {
        maps.is_empty() || maps.iter().any(|map| holds(map[0], map[2], id))
    };
    let reserved = |id: u32| id == u32::MAX;
    let user = "/process/user";
    assert_eq!(
        refused(&format!("{user}/uid")),
        !maps_id(&uids, uid) || reserved(uid),
        "{uid} {uids:?}"
    );
    assert_eq!(
        refused(&format!("{user}/gid")),
        !maps_id(&gids, gid) || reserved(gid),
        "{gid} {gids:?}"
    );
    for (index, &group) in groups.iter().enumerate() {
        let pointer = format!("{user}/additionalGids/{index}");
        assert_eq!(
            refused(&pointer),
            !maps_id(&gids, group) || reserved(group),
            "{group} {gids:?}"
        );
    }
    if !findings.iter().any(|finding| finding.error().is_some()) {
        written(&spec, &uids);
        mounted(&spec, [&uids, &gids], input.option);
    }
});

/// The text for the kernel has the maps, in their order.
fn written(spec: &bundle::spec::Spec, uids: &[[u32; 3]]) {
    let linux = spec.linux.as_ref().expect("it is there");
    let planned = namespaces::plan(linux, namespaces::Caller::Host)
        .expect("what the rules accept has a plan");
    let text = IdMaps::text(&planned.maps.expect("there is a new user namespace").uids);
    let read = text.lines().map(|line| {
        let numbers = line
            .split(' ')
            .map(|number| number.parse().expect("a number"));
        <[u32; 3]>::try_from(numbers.collect::<Vec<_>>()).expect("three of them")
    });
    assert_eq!(read.collect::<Vec<_>>(), uids);
    let kept = |map: &LinuxIdMapping| [map.container_id, map.host_id, map.size];
    assert_eq!(
        linux.uid_mappings.iter().map(kept).collect::<Vec<_>>(),
        uids
    );
}

/// The maps of an idmapped mount: as the option says them, the relative ones moved by the container's.
fn mounted(
    spec: &bundle::spec::Spec,
    own: [&[[u32; 3]]; 2],
    option: [Vec<(bool, [Number; 3])>; 2],
) {
    let option = option.map(|list| {
        let list = list.into_iter().take(8);
        list.map(|(relative, map)| (relative, map.map(Number::value)))
            .collect::<Vec<_>>()
    });
    let range = |(relative, [inside, outside, size]): &(bool, [u32; 3])| {
        let sign = if *relative { "@" } else { "" };
        format!("{sign}{inside}-{outside}-{size}")
    };
    let lists = ["uids", "gids"].into_iter().zip(&option);
    let lists = lists.map(|(name, list)| {
        let ranges: Vec<String> = list.iter().map(range).collect();
        (!list.is_empty()).then(|| format!("{name}={}", ranges.join("#")))
    });
    let text = lists.flatten().collect::<Vec<_>>().join(";");

    let moved = |(relative, map): &(bool, [u32; 3]), own: &[[u32; 3]]| {
        let [inside, outside, size] = *map;
        if !relative {
            return Some([inside, outside, size]);
        }
        let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
        let around =
            |own: &&[u32; 3]| own[0] <= outside && end(outside, size) <= end(own[0], own[2]);
        own.iter()
            .find(around)
            .map(|own| [inside, own[1] + (outside - own[0]), size])
    };
    let wanted = [0, 1].map(|kind| {
        let list = option[kind].iter().map(|range| moved(range, own[kind]));
        list.collect::<Option<Vec<_>>>()
            .filter(|list| !list.is_empty())
    });

    let linux = spec.linux.as_ref().expect("it is there");
    let namespaces = namespaces::plan(linux, namespaces::Caller::Host)
        .expect("what the rules accept has a plan");
    let word = IdMapWord {
        index: 0,
        reach: Reach::Single,
        maps: Some(text.clone()),
    };
    let mut all = Vec::new();
    let planned = mount_ids::plan(0, &Mount::default(), Some(&word), &namespaces, &mut all);
    let [Some(uids), Some(gids)] = wanted else {
        let error = planned.expect_err("a map is missing, or leads out of the container's");
        assert_eq!(error.pointer(), Some("/mounts/0/options/0"), "{text}");
        return;
    };
    let planned = planned.unwrap_or_else(|error| panic!("{text}: {error}"));
    let through = planned.expect("it is asked for").through;
    let got = match through {
        Through::Container => namespaces.maps.expect("there is a new user namespace"),
        Through::Own(index) => all[index].maps.clone(),
    };
    let triples = |maps: &[IdMap]| -> Vec<[u32; 3]> {
        let maps = maps.iter();
        maps.map(|map| [map.inside, map.outside, map.size])
            .collect()
    };
    assert_eq!(
        [triples(&got.uids), triples(&got.gids)],
        [uids, gids],
        "{text}"
    );
}

/// As the kernel has it (map_write): no range of nothing, none that wraps.
fn size_is_wrong([inside, outside, size]: &[u32; 3]) -> bool {
    let wraps = |first: &u32| u64::from(*first) + u64::from(*size) > u64::from(u32::MAX);
    *size == 0 || wraps(inside) || wraps(outside)
}

/// Whether `id` is one of the `size` ids from `first` on.
fn holds(first: u32, size: u32, id: u32) -> bool {
    let (first, size, id) = (u64::from(first), u64::from(size), u64::from(id));
    first <= id && id < first + size
}

/// Whether two maps share an id inside or outside: one range then has the other's first id.
fn overlap(one: &[u32; 3], two: &[u32; 3]) -> bool {
    let meet =
        |a: u32, b: u32| one[2] > 0 && two[2] > 0 && (holds(a, one[2], b) || holds(b, two[2], a));
    meet(one[0], two[0]) || meet(one[1], two[1])
}
