//! Page deltas: arbitrary ones, and those that lead from one arbitrary page to another.
#![no_main]

use neon_pagestore::dissect;
use neon_postgres::Page;

/// Writes bytes into a page where the two before them say.
fn page(data: &[u8]) -> Page {
    let mut page = Page::zeroed();
    for part in data.chunks_exact(6) {
        let at = usize::from(u16::from_le_bytes([part[0], part[1]])) % 8188;
        page.as_bytes_mut()[at..at + 4].copy_from_slice(&part[2..]);
    }
    page
}

/// Moves bytes within a page, as pruning does.
fn moved(data: &[u8], page: &Page) -> Page {
    let mut page = page.clone();
    for part in data.chunks_exact(6) {
        let field = |at: usize| usize::from(u16::from_le_bytes([part[at], part[at + 1]]));
        let (from, to) = (field(0) % 8192, field(2) % 8192);
        let len = field(4) % (8193 - from.max(to));
        page.as_bytes_mut().copy_within(from..from + len, to);
    }
    page
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = dissect::apply_delta(data, &mut Page::zeroed());
    let (base, result) = data.split_at(data.len() / 2);
    let base = page(base);
    for result in [page(result), moved(result, &base)] {
        let mut made = base.clone();
        dissect::apply_delta(&dissect::delta(&base, &result), &mut made)
            .expect("leads from one to the other");
        assert!(made == result);
    }
});
