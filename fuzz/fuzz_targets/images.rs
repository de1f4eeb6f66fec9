//! Full-page images of every packing.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| neon_fuzz::image::run(data));
