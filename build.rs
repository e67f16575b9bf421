// SPDX-License-Identifier: Apache-2.0
//! The release binary is linked without its tables for unwinding: a tenth of it, and nothing unwinds where a panic
//! aborts. What is lost is the list of addresses that a panic would print of a binary without symbols. Functions of the
//! same instructions are linked once.

#![allow(clippy::print_stdout)] // Cargo listens there

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=no-unwind-tables.ld");
    // Cargo always sets both for a build script.
    let (Ok(profile), Ok(root)) = (
        std::env::var("PROFILE"),
        std::env::var("CARGO_MANIFEST_DIR"),
    ) else {
        return;
    };
    if profile == "release" {
        println!("cargo::rustc-link-arg-bin=corten=-Wl,-T,{root}/no-unwind-tables.ld");
        println!("cargo::rustc-link-arg-bin=corten=-Wl,--icf=all");
    }
}
