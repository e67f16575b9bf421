// SPDX-License-Identifier: Apache-2.0
//! The task service: seventeen calls, which containerd knows by two names (`containerd.task.v2.Task` and `v3`) with the same
//! messages. Each file has some of them, and what follows when a runtime that was called for one has ended.
//!
//! ```text
//! call.rs     the runtime's program, called for one of them
//! create.rs   Create, and its way through mounts, streams and the runtime
//! start.rs    Start of an init, also from a checkpoint, and of what was added by Exec
//! exec.rs     Exec
//! end.rs      Kill, Wait, and what is told of starts and ends
//! delete.rs   Delete, Shutdown
//! control.rs  Pause, Resume, Update, Checkpoint
//! ask.rs      State, Pids, Stats, Connect
//! streams.rs  ResizePty, CloseIO, loggers
//! ```

mod ask;
mod call;
mod control;
mod create;
mod delete;
mod end;
mod exec;
mod start;
mod streams;

use containerd_shim_protos::api::Empty;
use protobuf::Message;

use crate::children::{Errand, Purpose};
use crate::error::{Code, Error, Result};
use crate::log;
use crate::runtime;
use crate::shim::Shim;
use crate::ttrpc::server::{Call, Request};

const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// What becomes of a call.
pub(crate) enum Answer {
    /// This is the answer.
    Now(Vec<u8>),
    /// It comes later.
    Later,
}

type Answered = Result<Answer>;

impl Shim {
    /// Carries out a call.
    pub(crate) fn serve_call(&mut self, request: Request) {
        let call = request.call;
        log::debug(format_args!("{}", request.method));
        match self.dispatch(&request) {
            Ok(Answer::Now(payload)) => self.answer(call, Ok(payload)),
            Ok(Answer::Later) => {}
            Err(error) => self.answer(call, Err(error)),
        }
    }

    fn dispatch(&mut self, request: &Request) -> Answered {
        let Request {
            call,
            service,
            method,
            payload,
        } = request;
        if !SERVICES.contains(&service.as_str()) {
            return Err(unimplemented(format!("service {service}")));
        }
        let call = *call;
        match method.as_str() {
            "State" => self.state(&read(payload)?),
            "Create" => self.create(call, read(payload)?),
            "Start" => self.start(call, &read(payload)?),
            "Delete" => self.delete(call, &read(payload)?),
            "Pids" => self.pids(call, &read(payload)?),
            "Pause" => self.pause(call, &read(payload)?),
            "Resume" => self.resume(call, &read(payload)?),
            "Checkpoint" => self.checkpoint(call, &read(payload)?),
            "Kill" => self.kill(call, &read(payload)?),
            "Exec" => self.exec(read(payload)?),
            "ResizePty" => self.resize(&read(payload)?),
            "CloseIO" => self.close_input(&read(payload)?),
            "Update" => self.update(call, &read(payload)?),
            "Wait" => self.wait(call, &read(payload)?),
            "Stats" => self.stats(&read(payload)?),
            "Connect" => self.connect(&read(payload)?),
            "Shutdown" => self.shutdown(),
            _ => Err(unimplemented(format!("method {service}/{method}"))),
        }
    }

    /// Answers a call that was left for later.
    pub(crate) fn answer(&mut self, call: Call, answer: Result<Vec<u8>>) {
        if let Err(error) = &answer {
            log::debug(format_args!("answered with {:?}: {error}", error.code()));
        }
        self.server.answer(call, answer, &self.reactor);
    }

    /// The call of a runtime has ended.
    pub(crate) fn finish(&mut self, mut errand: Errand, status: i32) {
        let (answer, complaints) = match (&errand.log, &errand.said) {
            (Some(log), _) => (String::new(), runtime::logged(log)),
            (None, Some(said)) => {
                let [answer, complaints] = said.each_ref().map(runtime::said);
                (answer, Some(complaints))
            }
            (None, None) => (String::new(), None),
        };
        if let Some(file) = errand.file.take() {
            crate::bundle::remove(&file);
        }
        let outcome = match status {
            0 => Ok(answer),
            _ => {
                let what = words(errand.purpose);
                Err(runtime::failure(what, status, complaints.as_deref()))
            }
        };
        match errand.purpose {
            Purpose::Create => self.created(&errand, outcome),
            Purpose::Start | Purpose::Restore | Purpose::Exec => self.started(&errand, outcome),
            Purpose::Delete => self.deleted(&errand, outcome),
            Purpose::Kill => self.killed(&errand, outcome),
            Purpose::KillRest => {
                if let Err(error) = outcome {
                    log::debug(format_args!("{error}"));
                }
            }
            Purpose::Pause => self.paused(&errand, outcome),
            Purpose::Resume => self.resumed(&errand, outcome),
            Purpose::Pids => self.listed(&errand, outcome),
            Purpose::Update => self.updated(&errand, outcome),
            Purpose::Checkpoint => self.checkpointed(&errand, outcome),
            Purpose::Unmount => self.unmounted(&errand, outcome),
        }
    }
}

/// What a failure begins with, as runc's shim has it: callers look for it.
fn words(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Create => "OCI runtime create failed",
        Purpose::Start => "OCI runtime start failed",
        Purpose::Restore => "OCI runtime restore failed",
        Purpose::Exec => "OCI runtime exec failed",
        Purpose::Delete => "OCI runtime delete failed",
        Purpose::Kill | Purpose::KillRest => "OCI runtime kill failed",
        Purpose::Pause => "OCI runtime pause failed",
        Purpose::Resume => "OCI runtime resume failed",
        Purpose::Pids => "OCI runtime ps failed",
        Purpose::Update => "OCI runtime update failed",
        Purpose::Checkpoint => "OCI runtime checkpoint failed",
        Purpose::Unmount => "unmount the root file system",
    }
}

fn unimplemented(what: String) -> Error {
    Error::new(Code::Unimplemented, format!("{what} is not served"))
}

fn read<M: Message>(payload: &[u8]) -> Result<M> {
    M::parse_from_bytes(payload).map_err(|error| Error::invalid(format!("the request: {error}")))
}

/// An answer's bytes.
fn written(message: &impl Message) -> Result<Vec<u8>> {
    message
        .write_to_bytes()
        .map_err(|error| Error::new(Code::Unknown, format!("write the answer: {error}")))
}

fn now(message: &impl Message) -> Answered {
    written(message).map(Answer::Now)
}

fn done() -> Answered {
    now(&Empty::new())
}
