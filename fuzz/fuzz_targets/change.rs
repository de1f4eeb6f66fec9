//! Effects of a record on pages that it does not name: a change, then the page.
#![no_main]

use neon_postgres::Page;
use neon_redo::change::Change;
use neon_types::Lsn;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(change) = Change::decode(data) else {
        return;
    };
    assert_eq!(change.encode(), data, "one change has one spelling");
    let mut page = Page::zeroed();
    page.as_bytes_mut().fill(0xA5);
    change.apply(Lsn(0x1234_5678), &mut page);
    if !change.needs_base() {
        let mut other = Page::zeroed();
        change.apply(Lsn(0x1234_5678), &mut other);
        assert!(page == other, "the page before mattered");
    }
});
