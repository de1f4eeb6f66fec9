//! Layers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| neon_fuzz::layer::run(data));
