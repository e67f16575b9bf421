// SPDX-License-Identifier: Apache-2.0
//! What the verbs for registries let the caller say of the registry.

use std::path::PathBuf;

use clap::ValueEnum;
use corten_image::registry::{
    AuthFiles, CertsDirs, Limits, Options, Patience, PlainHttp, Policy, Supply,
};

/// How the registry is spoken to.
#[derive(clap::Args, Default)]
pub struct RegistryArgs {
    /// The registry has no TLS: speak plain HTTP, as is done with registries on this machine
    #[arg(long)]
    plain_http: bool,
    /// Where it is looked up what is special about a registry: DIR/HOST[:PORT]/hosts.toml, as containerd has it, or the certificates that docker keeps there (default: /etc/corten/certs.d, /etc/containerd/certs.d, /etc/docker/certs.d)
    #[arg(long, value_name = "DIR")]
    certs_dir: Vec<PathBuf>,
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
            certs_dirs: match self.certs_dir.is_empty() {
                true => CertsDirs::of_system(),
                false => CertsDirs::new(self.certs_dir.clone()),
            },
            limits: Limits::default(),
            patience: Patience::default(),
        }
    }
}

/// Where images come from that a verb needs.
#[derive(clap::Args)]
pub struct SupplyArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// When images are pulled from the registries that their names begin with
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pull {
    /// When the store lacks them
    Missing,
    /// Each time
    Always,
    /// Not at all
    Never,
}

impl SupplyArgs {
    /// With the user's own credentials.
    pub fn supply(&self) -> Supply {
        let policy = match self.pull {
            Pull::Missing => Policy::Missing,
            Pull::Always => Policy::Always,
            Pull::Never => Policy::Never,
        };
        Supply::new(policy, self.registry.options())
    }
}
