// SPDX-License-Identifier: Apache-2.0
//! The timed cases. Each round asks every runtime once, in an order that moves on by one, so that whatever else the
//! machine does hits all of them alike.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::counts;
use super::figures::{self, Series};
use crate::failure::{Failure, Result};
use crate::runtime::{self, Runtime};
use crate::{bundle, command, report, wait};

/// Rounds that nobody counts: caches and memory are warm after them.
const WARMING: usize = 2;

/// How long a container's process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be measured.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Case {
    /// `run` of /bin/true
    Run,
    /// `create`, `start` and `delete`, without the wait between them
    Lifecycle,
    /// `exec` of /bin/true
    Exec,
    /// `state` of a running container
    State,
    /// `delete --force` of a running container
    Delete,
    /// `create` and `start` as more and more containers are alive
    Scale,
    /// System calls of each verb: figures that noise can't touch
    Syscalls,
}

impl Case {
    /// The heading of its table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Run => "run /bin/true",
            Self::Lifecycle => "create + start + delete",
            Self::Exec => "exec /bin/true",
            Self::State => "state",
            Self::Delete => "delete --force of a running container",
            Self::Scale => "create + start among many",
            Self::Syscalls => "system calls",
        }
    }
}

/// The runtimes, what they run, and how often.
pub struct Contest {
    pub(super) runtimes: Vec<Runtime>,
    pub(super) work: PathBuf,
    baseline: String,
    rounds: usize,
    live: usize,
    ids: Cell<u32>,
    /// A bundle that ends at once.
    pub(super) brief: String,
    /// A bundle that stays.
    pub(super) lasting: String,
}

impl Contest {
    /// Makes the bundles in `work`, over its rootfs/.
    pub fn new(
        words: &[String],
        baseline: Option<&str>,
        work: &Path,
        rounds: usize,
        live: usize,
    ) -> Result<Self> {
        let runtimes = words
            .iter()
            .map(|word| Runtime::new(word, work))
            .collect::<Result<Vec<_>>>()?;
        let baseline = match baseline {
            Some(name) => runtimes.iter().find(|runtime| runtime.name == name),
            None => runtimes
                .iter()
                .find(|runtime| runtime.name != "corten")
                .or(runtimes.first()),
        };
        let baseline = baseline
            .ok_or_else(|| Failure::new("no runtime of the baseline's name"))?
            .name
            .clone();
        let make = |name: &str, args: &[&str]| {
            bundle::make(&work.join(name), &work.join("rootfs"), args, &[])
                .map(|path| path.display().to_string())
        };
        let (brief, lasting) = (
            make("brief", &["/bin/true"])?,
            make("lasting", &["/bin/sleep", "1000"])?,
        );
        Ok(Self {
            runtimes,
            work: work.to_path_buf(),
            baseline,
            rounds,
            live,
            ids: Cell::new(0),
            brief,
            lasting,
        })
    }

    /// Measures one case, prints its table and hands back its figures.
    pub fn measure(&self, case: Case) -> Result<Value> {
        report::step(case.title());
        match case {
            Case::Run => {
                let run = |runtime: &Runtime| {
                    runtime.timed(&["run", "--bundle", &self.brief, &self.id()])
                };
                self.in_turn(run, self.floor())
            }
            Case::Lifecycle => self.in_turn(|runtime| self.lifecycle(runtime), None),
            Case::Delete => self.in_turn(
                |runtime| {
                    let id = self.running(runtime)?;
                    runtime.timed(&["delete", "--force", &id])
                },
                None,
            ),
            Case::Exec => {
                self.beside_running(|runtime, id| runtime.timed(&["exec", id, "/bin/true"]))
            }
            Case::State => self.beside_running(|runtime, id| runtime.timed(&["state", id])),
            Case::Scale => self.scale(),
            Case::Syscalls => counts::table(self),
        }
    }

    /// A container id that was not used before.
    pub(super) fn id(&self) -> String {
        self.ids.set(self.ids.get() + 1);
        format!("bench-{}-{}", std::process::id(), self.ids.get())
    }

    /// A container that sleeps.
    pub(super) fn running(&self, runtime: &Runtime) -> Result<String> {
        let id = self.id();
        runtime.timed(&["create", "--bundle", &self.lasting, &id])?;
        runtime.timed(&["start", &id])?;
        Ok(id)
    }

    /// The floor's command, where prepare() could compile it.
    pub(super) fn floor(&self) -> Option<Command> {
        let program = self.work.join("floor");
        program.exists().then(|| {
            let mut command = Command::new(program);
            command
                .arg(self.work.join("rootfs"))
                .args([cgroup2_root(), "/bin/true"]);
            command::plain_environment(&mut command);
            command
        })
    }

    fn lifecycle(&self, runtime: &Runtime) -> Result<Duration> {
        let (id, pid_file) = (self.id(), self.work.join("pid"));
        let file = pid_file.display().to_string();
        let created =
            runtime.timed(&["create", "--bundle", &self.brief, "--pid-file", &file, &id])?;
        let process = wait::Process::from_pid_file(&pid_file)?;
        let started = runtime.timed(&["start", &id])?;
        process.ended(PATIENCE)?;
        Ok(created + started + runtime.timed(&["delete", &id])?)
    }

