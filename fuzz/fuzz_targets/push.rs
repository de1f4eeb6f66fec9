//! WAL that somebody changed, from a push to an export.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| neon_fuzz::push::run(data));
