//! What is no page: sizes, SLRU files, relation maps, two-phase files, the checkpoint state.

use std::collections::BTreeMap;

use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::control::CheckPoint;
use neon_types::Key;

use super::Peer;
use super::page::first_difference;
use super::report::{Class, Difference, Report, item};
use crate::items::{OriginProgress, RelSize, SlruSegments};
use crate::{PageStoreError, Result};

/// Items of both sides by key.
pub(super) type Items = BTreeMap<Key, Vec<u8>>;

/// Returns true for what a store notes for itself, and for what is compared elsewhere or not at all: carried files are no state.
pub(super) fn is_left_out(key: Key) -> bool {
    matches!(
        key,
        Key::Boundaries { .. }
            | Key::Unreadable(_)
            | Key::File { .. }
            | Key::SlruPage { .. }
            | Key::Block(..)
            | Key::RelSize(_)
    )
}

/// Compares an item that is there on one side at least.
pub(super) fn compare(
    key: Key,
    ours: Option<&[u8]>,
    theirs: Option<&[u8]>,
    peer: &Peer,
    report: &mut Report,
) -> Result<()> {
    let (class, place) = class_of(key);
    report.tally(class).files += 1;
    let difference = match (key, ours, theirs) {
        (Key::Checkpoint, Some(ours), Some(theirs)) => checkpoint(ours, theirs, peer)?,
        (Key::SlruSegments(_), ours, theirs) => {
            let files = |bytes: Option<&[u8]>| -> Result<Vec<(u64, u64)>> {
                bytes.map_or(Ok(Vec::new()), |bytes| Ok(segments(key, bytes)?.files()))
            };
            let (ours, theirs) = (files(ours)?, files(theirs)?);
            let show = |files: &[(u64, u64)]| {
                let each = files
                    .iter()
                    .map(|(file, pages)| format!("{file:04X} of {pages} pages"));
                format!("files {}", each.collect::<Vec<_>>().join(", "))
            };
            (ours != theirs).then(|| item(&place, show(&ours), show(&theirs)))
        }
        // The file knows only how far the other side is.
        (Key::ReplicationOrigin { .. }, Some(ours), Some(theirs)) => {
            let remote = |bytes| {
                OriginProgress::decode(bytes)
                    .map(|progress| progress.remote)
                    .map_err(|error| PageStoreError::damaged(&place, error))
            };
            let (ours, theirs) = (remote(ours)?, remote(theirs)?);
            (ours != theirs).then(|| item(&place, ours, theirs))
        }
        (_, ours, theirs) if ours == theirs => None,
        (_, Some(ours), Some(theirs)) => Some(contents(&place, ours, theirs)),
        (_, ours, theirs) => {
            let show = |bytes: Option<&[u8]>| if bytes.is_some() { "there" } else { "missing" };
            Some(item(&place, show(ours), show(theirs)))
        }
    };
    if let Some(difference) = difference {
        report.differs(class, difference);
    }
    Ok(())
}

fn class_of(key: Key) -> (Class, String) {
    match key {
        Key::SlruSegments(kind) => (Class::Slru(kind), kind.directory().to_owned()),
        Key::RelMap { spc, db } => (Class::RelationMaps, format!("pg_filenode.map of {spc}/{db}")),
        Key::TwoPhase { xid } => (
            Class::TwoPhase,
            format!("the state of prepared transaction {xid}"),
        ),
        Key::Database { spc, db } => (Class::Databases, format!("database {spc}/{db}")),
        Key::Tablespace { spc } => (Class::Databases, format!("tablespace {spc}")),
        Key::ReplicationOrigin { id } => (Class::Origins, format!("replication origin {id}")),
        _ => (Class::Control, "pg_control".to_owned()),
    }
}

fn contents(place: &str, ours: &[u8], theirs: &[u8]) -> Difference {
    match first_difference(ours, theirs) {
        Some((offset, mine, other)) => Difference {
            offset: Some(offset),
            ..item(place, mine, other)
        },
        None => item(
            place,
            format!("{} bytes", ours.len()),
            format!("{} bytes", theirs.len()),
        ),
    }
}

