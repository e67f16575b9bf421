// SPDX-License-Identifier: Apache-2.0
//! Steps that do something: attempts whose outcome is a value, output, waiting, children, and the attacks.

use std::fs;
use std::io::{self, Read, Write};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode};
use serde_json::{Value, json};

use crate::errno::outcome;
use crate::{Done, Step, say};

/// The step of that name, if it is one that acts.
pub fn step(name: &str, args: &[&str]) -> Option<Step> {
    attempt(name, args)
        .map(|result| Ok(Done::Value(result)))
        .or_else(|| output(name, args))
        .or_else(|| endless(name, args))
}

fn unit(result: io::Result<()>) -> Value {
    outcome(result.map(|()| true))
}

/// Attempts: refused or not, the outcome is the value.
fn attempt(name: &str, args: &[&str]) -> Option<Value> {
    Some(match (name, args) {
        ("chmod", [path, mode]) => unit(chmod(path, mode)),
        ("create", [path]) => unit(
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .map(drop),
        ),
        ("mkdir", [path]) => unit(fs::create_dir(path)),
        ("mknod", [path, kind, major, minor]) => unit(mknod(path, kind, major, minor)),
        ("mount", [source, target, kind]) => unit(mount(source, target, kind)),
        ("open", [path, how]) => unit(open(path, how)),
        ("remount-rw", [target]) => unit(remount_rw(target)),
        ("rename", [from, to]) => unit(fs::rename(from, to)),
        ("sethostname", [host]) => unit(
            Ok(rustix::system::sethostname(host.as_bytes())).and_then(|r| r.map_err(Into::into)),
        ),
        ("socket", [family]) => unit(socket(family)),
        ("unshare-user", []) => unit(
            corten_sys::process::unshare(corten_sys::process::Namespaces::USER)
                .map_err(|error| io::Error::from_raw_os_error(error.errno().raw_os_error())),
        ),
        ("thread", []) => unit(
            std::thread::Builder::new()
                .spawn(|| ())
                .map(|thread| thread.join().map(drop).unwrap_or_default()),
        ),
        ("umount", [target]) => unit(
            rustix::mount::unmount(*target, rustix::mount::UnmountFlags::DETACH)
                .map_err(Into::into),
        ),
        ("unlink", [path]) => unit(fs::remove_file(path)),
        ("write", [path, text]) => unit(
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|mut file| file.write_all(text.as_bytes())),
        ),
        _ => return None,
    })
}

/// Output, waiting and the end.
fn output(name: &str, args: &[&str]) -> Option<Step> {
    let result = match (name, args) {
        ("print", [text]) => say(&format!("{text}\n")),
        ("eprint", [text]) => io::stderr().write_all(format!("{text}\n").as_bytes()),
        ("cat", []) => io::copy(&mut io::stdin().lock(), &mut io::stdout().lock())
            .and_then(|_| io::stdout().flush()),
        ("fill", [size]) => fill(size),
        ("exit", [code]) => {
            return Some(
                code.parse()
                    .map(Done::Exit)
                    .map_err(|e| format!("exit {code}: {e}")),
            );
        }
        ("sleep", [millis]) => millis
            .parse()
            .map(|ms| std::thread::sleep(Duration::from_millis(ms)))
            .map_err(io::Error::other),
        ("save", [path]) => save(path),
        ("append", [path, text]) => append(path, text),
        ("spawn", rest) => {
            return Some(
                run_child(rest)
                    .map(|code| Done::Value(json!(code)))
                    .map_err(|e| format!("spawn: {e}")),
            );
        }
        ("background", rest) => background(rest),
        ("leak", [count, path, program, rest @ ..]) => leak(count, path, program, rest),
        ("raise", [signal]) => raise(signal),
        ("eat", [mebibytes]) => eat(mebibytes),
        ("adopt", []) => rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(Into::into),
        ("reap", []) => rustix::process::wait(rustix::process::WaitOptions::empty())
            .map(drop)
            .map_err(Into::into),
        _ => return None,
    };
    Some(
        result
            .map(|()| Done::Quiet)
            .map_err(|error| format!("{name}: {error}")),
    )
}

/// Steps that end only by a signal or a deadline.
fn endless(name: &str, args: &[&str]) -> Option<Step> {
    match (name, args) {
        ("pause", []) => loop {
            std::thread::park();
        },
        ("bomb", []) => bomb(),
        ("wait-for", [path]) => loop {
            if fs::symlink_metadata(path).is_ok() {
                return Some(Ok(Done::Quiet));
            }
            std::thread::sleep(Duration::from_millis(5));
        },
        _ => None,
    }
}

fn chmod(path: &str, mode: &str) -> io::Result<()> {
    let mode = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(Into::into)
}

