// SPDX-License-Identifier: Apache-2.0
//! `Start`: an init that was created goes on, one with a checkpoint is restored, and one that was added by `Exec` is executed.

use containerd_shim_protos::api::{StartRequest, StartResponse};
use corten::supervise::Supervised;

use super::call::Launching;
use super::end::{SIGKILL, send};
use super::{Answer, Answered, written};
use crate::bundle::read_pid;
use crate::children::{Errand, Key, Purpose};
use crate::container::State;
use crate::error::{Error, Result};
use crate::log;
use crate::shim::Shim;
use crate::ttrpc::server::Call;

impl Shim {
    pub(super) fn start(&mut self, call: Call, request: &StartRequest) -> Answered {
        let key = Key::of(&request.id, &request.exec_id);
        let container = self.container(&request.id)?;
        let state = container.process(&request.id, &key.who)?.state;
        match (&key.who, state) {
            (None, State::Created) if container.checkpoint.is_some() => {
                self.call_restore(&key, call)?;
                Ok(Answer::Later)
            }
            (None, State::Created) => {
                self.call_start(&key, call)?;
                Ok(Answer::Later)
            }
            (Some(_), State::New) => {
                // The kernel would refuse as well, with words that nobody knows.
                let text = "init process is not running";
                if container.order.is_over() {
                    // Nor will it run later: nobody need wait for it.
                    self.never_ran(&key);
                    return Err(Error::precondition(text));
                }
                if container.init.state == State::Created {
                    return Err(Error::precondition(text));
                }
                self.begin(&key, call).inspect_err(|_| self.never_ran(&key))
            }
            (_, state) => {
                let text = format!("cannot start a process that is {}", state.word());
                Err(Error::precondition(text))
            }
        }
    }

    fn call_start(&mut self, key: &Key, call: Call) -> Result<()> {
        let words = ["start".to_owned(), key.container.clone()];
        self.call_runtime(key, Purpose::Start, &words, None, Some(call))?;
        let container = self.container_mut(&key.container)?;
        container.init.state = State::Starting;
        container.order.launching(&None);
        Ok(())
    }

    /// Executes what `Exec` has added.
    pub(super) fn call_exec(&mut self, key: &Key) -> Result<()> {
        let number = self.number();
        let container = self.container(&key.container)?;
        let bundle = &container.bundle;
        let name = format!("exec-{number}.json");
        let (file, pid_file) = (
            bundle.path().join(&name),
            bundle.path().join(format!("exec-{number}.pid")),
        );
        bundle.write(&name, &container.process(&key.container, &key.who)?.spec)?;
        let mut launching = Launching::new(Purpose::Exec, "exec", pid_file);
        launching.flag("--detach");
        launching.option("--process", &file);
        let called = self.call_with_streams(key, launching, Some(&file));
        called.inspect_err(|_| crate::bundle::remove(&file))?;
        self.container_mut(&key.container)?
            .order
            .launching(&key.who);
        Ok(())
    }

    /// A container with a checkpoint was created: there is nothing to be made before it is started.
    pub(super) fn note_checkpoint(&mut self, key: &Key) -> Result<()> {
        let init = &self.container(&key.container)?.init;
        let call = init.launch.as_ref().map(|launch| launch.call);
        self.announce(key, 0, call);
        Ok(())
    }

    fn call_restore(&mut self, key: &Key, call: Call) -> Result<()> {
        let container = self.container_mut(&key.container)?;
        let (Some(checkpoint), Some(launch)) = (&container.checkpoint, &mut container.init.launch)
        else {
            return Err(Error::precondition("there is nothing to restore"));
        };
        // Who has asked for its creation was answered.
        launch.call = call;
        let bundle = &container.bundle;
        let work = match container.options.criu_work_path.as_str() {
            "" => bundle.path().join("work"),
            path => path.into(),
        };
        let mut launching = Launching::new(Purpose::Restore, "restore", bundle.pid_file());
        launching.flag("--detach");
        launching.option("--image-path", checkpoint);
        launching.option("--work-path", &work);
        launching.option("--bundle", bundle.path());
        if container.options.no_pivot_root {
            launching.flag("--no-pivot");
        }
        self.call_with_streams(key, launching, None)?;
        let container = self.container_mut(&key.container)?;
        container.init.state = State::Starting;
        container.order.launching(&None);
        Ok(())
    }

    /// `start`, `exec` or `restore` has ended.
    pub(super) fn started(&mut self, errand: &Errand, outcome: Result<String>) {
        let key = &errand.key;
        let outcome = outcome.and_then(|_| self.settle_start(errand));
        if errand.purpose == Purpose::Exec
            && let Some(path) = &errand.pid_file
        {
            crate::bundle::remove(path);
        }
        let answer = match outcome {
            Ok(pid) => {
                // The end may have come before: it is told after the start.
                let early = match errand.purpose {
                    Purpose::Start => None,
                    _ => self.children.is(pid, key.clone()),
                };
                if let Ok(container) = self.container_mut(&key.container) {
                    let mut told = container.order.launched(&key.who);
                    if let Some(exit) = early {
                        told.extend(container.order.exited(&key.who, exit));
                    }
                    self.answer_start(errand.call, pid);
                    self.tell(&key.container, told);
                }
                return;
            }
            Err(error) => Err(error),
        };
        if let Ok(container) = self.container_mut(&key.container) {
            let told = container.order.failed(&key.who);
            if let Ok(process) = container.process_mut(&key.container, &key.who) {
                process.launch = None;
                // A failed start leaves what was created; its end is heard of.
                process.state = State::Created;
            }
            if key.who.is_some() {
                self.never_ran(key);
            }
            self.tell(&key.container, told);
        }
        if let Some(call) = errand.call {
            self.answer(call, answer);
        }
    }

    /// What is known of a process that runs: its number, its streams.
    fn settle_start(&mut self, errand: &Errand) -> Result<i32> {
        let key = &errand.key;
        let pid = errand.pid_file.as_deref().map(read_pid).transpose()?;
        if errand.purpose != Purpose::Start {
            self.attach(key).inspect_err(|_| {
                // It runs, and nobody would know of it.
                if let Some(pid) = pid
                    && let Err(error) = send(pid, SIGKILL)
                {
                    log::warn(format_args!("kill process {pid}: {error}"));
                }
            })?;
        }
        let container = self.container_mut(&key.container)?;
        let process = container.process_mut(&key.container, &key.who)?;
        if let Some(pid) = pid {
            process.pid = pid;
        }
        process.state = State::Running;
        let pid = process.pid;
        if errand.purpose == Purpose::Restore {
            container.direct = Supervised::find(container.runtime.root(), &key.container);
            self.watch_memory(&key.container);
        }
        Ok(pid)
    }

    fn answer_start(&mut self, call: Option<Call>, pid: i32) {
        if let Some(call) = call {
            let response = StartResponse {
                pid: pid.unsigned_abs(),
                ..StartResponse::default()
            };
            self.answer(call, written(&response));
        }
    }
}
