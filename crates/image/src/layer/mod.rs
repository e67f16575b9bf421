// SPDX-License-Identifier: Apache-2.0
//! Layers as blobs: read (decompressed, both digests verified) and written.

pub mod compression;
pub mod diff;
pub mod pipeline;
pub mod read;
pub mod write;

pub use compression::Compression;
pub use diff::Diff;
pub use read::LayerReader;
pub use write::{LayerWriter, Written};

/// In front of a name: the entry of that name is gone from the layers below.
pub const WHITEOUT: &[u8] = b".wh.";

/// In a directory: nothing of the layers below is left in it.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// overlayfs's mark for the same.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
