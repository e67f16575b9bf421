// SPDX-License-Identifier: Apache-2.0
//! Steps that only look: what the container's process sees of itself and around it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::{Map, Value, json};

use crate::errno::{outcome, value};
use crate::{Done, Step};

/// The step of that name, if it is one that looks.
pub fn step(name: &str, args: &[&str]) -> Option<Step> {
    let seen = match (name, args) {
        ("args", []) => Ok(json!(
            std::env::args_os()
                .map(|a| a.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        )),
        ("cgroup", []) => lines("/proc/self/cgroup"),
        ("cwd", []) => std::env::current_dir().map(|dir| json!(dir.to_string_lossy())),
        ("env", []) => environment(),
        ("exists", paths) => Ok(each(paths, |path| {
            json!(fs::symlink_metadata(path).is_ok())
        })),
        ("fds", []) => fds(),
        ("hostname", []) => Ok(hostname()),
        ("ids", []) => Ok(ids()),
        ("list", paths) => Ok(each(paths, |path| {
            names(path).map_or_else(|e| value(&e), |v| json!(v))
        })),
        ("mounts", []) => mounts(),
        ("ns", []) => namespaces(),
        ("pid", []) => {
            Ok(json!({"pid": std::process::id(), "ppid": std::os::unix::process::parent_id()}))
        }
        ("read", paths) => Ok(each(paths, |path| outcome(read(path)))),
        ("rlimits", []) => rlimits(),
        ("stat", paths) => Ok(each(paths, |path| stat(path).unwrap_or_else(|e| value(&e)))),
        ("status", []) => status(),
        ("tty", []) => Ok(tty()),
        _ => return None,
    };
    Some(
        seen.map(Done::Value)
            .map_err(|error| format!("{name}: {error}")),
    )
}

fn each(paths: &[&str], look: impl Fn(&str) -> Value) -> Value {
    Value::Object(
        paths
            .iter()
            .map(|path| ((*path).to_owned(), look(path)))
            .collect(),
    )
}

fn lines(path: &str) -> io::Result<Value> {
    Ok(json!(fs::read_to_string(path)?.lines().collect::<Vec<_>>()))
}

/// At most 64 KiB, so that a device without an end is no trap.
fn read(path: &str) -> io::Result<String> {
    use io::Read;
    let mut text = Vec::new();
    fs::File::open(path)?.take(65536).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn names(path: &str) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The environment as the kernel was handed it: order, doubles and entries without `=` included.
fn environment() -> io::Result<Value> {
    let raw = fs::read("/proc/self/environ")?;
    let entries: Vec<_> = raw
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect();
    Ok(json!(entries))
}

/// Descriptor → what it is; the one that reads the directory itself is left out.
fn fds() -> io::Result<Value> {
    let mut seen = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let target = fs::read_link(entry.path())?;
        if !target.to_string_lossy().ends_with("/fd") {
            seen.insert(
                entry.file_name().to_string_lossy().into_owned(),
                target.to_string_lossy().into_owned(),
            );
        }
    }
    Ok(json!(seen))
}

fn hostname() -> Value {
    let uname = rustix::system::uname();
    json!({"host": uname.nodename().to_string_lossy(), "domain": uname.domainname().to_string_lossy()})
}

fn ids() -> Value {
    let groups = rustix::process::getgroups()
        .map(|groups| groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>())
        .unwrap_or_default();
    json!({
        "uid": rustix::process::getuid().as_raw(), "euid": rustix::process::geteuid().as_raw(),
        "gid": rustix::process::getgid().as_raw(), "egid": rustix::process::getegid().as_raw(), "groups": groups,
        "sid": rustix::process::getsid(None).map_or(0, |sid| sid.as_raw_nonzero().get()),
    })
}

/// One object per line of mountinfo, in its order.
fn mounts() -> io::Result<Value> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let table: Vec<Value> = text
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let dash = fields.iter().position(|field| *field == "-").unwrap_or(fields.len());
            let at = |index: usize| fields.get(index).copied().unwrap_or_default();
            json!({
                "id": at(0), "parent": at(1), "device": at(2), "root": at(3), "point": at(4), "options": at(5),
                "propagation": fields.get(6..dash).unwrap_or_default().join(" "),
                "type": at(dash + 1), "source": at(dash + 2), "super": at(dash + 3),
            })
        })
        .collect();
    Ok(json!(table))
}

fn namespaces() -> io::Result<Value> {
    let mut seen = Map::new();
    for name in names("/proc/self/ns")? {
        let target = fs::read_link(format!("/proc/self/ns/{name}"))?;
        seen.insert(name, json!(target.to_string_lossy()));
    }
    Ok(Value::Object(seen))
}

/// Resource → [soft, hard], as text: `unlimited` is one of the values.
fn rlimits() -> io::Result<Value> {
    let text = fs::read_to_string("/proc/self/limits")?;
    let mut seen = Map::new();
    for line in text.lines().skip(1) {
        let (name, rest) = line.split_at(line.len().min(26));
        let mut values = rest.split_whitespace();
        seen.insert(name.trim().into(), json!([values.next(), values.next()]));
    }
    Ok(Value::Object(seen))
}

fn status() -> io::Result<Value> {
    let text = fs::read_to_string("/proc/self/status")?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Ok(Value::Object(
        fields
            .map(|(key, value)| (key.into(), json!(value.trim())))
            .collect(),
    ))
}

fn stat(path: &str) -> io::Result<Value> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let rdev = meta.rdev();
    let name = if kind.is_dir() {
        "dir"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_char_device() {
        "char"
    } else if kind.is_block_device() {
        "block"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else {
        "file"
    };
    let mut seen = json!({
        "type": name, "mode": format!("{:04o}", meta.mode() & 0o7777), "uid": meta.uid(), "gid": meta.gid(),
        "size": meta.size(), "ino": meta.ino(), "dev": format!("{}:{}", rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev())),
        "rdev": format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev)),
    });
    if kind.is_symlink() {
        seen["target"] = json!(String::from_utf8_lossy(
            fs::read_link(path)?.as_os_str().as_bytes()
        ));
    }
    Ok(seen)
}

/// What the three standard descriptors are, and the terminal behind stdin.
fn tty() -> Value {
    let stdin = io::stdin();
    let size = rustix::termios::tcgetwinsize(&stdin)
        .map_or(Value::Null, |size| json!([size.ws_row, size.ws_col]));
    let onlcr = rustix::termios::tcgetattr(&stdin).map_or(Value::Null, |attr| {
        json!(
            attr.output_modes
                .contains(rustix::termios::OutputModes::ONLCR)
        )
    });
    let name = rustix::termios::ttyname(&stdin, Vec::new())
        .map_or(Value::Null, |name| json!(name.to_string_lossy()));
    json!({
        "stdin": stdin.is_terminal(), "stdout": io::stdout().is_terminal(), "stderr": io::stderr().is_terminal(),
        "size": size, "onlcr": onlcr, "name": name, "controlling": fs::File::open("/dev/tty").is_ok(),
        "foreground": rustix::termios::tcgetpgrp(&stdin).map_or(Value::Null, |pid| json!(pid.as_raw_nonzero().get())),
    })
}
