//! Counts the bytes on the heap, on demand. Otherwise the allocator is the system's own, and an
//! allocation costs one more load and branch.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// The allocator of the program.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static COUNTS: AtomicBool = AtomicBool::new(false);
/// Bytes that were asked for and not given back, since counting began.
static BYTES: AtomicI64 = AtomicI64::new(0);

fn add(bytes: i64) {
    if COUNTS.load(Ordering::Relaxed) {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Starts or ends counting.
pub fn count(counts: bool) {
    COUNTS.store(counts, Ordering::Relaxed);
}

/// Bytes on the heap since counting began, without what the allocator itself adds. It is negative
/// if more was given back.
pub fn bytes() -> i64 {
    BYTES.load(Ordering::Relaxed)
}

// SAFETY: each method passes its arguments to `System` unchanged, and returns its result.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as i64));
        // SAFETY: the pointer is from `System`, because each allocation is.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size as i64 - layout.size() as i64);
        // SAFETY: the pointer is from `System`, because each allocation is.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
