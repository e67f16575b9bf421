// SPDX-License-Identifier: Apache-2.0
//! `containerd-shim-corten-v2`, containerd's supervisor of one pod. The table of contents.

#![forbid(unsafe_code)]

pub mod error;
pub mod rootfs;
