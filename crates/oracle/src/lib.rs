// SPDX-License-Identifier: Apache-2.0
//! Other makers of system call filters, asked the same things as corten's compiler: libseccomp, used as runc uses it, and
//! seccompiler for the little that it can express. Only tests use this crate; `cargo xtask oracle` runs them.
//!
//! It links libseccomp, which is why it is not among the default members: nobody needs the library to build corten.

#![forbid(unsafe_code)]

pub mod difference;
pub mod document;
pub mod prologue;
pub mod random;
pub mod samples;
pub mod scmp;
pub mod single;
