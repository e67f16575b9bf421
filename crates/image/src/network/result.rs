// SPDX-License-Identifier: Apache-2.0
//! What plugins answer, as far as it is used here. Pure.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// A container in its network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connected {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The network's name servers.
    pub servers: Vec<IpAddr>,
    /// Where names without a domain are looked for.
    pub search: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ips: Vec<Ip>,
    dns: Option<Dns>,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
}

#[derive(Default, Deserialize)]
struct Dns {
    #[serde(default)]
    nameservers: Vec<String>,
    #[serde(default)]
    search: Vec<String>,
}

/// Reads the last plugin's answer (versions 0.3 to 1 of the specification).
pub fn connected(answer: &Value) -> Result<Connected> {
    let answer = Answer::deserialize(answer)
        .map_err(|error| Error::invalid(format!("a plugin's answer: {error}")))?;
    let address = |text: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| Error::invalid(format!("a plugin's answer has the address {text:?}")))
    };
    let dns = answer.dns.unwrap_or_default();
    let word = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(odd) = dns.search.iter().find(|text| !word(text)) {
        return Err(Error::invalid(format!(
            "a plugin's answer has the domain {odd:?}"
        )));
    }
    Ok(Connected {
        addresses: answer
            .ips
            .iter()
            .map(|ip| address(ip.address.split('/').next().unwrap_or_default()))
            .collect::<Result<_>>()?,
        servers: dns
            .nameservers
            .iter()
            .map(|server| address(server))
            .collect::<Result<_>>()?,
        search: dns.search,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_answers() {
        let answer = json!({
            "cniVersion": "1.0.0", "interfaces": [],
            "ips": [{"address": "10.1.0.2/16", "gateway": "10.1.0.1", "interface": 2}, {"address": "fd00::2/64"}],
            "dns": {"nameservers": ["10.1.0.1"], "search": ["example.org"]},
        });
        let found = connected(&answer).unwrap();
        assert_eq!(
            found.addresses,
            [
                "10.1.0.2".parse::<IpAddr>().unwrap(),
                "fd00::2".parse().unwrap()
            ]
        );
        assert_eq!(found.servers.len(), 1);
        assert_eq!(connected(&json!({})).unwrap(), Connected::default());
        for bad in [
            json!([]),
            json!({"ips": [{"address": "x"}]}),
            json!({"dns": {"search": ["a\nb"]}}),
        ] {
            assert!(connected(&bad).is_err(), "{bad}");
        }
    }
}
