// SPDX-License-Identifier: Apache-2.0
//! What each word of a mount's options comes to.

use super::*;

fn words(text: &str) -> Options {
    parse(text.split(',').filter(|word| !word.is_empty())).unwrap()
}

#[test]
fn attributes() {
    let cases = [
        ("", Attr::empty(), Attr::empty()),
        ("ro", Attr::RDONLY, Attr::empty()),
        ("ro,rw", Attr::empty(), Attr::RDONLY),
        ("rw,ro", Attr::RDONLY, Attr::empty()),
        ("nosuid,nodev", Attr::NOSUID | Attr::NODEV, Attr::empty()),
        ("nosymfollow", Attr::NOSYMFOLLOW, Attr::empty()),
        ("nosymfollow,symfollow", Attr::empty(), Attr::NOSYMFOLLOW),
        ("noatime", Attr::NOATIME, Attr::ATIME),
        ("noatime,strictatime", Attr::STRICTATIME, Attr::ATIME),
        ("noatime,relatime", Attr::empty(), Attr::ATIME),
        ("noatime,norelatime", Attr::NOATIME, Attr::ATIME),
        ("noatime,nostrictatime", Attr::NOATIME, Attr::ATIME),
        ("strictatime,atime", Attr::STRICTATIME, Attr::ATIME),
        ("strictatime,nostrictatime", Attr::empty(), Attr::ATIME),
        ("atime", Attr::empty(), Attr::ATIME),
        ("norelatime", Attr::empty(), Attr::empty()),
        ("nodiratime", Attr::NODIRATIME, Attr::empty()),
    ];
    for (text, set, clear) in cases {
        assert_eq!(words(text).attr, Change { set, clear }, "{text}");
        let twin: Vec<_> = text
            .split(',')
            .filter(|w| !w.is_empty())
            .map(|w| format!("r{w}"))
            .collect();
        assert_eq!(
            words(&twin.join(",")).recursive,
            Change { set, clear },
            "{text}"
        );
    }
}

#[test]
fn an_empty_word_asks_for_nothing() {
    let all = parse(["", "bind", "", "ro"]).unwrap();
    assert_eq!(all.bind, Some(Reach::Single));
    assert_eq!(all.attr.set, Attr::RDONLY);
    assert!(all.data.is_empty(), "{:?}", all.data);
}

#[test]
fn the_rest() {
    let all = words("rbind,rslave,private,sync,mode=755,size=64k,newinstance,tmpcopyup,acl");
    assert_eq!(all.bind, Some(Reach::Recursive));
    assert_eq!(
        all.propagation,
        [
            (Propagation::Slave, Reach::Recursive),
            (Propagation::Private, Reach::Single)
        ]
    );
    assert_eq!(all.flags, ["sync"]);
    assert!(all.copy_up);
    let data = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
    assert_eq!(
        all.data,
        [
            data("mode", Some("755")),
            data("size", Some("64k")),
            data("newinstance", None),
            data("acl", None),
        ]
    );
}

#[test]
fn flags_of_the_superblock() {
    let cases: [(&str, &[&str]); 9] = [
        ("defaults,loud,silent", &[]),
        ("sync", &["sync"]),
        ("sync,async", &[]),
        ("async,sync,sync", &["sync"]),
        ("dirsync,lazytime,mand", &["dirsync", "lazytime", "mand"]),
        ("lazytime,nolazytime", &[]),
        ("mand,nomand", &[]),
        ("iversion", &[IVERSION]),
        ("iversion,noiversion", &[]),
    ];
    for (text, flags) in cases {
        assert_eq!(words(text).flags, flags, "{text}");
        assert_eq!(words(text).data, [], "{text}");
    }
}

#[test]
fn id_maps_and_links() {
    let word = |index, reach, maps: Option<&str>| {
        let maps = maps.map(str::to_owned);
        Some(IdMapWord { index, reach, maps })
    };
    let cases = [
        ("bind", None),
        ("bind,idmap", word(1, Reach::Single, None)),
        ("ridmap,rbind", word(0, Reach::Recursive, None)),
        ("idmap,ridmap", word(1, Reach::Recursive, None)),
        (
            "ridmap=uids=0-1-2",
            word(0, Reach::Recursive, Some("uids=0-1-2")),
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(words(text).id_map, wanted, "{text}");
    }
    let links = |text| (words(text).source_link, words(text).target_link);
    assert_eq!(links("bind"), (SourceLink::Followed, TargetLink::Followed));
    assert_eq!(
        links("src-nofollow,dest-nofollow"),
        (SourceLink::Bound, TargetLink::Covered)
    );
    assert_eq!(
        links("copy-symlink"),
        (SourceLink::Copied, TargetLink::Followed)
    );
}

#[test]
fn words_that_are_refused() {
    for (word, why) in REFUSED {
        let refusal = parse(["nosuid", word]).unwrap_err();
        assert_eq!(refusal.index, 1, "{word}");
        assert!(refusal.text.contains(word) && refusal.text.contains(why));
    }
}

/// Every word that runc 1.4 and crun 1.28 know is known here, as something: none reaches a file system as its own.
#[test]
fn knows_what_other_runtimes_know() {
    const THEIRS: &str = "async atime bind copy-symlink defaults dest-nofollow dev diratime dirsync exec idmap iversion \
         lazytime loud mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid \
         nosymfollow private rasync ratime rbind rdev rdiratime rdirsync relatime remount rexec ridmap rmand rnoatime \
         rnodev rnodiratime rnoexec rnomand rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw \
         rshared rslave rstrictatime rsuid rsymfollow rsync runbindable rw shared silent slave src-nofollow strictatime \
         suid symfollow sync tmpcopyup unbindable";
    for word in THEIRS.split_whitespace() {
        if let Ok(options) = parse([word]) {
            assert_eq!(options.data, [], "{word}");
        }
    }
}

#[test]
fn a_word_is_in_one_table() {
    let mut words = known();
    words.extend(REFUSED.iter().map(|(name, _)| (*name).to_owned()));
    words.sort_unstable();
    let before = words.len();
    words.dedup();
    assert_eq!(words.len(), before);
}
