//! What a piece of work takes of the allocator, counted for each thread by itself: tests run beside each other.

#![expect(
    unsafe_code,
    reason = "an allocator is an unsafe trait; it counts and calls the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Add;

/// What the thread took between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Allocated {
    /// Allocations, those that grow another one included.
    pub count: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// The most bytes that were held at once beyond those at the beginning.
    pub peak: i64,
}

impl Add for Allocated {
    type Output = Allocated;

    fn add(self, more: Allocated) -> Allocated {
        Allocated {
            count: self.count + more.count,
            bytes: self.bytes + more.bytes,
            peak: self.peak.max(more.peak),
        }
    }
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn taken(bytes: usize) {
    COUNT.set(COUNT.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
    HELD.set(HELD.get() + bytes as i64);
    PEAK.set(PEAK.get().max(HELD.get()));
}

fn given_back(bytes: usize) {
    HELD.set(HELD.get() - bytes as i64);
}

// SAFETY: every call goes to the system's allocator as it came; the cells beside it need no memory of their own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        given_back(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Calls `act` and returns what it took on this thread. May be called within itself.
pub(super) fn measure<T>(act: impl FnOnce() -> T) -> (T, Allocated) {
    let (count, bytes, held, outer) = (COUNT.get(), BYTES.get(), HELD.get(), PEAK.get());
    PEAK.set(held);
    let result = act();
    let allocated = Allocated {
        count: COUNT.get() - count,
        bytes: BYTES.get() - bytes,
        peak: PEAK.get() - held,
    };
    PEAK.set(outer.max(PEAK.get()));
    (result, allocated)
}
