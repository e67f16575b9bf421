// SPDX-License-Identifier: Apache-2.0
//! What the verbs for registries let the caller say of the registry.

use corten_image::registry::{AuthFiles, Options, Patience, PlainHttp};

/// How the registry is spoken to.
#[derive(clap::Args, Default)]
pub struct RegistryArgs {
    /// The registry has no TLS: speak plain HTTP, as is done with registries on this machine
    #[arg(long)]
    plain_http: bool,
}

impl RegistryArgs {
    /// With the user's own credentials.
    pub fn options(&self) -> Options {
        Options {
            plain_http: match self.plain_http {
                true => PlainHttp::Allowed,
                false => PlainHttp::LoopbackOnly,
            },
            auth_files: AuthFiles::of_environment(),
            patience: Patience::default(),
        }
    }
}
