// SPDX-License-Identifier: Apache-2.0
//! The least that unpacking an image into one directory per layer can cost: each blob read and hashed, decompressed, hashed
//! again, and written, on as many threads as there are processors; nothing checked, nothing merged, nothing made durable.
//! What measures unpackers runs it beside them: `floor LAYOUT DIRECTORY`, for gzip layers of an OCI layout with one image,
//! which is the measurer's own: at anything unexpected it stops with a panic.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs
)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hashes what passes.
struct Hashing<R> {
    inner: R,
    state: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.state.update(&buffer[..count]);
        Ok(count)
    }
}

fn hashing<R>(inner: R) -> Hashing<R> {
    let state = Sha256::new();
    Hashing { inner, state }
}

fn document(layout: &Path, digest: &Value) -> Value {
    let bytes = std::fs::read(blob(layout, digest)).expect("read a document");
    serde_json::from_slice(&bytes).expect("parse a document")
}

fn blob(layout: &Path, digest: &Value) -> PathBuf {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    layout.join("blobs/sha256").join(hex)
}

fn main() {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (layout, place) = (
        args.next().expect("LAYOUT"),
        args.next().expect("DIRECTORY"),
    );
    let index = std::fs::read(layout.join("index.json")).expect("read index.json");
    let index: Value = serde_json::from_slice(&index).expect("parse index.json");
    let manifest = document(&layout, &index["manifests"][0]["digest"]);
    let mut layers: Vec<(u64, PathBuf, PathBuf)> = Vec::new();
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        let size = layer["size"].as_u64().unwrap();
        layers.push((
            size,
            blob(&layout, &layer["digest"]),
            place.join(number.to_string()),
        ));
    }
    layers.sort();
    let layers = Mutex::new(layers);
    let run = || {
        loop {
            let next = layers.lock().unwrap().pop();
            let Some((_, blob, place)) = next else { break };
            unpack(&blob, &place);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(run);
        }
        run();
    });
}

fn unpack(blob: &Path, place: &Path) {
    std::fs::create_dir_all(place).expect("make a layer's directory");
    let root = rustix::fs::open(place, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let compressed = hashing(File::open(blob).expect("open a blob"));
    let inflated = MultiGzDecoder::new(BufReader::with_capacity(256 << 10, compressed));
    let mut tar = BufReader::with_capacity(256 << 10, hashing(inflated));
    let mut parents: HashMap<Vec<u8>, OwnedFd> = HashMap::new();
    let mut long: (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
    let mut header = [0; 512];
    let mut buffer = vec![0; 256 << 10];
    while tar.read_exact(&mut header).is_ok() && header[0] != 0 {
        let size = number(&header[124..136]);
        let padding = size.next_multiple_of(512) - size;
        if matches!(header[156], b'x' | b'L' | b'K' | b'g') {
            let mut data = vec![0; usize::try_from(size + padding).unwrap()];
            tar.read_exact(&mut data).unwrap();
            data.truncate(usize::try_from(size).unwrap());
            match header[156] {
                b'L' => long.0 = Some(until_nul(&data)),
                b'K' => long.1 = Some(until_nul(&data)),
                b'x' => pax(&data, &mut long),
                _ => {}
            }
            continue;
        }
        let path = long.0.take().unwrap_or_else(|| until_nul(&header[..100]));
        let link = long
            .1
            .take()
            .unwrap_or_else(|| until_nul(&header[157..257]));
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let (above, leaf) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        let parent = parents
            .entry(above.to_vec())
            .or_insert_with(|| open_parent(&root, above));
        let name = OsStr::from_bytes(leaf);
        let mode = Mode::from_raw_mode(u32::try_from(number(&header[100..108])).unwrap());
        let owner = (id(&header[108..116]), id(&header[116..124]));
        let time = i64::try_from(number(&header[136..148])).unwrap();
        let time = Timespec {
            tv_sec: time,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        match header[156] {
            b'0' | 0 => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&*parent, name, flags, mode).unwrap();
                let mut file = File::from(file);
                let mut left = size;
                while left > 0 {
                    let most = buffer.len().min(usize::try_from(left).unwrap());
                    let count = tar.read(&mut buffer[..most]).unwrap();
                    file.write_all(&buffer[..count]).unwrap();
                    left -= count as u64;
                }
                rustix::fs::fchown(
                    &file,
                    Some(Uid::from_raw(owner.0)),
                    Some(Gid::from_raw(owner.1)),
                )
                .unwrap();
                rustix::fs::fchmod(&file, mode).unwrap();
                rustix::fs::futimens(&file, &times).unwrap();
            }
            b'5' if leaf.is_empty() => {}
            // Times of directories would have to wait for what comes into them.
            b'5' => drop(rustix::fs::mkdirat(&*parent, name, mode)),
            b'2' => rustix::fs::symlinkat(OsStr::from_bytes(&link), &*parent, name).unwrap(),
            b'1' => {
                let target = link.strip_prefix(b"./").unwrap_or(&link);
                rustix::fs::linkat(
                    &root,
                    OsStr::from_bytes(target),
                    &*parent,
                    name,
                    AtFlags::empty(),
                )
                .unwrap();
            }
            // A dozen devices.
            b'3' | b'4' | b'6' => {}
            kind => panic!("entry type {kind}"),
        }
        std::io::copy(&mut (&mut tar).take(padding), &mut std::io::sink()).unwrap();
    }
    std::io::copy(&mut tar, &mut std::io::sink()).unwrap();
    let mut inflated = tar.into_inner();
    let diff_id = inflated.state.finalize_reset();
    let digest = inflated.inner.into_inner().into_inner().state.finalize();
    for digest in [digest, diff_id] {
        let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{}", hex.concat());
    }
}

fn open_parent(root: &OwnedFd, path: &[u8]) -> OwnedFd {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT;
    let open = || rustix::fs::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), resolve);
    open().unwrap_or_else(|_| {
        // In a layer of its own a parent may be missing.
        let mut made = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            made.extend_from_slice(part);
            let _ = rustix::fs::mkdirat(root, OsStr::from_bytes(&made), Mode::from_raw_mode(0o755));
            made.push(b'/');
        }
        open().unwrap()
    })
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap().to_vec()
}

fn number(field: &[u8]) -> u64 {
    let digits = field.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |value, digit| value * 8 + u64::from(digit - b'0'))
}

fn id(field: &[u8]) -> u32 {
    u32::try_from(number(field)).unwrap()
}

/// `length key=value` lines: names and link targets.
fn pax(mut data: &[u8], long: &mut (Option<Vec<u8>>, Option<Vec<u8>>)) {
    while let Some(space) = data.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&data[..space])
            .unwrap()
            .parse()
            .unwrap();
        let record = &data[space + 1..length - 1];
        if let Some(path) = record.strip_prefix(b"path=") {
            long.0 = Some(path.to_vec());
        }
        if let Some(link) = record.strip_prefix(b"linkpath=") {
            long.1 = Some(link.to_vec());
        }
        data = &data[length..];
    }
}
