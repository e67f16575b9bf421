// SPDX-License-Identifier: Apache-2.0
//! Counts instead of times: the system calls of each verb, the container's own included, and the two things that a
//! start must not do: write a PID into cgroup.procs (an RCU grace period) and read a mountinfo (linear in the mounts).

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cases::Contest;
use crate::failure::{Failure, Result};
use crate::runtime::Runtime;
use crate::{command, report, tracer, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// Counts and prints.
pub fn table(contest: &Contest) -> Result<Value> {
    report::line(format!(
        "{:<12} {:>6} {:>15} {:>6} {:>6} {:>10}   {:>19} {:>15}",
        "",
        "run",
        "create + start",
        "exec",
        "state",
        "delete -f",
        "cgroup.procs writes",
        "mountinfo reads"
    ));
    let mut rows = Map::new();
    for runtime in &contest.runtimes {
        let row = row(contest, runtime)?;
        let cell = |name: &str| row[name].to_string();
        report::line(format!(
            "{:<12} {:>6} {:>15} {:>6} {:>6} {:>10}   {:>19} {:>15}",
            runtime.name,
            cell("run"),
            cell("create_start"),
            cell("exec"),
            cell("state"),
            cell("delete"),
            cell("procs_writes"),
            cell("mountinfo_reads")
        ));
        rows.insert(runtime.name.clone(), row);
    }
    if let Some(floor) = contest.floor() {
        let mut words = vec![floor.get_program().to_owned()];
        words.extend(floor.get_args().map(ToOwned::to_owned));
        let run = total(&ended(contest, &words, COUNTING)?)?;
        report::line(format!("{:<12} {run:>6}", "floor"));
        rows.insert("floor".into(), json!({"run": run}));
    }
    Ok(Value::Object(rows))
}

/// strace prints one table at its end.
const COUNTING: &[&str] = &["-c", "-U", "calls,name"];

/// strace prints each of these calls, with the path behind every descriptor.
const WATCHING: &[&str] = &[
    "-y",
    "-s",
    "0",
    "-e",
    "trace=read,pread64,readv,write,pwrite64,writev",
];

fn row(contest: &Contest, runtime: &Runtime) -> Result<Value> {
    let run = |id: &str| runtime.words(&["run", "--bundle", &contest.brief, id]);
    let calls = total(&ended(contest, &run(&contest.id()), COUNTING)?)?;
    let watched = ended(contest, &run(&contest.id()), WATCHING)?;
    let id = contest.running(runtime)?;
    let exec = total(&ended(
        contest,
        &runtime.words(&["exec", &id, "/bin/true"]),
        COUNTING,
    )?)?;
    let state = total(&ended(contest, &runtime.words(&["state", &id]), COUNTING)?)?;
    let delete = total(&ended(
        contest,
        &runtime.words(&["delete", "--force", &id]),
        COUNTING,
    )?)?;
    Ok(json!({
        "run": calls,
        "create_start": create_start(contest, runtime)?,
        "exec": exec,
        "state": state,
        "delete": delete,
        "procs_writes": touching(&watched, "write", "/cgroup.procs"),
        "mountinfo_reads": touching(&watched, "read", "/mountinfo"),
    }))
}

/// The calls of `create`, of the container's process until its end, and of `start`.
fn create_start(contest: &Contest, runtime: &Runtime) -> Result<u64> {
    let id = contest.id();
    let create = runtime.words(&["create", "--bundle", &contest.brief, &id]);
    let mut traced = tracer::spawn(
        &create,
        COUNTING,
        &contest.work.join("create.fifo"),
        Stdio::null(),
        PATIENCE,
    )?;
    if !wait::child(&mut traced.child, PATIENCE)?.success() {
        return Err(Failure::new(format!(
            "{} failed under strace",
            runtime.name
        )));
    }
    let start = ended(contest, &runtime.words(&["start", &id]), COUNTING)?;
    let both = total(&traced.log(PATIENCE)?)? + total(&start)?;
    runtime.timed(&["delete", "--force", &id])?;
    Ok(both)
}

/// strace's log of a command that leaves nobody behind.
fn ended(contest: &Contest, words: &[OsString], options: &[&str]) -> Result<String> {
    let mut traced = tracer::spawn(
        words,
        options,
        &contest.work.join("strace.fifo"),
        Stdio::inherit(),
        PATIENCE,
    )?;
    let status = wait::child(&mut traced.child, PATIENCE)?;
    let log = traced.log(PATIENCE)?;
    if status.success() {
        return Ok(log);
    }
    let mut shown =
        std::process::Command::new(words.first().map_or(Path::new("").as_os_str(), |word| word));
    shown.args(words.iter().skip(1));
    Err(Failure::new(format!(
        "{}: {status}",
        command::shown(&shown)
    )))
}

/// The last row of strace's table.
fn total(log: &str) -> Result<u64> {
    let row = log
        .lines()
        .find_map(|line| line.trim().strip_suffix("total"));
    let number = row.and_then(|row| row.trim().parse().ok());
    number.ok_or_else(|| Failure::new(format!("strace's table has no total: {log:?}")))
}

/// How many calls whose name has `verb` in it had a descriptor whose path ends in `file`.
fn touching(log: &str, verb: &str, file: &str) -> usize {
    let first_argument = |line: &str| -> Option<(String, String)> {
        let (call, arguments) = line.split_once('(')?;
        let (descriptor, _) = arguments.split_once('>')?;
        Some((call.to_owned(), descriptor.to_owned()))
    };
    let calls = log.lines().filter_map(first_argument);
    calls
        .filter(|(call, descriptor)| call.contains(verb) && descriptor.ends_with(file))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_row() {
        assert_eq!(total("    calls syscall\n--------- ------\n        7 read\n--------- ------\n      126 total\n").unwrap(), 126);
        assert!(total("").is_err());
    }

    #[test]
    fn only_the_first_descriptor_counts() {
        let log = "12 write(5</sys/fs/cgroup/x/cgroup.procs>, \"\"..., 2) = 2\n\
                   12 write(1</tmp/out>, \"\"..., 9) = 9\n\
                   12 read(4</proc/12/mountinfo>, \"\"..., 4096) = 0\n\
                   12 <... write resumed>) = 2\n";
        assert_eq!(
            (
                touching(log, "write", "/cgroup.procs"),
                touching(log, "read", "/mountinfo")
            ),
            (1, 1)
        );
    }
}
