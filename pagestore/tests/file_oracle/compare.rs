//! The state that WAL made against the state that Postgres left in its files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use neon_pagestore::Value;
use neon_pagestore::items::{OriginProgress, RelSize, SlruSegments};
use neon_postgres::Page;
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::wal::rmgr;
use neon_types::{Fork, Key, Lsn, PackedKey, RelTag, SlruKind};

/// A store whose state is compared.
pub trait Store {
    /// Every metadata key that has or had a version.
    fn item_keys(&self, end: Lsn) -> Vec<Key>;
    /// A metadata item.
    fn item(&self, key: Key, end: Lsn) -> Option<Arc<[u8]>>;
    /// A page of an SLRU, zeros where nothing was written.
    fn slru_page(&self, key: Key, end: Lsn) -> Page;
    /// A block; an error that says "not supported" when it takes a record that this release does not replay.
    fn block(&self, rel: RelTag, block: u32, end: Lsn) -> Result<Page, String>;
}

/// What was found.
#[derive(Default, Debug)]
pub struct Report {
    pub heap: u64,
    pub btree: u64,
    pub other: u64,
    pub map: u64,
    /// Pages of each SLRU.
    pub slru: BTreeMap<SlruKind, u64>,
    pub items: u64,
    /// Empty blocks at the end of a relation that Postgres added without WAL.
    pub unlogged_tail: u64,
    /// Map pages of databases copied by WAL that have bits only in the directory.
    pub maps_behind: u64,
    /// Sequences whose WAL is ahead of the directory.
    pub sequences_ahead: u64,
    /// Pages whose last record is not replayed in this release.
    pub unsupported: u64,
    pub differences: Vec<String>,
    by_wal: BTreeSet<u32>,
}

/// Compares the state of `store` at `end` with an import. `by_wal` are the databases that were
/// copied by WAL, and copies of those.
pub fn compare(
    store: &dyn Store,
    import: &BTreeMap<PackedKey, Value>,
    end: Lsn,
    by_wal: &BTreeSet<u32>,
) -> Report {
    let mut report = Report {
        by_wal: by_wal.clone(),
        ..Report::default()
    };
    let mut keys: BTreeSet<Key> = store.item_keys(end).into_iter().collect();
    keys.extend(import.keys().map(|key| Key::unpack(key).expect("a key")));
    for key in &keys {
        match key {
            Key::Block(..) | Key::SlruPage { .. } | Key::File { .. } => (),
            Key::RelSize(rel) => relation(store, import, *rel, end, &mut report),
            Key::SlruSegments(_) => slru(store, import, *key, end, &mut report),
            _ => item(store, import, *key, end, &mut report),
        }
    }
    report
}

fn imported_item(import: &BTreeMap<PackedKey, Value>, key: Key) -> Option<&[u8]> {
    match import.get(&key.pack()) {
        Some(Value::Item(bytes)) => Some(bytes),
        Some(other) => panic!("{key:?} is {other:?}"),
        None => None,
    }
}

fn imported_page(import: &BTreeMap<PackedKey, Value>, key: Key) -> Page {
    match import.get(&key.pack()) {
        Some(Value::Image(page)) => page.clone(),
        Some(other) => panic!("{key:?} is {other:?}"),
        None => Page::zeroed(),
    }
}

fn item(store: &dyn Store, import: &BTreeMap<PackedKey, Value>, key: Key, end: Lsn, report: &mut Report) {
    report.items += 1;
    let ours = store.item(key, end);
    let theirs = imported_item(import, key);
    match (key, ours.as_deref(), theirs) {
        (Key::Checkpoint, Some(ours), Some(theirs)) => {
            let ours = CheckpointState::decode(ours).expect("a checkpoint state").1;
            let theirs = CheckpointState::decode(theirs).expect("a checkpoint state").1;
            if ours.checkpoint != theirs.checkpoint {
                report.differences.push(format!(
                    "checkpoint {:?}\n  not {:?}",
                    ours.checkpoint, theirs.checkpoint
                ));
            }
        }
        // The file knows only how far the other side is.
        (Key::ReplicationOrigin { .. }, Some(ours), Some(theirs)) => {
            let decode = |bytes| OriginProgress::decode(bytes).expect("an origin").remote;
            if decode(ours) != decode(theirs) {
                report.differences.push(format!("{key:?}"));
            }
        }
        (_, ours, theirs) => {
            if ours != theirs {
                report.differences.push(format!(
                    "{key:?}: {:?} bytes, in the directory {:?}",
                    ours.map(<[u8]>::len),
                    theirs.map(<[u8]>::len)
                ));
            }
        }
    }
}

