// SPDX-License-Identifier: Apache-2.0
//! Pure: the verbs that are hit, and what their containers execute.

/// The verb that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Verb {
    /// `create`
    Create,
    /// `start` of a created container
    Start,
    /// `run`, to the container's end
    Run,
    /// `delete --force` of a running container
    Delete,
    /// `pause` of a running container
    Pause,
    /// `update` of several limits of a running container
    Update,
    /// `wait` for a running container, which ends by itself
    Wait,
}

impl Verb {
    /// The path that the container of this case executes.
    pub fn program(self) -> &'static str {
        if self == Self::Run {
            "/bin/true"
        } else {
            "/bin/sleep"
        }
    }
}
