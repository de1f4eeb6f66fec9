//! Messages of the conversation between repositories.
#![no_main]

use neon_remotes::wire::Message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::decode(data) else {
        return;
    };
    // Not the same bytes: of a text what is no letter is replaced, of a newer server's hello the rest is left out.
    if let Ok(again) = Message::decode(&message.encode()) {
        assert_eq!(again, message, "what was written reads otherwise");
    }
});
