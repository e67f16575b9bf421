// SPDX-License-Identifier: Apache-2.0
//! ADD of URLs, from a server on this machine that answers as it is told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use corten_image::Digest;

use crate::support::Bench;

type Answers = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A server whose answers are by path; how often it was asked.
struct Server {
    address: String,
    asked: Arc<AtomicUsize>,
    answers: Answers,
}

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let answers = Answers::default();
        let (count, known) = (asked.clone(), answers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                count.fetch_add(1, Ordering::SeqCst);
                let known = known.lock().unwrap();
                let answer = known.iter().rev().find(|(name, _)| name == path);
                let missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
                let answer = answer.map_or(missing, |(_, answer)| answer.clone());
                let _ = stream.write_all(&answer);
            }
        });
        Self {
            address,
            asked,
            answers,
        }
    }

    fn answer(&self, path: &str, head: &str, body: &[u8]) {
        let mut answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").into_bytes();
        answer.extend(body);
        self.answers.lock().unwrap().push((path.to_owned(), answer));
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

const DATE: &str = "last-modified: Tue, 14 Nov 2023 22:13:20 GMT";

#[test]
fn adds_urls() {
    let mut bench = Bench::with_base();
    let server = Server::new();
    let body = b"hello";
    server.answer(
        "/d/file%20x?q=1",
        &format!("200 OK\r\ncontent-length: 5\r\n{DATE}"),
        body,
    );
    server.answer(
        "/moved",
        "302 Found\r\nlocation: /d/file%20x?q=1\r\ncontent-length: 0",
        b"",
    );
    let (direct, moved) = (server.url("/d/file%20x?q=1"), server.url("/moved"));
    for (steps, path, mode, owner) in [
        (format!("ADD {direct} /n/"), "n/file x", 0o600, (0, 0)),
        (format!("ADD {direct} /named"), "named", 0o600, (0, 0)),
        (
            format!("ADD --chown=user --chmod=755 {moved} /n/"),
            "n/moved",
            0o755,
            (1000, 1001),
        ),
        (format!("ADD --link {moved} /n/"), "n/moved", 0o600, (0, 0)),
        (
            format!("ADD --checksum={} {moved} /n/", Digest::of(body)),
            "n/moved",
            0o600,
            (0, 0),
        ),
    ] {
        bench
            .build("image", &format!("FROM base\n{steps}\n"))
            .unwrap();
        let seen = bench.top("image")[path].clone();
        assert_eq!(
            (seen.content.as_str(), seen.mode, seen.owner),
            ("hello", mode, owner),
            "{steps}"
        );
        assert_eq!(seen.mtime, 1_700_000_000, "{steps}");
    }
    // The key is the content's: asked again, but not made again.
    server.asked();
    let dockerfile = format!("FROM base\nADD {direct} /n/\n");
    assert_eq!(bench.build("image", &dockerfile).unwrap().cached, 1);
    assert_eq!(server.asked(), 1);
    server.answer("/d/file%20x?q=1", "200 OK\r\ncontent-length: 5", b"other");
    assert_eq!(bench.build("image", &dockerfile).unwrap().cached, 0);
    assert_eq!(bench.top("image")["n/file x"].content, "other");
    // With a checksum nobody is asked.
    server.asked();
    let pinned = format!(
        "FROM base\nADD --checksum={} {moved} /n/\n",
        Digest::of(body)
    );
    assert_eq!(bench.build("image", &pinned).unwrap().cached, 1);
    assert_eq!(server.asked(), 0);
}

#[test]
fn an_archive_is_unpacked_when_it_is_asked_for() {
    let mut bench = Bench::with_base();
    bench.file("tree/f", "f");
    let dir = bench.context("");
    let dir = dir.to_str().unwrap();
    let tar = format!("{dir}/t.tar");
    crate::support::output("tar", &["-C", dir, "-cf", &tar, "tree"]);
    let bytes = std::fs::read(&tar).unwrap();
    let server = Server::new();
    server.answer(
        "/t.tar",
        &format!("200 OK\r\ncontent-length: {}", bytes.len()),
        &bytes,
    );
    let url = server.url("/t.tar");
    for (flags, path) in [("", "n/t.tar"), ("--unpack ", "n/tree/f")] {
        bench
            .build("image", &format!("FROM base\nADD {flags}{url} /n/\n"))
            .unwrap();
        assert!(bench.top("image").contains_key(path), "{flags}");
    }
}

#[test]
fn a_hostile_server() {
    let mut bench = Bench::new();
    let server = Server::new();
    server.answer(
        "/loop",
        "302 Found\r\nlocation: /loop\r\ncontent-length: 0",
        b"",
    );
    server.answer(
        "/away",
        "302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0",
        b"",
    );
    let ftp = "302 Found\r\nlocation: ftp://127.0.0.1/x\r\ncontent-length: 0";
    server.answer("/ftp", ftp, b"");
    server.answer("/nowhere", "302 Found\r\ncontent-length: 0", b"");
    server.answer("/short", "200 OK\r\ncontent-length: 10", b"short");
    server.answer("/garbage", "junk", b"");
    server.answer("/ok", "200 OK\r\ncontent-length: 2", b"ok");
    for (path, expected) in [
        ("/loop", "more than 10 redirects"),
        ("/away", "follow the redirect: URL can't be read"),
        ("/ftp", "follow the redirect: URL is neither http nor https"),
        ("/nowhere", "a redirect without Location"),
        ("/short", ""),
        ("/garbage", ""),
        ("/missing", "the server says 404 Not Found"),
    ] {
        let url = server.url(path);
        let found = bench.fail(&format!("FROM scratch\nADD {url} /n/\n"));
        let start = format!("Dockerfile:2: ADD: fetch {url}: ");
        assert!(
            found.starts_with(&start) && found.ends_with(expected),
            "{found}"
        );
    }
    let (url, wrong) = (server.url("/ok"), Digest::of(b"other"));
    let found = bench.fail(&format!("FROM scratch\nADD --checksum={wrong} {url} /n/\n"));
    let right = Digest::of(b"ok");
    assert_eq!(
        found,
        format!("Dockerfile:2: ADD: fetch {url}: it has digest {right}, --checksum says {wrong}")
    );
}
