// SPDX-License-Identifier: Apache-2.0
//! `Pause`, `Resume`, `Update` and `Checkpoint`: what is done to a container as a whole. Pausing needs no process where the
//! runtime is corten, unless it takes longer than others would like to wait.

use std::time::Duration;

use containerd_shim_protos::api::{
    CheckpointTaskRequest, PauseRequest, ResumeRequest, UpdateTaskRequest,
};
use containerd_shim_protos::events::task::{TaskCheckpointed, TaskPaused, TaskResumed};
use containerd_shim_protos::shim::oci::CheckpointOptions;
use corten::supervise::Progress;
use protobuf::well_known_types::any::Any;

use super::{Answer, Answered, done, read};
use crate::children::{Errand, Key, Purpose};
use crate::container::State;
use crate::error::{Error, Result};
use crate::shim::Shim;
use crate::ttrpc::server::Call;

/// How long the loop may stand still for one container. Freezing takes a millisecond, unless a process is in the middle of
/// something that the kernel won't interrupt.
const PATIENCE: Duration = Duration::from_millis(20);

impl Shim {
    pub(super) fn pause(&mut self, call: Call, request: &PauseRequest) -> Answered {
        let container = self.container(&request.id)?;
        expect(container.init.state, State::Running, "pause")?;
        if let Some(direct) = &container.direct
            && direct.pause(PATIENCE)? == Progress::Done
        {
            self.set_paused(&request.id, State::Paused);
            return done();
        }
        let words = ["pause".to_owned(), request.id.clone()];
        self.call_runtime(
            &Key::init(&request.id),
            Purpose::Pause,
            &words,
            None,
            Some(call),
        )?;
        Ok(Answer::Later)
    }

    /// `pause` has ended.
    pub(super) fn paused(&mut self, errand: &Errand, outcome: Result<String>) {
        if outcome.is_ok() {
            self.set_paused(&errand.key.container, State::Paused);
        }
        self.report(errand, outcome);
    }

    pub(super) fn resume(&mut self, call: Call, request: &ResumeRequest) -> Answered {
        let container = self.container(&request.id)?;
        expect(container.init.state, State::Paused, "resume")?;
        if let Some(direct) = &container.direct
            && direct.resume(PATIENCE)? == Progress::Done
        {
            self.set_paused(&request.id, State::Running);
            return done();
        }
        let words = ["resume".to_owned(), request.id.clone()];
        self.call_runtime(
            &Key::init(&request.id),
            Purpose::Resume,
            &words,
            None,
            Some(call),
        )?;
        Ok(Answer::Later)
    }

    /// `resume` has ended.
    pub(super) fn resumed(&mut self, errand: &Errand, outcome: Result<String>) {
        // What was begun here without a process may be done by now.
        let outcome =
            outcome.or_else(
                |error| match error.text().contains("container not paused") {
                    true => Ok(String::new()),
                    false => Err(error),
                },
            );
        if outcome.is_ok() {
            self.set_paused(&errand.key.container, State::Running);
        }
        self.report(errand, outcome);
    }

    /// Notes that a container is paused, or is not any more; not of one that has ended meanwhile.
    fn set_paused(&mut self, id: &str, state: State) {
        let Ok(container) = self.container_mut(id) else {
            return;
        };
        if matches!(container.init.state, State::Running | State::Paused) {
            container.init.state = state;
        }
        let container_id = id.to_owned();
        if state == State::Paused {
            let event = TaskPaused {
                container_id,
                ..TaskPaused::default()
            };
            self.publisher.publish(&event, &self.reactor);
        } else {
            let event = TaskResumed {
                container_id,
                ..TaskResumed::default()
            };
            self.publisher.publish(&event, &self.reactor);
        }
    }

