// SPDX-License-Identifier: Apache-2.0
//! The files that a container has of its surroundings: its names, and whom it asks for others'. They are its own: what it
//! writes there changes nothing else, and a start makes them anew.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::document::GIVEN;
use super::settings::{Network, Settings};
use crate::build::stubs::{Shape, link_target, make_dir, make_point};
use crate::build::surroundings::{host_file, write_file};
use crate::error::{Context, Result};
use crate::network::Connected;
use crate::store::{LayerDir, files};

/// Their directory, below the container's.
pub const DIR: &str = "given";

/// Mount points that an image may lack are made below all of its layers, so that they are no part of what changed.
pub const STUBS: &str = "stubs";

/// Where the host's resolver keeps the servers that it asks, when it is itself what /etc/resolv.conf names.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Makes the files, and the mount points for them.
pub fn make(
    dir: BorrowedFd<'_>,
    layers: &[LayerDir],
    settings: &Settings,
    hostname: &str,
    name: Option<&str>,
    connected: &Connected,
) -> Result<()> {
    files::remove_tree(dir, c"given")?;
    files::remove_tree(dir, c"stubs")?;
    let given = make_dir(dir, DIR)?;
    let contents = [
        hosts(settings, hostname, name, connected)?,
        format!("{hostname}\n").into_bytes(),
        resolv_conf(settings, connected)?,
    ];
    for ((name, _), content) in GIVEN.iter().zip(contents) {
        write_file(given.as_fd(), name, &content, 0o644)
            .with_context(|| format!("write {DIR}/{name}"))?;
    }
    let stubs = make_dir(dir, STUBS)?;
    for name in ["dev", "proc", "sys", "etc"] {
        make_dir(stubs.as_fd(), name)?;
    }
    for (name, destination) in GIVEN {
        let path = link_target(layers, Path::new(destination.trim_start_matches('/')))?;
        make_point(stubs.as_fd(), &path, Shape::File)
            .with_context(|| format!("make a mount point for {name}"))?;
    }
    Ok(())
}

fn hosts(
    settings: &Settings,
    hostname: &str,
    name: Option<&str>,
    connected: &Connected,
) -> Result<Vec<u8>> {
    let mut text = match settings.network {
        Network::Host => host_file("/etc/hosts")?,
        Network::None | Network::Named(_) => {
            b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_vec()
        }
    };
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    let mut line = |address: &IpAddr, name: &str| {
        text.extend_from_slice(format!("{address}\t{name}\n").as_bytes());
    };
    for (name, address) in &settings.hosts {
        line(address, name);
    }
    let own = match name.filter(|name| *name != hostname) {
        Some(name) => format!("{hostname} {name}"),
        None => hostname.to_owned(),
    };
    match connected.addresses.as_slice() {
        [] => line(&IpAddr::from([127, 0, 0, 1]), &own),
        addresses => addresses.iter().for_each(|address| line(address, &own)),
    }
    Ok(text)
}

fn resolv_conf(settings: &Settings, connected: &Connected) -> Result<Vec<u8>> {
    let (servers, search) = if !settings.dns.is_empty() {
        (&settings.dns, &connected.search)
    } else if !connected.servers.is_empty() {
        (&connected.servers, &connected.search)
    } else {
        return match settings.network {
            Network::None => Ok(Vec::new()),
            Network::Host => host_file("/etc/resolv.conf"),
            Network::Named(_) => reachable(),
        };
    };
    let mut text = String::new();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    Ok(text.into_bytes())
}

/// The host's, less the servers that only the host itself reaches.
fn reachable() -> Result<Vec<u8>> {
    let own = without_loopback(&host_file("/etc/resolv.conf")?);
    if names_a_server(&own) {
        return Ok(own.into_bytes());
    }
    Ok(without_loopback(&host_file(RESOLVED)?).into_bytes())
}

fn names_a_server(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("nameserver"))
}

fn without_loopback(text: &[u8]) -> String {
    let is_loopback = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words
                .next()
                .and_then(|address| address.parse::<IpAddr>().ok())
                .is_some_and(|address| address.is_loopback())
    };
    String::from_utf8_lossy(text)
        .lines()
        .filter(|line| !is_loopback(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::host;

    #[test]
    fn a_containers_own_names() {
        let settings = Settings {
            hosts: vec![host("db:10.0.0.9").unwrap(), host("six:[fd00::1]").unwrap()],
            ..Settings::default()
        };
        let connected = Connected {
            addresses: vec!["10.89.0.2".parse().unwrap()],
            ..Connected::default()
        };
        let text =
            String::from_utf8(hosts(&settings, "h", Some("web"), &connected).unwrap()).unwrap();
        assert!(
            text.ends_with("10.0.0.9\tdb\nfd00::1\tsix\n10.89.0.2\th web\n"),
            "{text}"
        );
        for bad in ["", "a", "a:b", ":1.2.3.4", "a b:1.2.3.4", "a\nb:1.2.3.4"] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn servers_of_the_host_alone_are_left_out() {
        let text = without_loopback(
            b"nameserver 127.0.0.53\nsearch x\nnameserver 9.9.9.9\n nameserver ::1\n",
        );
        assert_eq!(text, "search x\nnameserver 9.9.9.9\n");
        assert!(!names_a_server("search x\n"));
    }
}
