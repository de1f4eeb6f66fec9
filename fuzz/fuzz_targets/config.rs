//! The configuration of a repository; the rest of the input is put behind what every one begins with.
#![no_main]

use neon_fuzz::scratch;
use neon_objects::Config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let directory = scratch::empty();
    let mut bytes = b"format = 1\n[repository]\nid = \"00112233445566778899aabbccddeeff\"\n".to_vec();
    if data.first() == Some(&0) {
        bytes.clear();
    }
    bytes.extend_from_slice(data.get(1..).unwrap_or_default());
    scratch::write(&directory, "config.toml", &bytes);
    if let Ok(config) = Config::load(&directory) {
        assert!(config.origins().is_ok() && config.upstreams().is_ok());
        config.save().expect("can be written");
        assert!(
            Config::load(&directory).is_ok(),
            "what was written cannot be read"
        );
    }
});
