// SPDX-License-Identifier: Apache-2.0
//! An address of a network device, as rtnetlink(7) has it: read from one device, given to another. Pure.

use std::fmt;

use super::message::{attributes, u32_at};

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_PERMANENT: u32 = 0x80;

/// What can be asked for: without duplicate detection, optimistic, home, parent of temporary ones, without a route,
/// with its multicast groups. The other flags tell what became of it.
const ASKED_FOR: u32 = 0x02 | 0x04 | 0x10 | 0x100 | 0x200 | 0x400;

/// What is carried over: the rest is the kernel's to say, or belongs to the device or the namespace.
const CARRIED: [u16; 7] = [
    IFA_ADDRESS,
    IFA_LOCAL,
    IFA_LABEL,
    IFA_BROADCAST,
    IFA_CACHEINFO,
    IFA_RT_PRIORITY,
    IFA_PROTO,
];

/// An address of a network device, with its peer, label, lifetimes and metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    scope: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// How many bytes a message about an address has before its attributes (struct ifaddrmsg).
    pub(super) const FIXED: usize = 8;

    /// The device's number and the address in a message's body.
    pub(super) fn read(body: &[u8]) -> Option<(u32, Self)> {
        let [family, prefix, flags, scope, ..] = *body else {
            return None;
        };
        let all = attributes(body, Self::FIXED)?;
        let whole = all.iter().find(|(kind, _)| *kind == IFA_FLAGS);
        let flags = match whole {
            Some((_, value)) => u32_at(value, 0)?,
            None => u32::from(flags),
        };
        let carried = all.iter().filter(|(kind, _)| CARRIED.contains(kind));
        let address = Self {
            family,
            prefix,
            scope,
            flags,
            attributes: carried
                .map(|(kind, value)| (*kind, value.to_vec()))
                .collect(),
        };
        Some((u32_at(body, 4)?, address))
    }

    /// The fixed part of a message that gives it to the device `index`.
    pub(super) fn fixed(&self, index: u32) -> [u8; Self::FIXED] {
        let [a, b, c, d] = index.to_ne_bytes();
        [self.family, self.prefix, 0, self.scope, a, b, c, d]
    }

    /// The attributes of a message that gives it to a device.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (u16, Vec<u8>)> {
        let flags = (self.flags & ASKED_FOR).to_ne_bytes().to_vec();
        let carried = self.attributes.iter().cloned();
        std::iter::once((IFA_FLAGS, flags)).chain(carried)
    }

    /// Whether it stays until somebody takes it away.
    pub fn is_permanent(&self) -> bool {
        self.flags & IFA_F_PERMANENT != 0
    }

    /// Whether its scope is the universe.
    pub fn is_global(&self) -> bool {
        self.scope == libc::RT_SCOPE_UNIVERSE
    }

    /// Whether the kernel made it from another address of the device, as it does for privacy's sake.
    pub fn is_derived(&self) -> bool {
        i32::from(self.family) == libc::AF_INET6 && self.flags & IFA_F_TEMPORARY != 0
    }

    /// The same for a device that is called `new` and not `old`: labels begin with the device's name.
    #[must_use]
    pub fn renamed(&self, old: &str, new: &str) -> Self {
        let mut renamed = self.clone();
        for (_, label) in renamed
            .attributes
            .iter_mut()
            .filter(|(kind, _)| *kind == IFA_LABEL)
        {
            let rest = label.strip_prefix(old.as_bytes());
            if let Some(rest) = rest.filter(|rest| matches!(rest, [] | [0 | b':', ..])) {
                *label = [new.as_bytes(), rest].concat();
            }
        }
        renamed
    }
}

/// `10.0.0.1/24`, as far as it can be told.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where there are both, IFA_ADDRESS is the peer's.
        let bytes = [IFA_LOCAL, IFA_ADDRESS].iter().find_map(|wanted| {
            let mut all = self.attributes.iter();
            all.find(|(kind, _)| kind == wanted)
        });
        let bytes = bytes.map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        if let Ok(four) = <[u8; 4]>::try_from(bytes) {
            write!(f, "{}/{}", std::net::Ipv4Addr::from(four), self.prefix)
        } else if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
            write!(f, "{}/{}", std::net::Ipv6Addr::from(sixteen), self.prefix)
        } else {
            write!(f, "family {} {bytes:x?}/{}", self.family, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Request, messages};
    use super::*;

    fn body(parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut request = Request::new(20, 0, &[2, 24, 0x80, 0, 7, 0, 0, 0]);
        for (kind, value) in parts {
            request = request.with(*kind, value).unwrap();
        }
        let bytes = request.finish(1);
        messages(&bytes).unwrap()[0].body.to_vec()
    }

    #[test]
    fn is_carried_over() {
        let bytes = body(&[
            (IFA_LOCAL, &[10, 0, 0, 1]),
            (IFA_LABEL, b"eth0:x\0"),
            (IFA_FLAGS, &0x281_u32.to_ne_bytes()),
            (77, b"what is that"),
        ]);
        let (index, address) = Address::read(&bytes).unwrap();
        assert_eq!(index, u32::from_ne_bytes([7, 0, 0, 0]));
        assert!(address.is_permanent() && address.is_global() && !address.is_derived());
        assert_eq!(address.to_string(), "10.0.0.1/24");
        assert_eq!(address.fixed(index), [2, 24, 0, 0, 7, 0, 0, 0]);
        let parts: Vec<_> = address.renamed("eth0", "net1").attributes().collect();
        let wanted = [
            (IFA_FLAGS, 0x200_u32.to_ne_bytes().to_vec()),
            (IFA_LOCAL, vec![10, 0, 0, 1]),
            (IFA_LABEL, b"net1:x\0".to_vec()),
        ];
        assert_eq!(parts, wanted);
    }

    #[test]
    fn labels_follow_the_name() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"eth0\0", b"n\0"),
            (b"eth0:1\0", b"n:1\0"),
            (b"eth01\0", b"eth01\0"),
            (b"other\0", b"other\0"),
        ];
        for (label, wanted) in cases {
            let (_, address) = Address::read(&body(&[(IFA_LABEL, label)])).unwrap();
            let renamed = address.renamed("eth0", "n");
            assert_eq!(renamed.attributes, [(IFA_LABEL, wanted.to_vec())]);
        }
    }

    #[test]
    fn short_bodies_are_none() {
        let whole = body(&[(IFA_FLAGS, &[1])]);
        assert_eq!(Address::read(&whole), None);
        for cut in 0..Address::FIXED {
            assert_eq!(Address::read(&whole[..cut]), None, "{cut}");
        }
        assert!(Address::read(&body(&[])).is_some());
    }
}
