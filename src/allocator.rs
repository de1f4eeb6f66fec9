//! How the C library's allocator keeps memory that was freed.
//!
//! glibc gives each thread one of eight pools for each processor. What a thread frees stays in its pool, for a thread that may never come
//! again: a daemon whose seals, merges and transfers each run on threads of their own kept a gigabyte for work that takes a tenth.

#![expect(unsafe_code, reason = "mallopt is a C function: it takes and returns numbers")]

/// Pools for all threads. What waits for one is short beside decompressing the block that it is for.
const POOLS: i32 = 2;
/// Allocations from this size on, in bytes, go back to the system when they are freed. Above the usual size of a layer's block.
const LARGE: i32 = 256 << 10;
/// Free memory at the end of a pool that is kept, in bytes.
const KEPT: i32 = 1 << 20;

/// Bounds what is kept. To be called before there are threads.
pub(crate) fn bound() {
    let options = [
        (libc::M_ARENA_MAX, POOLS),
        (libc::M_MMAP_THRESHOLD, LARGE),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ];
    for (option, value) in options {
        // SAFETY: it reads nothing of ours, and no other thread allocates yet. What it refuses stays as it is.
        let _ = unsafe { libc::mallopt(option, value) };
    }
}
