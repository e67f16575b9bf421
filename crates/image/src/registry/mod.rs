// SPDX-License-Identifier: Apache-2.0
//! Images from and to registries, by the distribution specification 1.1. What comes in is verified against its digests
//! before the store names it, as with archives.
//!
//! ```text
//! supply ── pull ─┬ download ─┐               ┌─ place ── hosts       where it is, and its mirrors
//! mend ───────────┘           │
//! tags, referrers ── pages ───┼── sources ────┤
//! push ── upload ─────────────┤               └─ client ── challenge, token, credentials ── helper
//! login ──────────────────────┘                    ├────── message: requests and answers; url, retry
//!                                                  └────── transport: one place, over TLS
//! ```

mod certificates;
mod challenge;
mod client;
pub mod credentials;
pub(crate) mod download;
mod helper;
mod hosts;
mod login;
mod mend;
mod message;
mod observer;
mod pages;
mod place;
mod pull;
mod push;
mod referrers;
mod retry;
pub(crate) mod sources;
mod supply;
mod token;
pub(crate) mod transport;
mod unpacked;
pub(crate) mod upload;
pub(crate) mod url;
pub(crate) mod workers;

use std::time::Duration;

pub use client::Patience;
pub use credentials::AuthFiles;
pub use login::{login, logout};
pub use mend::Mend;
pub use observer::Observer;
pub use pages::tags;
pub use place::CertsDirs;
pub use pull::{Platforms, Pulled, Wanted, pull};
pub use push::{Extent, push};
pub use referrers::referrers;
pub use supply::{Policy, Supply};
pub use unpacked::pull_unpacked;

/// Whether registries on other machines may be spoken to in clear; those on this one always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// No.
    #[default]
    LoopbackOnly,
    /// This registry has no TLS.
    Allowed,
}

/// How long servers may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To be found, and to be connected to with TLS.
    pub connect: Duration,
    /// Between two pieces of what is sent or received.
    pub idle: Duration,
    /// Until an answer's headers are there; until all of a document is.
    pub answer: Duration,
    /// For the next 16 KiB of a blob: what comes more slowly is as good as cut.
    pub window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(300),
            window: Duration::from_secs(60),
        }
    }
}

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether it may be in clear.
    pub plain_http: PlainHttp,
    /// Where credentials are looked for.
    pub auth_files: AuthFiles,
    /// Where it is looked up what is special about a registry, and its mirrors.
    pub certs_dirs: CertsDirs,
    /// How long they may take.
    pub limits: Limits,
    /// How often is tried again.
    pub patience: Patience,
}
