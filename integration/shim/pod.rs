// SPDX-License-Identifier: Apache-2.0
//! A pod: its shim, begun as containerd begins it, the calls of the task service, and what must be true at its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::*;
use containerd_shim_protos::bootstrap_api::{
    BootstrapParams, BootstrapResult, Extension, LogLevel,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci;
use containerd_shim_protos::ttrpc::context::{Context, with_duration};
use containerd_shim_protos::ttrpc::{self, Code};
use containerd_shim_protos::{Client, TaskClient};
use corten_integration::{Call, Container, Draft, PATIENCE, Trial, await_exit, plant};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::receiver::{Receiver, are_legal};

/// containerd's namespace. The shim's runtime keeps its state in a directory of this name below the root that it is given:
/// where the census looks.
pub const NAMESPACE: &str = "root";
/// What is answered while streams are blocked, or not at all. Not a matter of speed: of hanging.
pub const SOON: Duration = Duration::from_secs(5);

/// The names of a process's streams.
#[derive(Debug, Default, Clone)]
pub struct Names {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// The shim's program.
pub fn shim() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let named = std::env::var_os("CORTEN_SHIM").map(PathBuf::from);
        let path = named.unwrap_or_else(|| {
            let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
            let triple = format!("{}-unknown-linux-gnu/release", std::env::consts::ARCH);
            target.join(triple).join("containerd-shim-corten-v2")
        });
        assert!(
            path.exists(),
            "no shim at {}: set CORTEN_SHIM",
            path.display()
        );
        path
    })
}

/// The options that containerd sends for this trial: the runtime, and where that keeps its state.
pub fn options(t: &Trial, runtime: &Path) -> Any {
    let options = oci::Options {
        binary_name: runtime.display().to_string(),
        root: t.dir.display().to_string(),
        ..oci::Options::default()
    };
    any(
        "containerd.runc.v1.Options",
        options.write_to_bytes().unwrap(),
    )
}

/// A message in its wrapping.
pub fn any(name: &str, value: Vec<u8>) -> Any {
    Any {
        type_url: name.into(),
        value,
        ..Any::default()
    }
}

/// A container whose init is a shell.
pub fn shell<'t>(t: &'t Trial, script: &str) -> Draft<'t> {
    let draft = t.container().dir("bin");
    plant(
        Path::new("/bin/busybox"),
        &draft.rootfs().join("bin/busybox"),
    );
    draft
        .link("/bin/sh", "busybox")
        .args(&["/bin/busybox", "sh", "-c", script])
}

