// SPDX-License-Identifier: Apache-2.0
//! Builds, stores and unpacks OCI images, and makes bundles of them. The program `corten-image` is a thin front of this
//! library; no part of it runs inside a container.
//!
//! ```text
//! archive ──┐
//! registry ─┤
//! build ────┼─ store ── layer ── tar      reference, digest, error, options, progress: used by all
//! bundle ───┤    └──── unpack ── tar
//! run ── containers ── commit
//!  └ network
//! ```
#![forbid(unsafe_code)]

pub mod archive;
pub mod build;

pub mod bundle;
pub mod commit;
pub mod containers;
pub mod digest;
pub mod dockerfile;
pub mod error;
pub mod image;
pub mod layer;
pub mod mounts;
pub mod network;
pub mod options;
pub mod overlay;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod run;
pub mod store;
pub mod sums;
pub mod tar;
pub mod unpack;
pub mod users;

pub use digest::Digest;
pub use error::{Context, Error, Kind, Result};
pub use image::Image;
pub use reference::Reference;
pub use store::Store;
