// SPDX-License-Identifier: Apache-2.0
//! Images from and to registries, by the distribution specification 1.1. What comes in is verified against its digests
//! before the store names it, as with archives.
//!
//! ```text
//! pull ── download ─┐
//! push ── upload ───┼─ client ── challenge, credentials ── helper
//! login ────────────┘    ├────── message: requests and answers; url
//!                        └────── transport: one registry, over TLS
//! ```

mod challenge;
mod client;
pub mod credentials;
mod download;
mod helper;
mod login;
mod message;
mod observer;
mod pull;
mod push;
mod supply;
mod transport;
mod upload;
mod url;
mod workers;

pub use client::Patience;
pub use credentials::AuthFiles;
pub use login::{login, logout};
pub use observer::Observer;
pub use pull::{Platforms, Pulled, Wanted, pull};
pub use push::push;
pub use supply::{Policy, Supply};

/// Whether registries on other machines may be spoken to in clear; those on this one always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// No.
    #[default]
    LoopbackOnly,
    /// This registry has no TLS.
    Allowed,
}

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether it may be in clear.
    pub plain_http: PlainHttp,
    /// Where credentials are looked for.
    pub auth_files: AuthFiles,
    /// How often is tried again.
    pub patience: Patience,
}
