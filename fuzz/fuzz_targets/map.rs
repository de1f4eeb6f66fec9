//! Layer maps and their chunks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| neon_fuzz::map::run(data));
