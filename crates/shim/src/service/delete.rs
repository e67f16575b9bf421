// SPDX-License-Identifier: Apache-2.0
//! `Delete`: the runtime removes a container that has ended, the root file system is unmounted, and it is told who it was;
//! of another process only how it ended. And `Shutdown`.

use containerd_shim_protos::api::{DeleteRequest, DeleteResponse};
use containerd_shim_protos::events::task::TaskDelete;
use protobuf::MessageField;

use super::{Answer, Answered, done, now, written};
use crate::aside;
use crate::children::{Errand, Key, Purpose};
use crate::clock;
use crate::container::{Process, State};
use crate::error::{Error, Result};
use crate::log;
use crate::order::Exit;
use crate::shim::Shim;
use crate::ttrpc::server::Call;
use crate::{rootfs, runtime};

impl Shim {
    pub(super) fn delete(&mut self, call: Call, request: &DeleteRequest) -> Answered {
        let key = Key::of(&request.id, &request.exec_id);
        let container = self.container_mut(&request.id)?;
        let process = container.process(&request.id, &key.who)?;
        match (&key.who, process.state) {
            (Some(name), State::Stopped | State::New) => {
                let name = name.clone();
                let response = response(process);
                container.order.forget(&name);
                if let Some(process) = container.others.remove(&name) {
                    self.drain_streams(&process);
                }
                now(&response)
            }
            // One that was only noted: no runtime knows it.
            (None, State::Created) if container.checkpoint.is_some() && process.pid == 0 => {
                self.unmount(&key, Some(call));
                Ok(Answer::Later)
            }
            (None, State::Stopped | State::Created) => {
                container.init.state = State::Deleting;
                let mut words = vec!["delete".to_owned()];
                if container.init.exit.is_none() {
                    words.push("--force".to_owned());
                }
                words.push(request.id.clone());
                let called = self.call_runtime(&key, Purpose::Delete, &words, None, Some(call));
                if called.is_err() {
                    self.not_deleted(&request.id);
                }
                called.map(|()| Answer::Later)
            }
            (_, state) => {
                let text = format!("cannot delete a process that is {}", state.word());
                Err(Error::precondition(text))
            }
        }
    }

    /// `delete` has ended.
    pub(super) fn deleted(&mut self, errand: &Errand, outcome: Result<String>) {
        let id = &errand.key.container;
        let gone = |error: &Error| error.text().contains("does not exist");
        match outcome {
            // Somebody has removed it already, which is what is wanted.
            Err(error) if !gone(&error) => {
                self.not_deleted(id);
                if let Some(call) = errand.call {
                    self.answer(call, Err(error));
                }
            }
            _ => self.unmount(&errand.key, errand.call),
        }
    }

    /// Unmounts the root file system of a container that is no runtime's any more, beside everything else: the last who lets
    /// go of an overlay waits until the disk has what was written.
    fn unmount(&mut self, key: &Key, call: Option<Call>) {
        let Ok(container) = self.container(&key.container) else {
            return;
        };
        let rootfs = container.bundle.rootfs();
        if container.rootfs.is_empty() {
            return self.finish_delete(&key.container, call);
        }
        let begun = runtime::answers().and_then(|said| {
            let work = || rootfs::unmount(&rootfs).map_err(|error| error.to_string());
            Ok((aside::begin(&said[1], work)?, said))
        });
        match begun {
            Ok((pid, said)) => {
                let errand = Errand {
                    key: key.clone(),
                    purpose: Purpose::Unmount,
                    call,
                    log: None,
                    said: Some(said),
                    pid_file: None,
                    file: None,
                };
                self.children.began(pid, errand);
            }
            Err(error) => {
                log::warn(format_args!("unmount in a child: {error}"));
                if let Err(error) = rootfs::unmount(&rootfs) {
                    log::warn(format_args!("{}: {error}", key.container));
                }
                self.finish_delete(&key.container, call);
            }
        }
    }

    /// The root file system is unmounted, or can't be: containerd tries again when it removes the bundle.
    pub(super) fn unmounted(&mut self, errand: &Errand, outcome: Result<String>) {
        if let Err(error) = outcome {
            log::warn(format_args!("{}: {error}", errand.key.container));
        }
        self.finish_delete(&errand.key.container, errand.call);
    }

    fn finish_delete(&mut self, id: &str, call: Option<Call>) {
        let answer = self.remove(id);
        if let Some(call) = call {
            self.answer(call, answer);
        }
    }

    fn not_deleted(&mut self, id: &str) {
        if let Ok(container) = self.container_mut(id) {
            container.init.state = match container.init.exit {
                Some(_) => State::Stopped,
                None => State::Created,
            };
        }
    }

    /// Forgets a container that no runtime has any more, and tells so; the answer to who asked for it.
    fn remove(&mut self, id: &str) -> Result<Vec<u8>> {
        let Some(mut container) = self.containers.remove(id) else {
            return Err(Error::not_found(format!("container {id}")));
        };
        self.children.forget(id);
        // One that was never started may be reaped only after its runtime has removed it.
        let killed = || Exit {
            status: 137,
            at: clock::now(),
        };
        let exit = container.init.exit.get_or_insert_with(killed).clone();
        if let Some((_, watch)) = &container.memory {
            self.reactor.remove(watch.wanted().0);
        }
        for process in container.others.values().chain([&container.init]) {
            self.drain_streams(process);
        }
        let event = TaskDelete {
            container_id: id.to_owned(),
            pid: container.init.pid.unsigned_abs(),
            exit_status: exit.status,
            exited_at: MessageField::some(exit.at),
            ..TaskDelete::default()
        };
        self.publisher.publish(&event, &self.reactor);
        let response = written(&response(&container.init));
        // Who still waits, waits for nothing: for an end, or for a logger. Whose runtime was called is answered by that.
        let loggers = &self.loggers;
        let has_to_wait = |number: &u32| loggers.get(number).is_some_and(|one| one.waits.is_some());
        let mut calls = Vec::new();
        for process in container.others.into_values().chain([container.init]) {
            calls.extend(process.waiters);
            if process.logger.as_ref().is_some_and(has_to_wait) {
                calls.extend(process.launch.map(|launch| launch.call));
            }
        }
        for waiter in calls {
            self.answer(waiter, Err(Error::not_found(format!("container {id}"))));
        }
        response
    }

    /// Ends the shim, if it has nothing to look after any more: a pod's last container is what containerd means.
    pub(super) fn shutdown(&mut self) -> Answered {
        if self.containers.is_empty() {
            self.end();
        }
        done()
    }
}

fn response(process: &Process) -> DeleteResponse {
    DeleteResponse {
        pid: process.pid.unsigned_abs(),
        exit_status: process.exit_status(),
        exited_at: process.exit.as_ref().map(|exit| exit.at.clone()).into(),
        ..DeleteResponse::default()
    }
}