fn mknod(path: &str, kind: &str, major: &str, minor: &str) -> io::Result<()> {
    let kind = match kind {
        "c" => rustix::fs::FileType::CharacterDevice,
        "b" => rustix::fs::FileType::BlockDevice,
        _ => rustix::fs::FileType::Fifo,
    };
    let number = |text: &str| text.parse().map_err(io::Error::other);
    let device = rustix::fs::makedev(number(major)?, number(minor)?);
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device).map_err(Into::into)
}

fn mount(source: &str, target: &str, kind: &str) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount, mount_bind};
    if kind == "bind" {
        return mount_bind(source, target).map_err(Into::into);
    }
    mount(source, target, kind, MountFlags::empty(), None).map_err(Into::into)
}

fn remount_rw(target: &str) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount_remount};
    mount_remount(target, MountFlags::BIND, "").map_err(Into::into)
}

fn socket(family: &str) -> io::Result<()> {
    let family = family.parse().map_err(io::Error::other)?;
    let family = rustix::net::AddressFamily::from_raw(family);
    let kind = rustix::net::SocketType::from_raw(5); // SOCK_SEQPACKET: AF_ALG's, and known to the others
    rustix::net::socket(family, kind, None)?;
    Ok(())
}

fn open(path: &str, how: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.read(how.contains('r')).write(how.contains('w'));
    options.open(path).map(drop)
}

fn fill(size: &str) -> io::Result<()> {
    let size: usize = size.parse().map_err(io::Error::other)?;
    let chunk = [b'x'; 4096];
    let mut out = io::stdout().lock();
    let mut left = size;
    while left > 0 {
        let now = left.min(chunk.len());
        out.write_all(&chunk[..now])?;
        left -= now;
    }
    out.flush()
}

/// All of stdin into a new file, with the environment and cwd behind it: what a hook was given.
fn save(path: &str) -> io::Result<()> {
    let mut stdin = String::new();
    io::stdin().read_to_string(&mut stdin)?;
    let environment: Vec<_> = std::env::vars_os()
        .map(|(key, value)| format!("{}={}", key.to_string_lossy(), value.to_string_lossy()))
        .collect();
    let given = json!({
        "stdin": serde_json::from_str::<Value>(&stdin).unwrap_or(Value::String(stdin)), "env": environment,
        "cwd": std::env::current_dir()?.to_string_lossy(), "args": std::env::args().collect::<Vec<_>>(),
        "mnt": fs::read_link("/proc/self/ns/mnt").map_or_else(|e| crate::errno::value(&e), |l| json!(l.to_string_lossy())),
        "root": fs::metadata("/").map(|meta| { use std::os::unix::fs::MetadataExt; meta.ino() })?,
    });
    fs::write(path, given.to_string())
}

fn append(path: &str, text: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(format!("{text}\n").as_bytes())
}

/// This program once more: the link works under any rootfs and any cwd.
pub fn again(steps: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // `,` stands for `+` in a child's steps, which the parent would otherwise take for its own.
    command.args(
        steps
            .iter()
            .map(|step| if *step == "," { "+" } else { step }),
    );
    command
}

fn run_child(steps: &[&str]) -> io::Result<i32> {
    use std::os::unix::process::ExitStatusExt;
    let status = again(steps).status()?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn background(steps: &[&str]) -> io::Result<()> {
    again(steps).spawn().map(drop)
}

/// Becomes `program`, with `count` more descriptors open that nobody has marked close-on-exec.
fn leak(count: &str, path: &str, program: &str, args: &[&str]) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let count: usize = count.parse().map_err(io::Error::other)?;
    let mut held = Vec::new();
    for _ in 0..count {
        let file = fs::File::open(path)?;
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
        held.push(file);
    }
    let mut command = Command::new(program);
    if std::env::var_os("LISTEN_FDS").is_some() {
        // As systemd passes sockets on: meant for the process that this one becomes.
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    Err(command.args(args).exec())
}

fn raise(signal: &str) -> io::Result<()> {
    let number: i32 = signal.parse().map_err(io::Error::other)?;
    let signal = rustix::process::Signal::from_named_raw(number)
        .ok_or_else(|| io::Error::other("no such signal"))?;
    rustix::process::kill_process(rustix::process::getpid(), signal).map_err(Into::into)
}

/// Takes memory and touches each page of it.
fn eat(mebibytes: &str) -> io::Result<()> {
    let size: usize = mebibytes.parse().map_err(io::Error::other)?;
    let mut kept = Vec::new();
    for _ in 0..size {
        let mut block = vec![0_u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        kept.push(std::hint::black_box(block));
    }
    Ok(())
}

/// Children that make children until the kernel refuses, and then stay.
fn bomb() -> ! {
    let mut children = Vec::new();
    loop {
        match again(&["bomb"]).spawn() {
            Ok(child) => children.push(child),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
