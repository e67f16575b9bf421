// SPDX-License-Identifier: Apache-2.0
//! Steps that use up a resource until a limit is felt: processes, processor time, bytes written, huge pages, cgroups.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FallocateFlags, OFlags};
use serde_json::{Value, json};

use crate::act::again;
use crate::errno::{outcome, value};
use crate::{Done, Step};

/// O_DIRECT wants buffers, offsets and sizes in sectors.
const SECTOR: usize = 4096;

/// The step of that name, if it is one that loads.
pub fn step(name: &str, args: &[&str]) -> Option<Step> {
    let number = |text: &str| {
        text.parse::<usize>()
            .map_err(|error| format!("{name} {text}: {error}"))
    };
    let result = match (name, args) {
        ("cpus", []) => Ok(cpus()),
        ("fork", [most]) => number(most).map(fork),
        ("allocate", [path, bytes]) => {
            number(bytes).map(|bytes| outcome(allocate(path, bytes as u64).map(|()| true)))
        }
        ("direct", [path, count, size]) => number(count)
            .and_then(|count| Ok((count, number(size)?)))
            .map(|(count, size)| outcome(direct(path, count, size).map(|()| true))),
        ("nest", [path, depth]) => number(depth).map(|depth| outcome(nest(path, depth))),
        ("spin", []) => spin(),
        _ => return None,
    };
    Some(result.map(Done::Value))
}

/// The processors that sched_getaffinity(2) names.
fn cpus() -> Value {
    let set = match rustix::thread::sched_getaffinity(None) {
        Ok(set) => set,
        Err(errno) => return value(&errno.into()),
    };
    let all = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    json!(all.collect::<Vec<_>>())
}

/// Children that stay, until there are so many or the kernel refuses.
fn fork(most: usize) -> Value {
    for children in 0..most {
        if let Err(error) = again(&["pause"]).spawn() {
            return json!({"children": children, "errno": value(&error)["errno"]});
        }
    }
    json!({"children": most})
}

/// So many bytes of a new file: on hugetlbfs, that many huge pages.
fn allocate(path: &str, bytes: u64) -> io::Result<()> {
    let file = fs::File::create(path)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(Into::into)
}

/// Writes past the page cache, so that each call waits for the disk, and is counted for who makes it.
fn direct(path: &str, count: usize, size: usize) -> io::Result<()> {
    let flags = OFlags::DIRECT.bits().cast_signed();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    let room = vec![1_u8; size + SECTOR];
    let start = room.as_ptr().align_offset(SECTOR);
    let block = room
        .get(start..start + size)
        .ok_or_else(|| io::Error::other("no aligned block"))?;
    (0..count).try_for_each(|_| file.write_all(block))
}

/// Directories in each other; how many there are.
fn nest(path: &str, depth: usize) -> io::Result<usize> {
    let mut path = path.to_owned();
    for _ in 0..depth {
        path.push_str("/n");
        fs::create_dir(&path)?;
    }
    Ok(depth)
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}
