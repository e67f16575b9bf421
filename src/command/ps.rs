// SPDX-License-Identifier: Apache-2.0
//! `corten ps`: a container's processes, by their numbers on the host: as a JSON array, or as the rows that the host's own
//! ps has of them.
//!
//! Reads the container's cgroup, and runs ps with the caller's privileges and environment. A container that has stopped
//! has none, which is no error.

use std::os::fd::AsFd;
use std::time::Duration;

use corten_sys::process::Exit;
use corten_sys::{fs, spawn};

use super::own_cgroup;
use crate::cli::meant::{PsArgs, PsFormat};
use crate::error::{Error, Kind, Result};
use crate::host::processes::in_pid_namespace;
use crate::store::{Init, Record, Store};

/// How long ps may take: it reads memory of every process of the host, and one of them may keep it waiting.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much of a failed ps's words its error quotes.
const QUOTED_OUTPUT: usize = 1024;

/// The list as text.
pub(super) fn ps(store: &Store, args: &PsArgs) -> Result<String> {
    let container = store.load(&args.id)?;
    let pids = processes(container.record())?;
    match &args.format {
        PsFormat::Json => {
            let numbers: Vec<_> = pids.iter().map(i32::to_string).collect();
            Ok(format!("[{}]\n", numbers.join(",")))
        }
        PsFormat::Table(options) => rows(&host_ps(options)?, &pids),
    }
}

/// Its processes, ascending.
pub(crate) fn processes(record: &Record) -> Result<Vec<i32>> {
    if record.cgroup.is_none() {
        let init = record.init.as_ref();
        let namespace = init.map_or(Ok(None), Init::pid_namespace)?;
        return namespace.map_or(Ok(Vec::new()), |namespace| {
            in_pid_namespace(namespace.as_fd())
        });
    }
    own_cgroup(record)?.map_or(Ok(Vec::new()), |cgroup| cgroup.processes())
}

/// What the host's ps prints, as many lines as it likes.
fn host_ps(options: &[String]) -> Result<String> {
    let path = spawn::find("ps").ok_or_else(|| {
        let text = "exec: \"ps\": executable file not found in $PATH";
        Error::new(Kind::System, text).remedy("install procps, or ask with --format json")
    })?;
    let mut args = vec!["ps".to_owned()];
    args.extend_from_slice(options);
    if options.is_empty() {
        args.push("-ef".to_owned());
    }
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        Some(format!("{name}={value}"))
    });
    let env: Vec<String> = variables.collect();
    let (exit, output) = spawn::run(&path, &args, &env, DEADLINE)?;
    let fate = match exit {
        Some(Exit::Code(0)) => {
            let length = usize::try_from(fs::stat(output.as_fd())?.st_size).unwrap_or(0);
            let text = spawn::tail(output.as_fd(), length)?;
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        Some(Exit::Code(code)) => format!("exit status {code}"),
        Some(Exit::Signal(signal)) => format!("killed by signal {signal}"),
        None => format!("killed after {} s", DEADLINE.as_secs()),
    };
    let said = spawn::tail(output.as_fd(), QUOTED_OUTPUT)?;
    let text = format!("{fate}: {}", String::from_utf8_lossy(&said).trim());
    Err(Error::new(Kind::System, text).context(format!("run {}", args.join(" "))))
}

/// The header, and the rows of `pids`, which are ascending.
fn rows(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = Column::of(header).ok_or_else(|| {
        Error::new(Kind::Invalid, "no column PID in the output of ps")
            .remedy("add it to the options: -o pid,…")
    })?;
    let ours = |line: &&str| {
        let pid = column.pid(line);
        pid.is_some_and(|pid| pids.binary_search(&pid).is_ok())
    };
    let rows = std::iter::once(header).chain(lines.filter(ours));
    Ok(rows.map(|line| format!("{line}\n")).collect())
}

/// Where a table has its PIDs.
struct Column {
    /// Which word of a line.
    word: usize,
    /// Where that word ends in the header, and the number in each row, unless a cell before it is too wide.
    end: usize,
}

impl Column {
    fn of(header: &str) -> Option<Self> {
        let word = header.split_whitespace().position(|word| word == "PID")?;
        let before = |at: usize| header.get(..at).unwrap_or_default().split_whitespace();
        let mut found = header.match_indices("PID").map(|(at, _)| at + 3);
        let end = found.find(|end| before(*end).nth(word) == Some("PID"))?;
        Some(Self { word, end })
    }

    /// The number in a row. In one with a cell of several words before it only the place tells which word it is.
    fn pid(&self, row: &str) -> Option<i32> {
        let cell = row.get(..self.end).filter(|_| {
            let next = row.as_bytes().get(self.end);
            next.is_none_or(u8::is_ascii_whitespace)
        });
        let by_place = cell.and_then(|cell| cell.split_whitespace().last()?.parse().ok());
        by_place.or_else(|| row.split_whitespace().nth(self.word)?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_header_and_the_rows_of_the_container() {
        let cases = [
            (
                "UID          PID    PPID  C STIME TTY          TIME CMD\n\
                 root           1       0  0 08:03 ?        00:00:01 /sbin/init\n\
                 root         100       1  0 08:03 ?        00:00:00 sh -c 17\n\
                 verylonguser 17       1  0 08:03 ?        00:00:00 sleep 100\n",
                "UID          PID    PPID  C STIME TTY          TIME CMD\n\
                 verylonguser 17       1  0 08:03 ?        00:00:00 sleep 100\n",
            ),
            (
                "COMMAND             PID\nWeb Content          17\nsleep               170\n",
                "COMMAND             PID\nWeb Content          17\n",
            ),
            (
                "    PID TTY          TIME CMD\n     17 ?        00:00:00 a\n     71 ?        00:00:00 b\n",
                "    PID TTY          TIME CMD\n     17 ?        00:00:00 a\n",
            ),
            (
                "   PPID     PID CMD\n     17      18 a\n      1      17 b\n\nodd\n",
                "   PPID     PID CMD\n      1      17 b\n",
            ),
            ("PID\n", "PID\n"),
        ];
        for (table, wanted) in cases {
            assert_eq!(rows(table, &[17]).unwrap(), wanted, "{table}");
        }
        let header = "  PID CMD\n    1 init\n";
        assert_eq!(rows(header, &[]).unwrap(), "  PID CMD\n");
    }

    #[test]
    fn a_table_without_pids_is_an_error() {
        for table in ["", "CMD\nsh\n", "PPID SPID\n1 1\n"] {
            assert!(rows(table, &[1]).is_err(), "{table}");
        }
    }
}
