// SPDX-License-Identifier: Apache-2.0
//! Who makes a container, known for good, for whoever has to end that. Written by `create`, and read by `delete`.

use serde::{Deserialize, Serialize};

use super::init::Init;

/// A process that makes a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Maker {
    /// Which.
    #[serde(flatten)]
    pub process: Init,
    /// The children that it had before it made anything: those of the program that has executed the runtime in its own
    /// place (`logger & exec corten run`). Their numbers are theirs as long as nobody reaps them, which it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<i32>,
}
