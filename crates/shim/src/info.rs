// SPDX-License-Identifier: Apache-2.0
//! `-info`: which runtime this is for and what it can do, which containerd 2 asks before there is a container.

use std::time::Duration;

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use corten_sys::fs;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use crate::bundle::Bundle;
use crate::error::{Code, Error, Result};
use crate::options::Options;
use crate::runtime::Runtime;

/// How much containerd may say.
const LONGEST_INPUT: usize = 4 << 20;
/// How long the runtime may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The name of the runtime specification's document of features, as containerd has registered it.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// The answer, for standard output.
pub fn info() -> Result<Vec<u8>> {
    let input = fs::read_to_end(rustix::stdio::stdin(), LONGEST_INPUT)?;
    let options = Any::parse_from_bytes(&input)
        .map_err(|error| Error::invalid(format!("read standard input: {error}")))?;
    let features = Options::read(Some(&options)).and_then(|options| {
        let runtime = Runtime::new(&options, "")?;
        runtime.ask(&["features".to_owned()], &Bundle::new("/"), DEADLINE)
    });
    let info = RuntimeInfo {
        name: "io.containerd.corten.v2".to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        options: Some(options)
            .filter(|options| !options.type_url.is_empty())
            .into(),
        // A runtime that has no such verb is a runtime all the same.
        features: features
            .ok()
            .map(|text| Any {
                type_url: FEATURES.to_owned(),
                value: text.into_bytes(),
                ..Any::default()
            })
            .into(),
        ..RuntimeInfo::default()
    };
    let written = info.write_to_bytes();
    written.map_err(|error| Error::new(Code::Unknown, error.to_string()))
}
