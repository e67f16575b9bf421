// SPDX-License-Identifier: Apache-2.0
//! Numbers that a process and its clone both see, without a call to read or write them.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// A number in memory that a later [`crate::process::clone`] shares instead of copying.
#[derive(Debug)]
pub struct SharedNumber(NonNull<AtomicU32>);

impl SharedNumber {
    /// Zero, on a page of its own.
    pub fn new() -> Result<Self> {
        page().map(Self)
    }

    /// Sets the number, for both processes.
    pub fn set(&self, value: u32) {
        self.number().store(value, Ordering::Relaxed);
    }

    /// What the other process (or this one) set last.
    pub fn get(&self) -> u32 {
        self.number().load(Ordering::Relaxed)
    }

    fn number(&self) -> &AtomicU32 {
        // SAFETY: the mapping is page-aligned, at least four bytes long, zeroed by the kernel, and never unmapped: it
        // lives as long as the process, hence as long as any `self`. All access is atomic, also the other process'.
        unsafe { self.0.as_ref() }
    }
}

/// How many numbers a table has: a page of 4096 bytes has room for more.
pub const TABLE: usize = 64;

/// Numbers in memory that a later [`crate::process::clone`] shares instead of copying.
#[derive(Debug)]
pub struct SharedTable(NonNull<[AtomicU64; TABLE]>);

impl SharedTable {
    /// Zeros, on a page of their own.
    pub fn new() -> Result<Self> {
        page().map(Self)
    }

    /// Sets a number, for both processes; there is none behind the last.
    pub fn set(&self, index: usize, value: u64) {
        if let Some(number) = self.numbers().get(index) {
            number.store(value, Ordering::Relaxed);
        }
    }

    /// What the other process (or this one) set last.
    pub fn get(&self, index: usize) -> u64 {
        let number = self.numbers().get(index);
        number.map_or(0, |number| number.load(Ordering::Relaxed))
    }

    fn numbers(&self) -> &[AtomicU64; TABLE] {
        // SAFETY: the mapping is page-aligned, at least as long as the table (it was mapped for that size), zeroed by the
        // kernel, and never unmapped: it lives as long as the process, hence as long as any `self`. All access is atomic,
        // also the other process'.
        unsafe { self.0.as_ref() }
    }
}

/// A page that is shared with clones, zeroed, with room for a `T`.
fn page<T>() -> Result<NonNull<T>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that is in use.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<T>(),
            protection,
            flags,
            -1,
            0,
        )
    };
    match NonNull::new(page) {
        Some(page) if page.as_ptr() != libc::MAP_FAILED => Ok(page.cast()),
        _ => Err(Error::last("mmap", "a shared page")),
    }
}
