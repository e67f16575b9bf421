// SPDX-License-Identifier: Apache-2.0
//! In a runtime's world: the caller's actions, one after the other, each by a shell of its own.
//!
//! Root, in namespaces of processes, mounts and networks that end with this process.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::script::{SET_UP, Script};
use super::table::Column;
use crate::failure::{Context, Failure, Result};
use crate::{report, wait, workspace};

/// No action may take longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many lines of what a failing action said are shown.
const SHOWN: usize = 12;

/// Carries them out, and writes a line about each to `work`; `only` those whose names contain the word.
pub fn run(
    script: &Script,
    (name, path): (&str, &Path),
    work: &Path,
    only: Option<&str>,
) -> Result<()> {
    let results = work.join(format!("results-{name}"));
    let mut results = File::create(&results).context(|| format!("make {}", results.display()))?;
    let scratch = work.join(format!("world-{name}"));
    fs::create_dir_all(&scratch).context(|| format!("make {}", scratch.display()))?;
    for action in &script.actions {
        if only.is_some_and(|word| action.counts() && !action.name.contains(word)) {
            continue;
        }
        let began = Instant::now();
        let log = work.join(format!("said-{name}"));
        let is_done = carry_out(&script.shell(action), (name, path), (work, &scratch), &log)?;
        let word = if is_done { "ok" } else { "failed" };
        let took = began.elapsed().as_secs_f64();
        report::line(format!("{word:>6} {took:6.1} s  {}", action.name));
        if !is_done {
            show_end(&log)?;
        }
        if action.counts() {
            writeln!(results, "{word}\t{}", action.name).context(|| "write a result".into())?;
        } else if !is_done && action.name == SET_UP {
            return Err(Failure::new(
                "there is nothing to try without what is set up",
            ));
        }
    }
    Ok(())
}

/// Whether the shell ends with success, in time.
fn carry_out(
    shell: &str,
    (name, path): (&str, &Path),
    (work, scratch): (&Path, &Path),
    log: &Path,
) -> Result<bool> {
    let said = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(log);
    let said = said.context(|| format!("make {}", log.display()))?;
    let also = said.try_clone().context(|| "dup".into())?;
    let shims = match name == Column::Shim.name() {
        true => super::shim_directory(work),
        false => PathBuf::new(),
    };
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", shell])
        .current_dir(scratch)
        .env("RUNTIME", path)
        .env("NAME", name)
        .env("SHIMS", shims)
        .env("IMAGES", work)
        .env("SCRATCH", scratch)
        .env("CALLERS", workspace::root().join("integration/callers"))
        .env("HOME", scratch)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .stdout(said)
        .stderr(also)
        // A daemon that an action starts is not a terminal's.
        .process_group(0);
    let mut bash = bash.spawn().context(|| "run bash".into())?;
    let status = wait::child(&mut bash, PATIENCE);
    if status.is_err() {
        // What it waited for. Whoever is gone already is what was wanted.
        kill_group(bash.id());
    }
    Ok(status.is_ok_and(|status| status.success()))
}

fn kill_group(leader: u32) {
    let leader = i32::try_from(leader).ok().and_then(Pid::from_raw);
    if let Some(leader) = leader {
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

fn show_end(log: &Path) -> Result<()> {
    let text = fs::read(log).context(|| format!("read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        report::line(format!("         | {line}"));
    }
    Ok(())
}