    /// `once` for each runtime, which finds a container of that runtime running.
    fn beside_running(&self, once: impl Fn(&Runtime, &str) -> Result<Duration>) -> Result<Value> {
        let mut ids = Vec::new();
        for runtime in &self.runtimes {
            ids.push((runtime.name.as_str(), self.running(runtime)?));
        }
        let id_of = |runtime: &Runtime| {
            ids.iter()
                .find(|(name, _)| *name == runtime.name)
                .map_or("", |(_, id)| id)
        };
        let figures = self.in_turn(|runtime| once(runtime, id_of(runtime)), None)?;
        for runtime in &self.runtimes {
            runtime.timed(&["delete", "--force", id_of(runtime)])?;
        }
        Ok(figures)
    }

    /// `once` for each runtime in turn, and then the floor, round by round.
    fn in_turn(
        &self,
        once: impl Fn(&Runtime) -> Result<Duration>,
        floor: Option<Command>,
    ) -> Result<Value> {
        let mut all: Vec<Series> = self
            .runtimes
            .iter()
            .map(|runtime| series(&runtime.name))
            .collect();
        let mut floor = floor.map(|command| (command, series("floor")));
        for round in 0..self.rounds + WARMING {
            for turn in 0..self.runtimes.len() {
                let index = (round + turn) % self.runtimes.len();
                let took = once(&self.runtimes[index])?;
                if round >= WARMING {
                    all[index].seconds.push(took.as_secs_f64());
                }
            }
            if let Some((command, figures)) = &mut floor {
                let took = runtime::timed(command, &self.work.join("stderr-floor"))?;
                if round >= WARMING {
                    figures.seconds.push(took.as_secs_f64());
                }
            }
        }
        all.extend(floor.map(|(_, figures)| figures));
        report::line(figures::table(&all, &self.baseline));
        Ok(figures::document(&all, &self.baseline))
    }

    /// Does the last container cost more than the first? One runtime after the other: what is alive must be its own.
    fn scale(&self) -> Result<Value> {
        report::line(format!(
            "{:<12} {:>14} {:>13} {:>7} {:>12} {:>12}",
            "", "first 10% ms", "last 10% ms", "growth", "list -q ms", "delete -f ms"
        ));
        let mut rows = serde_json::Map::new();
        for runtime in &self.runtimes {
            let (mut ids, mut took) = (Vec::new(), Vec::new());
            for _ in 0..self.live {
                let id = self.id();
                let created = runtime.timed(&["create", "--bundle", &self.lasting, &id])?;
                took.push((created + runtime.timed(&["start", &id])?).as_secs_f64() * 1e3);
                ids.push(id);
            }
            let tenth = (self.live / 10).max(1).min(took.len());
            let middle =
                |values: &[f64]| figures::median(values.iter().copied()).unwrap_or(f64::NAN);
            let (first, last) = (middle(&took[..tenth]), middle(&took[took.len() - tenth..]));
            let list = timed_ms(5, || runtime.timed(&["list", "-q"]))?;
            let mut ids = ids.iter();
            let delete = timed_ms(self.live, || {
                ids.next().map_or(Ok(Duration::ZERO), |id| {
                    runtime.timed(&["delete", "--force", id])
                })
            })?;
            report::line(format!(
                "{:<12} {first:>14.2} {last:>13.2} {:>7.2} {list:>12.2} {delete:>12.2}",
                runtime.name,
                last / first
            ));
            let row =
                json!({"first_ms": first, "last_ms": last, "list_ms": list, "delete_ms": delete});
            rows.insert(runtime.name.clone(), row);
        }
        Ok(Value::Object(rows))
    }
}

impl Drop for Contest {
    /// What a failed case left alive goes, whatever else fails.
    fn drop(&mut self) {
        for runtime in &self.runtimes {
            let mut list = runtime.command(&["list", "-q"]);
            let listed = list
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .output();
            let text = listed.map(|output| output.stdout).unwrap_or_default();
            for id in String::from_utf8_lossy(&text).lines() {
                if let Err(failure) = runtime.timed(&["delete", "--force", id]) {
                    report::failure(&failure);
                }
            }
        }
    }
}

fn series(name: &str) -> Series {
    Series {
        name: name.to_owned(),
        seconds: Vec::new(),
    }
}

/// The median of `times` calls, in milliseconds.
fn timed_ms(times: usize, mut once: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let all = (0..times).map(|_| once()).collect::<Result<Vec<_>>>()?;
    Ok(figures::median(all.iter().map(|took| took.as_secs_f64() * 1e3)).unwrap_or(f64::NAN))
}

/// Where the cgroup2 hierarchy is in this view.
fn cgroup2_root() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "/sys/fs/cgroup"
    } else {
        "/sys/fs/cgroup/unified"
    }
}
