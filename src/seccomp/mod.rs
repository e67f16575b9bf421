// SPDX-License-Identifier: Apache-2.0
//! OCI seccomp profiles as classic BPF: a compiler, a reference to hold it against, and the tables of every architecture.
//!
//! Pure: no system call, no OCI document. `bundle/rules/seccomp.rs` makes the [`model::Profile`] from config.json's words,
//! `plan` has it compiled, `child` loads the program.

pub mod bpf;
pub mod cache_check;
mod checks;
mod compile;
mod emit;
pub mod evaluate;
pub mod explain;
pub mod interpret;
pub mod model;
mod order;
mod ranges;
pub mod tables;
#[cfg(test)]
mod tests;
mod tree;

pub use bpf::Program;
pub use compile::{VERSION, compile};
