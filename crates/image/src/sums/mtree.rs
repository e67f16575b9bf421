// SPDX-License-Identifier: Apache-2.0
//! The form in which it is kept: lines of mtree(5), a path and `key=value` each, compressed with zstd. `blake3digest`,
//! `same` (another name of a file) and `xattr.NAME` (base64) are not in the manual page.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Attributes, Node, Nodes, Sum, What};
use crate::error::{Context, Error, Kind, Result};
use crate::tar::Time;

const START: &str = "#mtree\n";
const LEVEL: i32 = 1;
/// Bytes of text: 4 million entries, and more than any layer of those limits has.
const MOST: u64 = 4 << 30;

/// As it is kept.
pub fn write(nodes: &Nodes) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    let mut text = String::from(START);
    for (path, node) in nodes {
        line(&mut text, path, node);
        if text.len() > 64 << 10 {
            std::io::Write::write_all(&mut encoder, text.as_bytes())?;
            text.clear();
        }
    }
    std::io::Write::write_all(&mut encoder, text.as_bytes())?;
    Ok(encoder.finish()?)
}

fn line(text: &mut String, path: &[u8], node: &Node) {
    use std::fmt::Write;

    text.push_str("./");
    encode(text, path);
    let (kind, rest) = match &node.what {
        What::Dir => ("dir", None),
        What::File { .. } => ("file", None),
        What::Symlink(target) => ("link", Some(("link", target))),
        What::Same(path) => ("file", Some(("same", path))),
        What::Char(..) => ("char", None),
        What::Block(..) => ("block", None),
        What::Fifo => ("fifo", None),
        What::Socket => ("socket", None),
    };
    // Writing to a String does not fail.
    let _ = write!(
        text,
        " type={kind} mode={:04o} uid={} gid={} time={}.{:09}",
        node.mode, node.uid, node.gid, node.mtime.seconds, node.mtime.nanos
    );
    match &node.what {
        What::File { size, sum } => {
            let _ = write!(text, " size={size} blake3digest=");
            text.push_str(blake3::Hash::from_bytes(*sum).to_hex().as_str());
        }
        What::Char(major, minor) | What::Block(major, minor) => {
            let _ = write!(text, " device=linux,{major},{minor}");
        }
        _ => {}
    }
    if let Some((key, value)) = rest {
        let _ = write!(text, " {key}=");
        encode(text, value);
    }
    for (name, value) in &node.xattrs {
        text.push_str(" xattr.");
        encode(text, name);
        text.push('=');
        text.push_str(&BASE64.encode(value));
    }
    text.push('\n');
}

/// As vis(3) has it: three octal digits for what a line can't hold.
fn encode(text: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\\' | b'#' | b'=' | 0..=b' ' | 0x7f.. => {
                text.push('\\');
                for shift in [6, 3, 0] {
                    text.push(char::from(b'0' + (byte >> shift & 7)));
                }
            }
            _ => text.push(char::from(byte)),
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        (bytes, rest) = match (first, after) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                (bytes, after)
            }
            (b'\\', _) => return None,
            (byte, after) => {
                bytes.push(*byte);
                (bytes, after)
            }
        };
    }
    Some(bytes)
}

/// What [`write`] made.
pub fn read(bytes: &[u8]) -> Result<Nodes> {
    let mut text = String::new();
    zstd::Decoder::new(bytes)?
        .take(MOST)
        .read_to_string(&mut text)
        .map_err(|error| Error::new(Kind::Corrupt, error.to_string()))?;
    let lines = text
        .strip_prefix(START)
        .ok_or_else(|| Error::corrupt("it does not start as a manifest does"))?;
    let mut nodes = Nodes::new();
    for (number, line) in lines.lines().enumerate() {
        let (path, node) = parse(line)
            .ok_or_else(|| Error::corrupt("it is no line of a manifest"))
            .with_context(|| format!("line {}", number + 2))?;
        nodes.insert(path, node);
    }
    Ok(nodes)
}

