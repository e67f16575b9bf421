// SPDX-License-Identifier: Apache-2.0
//! In which form containerd is told where the shim listens. 1.6 takes an address, 1.7 JSON of version 2 at the most, 2.0 to
//! 2.2 also 3, later ones a message. Pure.

use containerd_shim_protos::bootstrap_api::BootstrapResult;
use protobuf::Message;

use crate::error::{Code, Error, Result};

const PROTOCOL: &str = "ttrpc";

/// The form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The address.
    Address,
    /// JSON, with the version of the task API.
    Json(u32),
    /// A `BootstrapResult`.
    Message,
}

impl Form {
    /// By what containerd lets see: whether it has `said` all in a message, whether it names the `versions` that it takes
    /// (MAX_SHIM_VERSION, which 2.x sets to 2, too), and what the options ask for (`task_api_version`): 1.7 and 2.0 can't be
    /// told apart, so that version 3, with which a pod's further containers need no call of `start`, must be asked for.
    pub fn choose(said: bool, versions: Option<&str>, wanted: u32) -> Self {
        match (said, versions) {
            (true, _) => Self::Message,
            (false, None) => Self::Address,
            (false, Some(_)) if wanted == 3 => Self::Json(3),
            (false, Some(_)) => Self::Json(2),
        }
    }

    /// The bytes.
    pub fn write(self, address: &str) -> Result<Vec<u8>> {
        match self {
            Self::Address => Ok(address.as_bytes().to_vec()),
            Self::Json(version) => {
                // An address needs no quoting but for what a directory's name may have.
                let address = serde_json::Value::from(address);
                let text = format!(
                    "{{\"version\":{version},\"address\":{address},\"protocol\":\"{PROTOCOL}\"}}"
                );
                Ok(text.into_bytes())
            }
            Self::Message => {
                let result = BootstrapResult {
                    version: 3,
                    address: address.to_owned(),
                    protocol: PROTOCOL.to_owned(),
                    ..BootstrapResult::default()
                };
                let written = result.write_to_bytes();
                written.map_err(|error| Error::new(Code::Unknown, error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_containerd_gets_what_it_takes() {
        for (said, versions, wanted, form) in [
            (false, None, 0, Form::Address),
            (false, None, 3, Form::Address),
            (false, Some("2"), 0, Form::Json(2)),
            (false, Some("2"), 2, Form::Json(2)),
            (false, Some("2"), 3, Form::Json(3)),
            (true, Some("2"), 0, Form::Message),
        ] {
            assert_eq!(Form::choose(said, versions, wanted), form);
        }
    }

    #[test]
    fn addresses_are_written() {
        let address = "unix:///run/s/1";
        assert_eq!(Form::Address.write(address).unwrap(), address.as_bytes());
        assert_eq!(
            String::from_utf8(Form::Json(2).write(address).unwrap()).unwrap(),
            r#"{"version":2,"address":"unix:///run/s/1","protocol":"ttrpc"}"#
        );
        let bytes = Form::Message.write(address).unwrap();
        let result = BootstrapResult::parse_from_bytes(&bytes).unwrap();
        assert_eq!((result.version, result.address.as_str()), (3, address));
    }
}
