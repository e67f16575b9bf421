// SPDX-License-Identifier: Apache-2.0
//! What the compiler knows of Linux: architectures, the names and numbers of their system calls, the calls that are
//! reached through others. Pure data, without privileges; docs/seccomp-tables.md says where it is from.

pub mod arch;
mod generated;
pub mod multiplex;
pub mod names;
pub mod weights;

#[cfg(test)]
mod tests;

pub use arch::{Arch, Endian, Word, X32_BIT};
pub use generated::KERNEL;
pub use multiplex::{Multiplexed, meant, multiplexed};
pub use names::{Call, calls, highest, name, number};
pub use weights::{often, weight};