fn parse(line: &str) -> Option<(Vec<u8>, Node)> {
    let mut words = line.split(' ');
    let path = decode(words.next()?.strip_prefix("./")?)?;
    let (mut kind, mut link, mut same, mut device) = (None, None, None, None);
    let (mut size, mut sum): (Option<u64>, Option<Sum>) = (None, None);
    let (mut mode, mut uid, mut gid, mut mtime) = (None, None, None, None);
    let mut xattrs: Attributes = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "type" => kind = Some(value),
            "mode" => mode = Some(u32::from_str_radix(value, 8).ok()?),
            "uid" => uid = Some(value.parse().ok()?),
            "gid" => gid = Some(value.parse().ok()?),
            "time" => mtime = Some(time(value)?),
            "size" => size = Some(value.parse().ok()?),
            "blake3digest" => sum = Some(*blake3::Hash::from_hex(value).ok()?.as_bytes()),
            "device" => device = Some(numbers(value)?),
            "link" => link = Some(decode(value)?),
            "same" => same = Some(decode(value)?),
            _ => {
                let name = decode(key.strip_prefix("xattr.")?)?;
                xattrs.push((name, BASE64.decode(value).ok()?));
            }
        }
    }
    let what = match (kind?, same) {
        ("file", Some(first)) => What::Same(first),
        ("file", None) => What::File {
            size: size?,
            sum: sum?,
        },
        ("dir", _) => What::Dir,
        ("link", _) => What::Symlink(link?),
        ("char", _) => What::Char(device?.0, device?.1),
        ("block", _) => What::Block(device?.0, device?.1),
        ("fifo", _) => What::Fifo,
        ("socket", _) => What::Socket,
        _ => return None,
    };
    let node = Node {
        what,
        mode: mode?,
        uid: uid?,
        gid: gid?,
        mtime: mtime?,
        xattrs,
    };
    Some((path, node))
}

fn time(value: &str) -> Option<Time> {
    let (seconds, nanos) = value.split_once('.')?;
    Some(Time {
        seconds: seconds.parse().ok()?,
        nanos: nanos.parse().ok().filter(|nanos| *nanos < 1_000_000_000)?,
    })
}

fn numbers(value: &str) -> Option<(u32, u32)> {
    let (major, minor) = value.strip_prefix("linux,")?.split_once(',')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let node = |what, xattrs| Node {
            what,
            mode: 0o4755,
            uid: 1,
            gid: u32::MAX - 1,
            mtime: Time {
                seconds: -5,
                nanos: 7,
            },
            xattrs,
        };
        let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
        let nodes = Nodes::from([
            (Vec::new(), node(What::Dir, Vec::new())),
            (all.clone(), node(What::Symlink(all.clone()), Vec::new())),
            (
                b"a b=c\\d#e\nf".to_vec(),
                node(
                    What::File {
                        size: 9,
                        sum: [0xab; 32],
                    },
                    vec![
                        (b"user.a=b c".to_vec(), vec![0, 1, 255]),
                        (b"user.e".to_vec(), vec![]),
                    ],
                ),
            ),
            (b"c".to_vec(), node(What::Char(0, 0), Vec::new())),
            (b"d".to_vec(), node(What::Block(8, 1), Vec::new())),
            (b"e".to_vec(), node(What::Fifo, Vec::new())),
            (b"f".to_vec(), node(What::Same(b"a b".to_vec()), Vec::new())),
            (b"g".to_vec(), node(What::Socket, Vec::new())),
        ]);
        let written = write(&nodes).unwrap();
        assert_eq!(read(&written).unwrap(), nodes);
        assert!(read(&written[..written.len() - 3]).is_err());
    }

    #[test]
    fn what_is_damaged_is_no_manifest() {
        let good = "./a type=file mode=0644 uid=0 gid=0 time=1.000000000 size=0 blake3digest=";
        let good = format!("{good}{}", "0".repeat(64));
        assert!(parse(&good).is_some());
        for bad in [
            "",
            "a type=dir",
            "./a type=dir mode=0755 uid=0 gid=0",
            "./a\\9 type=dir mode=0755 uid=0 gid=0 time=1.0",
            "./a type=link mode=0755 uid=0 gid=0 time=1.0",
            "./a type=file mode=0755 uid=0 gid=0 time=1.0 size=1 blake3digest=00",
            "./a type=dir mode=0755 uid=0 gid=0 time=1.0 other=1",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
