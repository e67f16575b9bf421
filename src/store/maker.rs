// SPDX-License-Identifier: Apache-2.0
//! Who makes a container, known for good, for whoever has to end that. Called by `create` to write itself down, and by
//! `delete`.

use corten_sys::process;
use serde::{Deserialize, Serialize};

use super::init::Init;
use crate::error::Result;
use crate::host::processes;

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

impl Maker {
    /// The calling process, which has made nothing yet; `None` where /proc does not show it by its number.
    pub fn own() -> Result<Option<Self>> {
        let Some(process) = Init::own()? else {
            return Ok(None);
        };
        let inherited = match process::has_children()? {
            true => processes::children(process.pid)?,
            false => Vec::new(),
        };
        let inherited = inherited.into_iter().map(|child| child.pid).collect();
        Ok(Some(Self { process, inherited }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_children_that_it_had_before() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let maker = Maker::own().unwrap().unwrap();
        assert!(maker.inherited.contains(&pid), "{maker:?}");
        assert!(maker.process.is_alive().unwrap());
        let written = serde_json::to_vec(&maker).unwrap();
        assert_eq!(serde_json::from_slice::<Maker>(&written).unwrap(), maker);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
