//! Layer maps.
#![no_main]

use neon_pagestore::LayerMap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(map) = LayerMap::decode(data) {
        assert_eq!(map.encode(), data, "one map has one spelling");
    }
});