fn slru(store: &dyn Store, import: &BTreeMap<PackedKey, Value>, key: Key, end: Lsn, report: &mut Report) {
    let Key::SlruSegments(kind) = key else { return };
    let decode = |bytes: &[u8]| SlruSegments::decode(bytes).expect("SLRU segments");
    let ours = store
        .item(key, end)
        .map(|bytes| decode(&bytes))
        .unwrap_or_default();
    let theirs = imported_item(import, key).map(decode).unwrap_or_default();
    report.items += 1;
    if ours.files() != theirs.files() {
        report.differences.push(format!(
            "{kind:?}: files {:?}, in the directory {:?}",
            ours.files(),
            theirs.files()
        ));
    }
    for page in ours.pages() {
        let key = Key::SlruPage { kind, page };
        *report.slru.entry(kind).or_default() += 1;
        let page = store.slru_page(key, end);
        let theirs = imported_page(import, key);
        if page.as_bytes() != theirs.as_bytes() {
            report
                .differences
                .push(format!("{key:?} {}", first_difference(&page, &theirs)));
        }
    }
}

fn relation(
    store: &dyn Store,
    import: &BTreeMap<PackedKey, Value>,
    rel: RelTag,
    end: Lsn,
    report: &mut Report,
) {
    report.items += 1;
    let decode = |bytes: &[u8]| RelSize::decode(bytes).expect("a size").size;
    let ours = store.item(Key::RelSize(rel), end).map(|bytes| decode(&bytes));
    let theirs = imported_item(import, Key::RelSize(rel)).map(decode);
    let map = rel.fork == Fork::VisibilityMap;
    match (ours, theirs) {
        // Postgres makes and extends maps without WAL, before a record sets bits in them.
        (None, Some(_)) if map => (),
        (Some(ours), Some(theirs)) if ours <= theirs => (),
        (None, None) => return,
        _ => {
            report
                .differences
                .push(format!("{rel} has {ours:?} blocks, in the directory {theirs:?}"));
            return;
        }
    }
    let ours = ours.unwrap_or(0);
    for block in ours..theirs.unwrap_or(0) {
        let page = imported_page(import, Key::Block(rel, block));
        // Added in advance, or by a transaction that aborted before it wrote into it.
        let empty =
            page.is_new() || (page.lower() == 24 && page.as_bytes()[24..].iter().all(|byte| *byte == 0));
        if empty {
            report.unlogged_tail += 1;
        } else {
            report
                .differences
                .push(format!("{rel} block {block} is only in the directory"));
        }
    }
    for block in 0..ours {
        let theirs = imported_page(import, Key::Block(rel, block));
        match store.block(rel, block, end) {
            Ok(page) => page_of(rel, block, page, theirs, report),
            Err(error) if error.contains("not supported") => report.unsupported += 1,
            Err(error) => report.differences.push(error),
        }
    }
}

