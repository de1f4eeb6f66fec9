//! The stream decoder: segments, pages, records.
#![no_main]

use neon_fuzz::stream::Stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(stream) = Stream::read(data) {
        stream.check();
    }
});
