// SPDX-License-Identifier: Apache-2.0
//! What the fuzz targets share: chance, JSON that is changed by its meaning, and the document that a finding points into.
//! Runs in the fuzzer's process; called by `targets/`.

#![forbid(unsafe_code)]

pub mod dice;
pub mod document;
pub mod mutate;
pub mod plan;
