// SPDX-License-Identifier: Apache-2.0
//! D-Bus: what goes over it for a container, and brokers that are not there, hang, or stop half way.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use corten_integration::{Call, Container, Trial, is_everyones, trial};
use serde_json::Value;

use super::is_driver;

/// Where the system's broker is.
const BROKER: &str = "/run/dbus/system_bus_socket";

/// `create` by the broker at `path`.
fn create_by(t: &Trial, c: &Container<'_>, path: &Path) -> Call {
    t.program(&t.runtime.path)
        .arg("--root")
        .arg(t.state_root())
        .args(["--systemd-cgroup", "create", "--bundle"])
        .arg(&c.bundle)
        .arg(&c.id)
        .env(
            "DBUS_SYSTEM_BUS_ADDRESS",
            format!("unix:path={}", path.display()),
        )
}

/// A broker that hands on what the system's says, up to so many messages, and then stops: for one caller.
fn stopping_after(t: &Trial, messages: usize) -> PathBuf {
    let path = t.dir.join(format!("bus{messages}"));
    let listener = UnixListener::bind(&path).unwrap();
    spawn(move || {
        let (caller, _) = listener.accept().unwrap();
        let broker = UnixStream::connect(BROKER).unwrap();
        let (mut to, mut from) = (broker.try_clone().unwrap(), caller.try_clone().unwrap());
        let asking = spawn(move || {
            // The caller's end is the end.
            std::io::copy(&mut from, &mut to).unwrap();
            to.shutdown(Shutdown::Both).unwrap();
        });
        // After the caller's end nobody is left to hear.
        let _ = hand_on(broker, &caller, messages);
        asking.join().unwrap();
    });
    path
}

fn hand_on(broker: UnixStream, mut caller: &UnixStream, messages: usize) -> std::io::Result<()> {
    let mut broker = BufReader::new(broker);
    for _ in ["DATA", "OK"] {
        let mut line = Vec::new();
        broker.read_until(b'\n', &mut line)?;
        caller.write_all(&line)?;
    }
    for _ in 0..messages {
        let mut fixed = [0; 16];
        broker.read_exact(&mut fixed)?;
        assert_eq!(fixed[0], b'l', "brokers are of this machine");
        let word = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().unwrap()) as usize;
        let mut rest = vec![0; word(12).next_multiple_of(8) + word(4)];
        broker.read_exact(&mut rest)?;
        caller.write_all(&[&fixed[..], &rest].concat())?;
    }
    // What comes then is kept: the connection stays, as that to a stopped process does.
    broker.read_to_end(&mut Vec::new()).map(drop)
}

/// The answer to Hello, the name that it gives, the answers to AddMatch and to StartTransientUnit, and the job's end.
const MESSAGES: usize = 5;

#[test]
fn a_bus_that_stops_half_way_ends_create() {
    trial(|t| {
        if !t.is_corten() || !is_driver() || is_everyones() {
            return;
        }
        let creates: Vec<_> = (0..=MESSAGES)
            .map(|messages| {
                let c = t.container().probe("pause").done();
                let path = stopping_after(t, messages);
                let running = create_by(t, &c, &path).spawn();
                (c, running)
            })
            .collect();
        for (messages, (c, running)) in creates.into_iter().enumerate() {
            let out = running.end();
            if messages + 1 >= MESSAGES {
                // The last one is not needed where its work is seen: a systemd that executes itself anew may not send it.
                out.ok();
                c.delete_force().ok();
                continue;
            }
            let error = out.exits(1).fails();
            assert_eq!(error.lines().count(), 1, "{messages}: {error}");
            let wanted = "wait for D-Bus to answer: timed out";
            assert!(error.contains(wanted), "{messages}: {error}");
            c.verb("state", &[]).end().fails();
            // That no scope is left either is the census' to say.
        }
    });
}

#[test]
fn one_call_goes_to_systemd() {
    trial(|t| {
        if !t.is_corten() || !is_driver() || is_everyones() {
            return;
        }
        let log = t.dir.join("monitor");
        let mut monitor = Command::new("busctl")
            .args(["monitor", "--json=short", "--match=type='method_call'"])
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mark = |member: &str| {
            let begun = Instant::now();
            // A call of our own: whatever came before it is in the log when it is.
            while !calls(&log).iter().any(|call| call["member"] == member) {
                let args = [
                    "call",
                    "org.freedesktop.DBus",
                    "/",
                    "org.freedesktop.DBus",
                    member,
                ];
                Command::new("busctl").args(args).output().unwrap();
                assert!(
                    begun.elapsed() < corten_integration::PATIENCE,
                    "the monitor sees nothing"
                );
                sleep(Duration::from_millis(50));
            }
        };
        mark("GetId");
        let c = t.container().probe("print up + pause").done();
        let out = c.create().ok();
        c.start().ok();
        c.says(&out, "up");
        c.state();
        c.kill("KILL").ok();
        c.wait();
        c.delete().ok();
        mark("ListNames");
        monitor.kill().unwrap();
        monitor.wait().unwrap();
        let calls = calls(&log);
        let unit = format!("t-{}.scope", c.id);
        let about: Vec<_> = calls
            .iter()
            .filter(|call| call["payload"].to_string().contains(&unit))
            .collect();
        let sender = &about.first().expect("a call for the unit")["sender"];
        let same: Vec<_> = calls
            .iter()
            .filter(|call| call["sender"] == *sender)
            .map(|call| call["member"].as_str().unwrap())
            .collect();
        assert_eq!(same, ["Hello", "AddMatch", "StartTransientUnit"]);
        let names = |call: &&&Value| call["member"] != "AddMatch";
        assert_eq!(about.iter().filter(names).count(), 1, "{about:#?}");
    });
}

/// What the monitor has seen so far.
fn calls(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A broker that takes connections and never answers, as a stopped one does.
#[test]
fn a_bus_that_never_answers_ends_create() {
    trial(|t| {
        if !t.is_corten() {
            // runc and crun know no such variable, or wait for ever.
            return;
        }
        let path = t.dir.join("bus");
        let _listener = UnixListener::bind(&path).unwrap();
        let c = t
            .container()
            .without("/linux/cgroupsPath")
            .probe("exit 0")
            .done();
        let error = create_by(t, &c, &path).end().fails();
        assert!(
            error.contains("wait for D-Bus to answer: timed out"),
            "{error}"
        );
        assert!(error.contains("systemctl status dbus"), "{error}");
    });
}

#[test]
fn no_bus_is_said() {
    trial(|t| {
        if !t.is_corten() {
            return;
        }
        let c = t
            .container()
            .without("/linux/cgroupsPath")
            .probe("exit 0")
            .done();
        let path = Path::new("/nonexistent/bus");
        let error = create_by(t, &c, path).end().fails();
        assert!(
            error.contains("connect to D-Bus at unix:path=/nonexistent/bus"),
            "{error}"
        );
        assert!(error.contains("use the cgroupfs driver"), "{error}");
    });
}
