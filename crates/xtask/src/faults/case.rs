// SPDX-License-Identifier: Apache-2.0
//! One verb, hit at one point, cleaned up with one `delete --force`, and what was found afterwards.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use corten_integration::Census;

use super::points::Point;
use super::verb::Verb;
use super::verdict::{self, Ending, Fault};
use crate::failure::{Context, Failure, Result};
use crate::runtime::Runtime;
use crate::{bundle, tracer, wait};

/// A verb that takes longer than this, under strace and with half the machine for itself, hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the tracer may take to see that the container is gone.
const GONE: Duration = Duration::from_secs(5);

/// Where one job works: a runtime with a state directory of its own, two bundles, and a mark on all it makes.
pub struct Bench {
    runtime: Runtime,
    directory: PathBuf,
    /// Beside it, so that the census doesn't take our own open files for somebody's leak.
    logs: PathBuf,
    prefix: String,
    brief: String,
    lasting: String,
    passing: String,
}

/// What came of one case.
pub struct Outcome {
    /// How the verb ended.
    pub ending: Ending,
    /// The system call that was hit first.
    pub struck: Option<String>,
    /// What should not be: the verb's words, or what is left on the host.
    pub complaints: Vec<String>,
}

/// The verb's status and words, and the log of its tracer.
struct Hit {
    status: Result<ExitStatus>,
    stderr: String,
    traced: tracer::Traced,
}

impl Bench {
    /// Prepares a job below `work`.
    pub fn new(word: &str, work: &Path, job: usize) -> Result<Self> {
        let directory = work.join(format!("job{job}"));
        let (rootfs, logs) = (directory.join("rootfs"), work.join(format!("logs{job}")));
        std::fs::create_dir(&logs).context(|| format!("make {}", logs.display()))?;
        bundle::make_rootfs(&rootfs)?;
        let prefix = format!("faults-{}-{job}-", std::process::id());
        let mark = format!("FAULTS={prefix}");
        let make = |name: &str, words: &[&str]| {
            let path = bundle::make(&directory.join(name), &rootfs, words, &[&mark])?;
            // The process that holds its maps is one more that a fault may leave behind.
            bundle::add_more(&path, &rootfs)?;
            Ok::<_, Failure>(path.display().to_string())
        };
        let (brief, lasting, passing) = (
            make("brief", &["/bin/true"])?,
            make("lasting", &["/bin/sleep", "1000"])?,
            // Long enough for `wait` to find it running.
            make("passing", &["/bin/sleep", "0.3"])?,
        );
        let runtime = Runtime::new(word, &directory)?;
        Ok(Self {
            runtime,
            directory,
            logs,
            prefix,
            brief,
            lasting,
            passing,
        })
    }

    /// The log of the verb when nothing is done to it.
    pub fn undisturbed(&self, verb: Verb) -> Result<String> {
        let id = format!("{}undisturbed", self.prefix);
        let hit = self.hit(verb, &id, &[])?;
        let status = hit.status?;
        self.runtime.timed(&["delete", "--force", &id])?;
        if !status.success() {
            return Err(Failure::new(format!(
                "{verb:?} fails undisturbed: {status}: {}",
                hit.stderr.trim()
            )));
        }
        hit.traced.log(GONE)
    }

    /// Hits the verb, cleans up once, and looks around.
    pub fn case(&self, verb: Verb, fault: Fault, number: usize, point: &Point) -> Result<Outcome> {
        let id = format!("{}{number}", self.prefix);
        let census = Census::take(&self.prefix, &self.directory);
        let (calls, what) = (fault.calls(&point.call), fault.expression());
        let expression = format!("inject={calls}:{what}:when={}", point.when);
        let hit = self.hit(verb, &id, &["-e", &expression])?;
        let mut complaints = Vec::new();
        let failed =
            matches!(&hit.status, Ok(status) if verdict::ending(*status) == Ending::Failed);
        if verb == Verb::Pause && failed && self.runtime.timed(&["resume", &id]).is_ok() {
            complaints.push("failed, and left the container paused".into());
        }
        if let Err(failure) = self.runtime.timed(&["delete", "--force", &id]) {
            complaints.push(failure.to_string());
        }
        // The tracer of a `create` stays with the container until the container is gone.
        let log = hit.traced.log(GONE);
        if let Err(failure) = &log {
            complaints.push(format!("traced processes left: {failure}"));
        }
        complaints.extend(self.left(&census));
        if !complaints.is_empty() {
            census.sweep();
            self.forget_state()?;
        }
        let log = log.or_else(|_| hit.traced.log(PATIENCE))?;
        let (ending, complaint) = match hit.status {
            Ok(status) => (
                verdict::ending(status),
                verdict::complaint(verb, fault, status, &hit.stderr, &log),
            ),
            Err(failure) => (Ending::Killed, Some(format!("hangs: {failure}"))),
        };
        complaints.splice(0..0, complaint);
        Ok(Outcome {
            ending,
            struck: verdict::struck(fault, &log).map(str::to_owned),
            complaints,
        })
    }

    /// Brings the container to where the verb applies, and runs the verb under strace.
    fn hit(&self, verb: Verb, id: &str, options: &[&str]) -> Result<Hit> {
        let runs = matches!(verb, Verb::Delete | Verb::Pause | Verb::Update | Verb::Wait);
        if runs || verb == Verb::Start {
            let bundle = match verb {
                Verb::Wait => &self.passing,
                _ => &self.lasting,
            };
            self.runtime.timed(&["create", "--bundle", bundle, id])?;
        }
        if runs {
            self.runtime.timed(&["start", id])?;
        }
        let words = self.runtime.words(&match verb {
            Verb::Create => vec!["create", "--bundle", &self.lasting, id],
            Verb::Start => vec!["start", id],
            Verb::Run => vec!["run", "--bundle", &self.brief, id],
            Verb::Delete => vec!["delete", "--force", id],
            Verb::Pause => vec!["pause", id],
            Verb::Update => vec!["update", "--pids-limit=77", "--cpu-quota=50000", id],
            Verb::Wait => vec!["wait", id],
        });
        let said = self.logs.join("said");
        let file = File::create(&said).context(|| format!("make {}", said.display()))?;
        let mut traced = tracer::spawn(
            &words,
            options,
            &self.logs.join("strace.fifo"),
            Stdio::from(file),
            3 * PATIENCE,
        )?;
        let status = wait::child(&mut traced.child, PATIENCE);
        let stderr =
            std::fs::read_to_string(&said).context(|| format!("read {}", said.display()))?;
        Ok(Hit {
            status,
            stderr,
            traced,
        })
    }

    /// What the census finds that is ours: another program may mount something meanwhile, and a tracer that has closed
    /// its log may take a moment more to be gone.
    fn left(&self, census: &Census) -> Vec<String> {
        let state = self.runtime.root();
        let place = self.directory.display().to_string();
        let ours = |finding: &String| {
            let foreign = finding.starts_with("mount table changed") && !finding.contains(&place);
            !foreign && !finding.contains("[strace -D ")
        };
        census.findings(state).into_iter().filter(ours).collect()
    }

    /// Removes what a dirty case left in the state directory, so that it fails one case only.
    fn forget_state(&self) -> Result<()> {
        match std::fs::remove_dir_all(self.runtime.root()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| "remove the state directory".into())
            }
            _ => Ok(()),
        }
    }
}
