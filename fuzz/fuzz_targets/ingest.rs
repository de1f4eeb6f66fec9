//! What records do beyond the blocks that they name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| neon_fuzz::ingest::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    neon_fuzz::ingest::mutate(data, size, max_size, seed, &mut libfuzzer_sys::fuzzer_mutate)
});
