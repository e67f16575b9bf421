// SPDX-License-Identifier: Apache-2.0
//! The program's heap. A clone gets each page of its parent's memory when it first writes to it, as a copy, and a
//! container's limit counts those. What it allocated among the blocks that its parent has freed would copy nearly all of
//! the heap: so it has a small heap of its own, on pages that nobody has touched, and leaves its parent's as they are.
//!
//! Set by [`program!`](crate::program).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// How much a clone has, in bytes, and much more than an init takes: one of a plain document has touched two pages of it
/// when its hooks run. What does not fit is the C library's to find.
const SIZE: usize = 256 << 10;
/// Blocks are of this size, or of two times, four times and so on.
const SMALLEST: usize = 16;
/// The sizes that there are.
const SIZES: usize = 13;
/// No block has to begin at a multiple of more.
const ALIGN_MAX: usize = 64;

/// The C library's heap, until this process is a clone.
#[derive(Debug)]
pub struct Heap;

#[repr(align(4096))]
struct Area(UnsafeCell<[u8; SIZE]>);

// SAFETY: it is read and written through blocks alone, each of which one owner has; they are given out by the one thread of
// a clone.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new([0; SIZE]));
/// How much of it was given out at least once.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Of each size the block that was given back last, in whose first bytes is the one before it.
static GIVEN_BACK: [AtomicPtr<u8>; SIZES] = [const { AtomicPtr::new(ptr::null_mut()) }; SIZES];
static IS_CLONE: AtomicBool = AtomicBool::new(false);

/// This process is a clone from now on, of one thread, beside which it starts no other.
pub(crate) fn is_clones() {
    IS_CLONE.store(true, Ordering::Relaxed);
}

/// Which size a block for `layout` has, and how many bytes that is; `None` for those that are not in the area.
fn size_of_block(layout: Layout) -> Option<(usize, usize)> {
    if layout.align() > ALIGN_MAX {
        return None;
    }
    let wanted = layout.size().max(layout.align()).max(SMALLEST);
    let bytes = wanted.checked_next_power_of_two()?;
    let size = (bytes / SMALLEST).trailing_zeros() as usize;
    (size < SIZES).then_some((size, bytes))
}

/// A block of the area for a clone.
fn take_own(layout: Layout) -> Option<*mut u8> {
    IS_CLONE
        .load(Ordering::Relaxed)
        .then(|| take(layout))
        .flatten()
}

/// A block of the area, if it has one.
fn take(layout: Layout) -> Option<*mut u8> {
    let (size, bytes) = size_of_block(layout)?;
    let last = GIVEN_BACK[size].load(Ordering::Relaxed);
    if !last.is_null() {
        // SAFETY: `give_back` has written it there, and nobody has had the block since.
        let before = unsafe { last.cast::<*mut u8>().read() };
        GIVEN_BACK[size].store(before, Ordering::Relaxed);
        return Some(last);
    }
    let from = USED
        .load(Ordering::Relaxed)
        .next_multiple_of(bytes.min(ALIGN_MAX));
    if from + bytes > SIZE {
        return None;
    }
    USED.store(from + bytes, Ordering::Relaxed);
    Some(AREA.0.get().cast::<u8>().wrapping_add(from))
}

/// Takes back what [`take`] has given for `layout`.
fn give_back(block: *mut u8, layout: Layout) {
    let Some((size, _)) = size_of_block(layout) else {
        return;
    };
    let before = GIVEN_BACK[size].swap(block, Ordering::Relaxed);
    // SAFETY: a block of the area that its owner has given up; the smallest has room for an address, and begins at a
    // multiple of its size.
    unsafe { block.cast::<*mut u8>().write(before) };
}

fn is_of_the_area(block: *mut u8) -> bool {
    let first = AREA.0.get().addr();
    (first..first + SIZE).contains(&block.addr())
}

// SAFETY: blocks are the C library's, whose contract is the same, or `take`'s: aligned, of the size that was asked for, and
// nobody else's until they are given back. A clone leaves what is not of the area to the kernel, which ends it soon.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        take_own(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(block) = take_own(layout) else {
            // SAFETY: the caller's. Large ones come from the kernel, which need not be written to be zeros.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: it has that size at least, and is nobody else's.
        unsafe { block.write_bytes(0, layout.size()) };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !IS_CLONE.load(Ordering::Relaxed) {
            // SAFETY: the caller's.
            unsafe { System.dealloc(block, layout) };
        } else if is_of_the_area(block) {
            give_back(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !IS_CLONE.load(Ordering::Relaxed) {
            // SAFETY: the caller's.
            return unsafe { System.realloc(block, layout, size) };
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else {
            return ptr::null_mut();
        };
        if is_of_the_area(block) && size_of_block(wanted) == size_of_block(layout) {
            return block;
        }
        // SAFETY: the caller's: a size above zero.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both have as many bytes, and the new one is nobody's yet.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(size)) };
            // SAFETY: the caller has it for this layout, and gives it up.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// Alone: blocks are those of one thread.
    #[test]
    fn blocks_are_apart_and_come_back() {
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        let sizes = [
            (1, 1),
            (8, 8),
            (3, 1),
            (100, 64),
            (17, 16),
            (60_000, 16),
            (4097, 8),
        ];
        for (size, align) in sizes {
            let block = take(layout(size, align)).unwrap();
            assert_eq!(block.addr() % align, 0, "{size} {align}");
            let new = (block.addr(), block.addr() + size);
            let is_apart = |(from, to): &(usize, usize)| *to <= new.0 || new.1 <= *from;
            assert!(blocks.iter().all(is_apart), "{size} {align}");
            assert!(is_of_the_area(block) && is_of_the_area(block.wrapping_add(size - 1)));
            // SAFETY: it has that size, and nobody else has it.
            unsafe { block.write_bytes(0xff, size) };
            blocks.push(new);
        }
        let (one, two) = (take(layout(33, 8)).unwrap(), take(layout(64, 64)).unwrap());
        give_back(one, layout(33, 8));
        give_back(two, layout(64, 64));
        assert_eq!(take(layout(50, 1)), Some(two));
        assert_eq!(take(layout(64, 8)), Some(one));
        for (size, align) in [(1, 4096), (SIZE, 1), (usize::MAX / 4, 8), (65_537, 1)] {
            assert_eq!(take(layout(size, align)), None, "{size} {align}");
        }
        let mut count = 0;
        while take(layout(65_536, 1)).is_some() {
            count += 1;
        }
        assert!((1..4).contains(&count), "{count}");
    }
}