fn page_of(rel: RelTag, block: u32, mut ours: Page, mut theirs: Page, report: &mut Report) {
    let what = |reason: String| format!("{rel} block {block}: {reason}");
    if rel.fork == Fork::VisibilityMap {
        report.map += 1;
        // A map page that was made without WAL and has no bit.
        let unset = theirs.as_bytes()[24..].iter().all(|byte| *byte == 0);
        if ours.as_bytes() == theirs.as_bytes() || (unset && ours.is_all_zero()) {
            return;
        }
        // CREATE DATABASE by WAL logs a map as if everything between pd_lower and pd_upper were free: the bits are not in the
        // WAL, and a standby does not have them either. Missing bits are safe. A record that clears one moves the LSN only
        // where it was set.
        let bits = |page: &Page| page.as_bytes()[8..].to_vec();
        let (mine, other) = (bits(&ours), bits(&theirs));
        let mut bits = mine.iter().zip(&other);
        if report.by_wal.contains(&rel.db) && bits.all(|(ours, theirs)| ours & !theirs == 0) {
            report.maps_behind += 1;
            return;
        }
        report.differences.push(what(first_difference(&ours, &theirs)));
        return;
    }
    if theirs.is_new() || ours.is_new() {
        // A page that Postgres added and formatted without WAL.
        let bare = |page: &Page| page.is_new() || page.lower() == 24;
        if !(bare(&ours) && bare(&theirs)) {
            report.differences.push(what("one of them is new".to_owned()));
        }
        report.unlogged_tail += 1;
        return;
    }
    // Postgres writes the empty pages of an unlogged index first and logs them then.
    let written_first = rel.fork == Fork::Init && theirs.lsn() == Lsn::INVALID;
    if ours.lsn() != theirs.lsn() && !written_first {
        report.differences.push(what(format!(
            "LSN {}, in the directory {}",
            ours.lsn(),
            theirs.lsn()
        )));
    }
    if (ours.flags() ^ theirs.flags()) & PD_ALL_VISIBLE != 0 {
        report.differences.push(what(format!(
            "flags {:#x}, in the directory {:#x}",
            ours.flags(),
            theirs.flags()
        )));
    }
    let rmgr = owner(&theirs);
    match rmgr {
        rmgr::HEAP => report.heap += 1,
        rmgr::BTREE => report.btree += 1,
        _ => report.other += 1,
    }
    // What is not logged at every change, and a recovery does not restore either.
    let loose = match rmgr {
        // last_value, log_cnt, is_called: WAL is written for 32 values at once, so it is ahead of the page.
        rmgr::SEQ => {
            let at = usize::from(theirs.upper()) + 24;
            at..at + 17
        }
        // The pages that a meta page recommends for insertion.
        rmgr::SPGIST if block == 0 => 28..92,
        _ => 0..0,
    };
    if rmgr == rmgr::SEQ && ours.as_bytes()[loose.clone()] != theirs.as_bytes()[loose.clone()] {
        report.sequences_ahead += 1;
    }
    for page in [&mut ours, &mut theirs] {
        page.as_bytes_mut()[loose.clone()].fill(0);
        neon_redo::mask::mask(rmgr, page, block).expect("a page that can be masked");
    }
    if ours.as_bytes() != theirs.as_bytes() {
        report.differences.push(what(first_difference(&ours, &theirs)));
    }
}

/// Returns the resource manager of a page, by the size of its special space and by what Postgres puts there to tell them apart.
fn owner(page: &Page) -> u8 {
    let bytes = page.as_bytes();
    let last = u16::from_le_bytes([bytes[8190], bytes[8191]]);
    match (usize::from(page.special()), last) {
        (8192, _) => rmgr::HEAP,
        (8176, 0xFF80) => rmgr::HASH,
        (8176, 0xFF81) => rmgr::GIST,
        (8176, _) => rmgr::BTREE,
        (8184, 0xFF82) => rmgr::SPGIST,
        (8184, 0xF091..=0xF093) => rmgr::BRIN,
        (8184, _) if bytes[8184..8188] == [0x17, 0x17, 0, 0] => rmgr::SEQ,
        _ => rmgr::GIN,
    }
}

const PD_ALL_VISIBLE: u16 = 4;

fn first_difference(ours: &Page, theirs: &Page) -> String {
    let pairs = ours.as_bytes().iter().zip(theirs.as_bytes());
    let differing: Vec<usize> = pairs
        .enumerate()
        .filter(|(_, (ours, theirs))| ours != theirs)
        .map(|(at, _)| at)
        .collect();
    match differing.first() {
        Some(at) => format!(
            "{} bytes differ, the first at {at}: {:#04x}, in the directory {:#04x}",
            differing.len(),
            ours.as_bytes()[*at],
            theirs.as_bytes()[*at]
        ),
        None => "no difference".to_owned(),
    }
}
