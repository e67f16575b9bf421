// SPDX-License-Identifier: Apache-2.0
//! What went through the network devices of a process' namespace, as procfs tells it.

use std::os::fd::AsFd;

use corten_sys::fs::{self, OFlags, Procfs};
use corten_sys::process;

use crate::json::{Json, Members};

/// One device, under the names of runc's type.
#[derive(Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What came in.
    pub rx_bytes: u64,
    /// In packets.
    pub rx_packets: u64,
    /// Of those, broken ones.
    pub rx_errors: u64,
    /// And those that nobody could take.
    pub rx_dropped: u64,
    /// What went out.
    pub tx_bytes: u64,
    /// In packets.
    pub tx_packets: u64,
    /// Of those, broken ones.
    pub tx_errors: u64,
    /// And those that nobody could take.
    pub tx_dropped: u64,
}

impl Interface {
    /// As an object.
    pub fn json(&self) -> Json<'_> {
        let mut members = Members::default();
        members.put("Name", Json::from(self.name.as_str()));
        members.numbers(&[
            ("RxBytes", self.rx_bytes),
            ("RxPackets", self.rx_packets),
            ("RxErrors", self.rx_errors),
            ("RxDropped", self.rx_dropped),
            ("TxBytes", self.tx_bytes),
            ("TxPackets", self.tx_packets),
            ("TxErrors", self.tx_errors),
            ("TxDropped", self.tx_dropped),
        ]);
        members.object()
    }
}

/// The devices of the process `pid` but for the loopback; `None` where its network namespace is the caller's, or is not
/// to be seen: counts of the host's devices would say nothing about a container.
pub fn interfaces(proc: &Procfs, pid: i32) -> Option<Vec<Interface>> {
    let namespace = |pid| {
        let namespace = proc.namespace(pid, "net").ok()?;
        let stat = fs::stat(namespace.as_fd()).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    if namespace(pid)? == namespace(process::own_pid())? {
        return None;
    }
    let file = proc.file(&format!("{pid}/net/dev"), OFlags::RDONLY).ok()?;
    let text = fs::read_to_end(file.as_fd(), 4 << 20).ok()?;
    let found = parse(&String::from_utf8_lossy(&text));
    (!found.is_empty()).then_some(found)
}

/// The lines of /proc/PID/net/dev below its two of headings: eight counts of what came in, eight of what went out.
fn parse(text: &str) -> Vec<Interface> {
    let line = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts
            .split_whitespace()
            .filter_map(|count| count.parse().ok())
            .collect();
        let count = |at: usize| counts.get(at).copied();
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: count(0)?,
            rx_packets: count(1)?,
            rx_errors: count(2)?,
            rx_dropped: count(3)?,
            tx_bytes: count(8)?,
            tx_packets: count(9)?,
            tx_errors: count(10)?,
            tx_dropped: count(11)?,
        })
    };
    let found = text.lines().skip(2).filter_map(line);
    found.filter(|device| device.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0\n  \
             eth0: 1234 5 6 7 0 0 0 0 4321 8 9 10 0 0 0 0\n  \
             odd: 1 2\n";
        let found = parse(text);
        let wanted = Interface {
            name: "eth0".into(),
            rx_bytes: 1234,
            rx_packets: 5,
            rx_errors: 6,
            rx_dropped: 7,
            tx_bytes: 4321,
            tx_packets: 8,
            tx_errors: 9,
            tx_dropped: 10,
        };
        assert_eq!(found, [wanted]);
        let shown = found[0].json().compact();
        assert!(
            shown.starts_with(r#"{"Name":"eth0","RxBytes":1234,"#),
            "{shown}"
        );
    }
}
