// SPDX-License-Identifier: Apache-2.0
//! The program of the demo's image: prints what a process sees from inside its container. Without arguments as it
//! stands; `--save FILE` writes it to a file (an image's RUN step); `--stay` waits afterwards until it is killed.
//!
//! It is the container's only process and its only file, so it reads /proc and asks nobody.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Capabilities by number, as capabilities(7) has them.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => print(&scene()),
        ["--stay"] => {
            print(&scene())?;
            loop {
                std::thread::park();
            }
        }
        ["--save", file] => save(&PathBuf::from(file), &scene()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "usage: hello [--stay | --save FILE]",
        )),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn save(file: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(file, text)
}

/// All that is seen, one line for each kind of thing.
fn scene() -> String {
    let status = read("/proc/self/status");
    let rows = [
        (
            "greeting",
            env::var("GREETING").unwrap_or_else(|_| "none: the image is still being built".into()),
        ),
        (
            "built by",
            built_by().unwrap_or_else(|| "nobody yet".into()),
        ),
        (
            "process",
            format!(
                "{} of {} in this PID namespace",
                std::process::id(),
                processes()
            ),
        ),
        ("hostname", read("/proc/sys/kernel/hostname")),
        (
            "user",
            format!(
                "uid {}, gid {}",
                first(&status, "Uid"),
                first(&status, "Gid")
            ),
        ),
        ("may do", capabilities(&status, "CapEff")),
        ("may ever do", capabilities(&status, "CapBnd")),
        ("no new privileges", first(&status, "NoNewPrivs")),
        (
            "cgroup",
            read("/proc/self/cgroup")
                .lines()
                .last()
                .unwrap_or("none")
                .to_owned(),
        ),
        ("root directory", names("/")),
        ("mounts", mounts()),
        ("devices", names("/dev")),
        ("network", interfaces()),
        ("kernel settings", writable("/proc/sys/kernel/hostname")),
    ];
    rows.iter()
        .map(|(what, seen)| format!("{what:>18}: {}\n", seen.trim()))
        .collect()
}

/// The file's text, or why it can't be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("not to be seen: {error}"))
}

/// The first value of a field of /proc/self/status.
fn first(status: &str, field: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|values| values.split_whitespace().next())
        .unwrap_or("not to be seen")
        .to_owned()
}

fn capabilities(status: &str, field: &str) -> String {
    let Ok(mask) = u64::from_str_radix(&first(status, field), 16) else {
        return "not to be seen".into();
    };
    let held: Vec<&str> = (0..)
        .zip(CAPABILITIES)
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, name)| name)
        .collect();
    match held.len() {
        0 => "nothing that needs a privilege".into(),
        41 => "everything".into(),
        _ => held.join(" "),
    }
}

fn processes() -> usize {
    entries("/proc")
        .iter()
        .filter(|name| name.bytes().all(|c| c.is_ascii_digit()))
        .count()
}

/// What is mounted on /, and how many of each kind there are.
fn mounts() -> String {
    let table = read("/proc/self/mountinfo");
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut root = "nothing";
    for line in table.lines() {
        let Some((mount, rest)) = line.split_once(" - ") else {
            continue;
        };
        let kind = rest.split(' ').next().unwrap_or_default();
        if mount.split(' ').nth(4) == Some("/") {
            root = kind;
        }
        *kinds.entry(kind).or_default() += 1;
    }
    let counts: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    format!("{root} on /; in all {}", counts.join(", "))
}

/// Who ran the RUN step of the Dockerfile, as it wrote it down.
fn built_by() -> Option<String> {
    let text = fs::read_to_string("/etc/built-in").ok()?;
    let row = |what: &str| {
        Some(
            text.lines()
                .find_map(|line| line.trim_start().strip_prefix(what))?
                .trim_start_matches(": "),
        )
    };
    Some(format!("{} on host {}", row("user")?, row("hostname")?))
}

fn interfaces() -> String {
    let table = read("/proc/net/dev");
    let names = table
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.collect::<Vec<_>>().join(" ")
}

fn writable(path: &str) -> String {
    match fs::OpenOptions::new().write(true).open(path) {
        Ok(_) => format!("{path} can be written"),
        Err(error) => format!("{path} can't be written: {error}"),
    }
}

fn names(directory: &str) -> String {
    entries(directory).join(" ")
}

fn entries(directory: &str) -> Vec<String> {
    let listed = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = listed
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
