// SPDX-License-Identifier: Apache-2.0
//! `Create`: the root file system is mounted, the streams are opened, and the runtime makes a container that waits for
//! `Start`. What fails leaves nothing.

use std::collections::BTreeMap;

use containerd_shim_protos::api::{CreateTaskRequest, CreateTaskResponse};
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use corten::store::ContainerId;
use corten::supervise::{self, Supervised};
use protobuf::{Message, MessageField};

use super::call::Launching;
use super::{Answer, Answered, written};
use crate::bundle::{Bundle, read_pid};
use crate::children::{Errand, Key, Purpose};
use crate::container::{Container, Launch, Process, State};
use crate::error::{Code, Context, Error, Result};
use crate::log;
use crate::options::Options;
use crate::order::Order;
use crate::reactor::{Interest, Source};
use crate::rootfs;
use crate::runtime::Runtime;
use crate::shim::Shim;
use crate::stdio::{ConsoleSocket, Names, Opened, Owner};
use crate::ttrpc::server::Call;

impl Shim {
    pub(super) fn create(&mut self, call: Call, request: CreateTaskRequest) -> Answered {
        let id = request.id.clone();
        // Whatever the runtime, its name becomes a part of paths.
        ContainerId::new(&id)?;
        if self.containers.contains_key(&id) {
            let text = format!("container {id}: already exists");
            return Err(Error::new(Code::AlreadyExists, text));
        }
        if self.is_ending() {
            return Err(Error::precondition("the shim is ending"));
        }
        let bundle = Bundle::new(&request.bundle);
        let config = bundle.config()?;
        let options = Options::read(request.options.as_ref())?.completed(&config);
        let runtime = Runtime::new(&options, &self.namespace)?;
        bundle.write_options(&options)?;
        let names = Names {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let checkpoint = Some(request.checkpoint).filter(|path| !path.is_empty());
        if !request.rootfs.is_empty() {
            bundle.make_rootfs()?;
            rootfs::mount(&request.rootfs, &bundle.rootfs())
                .context(|| "mount the root file system")?;
        }
        let container = Container {
            bundle,
            runtime,
            options,
            init: Process::new(names, Vec::new()),
            others: BTreeMap::new(),
            order: Order::new(config.shares_pid_namespace()),
            direct: None,
            rootfs: request.rootfs,
            checkpoint: checkpoint.map(Into::into),
            memory: None,
        };
        self.containers.insert(id.clone(), container);
        self.begin(&Key::init(&id), call).inspect_err(|_| {
            self.discard(&id);
        })
    }

    /// Opens the streams of a process, and has it launched: at once, or when its logger is ready. An init with a checkpoint
    /// is only noted.
    pub(super) fn begin(&mut self, key: &Key, call: Call) -> Answered {
        let namespace = self.namespace.clone();
        let number = self.number();
        let sockets = self.sockets.clone();
        let container = self.container_mut(&key.container)?;
        let (owner, bundle) = (owner(&container.options), container.bundle.clone());
        let process = container.process_mut(&key.container, &key.who)?;
        let name = crate::shim::name_of(&key.container, &key.who);
        let mut opened = Opened::new(&process.names, owner, name, &namespace)?;
        let console = match process.names.terminal {
            true => Some(ConsoleSocket::new(&sockets, u64::from(number))?),
            false => None,
        };
        let logger = opened.logger.take();
        process.state = match key.who {
            None => State::Creating,
            Some(_) => State::Starting,
        };
        process.launch = Some(Launch {
            call,
            opened,
            console,
        });
        log::debug(format_args!("begin {name} in {}", bundle.path().display()));
        match logger {
            Some(logger) => self.wait_for_logger(key, logger)?,
            None => self.launch(key)?,
        }
        Ok(Answer::Later)
    }

    /// Calls the runtime for a process whose streams are open.
    pub(super) fn launch(&mut self, key: &Key) -> Result<()> {
        match (
            &key.who,
            self.container(&key.container)?.checkpoint.is_some(),
        ) {
            (None, false) => self.call_create(key),
            (None, true) => self.note_checkpoint(key),
            (Some(_), _) => self.call_exec(key),
        }
    }

    fn call_create(&mut self, key: &Key) -> Result<()> {
        let container = self.container(&key.container)?;
        let mut launching = Launching::new(Purpose::Create, "create", container.bundle.pid_file());
        launching.option("--bundle", container.bundle.path());
        if container.options.no_pivot_root {
            launching.flag("--no-pivot");
        }
        if container.options.no_new_keyring {
            launching.flag("--no-new-keyring");
        }
        self.call_with_streams(key, launching, None)
    }

    /// `create` has ended.
    pub(super) fn created(&mut self, errand: &Errand, outcome: Result<String>) {
        let id = errand.key.container.clone();
        let is_made = outcome.is_ok();
        let pid = outcome.and_then(|_| {
            let pid = errand.pid_file.as_deref().map(read_pid).transpose()?;
            let pid = pid.unwrap_or_default();
            self.attach(&errand.key)?;
            Ok(pid)
        });
        match pid {
            Ok(pid) => self.announce(&errand.key, pid, errand.call),
            Err(error) => {
                if is_made {
                    let words = ["delete".to_owned(), "--force".to_owned(), id.clone()];
                    let called =
                        self.call_runtime(&errand.key, Purpose::KillRest, &words, None, None);
                    if let Err(error) = called {
                        log::warn(format_args!("remove container {id} again: {error}"));
                    }
                }
                self.discard(&id);
                if let Some(call) = errand.call {
                    self.answer(call, Err(error));
                }
            }
        }
    }

    /// An init was created, or noted for a later restore, which has no number yet.
    pub(super) fn announce(&mut self, key: &Key, pid: i32, call: Option<Call>) {
        let id = &key.container;
        let Ok(container) = self.container_mut(id) else {
            return;
        };
        container.init.state = State::Created;
        container.init.pid = pid;
        if pid != 0 {
            container.direct = Supervised::find(container.runtime.root(), id);
        }
        let names = &container.init.names;
        // The same message in another module.
        let mounts = container.rootfs.iter().map(|mount| {
            let bytes = mount.write_to_bytes()?;
            Message::parse_from_bytes(&bytes)
        });
        let event = TaskCreate {
            // What can't be written could not have been read.
            rootfs: mounts.filter_map(protobuf::Result::ok).collect(),
            container_id: id.clone(),
            bundle: container.bundle.path().display().to_string(),
            io: MessageField::some(TaskIO {
                stdin: names.stdin.clone(),
                stdout: names.stdout.clone(),
                stderr: names.stderr.clone(),
                terminal: names.terminal,
                ..TaskIO::default()
            }),
            checkpoint: container
                .checkpoint
                .as_ref()
                .map_or_else(String::new, |path| path.display().to_string()),
            pid: pid.unsigned_abs(),
            ..TaskCreate::default()
        };
        self.publisher.publish(&event, &self.reactor);
        if pid != 0 {
            self.watch_memory(id);
        }
        if let Some(call) = call {
            let response = CreateTaskResponse {
                pid: pid.unsigned_abs(),
                ..CreateTaskResponse::default()
            };
            self.answer(call, written(&response));
        }
        if pid != 0
            && let Some(exit) = self.children.is(pid, key.clone())
        {
            self.exited(key, exit);
        }
    }

    /// Connects the streams of a process that its runtime has made: the shim's copies of what the process has are closed by
    /// that, and its end is seen.
    pub(super) fn attach(&mut self, key: &Key) -> Result<()> {
        let container = self.containers.get_mut(&key.container);
        let container = container.ok_or_else(|| Error::not_found(&key.container))?;
        let process = container.process_mut(&key.container, &key.who)?;
        let Some(launch) = process.launch.take() else {
            return Ok(());
        };
        let mut opened = launch.opened;
        if let Some(console) = launch.console {
            let master = console.receive()?;
            opened.connect(&master)?;
            process.terminal = Some(master);
        }
        for (stream, pump) in opened.pumps {
            let number = self.pumps.add(pump, &self.reactor)?;
            process.pumps.push((stream, number));
        }
        Ok(())
    }

    /// Hears from now on when the container's memory runs out. That nobody counts it is no reason to fail.
    pub(super) fn watch_memory(&mut self, id: &str) {
        let number = self.number();
        let Ok(container) = self.container_mut(id) else {
            return;
        };
        let cgroup = match &container.direct {
            Some(direct) => direct.cgroup(),
            None => supervise::cgroup_of(container.init.pid),
        };
        let watch = cgroup.and_then(|cgroup| match cgroup {
            Some(cgroup) => cgroup.watch_oom(),
            None => Ok(None),
        });
        match watch {
            Ok(Some(watch)) => {
                let (fd, interest) = watch.wanted();
                let interest = match interest {
                    corten_sys::signal::Interest::Change => Interest::Change,
                    _ => Interest::Read,
                };
                let added = self.reactor.add(fd, Source::Memory(number), interest);
                if let Err(error) = added {
                    log::warn(format_args!("watch the memory of {id}: {error}"));
                    return;
                }
                if let Ok(container) = self.container_mut(id) {
                    container.memory = Some((number, watch));
                }
            }
            Ok(None) => {}
            Err(error) => log::warn(format_args!("watch the memory of {id}: {error}")),
        }
    }

    /// Forgets a container that did not come to be.
    pub(super) fn discard(&mut self, id: &str) {
        if let Some(container) = self.containers.remove(id) {
            self.close_streams(&container.init);
            if let Err(error) = rootfs::unmount(&container.bundle.rootfs()) {
                log::warn(format_args!("unmount what was mounted for {id}: {error}"));
            }
            for waiter in container.init.waiters {
                self.answer(waiter, Err(Error::not_found(format!("container {id}"))));
            }
        }
    }
}

fn owner(options: &Options) -> Owner {
    Owner {
        uid: options.io_uid,
        gid: options.io_gid,
    }
}