    /// New limits: runc's `LinuxResources` as JSON, which every runtime reads.
    pub(super) fn update(&mut self, call: Call, request: &UpdateTaskRequest) -> Answered {
        let container = self.container(&request.id)?;
        if matches!(container.init.state, State::Stopped | State::Deleting) {
            return Err(Error::precondition("cannot update a stopped container"));
        }
        if let Some(name) = request.annotations.keys().next() {
            // Of runtimes that keep their own account of a sandbox.
            let text = format!("the annotation {name}: this runtime has no use for it");
            return Err(Error::invalid(text));
        }
        let Some(resources) = request.resources.as_ref() else {
            return Err(Error::invalid("no resources to be updated"));
        };
        let words = ["update", "--resources", "-", &request.id].map(str::to_owned);
        let input = resources.value.as_slice();
        self.call_runtime(
            &Key::init(&request.id),
            Purpose::Update,
            &words,
            Some(input),
            Some(call),
        )?;
        Ok(Answer::Later)
    }

    /// `update` has ended.
    pub(super) fn updated(&mut self, errand: &Errand, outcome: Result<String>) {
        self.report(errand, outcome);
    }

    pub(super) fn checkpoint(&mut self, call: Call, request: &CheckpointTaskRequest) -> Answered {
        let container = self.container(&request.id)?;
        match container.init.state {
            State::Running | State::Paused => {}
            state => {
                let text = format!("cannot checkpoint a container that is {}", state.word());
                return Err(Error::precondition(text));
            }
        }
        let options = checkpoint_options(request.options.as_ref())?;
        let mut words = vec!["checkpoint".to_owned()];
        let mut option =
            |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
        let image = [
            &options.image_path,
            &request.path,
            &container.options.criu_image_path,
        ];
        let image = image.into_iter().find(|path| !path.is_empty());
        let image = image.ok_or_else(|| Error::invalid("no path to write the checkpoint to"))?;
        option("--image-path", image);
        let work = [&options.work_path, &container.options.criu_work_path];
        let own = container.bundle.path().join("work").display().to_string();
        option(
            "--work-path",
            work.into_iter()
                .find(|path| !path.is_empty())
                .unwrap_or(&own),
        );
        for (is_set, name) in [
            (!options.exit, "--leave-running"),
            (options.open_tcp, "--tcp-established"),
            (options.external_unix_sockets, "--ext-unix-sk"),
            (options.terminal, "--shell-job"),
            (options.file_locks, "--file-locks"),
        ] {
            if is_set {
                words.push(name.to_owned());
            }
        }
        if !options.cgroups_mode.is_empty() {
            words.extend(["--manage-cgroups-mode".to_owned(), options.cgroups_mode]);
        }
        for namespace in options.empty_namespaces {
            words.extend(["--empty-ns".to_owned(), namespace]);
        }
        words.push(request.id.clone());
        let key = Key::init(&request.id);
        self.call_runtime(&key, Purpose::Checkpoint, &words, None, Some(call))?;
        Ok(Answer::Later)
    }

    /// `checkpoint` has ended.
    pub(super) fn checkpointed(&mut self, errand: &Errand, outcome: Result<String>) {
        if outcome.is_ok() {
            let event = TaskCheckpointed {
                container_id: errand.key.container.clone(),
                ..TaskCheckpointed::default()
            };
            self.publisher.publish(&event, &self.reactor);
        }
        self.report(errand, outcome);
    }

    /// Answers with no more than that it was done.
    fn report(&mut self, errand: &Errand, outcome: Result<String>) {
        if let Some(call) = errand.call {
            self.answer(call, outcome.map(|_| Vec::new()));
        }
    }
}

fn expect(state: State, wanted: State, verb: &str) -> Result<()> {
    if state == wanted {
        return Ok(());
    }
    let text = format!("cannot {verb} a container that is {}", state.word());
    Err(Error::precondition(text))
}

/// None are the defaults: the container goes on after it.
fn checkpoint_options(any: Option<&Any>) -> Result<CheckpointOptions> {
    match any.filter(|any| !any.type_url.is_empty()) {
        None => Ok(CheckpointOptions::default()),
        Some(any)
            if any.type_url.rsplit('/').next() == Some("containerd.runc.v1.CheckpointOptions") =>
        {
            read(&any.value)
        }
        Some(any) => Err(Error::invalid(format!(
            "options of the type {:?}: containerd.runc.v1.CheckpointOptions is known",
            any.type_url
        ))),
    }
}
