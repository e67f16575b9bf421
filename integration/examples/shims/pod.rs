// SPDX-License-Identifier: Apache-2.0
//! A shim, called as containerd calls it.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, Empty, ExecProcessRequest, KillRequest, ShutdownRequest, StartRequest,
    StartResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::ttrpc::proto::Request;
use containerd_shim_protos::ttrpc::{Client, Code};
use serde_json::{Value, json};

use crate::containerd::Containerd;
use crate::{Contender, Result};

const NAMESPACE: &str = "shims";
/// Where cgroup2 is, alone or beside others. Everything that a shim causes is below a cgroup of its own.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// What is executed, and what it says.
const PROBE: &[&str] = &["/bin/echo", "ready"];
const OUTPUT: &[u8] = b"ready\n";
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A shim and its containers.
pub struct Pod {
    contender: Contender,
    name: String,
    words: Vec<String>,
    client: Option<Client>,
    service: &'static str,
    cgroup: PathBuf,
    /// Readers of the FIFOs that shims log to.
    logs: Vec<File>,
    /// Where execs write to, and its reader.
    output: PathBuf,
    reader: File,
}

impl Pod {
    /// The shim is begun with the first container.
    pub fn start(containerd: &Containerd, contender: &Contender, words: &[&str]) -> Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shims-{}-{number}", std::process::id());
        let mounts = UNIFIED.iter().find(|mount| Path::new(mount).exists());
        let cgroup = Path::new(mounts.ok_or("no cgroup2")?).join(&name);
        fs::create_dir_all(cgroup.join("shim"))?;
        let rootfs = containerd.work().join("rootfs");
        if !rootfs.exists() {
            make_rootfs(&rootfs)?;
        }
        let output = containerd.work().join(&name);
        make_fifo(&output)?;
        // Whoever reads does not wait: an exec has ended when its output is looked for.
        let flags =
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let reader = File::from(rustix::fs::open(&output, flags, rustix::fs::Mode::empty())?);
        Ok(Self {
            contender: contender.clone(),
            output,
            reader,
            name,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            client: None,
            service: "containerd.task.v2.Task",
            cgroup,
            logs: Vec::new(),
        })
    }

    /// Creates a container; its id.
    pub fn create(&mut self, containerd: &Containerd) -> Result<String> {
        let id = format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let bundle = containerd.work().join(NAMESPACE).join(&id);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&bundle)?;
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let config = config(&containerd.work().join("rootfs"), &words, &self.name, &id);
        fs::write(bundle.join("config.json"), config.to_string())?;
        let log = bundle.join("log");
        make_fifo(&log)?;
        self.logs
            .push(OpenOptions::new().read(true).write(true).open(&log)?);
        let address = self.begin(containerd, &bundle, &id)?;
        if self.client.is_none() {
            self.client = Some(Client::connect(&address)?);
        }
        let options = Options {
            binary_name: self.contender.runtime.display().to_string(),
            root: containerd.work().join("runtime").display().to_string(),
            ..Options::default()
        };
        let request = CreateTaskRequest {
            id: id.clone(),
            bundle: bundle.display().to_string(),
            options: MessageField::some(Any {
                type_url: "containerd.runc.v1.Options".into(),
                value: options.write_to_bytes()?,
                ..Any::default()
            }),
            ..CreateTaskRequest::default()
        };
        self.call::<CreateTaskResponse>("Create", &request)?;
        Ok(id)
    }

    /// Where the shim listens.
    fn begin(&mut self, containerd: &Containerd, bundle: &Path, id: &str) -> Result<String> {
        let work = containerd.work().display();
        // In the cgroup from the first instruction on.
        let script = format!(
            "echo $$ >{}/shim/cgroup.procs; exec \"$@\"",
            self.cgroup.display()
        );
        let mut start = Command::new("sh");
        start.args(["-c", &script, "sh"]).arg(&self.contender.shim);
        start.args(["-namespace", NAMESPACE, "-id", id]);
        start.args(["-address", &format!("{work}/containerd.sock")]);
        start.args(["-publish-binary", "/bin/false", "start"]);
        start.env("TTRPC_ADDRESS", format!("{work}/events"));
        start.env("GOMAXPROCS", "2");
        let output = start.current_dir(bundle).stdin(Stdio::null()).output()?;
        let said = String::from_utf8(output.stdout)?;
        if output.status.success() {
            // Of containerd 2 it is JSON.
            let parsed = serde_json::from_str::<Value>(&said).ok();
            let Some(parsed) = parsed else {
                return Ok(said);
            };
            if parsed["version"] == 3 {
                self.service = "containerd.task.v3.Task";
            }
            let address = parsed["address"].as_str();
            return Ok(address.ok_or("no address")?.to_owned());
        }
        Err(format!("start: {said}{}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Makes a call by the name that every shim knows.
    fn call<A: Message>(&self, method: &str, request: &impl Message) -> Result<A> {
        let mut call = Request::new();
        call.service = self.service.into();
        call.method = method.into();
        call.payload = request.write_to_bytes()?;
        call.timeout_nano = i64::try_from(PATIENCE.as_nanos())?;
        let client = self.client.as_ref().ok_or("no shim yet")?;
        let response = client.request(call)?;
        if let Some(status) = response
            .status
            .as_ref()
            .filter(|status| status.code() != Code::OK)
        {
            return Err(format!("{method}: {}", status.message).into());
        }
        Ok(A::parse_from_bytes(&response.payload)?)
    }

    /// Starts it.
    pub fn run(&mut self, id: &str) -> Result<()> {
        let request = StartRequest {
            id: id.into(),
            ..StartRequest::default()
        };
        self.call::<StartResponse>("Start", &request)?;
        Ok(())
    }

    /// Waits for an end.
    pub fn wait(&mut self, id: &str, exec: &str) -> Result<u32> {
        let request = WaitRequest {
            id: id.into(),
            exec_id: exec.into(),
            ..WaitRequest::default()
        };
        Ok(self.call::<WaitResponse>("Wait", &request)?.exit_status)
    }

    /// Kills its init.
    pub fn kill(&mut self, id: &str) -> Result<()> {
        let request = KillRequest {
            id: id.into(),
            signal: 9,
            ..KillRequest::default()
        };
        self.call::<Empty>("Kill", &request)?;
        Ok(())
    }

    /// Deletes it.
    pub fn delete(&mut self, id: &str) -> Result<()> {
        let request = DeleteRequest {
            id: id.into(),
            ..DeleteRequest::default()
        };
        self.call::<DeleteResponse>("Delete", &request)?;
        Ok(())
    }

    /// Executes a program in it that says something, to its end.
    pub fn exec(&mut self, id: &str) -> Result<()> {
        let name = format!("e{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let request = ExecProcessRequest {
            id: id.into(),
            exec_id: name.clone(),
            stdout: self.output.display().to_string(),
            // containerd's shim takes both or none.
            stderr: self.output.display().to_string(),
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
                value: process(PROBE).to_string().into_bytes(),
                ..Any::default()
            }),
            ..ExecProcessRequest::default()
        };
        self.call::<Empty>("Exec", &request)?;
        let request = StartRequest {
            id: id.into(),
            exec_id: name.clone(),
            ..StartRequest::default()
        };
        self.call::<StartResponse>("Start", &request)?;
        let status = self.wait(id, &name)?;
        let request = DeleteRequest {
            id: id.into(),
            exec_id: name,
            ..DeleteRequest::default()
        };
        self.call::<DeleteResponse>("Delete", &request)?;
        let mut said = [0; 64];
        let count = self.reader.read(&mut said).unwrap_or_default();
        if status == 0 && said[..count] == *OUTPUT {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said[..count]);
        Err(format!("exec: status {status}, and said {said:?}").into())
    }

    /// The shim's number.
    pub fn shim_pid(&mut self, id: &str) -> Result<u32> {
        let request = ConnectRequest {
            id: id.into(),
            ..ConnectRequest::default()
        };
        Ok(self.call::<ConnectResponse>("Connect", &request)?.shim_pid)
    }

    /// What processors have done for it so far.
    pub fn processor_time(&self) -> Result<Duration> {
        let text = fs::read_to_string(self.cgroup.join("cpu.stat"))?;
        let used = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        Ok(Duration::from_micros(
            used.ok_or("no time in cpu.stat")?.parse()?,
        ))
    }

    /// Ends the shim, and waits until it is gone.
    pub fn end(mut self) -> Result<()> {
        // Its answer may be cut off by its end.
        let _ = self.call::<Empty>("Shutdown", &ShutdownRequest::default());
        self.client = None;
        // A cgroup is not removed before its last process is gone.
        for _ in 0..10_000 {
            if fs::remove_dir(self.cgroup.join("shim")).is_ok() {
                // Those of containers may be on their way out. On v1, too, runtimes make what is above them, and leave it.
                let _ = fs::remove_dir(&self.cgroup);
                for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
                    let _ = fs::remove_dir(hierarchy.path().join(&self.name));
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("the shim does not end".into())
    }
}

fn make_fifo(path: &Path) -> Result<()> {
    let kind = rustix::fs::FileType::Fifo;
    Ok(rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        kind,
        rustix::fs::Mode::RWXU,
        0,
    )?)
}

fn process(words: &[&str]) -> Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": words,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true
    })
}

fn config(rootfs: &Path, words: &[&str], pod: &str, id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(words),
        "root": {"path": rootfs, "readonly": true},
        "hostname": "shims",
        "annotations": {"io.containerd.runc.v2.group": pod},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{pod}/{id}"),
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}

fn make_rootfs(path: &Path) -> Result<()> {
    for name in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(path.join(name))?;
    }
    fs::copy("/bin/busybox", path.join("bin/busybox"))?;
    for name in ["echo", "sleep", "true"] {
        std::os::unix::fs::symlink("busybox", path.join("bin").join(name))?;
    }
    Ok(())
}