/// A process's document: that of the container's init, with other words.
pub fn process(c: &Container<'_>, args: &[&str]) -> Value {
    let text = fs::read_to_string(c.bundle.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["process"]["args"] = json!(args);
    config["process"].take()
}

/// A directory for sockets, whose path is short enough for their names. Removed with its owner; empty by then.
#[derive(Debug)]
pub struct Sockets(pub PathBuf);

impl Sockets {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cs{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    /// What is in it.
    pub fn list(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What containerd 2.3 says on standard input.
pub fn params(t: &Trial, id: &str, sockets: &Sockets, events: &Path) -> BootstrapParams {
    BootstrapParams {
        instance_id: id.into(),
        namespace: NAMESPACE.into(),
        log_level: LogLevel::LOG_LEVEL_DEBUG.into(),
        containerd_version: "2.3.0".into(),
        containerd_ttrpc_address: events.display().to_string(),
        containerd_grpc_address: t.dir.join("grpc").display().to_string(),
        containerd_binary: "/bin/true".into(),
        extensions: vec![Extension {
            value: MessageField::some(options(t, &t.runtime.path)),
            ..Extension::default()
        }],
        socket_dir: Some(sockets.0.display().to_string()),
        ..BootstrapParams::default()
    }
}

/// The shim called for a container, in its bundle; the action is to follow.
pub fn call(t: &Trial, c: &Container<'_>) -> Call {
    t.program(shim())
        .dir(&c.bundle)
        .args([
            "-namespace",
            NAMESPACE,
            "-id",
            &c.id,
            "-publish-binary",
            "/bin/true",
        ])
        .arg("-address")
        .arg(t.dir.join("grpc"))
}

/// A call of `start` as containerd 2.3 makes it.
pub fn start_call(t: &Trial, c: &Container<'_>, sockets: &Sockets, events: &Path) -> Call {
    let input = params(t, &c.id, sockets, events).write_to_bytes().unwrap();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = c.bundle.join(format!("start-input-{number}"));
    fs::write(&file, input).unwrap();
    call(t, c)
        .env("MAX_SHIM_VERSION", "2")
        .env("TTRPC_ADDRESS", events)
        .stdin_file(fs::File::open(file).unwrap())
        .arg("start")
}

/// A pod.
pub struct Pod<'t> {
    t: &'t Trial,
    pub sockets: Sockets,
    pub receiver: Receiver,
    /// Where the shim listens.
    pub address: String,
    /// The shim.
    pub pid: i32,
    pub task: TaskClient,
    /// What creates containers: the one under test, or what calls it.
    pub runtime: PathBuf,
    log: RefCell<fs::File>,
}

impl<'t> Pod<'t> {
    /// Begins the shim for a container.
    #[track_caller]
    pub fn start(t: &'t Trial, c: &Container<'_>) -> Self {
        let sockets = Sockets::new();
        let receiver = Receiver::open(&t.dir.join("e"));
        let path = c.bundle.join("log");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let log = options.open(&path).unwrap();
        let said = start_call(t, c, &sockets, &receiver.path).end().ok();
        assert_eq!(said.stderr, "");
        let result = BootstrapResult::parse_from_bytes(&said.bytes()).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        let mut pod = Self::connected(t, sockets, receiver, &result.address, log);
        pod.pid = i32::try_from(pod.connect(&c.id).shim_pid).unwrap();
        pod
    }

    fn connected(
        t: &'t Trial,
        sockets: Sockets,
        receiver: Receiver,
        address: &str,
        log: fs::File,
    ) -> Self {
        Self {
            t,
            sockets,
            receiver,
            address: address.to_owned(),
            pid: 0,
            task: client(address),
            runtime: t.runtime.path.clone(),
            log: RefCell::new(log),
        }
    }

    pub fn try_create(
        &self,
        c: &Container<'_>,
        names: &Names,
    ) -> ttrpc::Result<CreateTaskResponse> {
        self.task
            .create(patient(), &create_request(self.t, &self.runtime, c, names))
    }

    /// Creates a container; its init's number.
    #[track_caller]
    pub fn create(&self, c: &Container<'_>, names: &Names) -> u32 {
        self.try_create(c, names).unwrap().pid
    }

    fn calls(&self) -> Calls {
        Calls(self.task.clone())
    }

    pub fn try_start_process(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        self.calls().start(id, exec)
    }

    /// Starts init (no `exec`) or what was added.
    #[track_caller]
    pub fn start_process(&self, id: &str, exec: &str) -> u32 {
        self.try_start_process(id, exec).unwrap()
    }

    /// Creates and starts a container without streams.
    #[track_caller]
    pub fn run(&self, c: &Container<'_>) -> u32 {
        let pid = self.create(c, &Names::default());
        assert_eq!(self.start_process(&c.id, ""), pid);
        pid
    }

    pub fn try_exec(
        &self,
        id: &str,
        exec: &str,
        process: &Value,
        names: &Names,
    ) -> ttrpc::Result<Empty> {
        self.calls().exec(id, exec, process, names)
    }

    /// Adds a process, and starts it.
    #[track_caller]
    pub fn exec(&self, c: &Container<'_>, exec: &str, args: &[&str], names: &Names) -> u32 {
        self.try_exec(&c.id, exec, &process(c, args), names)
            .unwrap();
        self.start_process(&c.id, exec)
    }

    pub fn try_wait(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        self.calls().wait(id, exec)
    }

    /// Waits for a process's end; how it ended.
    #[track_caller]
    pub fn wait(&self, id: &str, exec: &str) -> u32 {
        self.try_wait(id, exec).unwrap()
    }

    pub fn try_state(&self, id: &str, exec: &str) -> ttrpc::Result<StateResponse> {
        let request = StateRequest {
            id: id.into(),
            exec_id: exec.into(),
            ..StateRequest::default()
        };
        self.task.state(patient(), &request)
    }

    #[track_caller]
    pub fn status(&self, id: &str, exec: &str) -> Status {
        self.try_state(id, exec)
            .unwrap()
            .status
            .enum_value()
            .unwrap()
    }

    pub fn kill(&self, id: &str, exec: &str, signal: u32) -> ttrpc::Result<Empty> {
        self.calls().kill(id, exec, signal)
    }

    pub fn delete(&self, id: &str, exec: &str) -> ttrpc::Result<DeleteResponse> {
        self.calls().delete(id, exec)
    }

    pub fn close_input(&self, id: &str, exec: &str) -> ttrpc::Result<Empty> {
        let request = CloseIORequest {
            id: id.into(),
            exec_id: exec.into(),
            stdin: true,
            ..CloseIORequest::default()
        };
        self.task.close_io(patient(), &request)
    }

    pub fn resize(&self, id: &str, exec: &str, rows: u32, columns: u32) -> ttrpc::Result<Empty> {
        let request = ResizePtyRequest {
            id: id.into(),
            exec_id: exec.into(),
            width: columns,
            height: rows,
            ..ResizePtyRequest::default()
        };
        self.task.resize_pty(patient(), &request)
    }

    #[track_caller]
    pub fn connect(&self, id: &str) -> ConnectResponse {
        let request = ConnectRequest {
            id: id.into(),
            ..ConnectRequest::default()
        };
        self.task.connect(patient(), &request).unwrap()
    }

    #[track_caller]
    pub fn shutdown(&self, id: &str) {
        let request = ShutdownRequest {
            id: id.into(),
            ..ShutdownRequest::default()
        };
        self.task.shutdown(patient(), &request).unwrap();
    }

    /// Kills a container, waits for its end and deletes it; each of them soon.
    #[track_caller]
    pub fn end_container(&self, id: &str) {
        soon("kill", || self.kill(id, "", 9)).unwrap();
        soon("wait", || self.wait(id, ""));
        soon("delete", || self.delete(id, "")).unwrap();
    }

    /// Ends the shim, which has no container any more, and looks at what it leaves.
    #[track_caller]
    pub fn end(self) {
        are_legal(&self.end_unheard());
    }

    /// The same where not every event has come; those that have.
    #[track_caller]
    pub fn end_unheard(self) -> Vec<crate::receiver::Event> {
        self.shutdown("");
        let pid = Pid::from_raw(self.pid).unwrap();
        assert!(await_exit(pid, PATIENCE), "the shim goes on");
        assert_eq!(
            self.sockets.list(),
            Vec::<PathBuf>::new(),
            "left in the sockets' directory"
        );
        self.receiver.events()
    }

    /// Kills the shim.
    pub fn kill_shim(&self) {
        let pid = Pid::from_raw(self.pid).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        assert!(await_exit(pid, PATIENCE));
    }

    /// How many kibibytes of memory the shim has.
    pub fn memory(&self) -> usize {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many hundredths of a second of processor time it has used.
    pub fn time(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let (_, rest) = text.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        // utime and stime are the 14th and 15th of all (proc(5)).
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// What its descriptors are, by the kind of each.
    pub fn descriptors(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap() {
            // One that is closed meanwhile is none.
            if let Ok(link) = fs::read_link(entry.unwrap().path()) {
                let link = link.display().to_string();
                let kind = link.split(":[").next().unwrap_or_default().to_owned();
                *kinds.entry(kind).or_default() += 1;
            }
        }
        kinds
    }

    /// What the shim has logged and nobody has read.
    pub fn logged(&self) -> String {
        let mut text = Vec::new();
        // It ends with EAGAIN.
        self.log.borrow_mut().read_to_end(&mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Calls that several threads make at once.
#[derive(Clone)]
pub struct Calls(pub TaskClient);

impl Calls {
    pub fn exec(
        &self,
        id: &str,
        exec: &str,
        process: &Value,
        names: &Names,
    ) -> ttrpc::Result<Empty> {
        let mut process = process.clone();
        process["terminal"] = json!(names.terminal);
        let name = "types.containerd.io/opencontainers/runtime-spec/1/Process";
        let request = ExecProcessRequest {
            id: id.into(),
            exec_id: exec.into(),
            terminal: names.terminal,
            stdin: names.stdin.clone(),
            stdout: names.stdout.clone(),
            stderr: names.stderr.clone(),
            spec: MessageField::some(any(name, process.to_string().into_bytes())),
            ..ExecProcessRequest::default()
        };
        self.0.exec(patient(), &request)
    }

    pub fn start(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        let request = StartRequest {
            id: id.into(),
            exec_id: exec.into(),
            ..StartRequest::default()
        };
        self.0
            .start(patient(), &request)
            .map(|response| response.pid)
    }

    pub fn wait(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        let request = WaitRequest {
            id: id.into(),
            exec_id: exec.into(),
            ..WaitRequest::default()
        };
        self.0
            .wait(patient(), &request)
            .map(|response| response.exit_status)
    }

    pub fn kill(&self, id: &str, exec: &str, signal: u32) -> ttrpc::Result<Empty> {
        let request = KillRequest {
            id: id.into(),
            exec_id: exec.into(),
            signal,
            ..KillRequest::default()
        };
        self.0.kill(patient(), &request)
    }

    pub fn delete(&self, id: &str, exec: &str) -> ttrpc::Result<DeleteResponse> {
        let request = DeleteRequest {
            id: id.into(),
            exec_id: exec.into(),
            ..DeleteRequest::default()
        };
        self.0.delete(patient(), &request)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the shim has logged:\n{}", self.logged());
            eprintln!("and told:\n{:#?}", self.receiver.lines());
        }
    }
}

/// A client of the shim at `address`.
#[track_caller]
pub fn client(address: &str) -> TaskClient {
    TaskClient::new(Client::connect(address).unwrap())
}

pub fn create_request(
    t: &Trial,
    runtime: &Path,
    c: &Container<'_>,
    names: &Names,
) -> CreateTaskRequest {
    CreateTaskRequest {
        id: c.id.clone(),
        bundle: c.bundle.display().to_string(),
        terminal: names.terminal,
        stdin: names.stdin.clone(),
        stdout: names.stdout.clone(),
        stderr: names.stderr.clone(),
        options: MessageField::some(options(t, runtime)),
        ..CreateTaskRequest::default()
    }
}

/// As long as nothing takes that does not hang.
pub fn patient() -> Context {
    with_duration(PATIENCE)
}

/// Holds a call to an error of this code; its words.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: ttrpc::Result<T>, code: Code) -> String {
    match result {
        Err(ttrpc::Error::RpcStatus(status)) => {
            assert_eq!(status.code(), code, "{}", status.message());
            status.message().to_owned()
        }
        other => panic!("{code:?} was expected: {other:?}"),
    }
}

/// Holds something to be done soon.
#[track_caller]
pub fn soon<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = act();
    let took = begin.elapsed();
    assert!(took < SOON, "{what} took {took:?}");
    done
}
