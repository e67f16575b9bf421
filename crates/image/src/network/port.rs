// SPDX-License-Identifier: Apache-2.0
//! `--publish`: ports of the host that lead to ports of the container. Pure.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The address of the host; all of them by default.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl Port {
    /// Whether both mean the same port of the host, of some address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let apart = match (self.address, other.address) {
            (Some(a), Some(b)) => a != b && !a.is_unspecified() && !b.is_unspecified(),
            _ => false,
        };
        self.host == other.host && self.protocol == other.protocol && !apart
    }

    /// As the capability `portMappings` has it.
    pub(super) fn mapping(&self) -> Value {
        let mut mapping = json!({
            "hostPort": self.host, "containerPort": self.container, "protocol": self.protocol.word(),
        });
        if let Some(address) = self.address {
            mapping["hostIP"] = json!(address);
        }
        mapping
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        let protocol = self.protocol.word();
        write!(f, "{}->{}/{protocol}", self.host, self.container)
    }
}

/// Reads `[ADDRESS:]HOST:CONTAINER[/tcp|udp]`; HOST and CONTAINER may be ranges of the same length.
pub fn ports(text: &str) -> Result<Vec<Port>> {
    let invalid = |why: &str| Error::invalid(format!("port {text:?}: {why}"));
    let (rest, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some((_, other)) => return Err(invalid(&format!("{other:?} is neither tcp nor udp"))),
    };
    let Some((before, container)) = rest.rsplit_once(':') else {
        return Err(
            invalid("want [ADDRESS:]HOST:CONTAINER").remedy("a port of the host is not made up")
        );
    };
    let (address, host) = match before.rsplit_once(':') {
        None => (None, before),
        Some((address, host)) => {
            let bare = address
                .strip_prefix('[')
                .and_then(|address| address.strip_suffix(']'))
                .unwrap_or(address);
            let address = bare
                .parse()
                .map_err(|_| invalid(&format!("{address:?} is no address")))?;
            (Some(address), host)
        }
    };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
        number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last)
            .ok_or_else(|| invalid(&format!("{text:?} is no port or range of ports")))
    };
    let (host, container) = (range(host)?, range(container)?);
    if host.1 - host.0 != container.1 - container.0 {
        return Err(invalid("the two ranges are not of the same length"));
    }
    Ok((host.0..=host.1)
        .zip(container.0..=container.1)
        .map(|(host, container)| Port {
            address,
            host,
            container,
            protocol,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping() {
        let one = |text: &str| ports(text).unwrap().remove(0);
        for (a, b, expected) in [
            ("80:1", "80:2", true),
            ("80:1", "80:1/udp", false),
            ("80:1", "81:1", false),
            ("10.0.0.1:80:1", "10.0.0.2:80:1", false),
            ("10.0.0.1:80:1", "80:1", true),
            ("10.0.0.1:80:1", "0.0.0.0:80:1", true),
        ] {
            assert_eq!(one(a).overlaps(&one(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn reads_ports() {
        for (text, expected) in [
            ("8080:80", "8080->80/tcp"),
            ("127.0.0.1:53:53/udp", "127.0.0.1:53->53/udp"),
            ("[::1]:1:2", "[::1]:1->2/tcp"),
            ("8000-8002:80-82", "8000->80/tcp 8001->81/tcp 8002->82/tcp"),
        ] {
            let found: Vec<String> = ports(text).unwrap().iter().map(Port::to_string).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
        for bad in [
            "",
            "80",
            ":80",
            "0:80",
            "80:0",
            "65536:80",
            "1-3:1-2",
            "3-1:1-3",
            "x:80",
            "1.2.3:1:1",
            "1:1/sctp",
            "::80",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
