// SPDX-License-Identifier: Apache-2.0
//! Steps that attack: a container's process that waits for the runtime to make a mistake. Each runs for so many
//! milliseconds and reports what it found; none does harm where it succeeds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use serde_json::{Value, json};

use crate::{Done, Step};

/// The step of that name, if it is one that attacks.
pub fn step(name: &str, args: &[&str]) -> Option<Step> {
    let result = match (name, args) {
        ("exchange", [a, b, millis]) => deadline(millis).and_then(|end| exchange(a, b, end)),
        ("scan-fds", [millis]) => deadline(millis).and_then(scan_fds),
        ("reach-exe", [millis, over]) => deadline(millis).and_then(|end| reach_exe(over, end)),
        _ => return None,
    };
    Some(
        result
            .map(Done::Value)
            .map_err(|error| format!("{name}: {error}")),
    )
}

fn deadline(millis: &str) -> io::Result<Instant> {
    Ok(Instant::now() + Duration::from_millis(millis.parse().map_err(io::Error::other)?))
}

/// The pids of all other processes.
fn others() -> io::Result<Vec<i32>> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let names = fs::read_dir("/proc")?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names
        .filter_map(|name| name.parse().ok())
        .filter(|pid| *pid != own)
        .collect())
}

/// Swaps two names as fast as it can: the attacker in a shared volume.
fn exchange(a: &str, b: &str, end: Instant) -> io::Result<Value> {
    let mut swaps = 0_u64;
    while Instant::now() < end {
        rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?;
        swaps += 1;
    }
    Ok(json!(swaps))
}

/// Looks through every process's descriptors and cwd for a way out of this mount namespace: the attacker that waits for
/// an `exec` to pass by. Found: a directory elsewhere that can be opened through the link.
fn scan_fds(end: Instant) -> io::Result<Value> {
    let (mut found, mut seen, mut rounds) = (Vec::new(), 0_u64, 0_u64);
    while Instant::now() < end {
        rounds += 1;
        for pid in others()? {
            seen += 1;
            let links = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path());
            for link in
                links.chain(["cwd", "root"].map(|name| format!("/proc/{pid}/{name}").into()))
            {
                // The probe is at /probe in this rootfs only; a host directory has no such name above it.
                let outside = fs::metadata(&link).is_ok_and(|meta| meta.is_dir())
                    && fs::metadata(link.join("../../../../../../../../probe")).is_err();
                if outside && fs::metadata(&link).is_ok() {
                    found.push(format!(
                        "{} -> {:?}",
                        link.display(),
                        fs::read_link(&link).ok()
                    ));
                }
            }
        }
    }
    Ok(json!({"found": found, "seen": seen, "rounds": rounds}))
}

/// Tries to open the binary of every passing process for writing: the way of CVE-2019-5736. It writes nothing.
/// `foreign` counts files that aren't this program, `during` and `after` how the kernel refused them, the latter once
/// the file `over` says that nobody runs them any more.
fn reach_exe(over: &str, end: Instant) -> io::Result<Value> {
    let own = fs::metadata("/proc/self/exe").map(|meta| (meta.dev(), meta.ino()))?;
    let (mut held, mut opened) = (Vec::new(), 0_u64);
    let (mut during, mut after) = (BTreeMap::new(), BTreeMap::new());
    let mut attack =
        |file: &fs::File, errnos: &mut BTreeMap<String, u64>| match fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        {
            Ok(_) => opened += 1,
            Err(error) => {
                let name = crate::errno::value(&error)["errno"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                *errnos.entry(name).or_insert(0) += 1;
            }
        };
    while Instant::now() < end || fs::symlink_metadata(over).is_err() {
        for pid in others()? {
            let path = format!("/proc/{pid}/exe");
            let Ok(file) =
                rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            else {
                continue;
            };
            let file = fs::File::from(file);
            if file
                .metadata()
                .is_ok_and(|meta| (meta.dev(), meta.ino()) != own)
                && held.len() < 256
            {
                attack(&file, &mut during);
                held.push(file);
            }
        }
    }
    held.iter().for_each(|file| attack(file, &mut after));
    Ok(json!({"foreign": held.len(), "opened": opened, "during": during, "after": after}))
}
