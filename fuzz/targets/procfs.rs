// SPDX-License-Identifier: Apache-2.0
//! What the kernel tells of processes: /proc/PID/cgroup, whose paths others name, and /proc/PID/stat, whose second field
//! is any program's own choice. Held against a second, simpler reader.

#![no_main]

use std::path::{Component, Path};

use arbitrary::{Arbitrary, Unstructured};
use corten::cgroup::Paths;
use corten::host::Membership;
use corten::store::{Stat, parse_stat};
use corten_fuzz::plan;
use libfuzzer_sys::fuzz_target;

/// A line of /proc/PID/stat as the kernel writes it.
#[derive(Arbitrary, Debug)]
struct StatLine<'a> {
    pid: u32,
    name: &'a [u8],
    state: u8,
    numbers: [i32; 16],
    threads: i32,
    start_time: u64,
    rest: [u64; 3],
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    match choice % 3 {
        0 => {
            if let Ok(text) = std::str::from_utf8(rest) {
                membership(text);
            }
        }
        1 => {
            parse_stat(rest);
        }
        _ => {
            if let Ok(line) = StatLine::arbitrary(&mut Unstructured::new(rest)) {
                stat(&line);
            }
        }
    }
});

fn membership(text: &str) {
    let naive = second_reader(text);
    let Ok(read) = Membership::parse(text) else {
        assert!(naive.is_none(), "{text:?}");
        return;
    };
    let naive = naive.expect("a line without three fields is refused");
    let of = |wanted: &dyn Fn(&str) -> bool| {
        let mut found = naive.iter().filter(|(names, _)| wanted(names));
        found.next().map(|(_, path)| Path::new(path))
    };
    assert_eq!(read.unified(), of(&|names| names.chars().all(|c| c == ',')));
    for controller in ["memory", "cpu", "cpuacct", "name=systemd", "pids"] {
        let has = |names: &str| format!(",{names},").contains(&format!(",{controller},"));
        assert_eq!(read.v1(controller), of(&has), "{controller}");
    }
    for layout in plan::layouts() {
        let Ok(paths) = Paths::of(&read, &layout) else {
            continue;
        };
        for place in paths.v1.iter().chain([&paths.unified]) {
            // It may be the mount itself, but never anything above it.
            let parts = place.cgroup.components();
            let leads_out = |part| matches!(part, Component::ParentDir | Component::RootDir);
            assert!(!parts.into_iter().any(leads_out), "{place:?}");
            assert!(place.path().starts_with(&place.mount), "{place:?}");
        }
    }
}

/// Lines of `number:controllers:path`, by the positions of their colons.
fn second_reader(text: &str) -> Option<Vec<(&str, &str)>> {
    let lines = text.lines();
    lines
        .map(|line| {
            let first = line.find(':')?;
            let second = first + 1 + line[first + 1..].find(':')?;
            Some((&line[first + 1..second], &line[second + 1..]))
        })
        .collect()
}

fn stat(line: &StatLine) {
    let state = char::from(b'A' + line.state % 60);
    if !state.is_ascii_alphabetic() {
        return;
    }
    let mut text = format!("{} (", line.pid).into_bytes();
    text.extend_from_slice(line.name);
    text.extend_from_slice(format!(") {state}").as_bytes());
    for number in line.numbers {
        text.extend_from_slice(format!(" {number}").as_bytes());
    }
    let [interval, size, last] = line.rest;
    let tail = format!(
        " {} {interval} {} {size} {last}\n",
        line.threads, line.start_time
    );
    text.extend_from_slice(tail.as_bytes());
    let ended = match state {
        'X' | 'x' => true,
        'Z' => line.threads <= 1,
        _ => false,
    };
    let start_time = line.start_time;
    let wanted = Stat { start_time, ended };
    assert_eq!(
        parse_stat(&text),
        Some(wanted),
        "{}",
        String::from_utf8_lossy(&text)
    );
}
