// SPDX-License-Identifier: Apache-2.0
//! What checkpoint and restore do for a container that moves to another host: pages that go there by themselves, before it or
//! after it, and connections that stay.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

use corten_integration::{Container, SYS_RESOURCE, Trial, eventually, has_capability, trial};

use super::{
    COUNT, checkpoint, count, counts_beyond, data, has_criu, has_python, images, is_gone, python,
    restore, shell,
};

/// A port that nobody has.
fn port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// CRIU beside the runtime; killed with the test.
struct Daemon(Child);

impl Daemon {
    fn start(t: &Trial, mode: &str, args: &[&str]) -> Self {
        let said = File::create(t.dir.join(mode)).unwrap();
        let mut criu = Command::new("criu");
        criu.arg(mode).args(args).stdout(said.try_clone().unwrap());
        Self(criu.stderr(said).spawn().unwrap())
    }

    /// Waits for its end, which is a success.
    fn end(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pages_go_to_a_page_server() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 3);
        let there = t.directory("there").to_string_lossy().into_owned();
        let port = port().to_string();
        let args = [
            "--images-dir",
            &there,
            "--address",
            "127.0.0.1",
            "--port",
            &port,
        ];
        let server = Daemon::start(t, "page-server", &args);
        eventually("it listens", || listens(&port).then_some(()));
        checkpoint(&c, t, &["--page-server", &format!("127.0.0.1:{port}")]).ok();
        server.end();
        let last = count(t);
        let pages = |dir: &str| {
            let names = fs::read_dir(dir).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with("pages-")).count()
        };
        assert_eq!(pages(&images(t)), 0, "none is here");
        assert_ne!(pages(&there), 0, "they are there");
        for entry in fs::read_dir(&there).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), Path::new(&images(t)).join(entry.file_name())).unwrap();
        }
        restore(&c, t, &[]).ok();
        counts_beyond(t, last);
        c.end();
    });
}

/// Whether somebody listens on the port, as the kernel's table says: a connection would be a client's.
fn listens(port: &str) -> bool {
    let port = format!(":{:04X} ", port.parse::<u16>().unwrap());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .any(|line| line.contains(&port) && line.contains(" 0A "))
}

#[test]
fn pages_follow_the_container_that_wants_them() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        if !has_capability(SYS_RESOURCE) {
            eprintln!(
                "CRIU keeps pages in pipes larger than it may make them here: nothing to test"
            );
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 3);
        // The same on the other host.
        let there = shell(t, COUNT).done();
        let images = images(t);
        let port = port().to_string();
        let server = format!("127.0.0.1:{port}");
        let ready = t.dir.join("ready");
        let args = ["--image-path", &images, "--work-path", &images];
        let more = ["--lazy-pages", "--page-server", &server, "--status-fd", "7"];
        let call = c.verb("checkpoint", &[&args[..], &more[..]].concat());
        let dump = call.after("exec 7>$0", &ready).spawn();
        eventually("its pages are served", || {
            (fs::read(&ready).ok()? == [0]).then_some(())
        });
        assert_eq!(count(t), count(t), "it is stopped");
        let args = ["--page-server", "--address", "127.0.0.1", "--port", &port];
        let dirs = ["--images-dir", &images, "--work-dir", &images];
        let daemon = Daemon::start(t, "lazy-pages", &[&args[..], &dirs[..]].concat());
        let socket = Path::new(&images).join("lazy-pages.socket");
        eventually("it waits for the container", || {
            socket.exists().then_some(())
        });
        let last = count(t);
        let args = ["--work-path", &images, "--lazy-pages"];
        restore(&there, t, &args).ok();
        counts_beyond(t, last);
        dump.end().ok();
        daemon.end();
        is_gone(&c);
        counts_beyond(t, count(t));
        there.end();
    });
}

/// Both ends of a connection over the loopback device, each counting what it gets.
const CONNECTED: &str = "
import os, socket, time
s = socket.socket()
s.bind(('127.0.0.1', 4711)); s.listen(1)
if os.fork() == 0:
    c = socket.create_connection(('127.0.0.1', 4711))
    n = 0
    while True:
        n += 1
        c.sendall(b'%d\\n' % n)
        time.sleep(0.02)
c, _ = s.accept()
for line in c.makefile():
    open('/data/new', 'w').write(line)
    os.rename('/data/new', '/data/n')
";

#[test]
fn connections_stay_where_that_is_asked_for() {
    trial(|t| {
        if !has_criu() || !has_python() {
            return;
        }
        if !locks_networks() {
            eprintln!("CRIU has no iptables here to lock a network with: nothing to test");
            return;
        }
        let c = python(t, CONNECTED).done();
        c.run_detached();
        counts_beyond(t, 3);
        let text = checkpoint(&c, t, &[]).fails();
        assert!(text.contains("tcp-established"), "{text}");
        counts_beyond(t, count(t));
        checkpoint(&c, t, &["--tcp-established"]).ok();
        is_gone(&c);
        let last = count(t);
        restore(&c, t, &["--tcp-established"]).ok();
        counts_beyond(t, last + 3);
        assert!(data(t, "n").exists());
        c.end();
    });
}

fn locks_networks() -> bool {
    let mut tables = Command::new("iptables-restore");
    tables
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success())
}

#[test]
fn a_page_server_that_is_not_there_is_an_error_and_the_container_runs_on() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c: Container<'_> = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 1);
        let nobody = format!("127.0.0.1:{}", port());
        let text = checkpoint(&c, t, &["--page-server", &nobody]).fails();
        assert!(text.contains("CRIU failed: "), "{text}");
        assert_eq!(c.status(), "running");
        counts_beyond(t, count(t));
        c.end();
    });
}
