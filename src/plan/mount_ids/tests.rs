// SPDX-License-Identifier: Apache-2.0
//! Whose maps a mount gets, and the ways to ask for them wrongly.

use super::*;

/// First id of the files, first id shown, how many.
type Range = (u32, u32, u32);

fn namespaces(maps: Option<IdMaps>) -> Namespaces {
    let linux = spec::Linux {
        namespaces: vec![spec::LinuxNamespace {
            typ: spec::LinuxNamespaceType::Mount,
            path: None,
        }],
        ..Default::default()
    };
    let plain =
        crate::plan::namespaces::plan(&linux, crate::plan::namespaces::Caller::Host).unwrap();
    Namespaces { maps, ..plain }
}

fn map(inside: u32, outside: u32, size: u32) -> IdMap {
    IdMap {
        inside,
        outside,
        size,
    }
}

fn maps(of: &[IdMap]) -> IdMaps {
    IdMaps {
        uids: of.to_vec(),
        gids: of.to_vec(),
    }
}

fn word(text: Option<&str>) -> IdMapWord {
    IdMapWord {
        index: 4,
        reach: Reach::Recursive,
        maps: text.map(str::to_owned),
    }
}

fn mount(of: &[Range]) -> spec::Mount {
    let list: Vec<_> = of
        .iter()
        .map(|&(container_id, host_id, size)| LinuxIdMapping {
            container_id,
            host_id,
            size,
        })
        .collect();
    spec::Mount {
        uid_mappings: list.clone(),
        gid_mappings: list,
        ..Default::default()
    }
}

#[test]
fn the_container_s_namespace_or_one_for_each_distinct_map() {
    let own = namespaces(Some(maps(&[map(0, 100_000, 65536)])));
    let cases: [(&[Range], Option<IdMapWord>, _); 6] = [
        (&[], None, None),
        (
            &[(0, 1000, 1)],
            None,
            Some((Reach::Single, Through::Own(0))),
        ),
        (
            &[(0, 1000, 1)],
            Some(word(None)),
            Some((Reach::Recursive, Through::Own(0))),
        ),
        (
            &[(0, 2000, 1)],
            None,
            Some((Reach::Single, Through::Own(1))),
        ),
        (
            &[(0, 100_000, 65536)],
            None,
            Some((Reach::Single, Through::Container)),
        ),
        (
            &[],
            Some(word(None)),
            Some((Reach::Recursive, Through::Container)),
        ),
    ];
    let mut all = Vec::new();
    for (of, word, wanted) in cases {
        let got = plan(7, &mount(of), word.as_ref(), &own, &mut all).unwrap();
        let wanted = wanted.map(|(reach, through)| IdMapped { reach, through });
        assert_eq!(got, wanted, "{of:?} {word:?}");
    }
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].maps, maps(&[map(0, 2000, 1)]));
    assert_eq!(
        all[1].pointers,
        ["/mounts/7/uidMappings", "/mounts/7/gidMappings"]
    );
}

#[test]
fn maps_of_an_option() {
    let own = namespaces(Some(maps(&[map(0, 0, 1), map(1, 100, 1000)])));
    let cases = [
        (
            "uids=0-1-10#10-11-10;gids=0-100-10",
            Ok((vec![map(0, 1, 10), map(10, 11, 10)], vec![map(0, 100, 10)])),
        ),
        (
            "gids=@1-3-10;uids=@0-0-1",
            Ok((vec![map(0, 0, 1)], vec![map(1, 102, 10)])),
        ),
        (
            "uids=@0-999-3;gids=0-0-1",
            Err("no mapping of the container's user namespace has all ids of `@0-999-3`"),
        ),
        (
            "uids=0-1-2",
            Err("an idmapped mount needs mappings for users and for groups"),
        ),
        (
            "uids=0-1;gids=0-0-1",
            Err("`0-1` is no mapping like 0-1000-1"),
        ),
        (
            "uids=0-1--1;gids=0-0-1",
            Err("`0-1--1` is no mapping like 0-1000-1"),
        ),
        (
            "uids=0-+1-1;gids=0-0-1",
            Err("`0-+1-1` is no mapping like 0-1000-1"),
        ),
        (
            "uids=0-1-1;uids=0-2-1;gids=0-0-1",
            Err("`uids=0-2-1` is a second list of the same ids"),
        ),
        (
            "uids=0-1-4294967296;gids=0-0-1",
            Err("`0-1-4294967296` is no mapping like 0-1000-1"),
        ),
        (
            "users=0-1-1",
            Err("`users=0-1-1` is neither uids=… nor gids=…"),
        ),
        ("", Err("`` is neither uids=… nor gids=…")),
    ];
    for (text, wanted) in cases {
        let got = from_text(text, "/p".into(), &own);
        let got = got.map(|users| (users.maps.uids, users.maps.gids));
        let wanted = wanted.map_err(|text| format!("{text} (config.json /p)"));
        assert_eq!(got.map_err(|error| error.to_string()), wanted, "{text}");
    }
}

#[test]
fn what_cannot_be() {
    let none = namespaces(None);
    let refused = |of: &[Range], word: &IdMapWord| {
        let answer = plan(0, &mount(of), Some(word), &none, &mut Vec::new());
        answer.unwrap_err().to_string()
    };
    let bare = refused(&[], &word(None));
    assert!(
        bare.ends_with("and there is none (config.json /mounts/0/options/4)"),
        "{bare}"
    );
    let both = refused(&[(0, 1, 1)], &word(Some("uids=0-1-1;gids=0-1-1")));
    assert!(
        both.ends_with("can't have others (config.json /mounts/0/options/4)"),
        "{both}"
    );
    let relative = refused(&[], &word(Some("uids=@0-1-1;gids=0-1-1")));
    assert!(
        relative.starts_with("no mapping of the container's"),
        "{relative}"
    );
}
