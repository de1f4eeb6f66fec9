//! Each thing that a peer or a Postgres server can send: the first byte says which.
#![no_main]

use neon_transport::dissect::Piece;
use neon_transport::{Address, is_repository_name};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let kind = usize::from(*kind) % (Piece::ALL.len() + 1);
    if let Some(piece) = Piece::ALL.get(kind) {
        piece.reads(bytes);
    } else if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(address) = text.parse::<Address>()
    {
        assert!(is_repository_name(&address.repository));
        assert_eq!(
            address.reveal().parse(),
            Ok(address),
            "an address has one meaning"
        );
    }
});
