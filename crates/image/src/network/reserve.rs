// SPDX-License-Identifier: Apache-2.0
//! Ports of the host are taken like a server takes them, for as long as they lead to a container: rules of the firewall
//! know no owner, and of two containers, or a container and a server of the host, one would get nothing, unsaid.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use super::port::{Port, Protocol};
use crate::error::{Context, Result};

/// A port that nobody else gets.
#[derive(Debug)]
pub struct Reserved {
    _tcp: Option<TcpListener>,
    _udp: Option<UdpSocket>,
}

/// Takes all of `ports`, in this process' network namespace.
pub fn reserve(ports: &[Port]) -> Result<Vec<Reserved>> {
    ports.iter().map(take).collect()
}

fn take(port: &Port) -> Result<Reserved> {
    let address = port.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let place = (address, port.host);
    let (tcp, udp) = match port.protocol {
        Protocol::Tcp => (Some(TcpListener::bind(place)).transpose(), Ok(None)),
        Protocol::Udp => (Ok(None), Some(UdpSocket::bind(place)).transpose()),
    };
    let context = || format!("take port {port} of the host");
    Ok(Reserved {
        _tcp: tcp.with_context(context)?,
        _udp: udp.with_context(context)?,
    })
}
