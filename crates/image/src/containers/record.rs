// SPDX-License-Identifier: Apache-2.0
//! What a container is (`container.json`, written once, when it is made) and how it is doing (`status.json`, replaced
//! by whoever holds its lock).

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::run::Settings;

/// The version of both files that this program writes and reads.
pub const VERSION: u32 = 1;

/// What a container was made of and what its caller asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What its caller calls it.
    pub name: Option<String>,
    /// The image, as it was asked for.
    pub image: String,
    /// The image's manifest. It, and all that it leads to, is kept as long as the container exists.
    pub manifest: Descriptor,
    /// The chain ids of the layers below the container's own, bottom first.
    pub chains: Vec<Digest>,
    /// When it was made, in RFC 3339 with nanoseconds.
    pub created: String,
    /// What its caller asked for.
    pub settings: Settings,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was made and never started, or its last start failed.
    #[default]
    Created,
    /// Somebody is starting it: network, mounts and the runtime's container may be there or not.
    Starting,
    /// Its program runs.
    Running,
    /// Its program has ended, and what it had is being put away.
    Ending,
    /// Its program has ended, and all was put away.
    Exited,
    /// Who watched it was killed: nobody knows how its program would have ended. All was put away.
    Lost,
}

impl State {
    /// As a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ending => "ending",
            Self::Exited => "exited",
            Self::Lost => "lost",
        }
    }

    /// Whether something of it may be alive.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Ending)
    }
}

/// How a container is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// Who holds the lock, where somebody does: the process that supervises it.
    pub supervisor: Option<i32>,
    /// Its first process, in the host's numbers.
    pub pid: Option<i32>,
    /// When it was last started, in RFC 3339.
    pub started: Option<String>,
    /// When its program ended, in RFC 3339.
    pub finished: Option<String>,
    /// How its program ended; 128 and the signal's number for a killed one.
    pub exit_code: Option<u8>,
    /// What went wrong beside the program.
    pub error: Option<String>,
    /// Its addresses in the networks that it is in.
    #[serde(default)]
    pub addresses: Vec<String>,
}
