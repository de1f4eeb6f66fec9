//! Records of every version, and the payload of every resource manager.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| neon_fuzz::records::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    neon_fuzz::records::mutate(data, size, max_size, seed, &mut libfuzzer_sys::fuzzer_mutate)
});
