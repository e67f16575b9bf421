// SPDX-License-Identifier: Apache-2.0
//! A world per test: a thread with mount and network namespaces of its own, a store with an image, and a census of all
//! that a container could leave behind.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use corten_sys::process::Namespaces;

/// Where everything of one test is.
pub struct World {
    pub dir: PathBuf,
    pub runtime: OsString,
}

/// What was done, and what came of it.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// The runtime that containers are tested with.
fn runtime() -> OsString {
    if let Some(named) = std::env::var_os("CORTEN_RUNTIME") {
        return named;
    }
    let own = std::env::current_exe().unwrap();
    let beside = own.parent().unwrap().parent().unwrap().join("corten");
    match beside.exists() {
        true => beside.into(),
        false => "runc".into(),
    }
}

/// Runs `test` in a world of its own.
pub fn in_world(test: impl FnOnce(&World) + Send) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("corten-run-{}-{number}", std::process::id());
    let world = World {
        dir: std::env::temp_dir().join(name),
        runtime: runtime(),
    };
    // Namespaces belong to threads; what a thread starts is in them as well.
    let ended = std::thread::scope(|scope| {
        let work = || {
            corten_image::overlay::private_namespace().unwrap();
            corten_sys::process::unshare(Namespaces::NETWORK).unwrap();
            corten_sys::net::bring_loopback_up().unwrap();
            std::fs::create_dir(&world.dir).unwrap();
            // Where plugins and their programs keep what is the host's.
            for dir in ["/run", "/var/lib"] {
                let flags = rustix::mount::MountFlags::empty();
                rustix::mount::mount("none", dir, "tmpfs", flags, None).unwrap();
            }
            world.make_image();
            let tested = catch_unwind(AssertUnwindSafe(|| test(&world)));
            if let Err(panic) = tested {
                // What goes on by itself would go on for ever.
                for id in world.run(&["ps", "--all", "--quiet"]).out.lines() {
                    world.run(&["rm", "-f", id]);
                }
                resume_unwind(panic);
            }
        };
        scope.spawn(work).join()
    });
    match ended {
        Ok(()) => std::fs::remove_dir_all(&world.dir).unwrap(),
        Err(panic) => resume_unwind(panic),
    }
}

impl World {
    fn make_image(&self) {
        let root = self.dir.join("context/root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines() {
            if applet != "busybox" {
                symlink("busybox", root.join("bin").join(applet)).unwrap();
            }
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1001:\n").unwrap();
        let dockerfile =
            "FROM scratch\nCOPY root /\nENV PATH=/bin\nSTOPSIGNAL SIGUSR1\nCMD [\"sh\"]\n";
        std::fs::write(self.dir.join("context/Dockerfile"), dockerfile).unwrap();
        let context = self.dir.join("context");
        self.ok(&["build", "-t", "base", context.to_str().unwrap()]);
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten-image"));
        command
            .arg("--store")
            .arg(self.dir.join("store"))
            .args(args)
            .env("CORTEN_RUNTIME", &self.runtime)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// What it printed, without the last newline.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out.trim_end().to_owned()
    }

    /// A shell script in a container that goes afterwards; what it printed.
    pub fn script(&self, flags: &[&str], script: &str) -> String {
        let args = [&["run", "--rm"], flags, &["base", "sh", "-c", script]].concat();
        self.ok(&args)
    }

    /// A container as `ps` has it.
    pub fn look(&self, name: &str) -> serde_json::Value {
        let all = self.ok(&["ps", "--all", "--format", "json"]);
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let mut all = all.as_array().unwrap().iter();
        let found = all.find(|c| c["name"] == name || c["id"] == name);
        found.cloned().unwrap_or_default()
    }

    pub fn container(&self, id: &str) -> PathBuf {
        self.dir.join("store/containers").join(id)
    }

    /// The process that looks after the container.
    pub fn supervisor(&self, id: &str) -> Option<i32> {
        let text = std::fs::read(self.container(id).join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&text).ok()?;
        status["supervisor"].as_i64().map(|pid| pid as i32)
    }

    /// All that a container could leave: interfaces, rules, mounts, processes, cgroups, addresses, state.
    pub fn census(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut add = |kind: &str, text: String| {
            for line in text.lines() {
                found.insert(format!("{kind}: {line}"));
            }
        };
        add("link", links(&output("ip", &["-o", "link"])));
        add("rule", rules(&output("iptables-save", &[])));
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let of_mount = |line: &str| {
            line.split(' ')
                .skip(3)
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        };
        add(
            "mount",
            mounts.lines().map(|line| of_mount(line) + "\n").collect(),
        );
        let marked = self.dir.to_str().unwrap();
        add("process", processes(marked));
        add("lease", tree(Path::new("/var/lib/cni")));
        add("container", tree(&self.dir.join("store/containers")));
        add("unfinished", tree(&self.dir.join("store/tmp")));
        found
    }

    /// Cgroups of the container.
    pub fn cgroups(&self, id: &str) -> Vec<String> {
        let found = output(
            "find",
            &[
                "/sys/fs/cgroup",
                "-maxdepth",
                "5",
                "-type",
                "d",
                "-name",
                &format!("*{id}*"),
            ],
        );
        found.lines().map(str::to_owned).collect()
    }
}

pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Names alone: flags and addresses of a bridge depend on what is connected.
fn links(text: &str) -> String {
    let name = |line: &str| line.split(": ").nth(1).unwrap_or_default().to_owned();
    text.lines().map(|line| name(line) + "\n").collect()
}

/// Without times and counters.
fn rules(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(" [").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// Those that have `marked` on their command line, which all of the runtime's and this program's have.
fn processes(marked: &str) -> String {
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(marked) {
            found.push_str(&format!("{line}\n"));
        }
    }
    found
}

fn tree(path: &Path) -> String {
    let mut found = String::new();
    let Ok(entries) = std::fs::read_dir(path) else {
        return found;
    };
    for entry in entries.flatten() {
        found.push_str(&format!("{}\n", entry.path().display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push_str(&tree(&entry.path()));
        }
    }
    found
}

/// Waits until `probe` has something, and returns that.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The body of an answer by HTTP.
pub fn get(address: &str) -> Option<String> {
    use std::io::{Read, Write};
    let limit = Duration::from_secs(2);
    let mut stream = std::net::TcpStream::connect_timeout(&address.parse().unwrap(), limit).ok()?;
    stream.set_read_timeout(Some(limit)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some(body.trim_end().to_owned())
}
