// SPDX-License-Identifier: Apache-2.0
//! One number that a process and its clone both see, without a call to read or write it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// A number in memory that a later [`crate::process::clone`] shares instead of copying.
#[derive(Debug)]
pub struct SharedNumber(NonNull<AtomicU32>);

impl SharedNumber {
    /// Zero, on a page of its own.
    pub fn new() -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that is in use.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<AtomicU32>(),
                protection,
                flags,
                -1,
                0,
            )
        };
        match NonNull::new(page) {
            Some(page) if page.as_ptr() != libc::MAP_FAILED => Ok(Self(page.cast())),
            _ => Err(Error::last("mmap", "a shared page")),
        }
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
