// SPDX-License-Identifier: Apache-2.0
//! What is asked and changes nothing: `State`, `Pids`, `Stats`, `Connect`.

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, PidsRequest, PidsResponse, ProcessInfo, StateRequest,
    StateResponse, StatsRequest, StatsResponse,
};
use containerd_shim_protos::shim::oci::ProcessDetails;
use corten::supervise;
use corten_sys::process;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use super::{Answer, Answered, now, written};
use crate::children::{Errand, Key, Purpose};
use crate::container::Container;
use crate::error::{Code, Error, Result};
use crate::metrics;
use crate::shim::Shim;
use crate::ttrpc::server::Call;

impl Shim {
    pub(super) fn state(&mut self, request: &StateRequest) -> Answered {
        let key = Key::of(&request.id, &request.exec_id);
        let container = self.container(&request.id)?;
        let process = container.process(&request.id, &key.who)?;
        now(&StateResponse {
            id: request.id.clone(),
            bundle: container.bundle.path().display().to_string(),
            pid: process.pid.unsigned_abs(),
            status: process.state.status().into(),
            stdin: process.names.stdin.clone(),
            stdout: process.names.stdout.clone(),
            stderr: process.names.stderr.clone(),
            terminal: process.names.terminal,
            exit_status: process.exit_status(),
            exited_at: process.exit.as_ref().map(|exit| exit.at.clone()).into(),
            exec_id: request.exec_id.clone(),
            ..StateResponse::default()
        })
    }

    pub(super) fn pids(&mut self, call: Call, request: &PidsRequest) -> Answered {
        let container = self.container(&request.id)?;
        if let Some(direct) = &container.direct {
            return now(&listed(container, &direct.processes()?)?);
        }
        let words = ["ps", "--format", "json", &request.id].map(str::to_owned);
        self.call_runtime(
            &Key::init(&request.id),
            Purpose::Pids,
            &words,
            None,
            Some(call),
        )?;
        Ok(Answer::Later)
    }

    /// `ps` has ended.
    pub(super) fn listed(&mut self, errand: &Errand, outcome: Result<String>) {
        let answer = outcome.and_then(|text| {
            let pids: Vec<i32> = serde_json::from_str(text.trim()).map_err(|error| {
                let text = format!("read the runtime's list of processes: {error}");
                Error::new(Code::Unknown, text)
            })?;
            let container = self.container(&errand.key.container)?;
            written(&listed(container, &pids)?)
        });
        if let Some(call) = errand.call {
            self.answer(call, answer);
        }
    }

    pub(super) fn stats(&mut self, request: &StatsRequest) -> Answered {
        let container = self.container(&request.id)?;
        let cgroup = match &container.direct {
            Some(direct) => direct.cgroup()?,
            None => supervise::cgroup_of(container.init.pid)?,
        };
        let missing = || Error::not_found(format!("the cgroup of container {}", request.id));
        let cgroup = cgroup.ok_or_else(missing)?;
        now(&StatsResponse {
            stats: MessageField::some(metrics::metrics(&cgroup, container.init.pid)?),
            ..StatsResponse::default()
        })
    }

    pub(super) fn connect(&mut self, request: &ConnectRequest) -> Answered {
        let task = self.containers.get(&request.id);
        now(&ConnectResponse {
            shim_pid: process::own_pid().unsigned_abs(),
            task_pid: task.map_or(0, |container| container.init.pid.unsigned_abs()),
            ..ConnectResponse::default()
        })
    }
}

/// Its processes, and the names of those that were executed.
fn listed(container: &Container, pids: &[i32]) -> Result<PidsResponse> {
    let mut response = PidsResponse::new();
    for pid in pids {
        let mut info = ProcessInfo::new();
        info.pid = pid.unsigned_abs();
        let mut others = container.others.iter();
        if let Some((name, _)) = others.find(|(_, process)| process.pid == *pid) {
            let details = ProcessDetails {
                exec_id: name.clone(),
                ..ProcessDetails::default()
            };
            info.info = MessageField::some(Any {
                type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
                value: details.write_to_bytes().map_err(|error| {
                    Error::new(Code::Unknown, format!("write the answer: {error}"))
                })?,
                ..Any::default()
            });
        }
        response.processes.push(info);
    }
    Ok(response)
}
