// SPDX-License-Identifier: Apache-2.0
//! Processes of a trial, known by a prefix in what they were started with or in their cgroup.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// Processes that bear the prefix, and are not the test process itself.
pub fn processes(prefix: &str) -> Vec<(i32, String)> {
    let own = std::process::id();
    let kernel = kernel_threads();
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| pid.cast_unsigned() != own && !kernel.contains(pid))
        .filter_map(|pid| Some((pid, bearer(pid, prefix)?)))
        .collect()
}

/// The kernel's own threads, in one read: most of a machine's processes, and never a container's. None where the
/// process table is a container's.
fn kernel_threads() -> BTreeSet<i32> {
    if fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n") {
        let children = fs::read_to_string("/proc/2/task/2/children").unwrap_or_default();
        return children.split(' ').flat_map(str::parse).collect();
    }
    BTreeSet::new()
}

/// What the process is, if it bears the prefix. One that vanishes while being looked at is none.
fn bearer(pid: i32, prefix: &str) -> Option<String> {
    let read = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    // Read once: who is on the way out has none a moment later.
    let cmdline = read("cmdline");
    let found = if cmdline.contains(prefix) {
        "cmdline"
    } else {
        ["cgroup", "environ"]
            .into_iter()
            .find(|name| read(name).contains(prefix))?
    };
    if ends(|| read("stat")) {
        return None;
    }
    let status = read("status");
    let field = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    if status.is_empty() {
        return None;
    }
    // The dead who wait for the machine's init to reap them are no longer the runtime's.
    if field("State:").starts_with('Z') && field("PPid:") == "1" {
        return None;
    }
    // Reaped, and on its way out of the kernel's tables.
    if field("State:").starts_with('X') {
        return None;
    }
    Some(format!(
        "[{cmdline}] {} (known by its {found})",
        field("State:")
    ))
}

/// Whether the process was in its last system call, and has come out of it while being looked at: it is gone, or a
/// zombie, which is for the caller to judge.
fn ends(stat: impl Fn() -> String) -> bool {
    const PF_EXITING: u64 = 0x4;
    /// What freeing the memory of a large one takes, and much more.
    const EXIT_LIMIT: Duration = Duration::from_secs(5);
    let end = Instant::now() + EXIT_LIMIT;
    loop {
        let line = stat();
        // State and flags are the first and the seventh field after the name, which may hold any bytes (proc(5)).
        let rest = line.rsplit_once(") ").map(|(_, rest)| rest);
        let Some(rest) = rest else { return true };
        let flags = rest.split(' ').nth(6).and_then(|flags| flags.parse().ok());
        let is_exiting = flags.is_some_and(|flags: u64| flags & PF_EXITING != 0);
        if !is_exiting || rest.starts_with(['Z', 'X']) || Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
