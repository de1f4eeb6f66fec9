//! Redo of one reference of a record onto one page.

use neon_postgres::wal::Record;
use neon_postgres::{BLCKSZ, Page};
use neon_redo::{Cluster, mask, needs_base, redo};
use neon_types::Lsn;

use crate::case::Case;

const END: Lsn = Lsn(0x1234_5678);

/// Replays the record of the case, which is one of these resource managers'.
///
/// # Panics
/// Redo of a slice of the record does something else, or a page that is said not to matter did.
pub fn run(rmids: &[u8], data: &[u8]) {
    let case = Case::decode(data);
    let record = Record::decode(case.version(), case.record(rmids)).expect("the framing is right");
    let cluster = Cluster {
        version: case.version(),
        hints_logged: case.hints & 1 != 0,
    };
    let index = usize::from(case.index) % (record.blocks.len() + 1);
    check(&cluster, &record, index, &case.page());
}

/// Replays onto `base`, masks what came out, and checks what holds for every record.
pub fn check(cluster: &Cluster, record: &Record, index: usize, base: &Page) {
    let page = replay(cluster, record, index, base);
    let slice =
        Record::decode(cluster.version, record.slice_for_block(index)).expect("a slice has good framing");
    let sliced = replay(cluster, &slice, index, base);
    assert!(page == sliced, "the slice of the record makes another page");
    if !needs_base(record, index) {
        let mut other = Page::zeroed();
        other.as_bytes_mut().copy_from_slice(&[0xA5; BLCKSZ]);
        assert!(
            page == replay(cluster, record, index, &other),
            "the page before mattered"
        );
    }
    if let Some(mut page) = page {
        let block = record.blocks.get(index).map_or(0, |reference| reference.block);
        let _ = mask::mask(record.rmid, &mut page, block);
    }
}

/// Returns the page after, `None` when replay refused it.
fn replay(cluster: &Cluster, record: &Record, index: usize, base: &Page) -> Option<Page> {
    let mut page = base.clone();
    redo(cluster, record, END, index, &mut page).ok().map(|()| page)
}
