// SPDX-License-Identifier: Apache-2.0
//! `Exec`: a process is added, to be executed by `Start`.

use containerd_shim_protos::api::ExecProcessRequest;
use containerd_shim_protos::events::task::TaskExecAdded;

use super::{Answered, done};
use crate::container::{Process, State};
use crate::error::{Code, Error};
use crate::shim::Shim;
use crate::stdio::Names;

impl Shim {
    pub(super) fn exec(&mut self, request: ExecProcessRequest) -> Answered {
        let (id, name) = (request.id, request.exec_id);
        let container = self.container_mut(&id)?;
        if name.is_empty() || name == id {
            return Err(Error::invalid("a process needs a name of its own"));
        }
        if container.others.contains_key(&name) {
            let text = format!("process {name} of container {id}: already exists");
            return Err(Error::new(Code::AlreadyExists, text));
        }
        match container.init.state {
            State::Created | State::Starting | State::Running if !container.order.is_over() => {}
            State::Paused => {
                return Err(Error::precondition("cannot exec in a paused state"));
            }
            _ => return Err(Error::precondition("cannot exec in a stopped state")),
        }
        let Some(spec) = request.spec.into_option() else {
            return Err(Error::invalid("the process has no document"));
        };
        let names = Names {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let process = Process::new(names, spec.value);
        container.others.insert(name.clone(), process);
        let event = TaskExecAdded {
            container_id: id,
            exec_id: name,
            ..TaskExecAdded::default()
        };
        self.publisher.publish(&event, &self.reactor);
        done()
    }
}