fn checkpoint(ours: &[u8], theirs: &[u8], peer: &Peer) -> Result<Option<Difference>> {
    let decode = |bytes| {
        CheckpointState::decode(bytes)
            .map(|(_, state)| state)
            .map_err(|error| PageStoreError::damaged("a checkpoint state", error))
    };
    let (ours, theirs) = (decode(ours)?, decode(theirs)?);
    let (system, other_system) = (
        ours.control_file().map(|file| file.system_id()).ok(),
        theirs.control_file().map(|file| file.system_id()).ok(),
    );
    if system != other_system {
        return Ok(Some(item(
            "pg_control",
            format!("cluster {system:?}"),
            format!("cluster {other_system:?}"),
        )));
    }
    let same = match peer {
        Peer::Wrote { .. } => ours.checkpoint == theirs.checkpoint,
        // The oids that were logged in advance are given back at the end of a recovery.
        Peer::Replayed => {
            counters(&ours.checkpoint) == counters(&theirs.checkpoint)
                && ours.checkpoint.next_oid >= theirs.checkpoint.next_oid
        }
    };
    Ok((!same).then(|| {
        item(
            "pg_control",
            format!("{:?}", ours.checkpoint),
            format!("{:?}", theirs.checkpoint),
        )
    }))
}

/// Returns what the end of a recovery leaves as the WAL made it: not where it is, its timeline and its time.
fn counters(point: &CheckPoint) -> CheckPoint {
    CheckPoint {
        redo: neon_types::Lsn::INVALID,
        tli: 0,
        prev_tli: 0,
        full_page_writes: false,
        wal_level: 0,
        next_oid: 0,
        oldest_xid_db: 0,
        oldest_multi_db: 0,
        time: 0,
        oldest_active_xid: 0,
        ..*point
    }
}

/// Decodes the item of an SLRU.
pub(super) fn segments(key: Key, bytes: &[u8]) -> Result<SlruSegments> {
    SlruSegments::decode(bytes).map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))
}

/// Decodes the item of a relation size.
pub(super) fn blocks(key: Key, bytes: &[u8]) -> Result<u32> {
    RelSize::decode(bytes)
        .map(|size| size.size)
        .map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))
}

#[cfg(test)]
mod tests {
    use neon_types::SlruKind;

    use super::*;

    #[test]
    fn items_are_compared_to_the_byte() {
        let mut report = Report::default();
        let mut check = |key, ours: Option<&[u8]>, theirs: Option<&[u8]>| {
            compare(key, ours, theirs, &Peer::Replayed, &mut report).expect("items that can be read");
        };
        check(Key::TwoPhase { xid: 7 }, Some(b"abc"), Some(b"abc"));
        check(Key::TwoPhase { xid: 8 }, Some(b"abc"), Some(b"abd"));
        check(Key::TwoPhase { xid: 9 }, None, Some(b"abc"));
        check(Key::RelMap { spc: 1663, db: 5 }, Some(b"abc"), Some(b"ab"));
        let mut pages = SlruSegments::default();
        pages.insert(0);
        let ours = pages.encode();
        pages.insert(1);
        check(
            Key::SlruSegments(SlruKind::Clog),
            Some(&ours),
            Some(&pages.encode()),
        );
        let found: Vec<String> = report.differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "the state of prepared transaction 8 byte 2: 63, in the directory 64",
                "the state of prepared transaction 9: missing, in the directory there",
                "pg_filenode.map of 1663/5: 3 bytes, in the directory 2 bytes",
                "pg_xact: files 0000 of 1 pages, in the directory files 0000 of 2 pages",
            ]
        );
        assert_eq!(report.classes[&Class::TwoPhase].files, 3);
        assert_eq!(report.classes[&Class::TwoPhase].differences, 2);
    }
}
