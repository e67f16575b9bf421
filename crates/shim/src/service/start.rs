// SPDX-License-Identifier: Apache-2.0
//! `Start`: an init that was created goes on, one with a checkpoint is restored, and one that was added by `Exec` is executed.

use std::os::fd::AsFd;

use containerd_shim_protos::api::{StartRequest, StartResponse};
use corten::supervise::Supervised;
use corten_sys::spawn;

use super::end::{SIGKILL, send};
use super::{Answer, Answered, written};
use crate::bundle::read_pid;
use crate::children::{Errand, Errands, Key};
use crate::container::State;
use crate::error::{Error, Result};
use crate::log;
use crate::runtime::Standard;
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
        self.call_runtime(key, Errand::Start, &words, None, Some(call))?;
        let container = self.container_mut(&key.container)?;
        container.init.state = State::Starting;
        container.order.launching(&None);
        Ok(())
    }

    /// Calls the container's runtime for something that has no streams of its own.
    pub(super) fn call_runtime(
        &mut self,
        key: &Key,
        errand: Errand,
        words: &[String],
        input: Option<&[u8]>,
        call: Option<Call>,
    ) -> Result<()> {
        let container = self.container(&key.container)?;
        let said = spawn::memory_file("said", b"")?;
        let stdin = match input {
            Some(bytes) => spawn::memory_file("input", bytes)?,
            None => spawn::memory_file("input", b"")?,
        };
        let standard = Standard([stdin.as_fd(), said.as_fd(), said.as_fd()]);
        let pid = container
            .runtime
            .call(None, words, standard, &container.bundle)?;
        let errand = Errands {
            key: key.clone(),
            errand,
            call,
            log: None,
            said: Some(said),
            pid_file: None,
            file: None,
        };
        self.children.began(pid, errand);
        Ok(())
    }

    /// Executes what `Exec` has added.
    pub(super) fn call_exec(&mut self, key: &Key) -> Result<()> {
        let number = self.number();
        let container = self.container_mut(&key.container)?;
        let bundle = container.bundle.clone();
        let path = |end: &str| bundle.path().join(format!("exec-{number}{end}"));
        let (log, file, pid_file) = (path("-log.json"), path(".json"), path(".pid"));
        let runtime = container.runtime.clone();
        let process = container.process_mut(&key.container, &key.who)?;
        let Some(launch) = &process.launch else {
            return Err(Error::precondition("nothing is being executed"));
        };
        bundle.write(&format!("exec-{number}.json"), &process.spec)?;
        let mut words = vec!["exec".to_owned(), "--detach".to_owned()];
        words.extend(["--process".to_owned(), file.display().to_string()]);
        words.extend(["--pid-file".to_owned(), pid_file.display().to_string()]);
        if let Some(console) = &launch.console {
            words.extend([
                "--console-socket".to_owned(),
                console.path().display().to_string(),
            ]);
        }
        words.push(key.container.clone());
        let [stdin, stdout, stderr] = &launch.opened.standard;
        let standard = Standard([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        let called = runtime.call(Some(&log), &words, standard, &bundle);
        let pid = called.inspect_err(|_| crate::bundle::remove(&file))?;
        let call = launch.call;
        container.order.launching(&key.who);
        let errand = Errands {
            key: key.clone(),
            errand: Errand::Exec,
            call: Some(call),
            log: Some(log),
            said: None,
            pid_file: Some(pid_file),
            file: Some(file),
        };
        self.children.began(pid, errand);
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
        let number = self.number();
        let container = self.container_mut(&key.container)?;
        let (Some(checkpoint), Some(launch)) = (&container.checkpoint, &container.init.launch)
        else {
            return Err(Error::precondition("there is nothing to restore"));
        };
        let bundle = &container.bundle;
        let log = bundle.path().join(format!("log-{number}.json"));
        let pid_file = bundle.pid_file();
        let mut words = vec!["restore".to_owned(), "--detach".to_owned()];
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("--image-path", checkpoint.display().to_string());
        let work = Some(container.options.criu_work_path.clone()).filter(|path| !path.is_empty());
        let work = work.unwrap_or_else(|| bundle.path().join("work").display().to_string());
        option("--work-path", work);
        option("--bundle", bundle.path().display().to_string());
        option("--pid-file", pid_file.display().to_string());
        if let Some(console) = &launch.console {
            option("--console-socket", console.path().display().to_string());
        }
        if container.options.no_pivot_root {
            words.push("--no-pivot".to_owned());
        }
        words.push(key.container.clone());
        let [stdin, stdout, stderr] = &launch.opened.standard;
        let standard = Standard([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        let pid = container
            .runtime
            .call(Some(&log), &words, standard, bundle)?;
        container.init.state = State::Starting;
        container.order.launching(&None);
        let errand = Errands {
            key: key.clone(),
            errand: Errand::Restore,
            call: Some(call),
            log: Some(log),
            said: None,
            pid_file: Some(pid_file),
            file: None,
        };
        self.children.began(pid, errand);
        Ok(())
    }

    /// `start`, `exec` or `restore` has ended.
    pub(super) fn started(&mut self, errand: &Errands, outcome: Result<String>) {
        let key = &errand.key;
        let outcome = outcome.and_then(|_| self.settle_start(errand));
        if errand.errand == Errand::Exec
            && let Some(path) = &errand.pid_file
        {
            crate::bundle::remove(path);
        }
        let answer = match outcome {
            Ok(pid) => {
                // The end may have come before: it is told after the start.
                let early = match errand.errand {
                    Errand::Start => None,
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
    fn settle_start(&mut self, errand: &Errands) -> Result<i32> {
        let key = &errand.key;
        let pid = errand.pid_file.as_deref().map(read_pid).transpose()?;
        if errand.errand != Errand::Start {
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
        if errand.errand == Errand::Restore {
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
