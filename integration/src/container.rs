// SPDX-License-Identifier: Apache-2.0
//! A container: its id, its bundle, and the verbs of the runtime on it.

use std::fs;
use std::path::PathBuf;

use rustix::process::Pid;
use serde_json::Value;

use crate::call::{Call, Outcome, await_exit, find};
use crate::cgroups;
use crate::trial::{PATIENCE, Trial, eventually};

/// A container, or what would become one.
#[derive(Debug)]
pub struct Container<'t> {
    trial: &'t Trial,
    /// Its id.
    pub id: String,
    /// Its bundle directory.
    pub bundle: PathBuf,
}

impl<'t> Container<'t> {
    pub(crate) fn new(trial: &'t Trial, id: String, bundle: PathBuf) -> Self {
        Self { trial, id, bundle }
    }

    /// The host's path of the rootfs.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// `runtime VERB ARGS… ID`, not yet begun.
    pub fn verb(&self, verb: &str, args: &[&str]) -> Call {
        self.trial.call().arg(verb).args(args).arg(&self.id)
    }

    /// `VERB --bundle B ARGS… ID`: `create`, `run` and `restore`.
    pub fn bundled(&self, verb: &str, args: &[&str]) -> Call {
        self.trial
            .call()
            .arg(verb)
            .arg("--bundle")
            .arg(&self.bundle)
            .args(args)
            .arg(&self.id)
    }

    /// Runs it in the foreground, to its end.
    pub fn run(&self) -> Outcome {
        self.bundled("run", &[]).end()
    }

    /// Creates it.
    pub fn create(&self) -> Outcome {
        self.bundled("create", &[]).end()
    }

    /// Runs it detached, and holds that to success.
    #[track_caller]
    pub fn run_detached(&self) -> Outcome {
        self.bundled("run", &["--detach"]).end().ok()
    }

    /// Starts it.
    pub fn start(&self) -> Outcome {
        self.verb("start", &[]).end()
    }

    /// `kill ID SIGNAL`.
    pub fn kill(&self, signal: &str) -> Outcome {
        self.verb("kill", &[]).arg(signal).end()
    }

    /// `delete ID`.
    pub fn delete(&self) -> Outcome {
        self.verb("delete", &[]).end()
    }

    /// `delete --force ID`.
    pub fn delete_force(&self) -> Outcome {
        self.verb("delete", &["--force"]).end()
    }

    /// `exec OPTIONS ID ARGS…`, not yet begun.
    pub fn exec_call(&self, options: &[&str], args: &[&str]) -> Call {
        self.verb("exec", options).args(args)
    }

    /// `exec ID /probe STEPS`, steps parted by blanks.
    pub fn exec(&self, steps: &str) -> Outcome {
        self.exec_call(&[], &["/probe"])
            .args(steps.split_whitespace())
            .end()
    }

    /// What `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        let text = self.verb("state", &[]).end().ok().stdout;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("state prints no JSON: {e}: {text}"))
    }

    /// The status that `state` tells.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().into()
    }

    /// The host's pid of its init.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|pid| *pid > 0).expect("pid in state")
    }

    /// Waits until its init has ended.
    #[track_caller]
    pub fn wait(&self) {
        let pid = self.state()["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or(0);
        if let Some(pid) = Pid::from_raw(pid) {
            assert!(
                await_exit(pid, PATIENCE),
                "init {pid} goes on for {PATIENCE:?}"
            );
        }
        eventually("status stopped", || {
            (self.status() == "stopped").then_some(())
        });
    }

    /// Kills it, waits for its end and deletes it.
    #[track_caller]
    pub fn end(&self) {
        self.kill("KILL").ok();
        self.wait();
        self.delete().ok();
    }

    /// Its cgroup directory, in the v1 hierarchy of `controller` if the host keeps that one there, else in v2.
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let hierarchy = cgroups::v1(controller)
            .or_else(cgroups::unified)
            .expect("a cgroup hierarchy");
        hierarchy.dir(&self.trial.cgroup_of(&self.id))
    }

    /// A file of its cgroup, trimmed.
    #[track_caller]
    pub fn cgroup_file(&self, controller: &str, name: &str) -> String {
        let path = self.cgroup(controller).join(name);
        fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
            .trim()
            .into()
    }

    /// Waits for the value of a step of the detached probe whose output `outcome` catches.
    #[track_caller]
    pub fn seen(&self, outcome: &Outcome, step: &str) -> Value {
        eventually(&format!("the probe's {step}"), || {
            find(&outcome.output(), step)
        })
    }

    /// Waits until the detached probe has printed `text`.
    #[track_caller]
    pub fn says(&self, outcome: &Outcome, text: &str) {
        eventually(&format!("{text:?} on stdout"), || {
            outcome
                .output()
                .lines()
                .any(|line| line == text)
                .then_some(())
        });
    }
}
