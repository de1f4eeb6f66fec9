//! The record decoder, and the payload decoders of every resource manager.
//!
//! ```text
//! u8 0: a raw record follows, behind a byte for the version; its length is put right
//! u8 1: a `Case` follows, of any resource manager
//! ```

use neon_postgres::records::{
    brin, btree, clog, commit_ts, dbase, generic, gin, gist, hash, heap, heap2, logicalmsg, multixact,
    relmap, replorigin, sequence, smgr, spgist, standby, tblspc, xact, xlog,
};
use neon_postgres::wal::{Record, rmgr};
use neon_postgres::{CheckpointState, PgVersion};
use neon_redo::visibility::unnamed_clears;
use neon_types::Lsn;

use crate::case::Case;
use crate::mutate::{self, Mutate};

/// Every built-in resource manager.
pub const RMIDS: [u8; 22] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
];
const _: () = assert!(RMIDS.len() == rmgr::MAX_BUILTIN as usize + 1);

/// Decodes the record, then its payload as that of every resource manager.
pub fn run(data: &[u8]) {
    let (version, bytes) = match data {
        [mode, rest @ ..] if mode & 1 == 1 => {
            let case = Case::decode(rest);
            (case.version(), case.record(&RMIDS))
        }
        [_, version, rest @ ..] => {
            let mut bytes = rest.to_vec();
            let length = (bytes.len() as u32).to_le_bytes();
            if let Some(field) = bytes.first_chunk_mut() {
                *field = length;
            }
            (
                PgVersion::ALL[usize::from(*version) % PgVersion::ALL.len()],
                bytes,
            )
        }
        _ => return,
    };
    let Ok(record) = Record::decode(version, bytes) else {
        return;
    };
    payload(&record);
    for index in 0..record.blocks.len() {
        let image = record.block_image(index);
        let slice = Record::decode(version, record.slice_for_block(index)).expect("a slice has good framing");
        assert_eq!(slice.block_data(index), record.block_data(index));
        assert_eq!(slice.main_data(), record.main_data());
        if record.blocks[index]
            .image
            .as_ref()
            .is_some_and(|image| image.apply)
        {
            assert_eq!(slice.block_image(index), image);
        }
    }
}

/// Decodes the payload as that of every resource manager, its own or not.
fn payload(record: &Record) {
    let _ = brin::BrinRecord::decode(record);
    let _ = btree::BtreeRecord::decode(record);
    let _ = clog::ClogRecord::decode(record);
    let _ = commit_ts::CommitTsRecord::decode(record);
    let _ = dbase::DbaseRecord::decode(record);
    let _ = gin::GinRecord::decode(record);
    let _ = gist::GistRecord::decode(record);
    let _ = hash::HashRecord::decode(record);
    let _ = heap::HeapRecord::decode(record);
    let _ = heap2::Heap2Record::decode(record);
    let _ = logicalmsg::LogicalMessage::decode(record);
    let _ = multixact::MultixactRecord::decode(record);
    let _ = relmap::RelmapUpdate::decode(record);
    let _ = replorigin::ReplOriginRecord::decode(record);
    let _ = sequence::SequenceLog::decode(record);
    let _ = smgr::SmgrRecord::decode(record);
    let _ = spgist::SpgistRecord::decode(record);
    let _ = standby::StandbyRecord::decode(record);
    let _ = tblspc::TblspcRecord::decode(record);
    let _ = xact::XactRecord::decode(record);
    let _ = xlog::XlogRecord::decode(record);
    let _ = unnamed_clears(record);
    let _ = rmgr::describe(record);
    for data in (0..record.blocks.len()).map(|index| record.block_data(index)) {
        let _ = btree::Metadata::decode(data);
        let _ = (
            gin::EntryInsert::decode(data),
            gin::PostingItemInsert::decode(data),
        );
        let _ = gin::decode_actions(data);
        generic::fragments(data).take_while(Result::is_ok).for_each(drop);
    }
    if let Ok((_, mut state)) = CheckpointState::decode(record.main_data()) {
        let _ = state.apply(record, Lsn(0x1000));
    }
}

/// Changes an input and keeps its structure.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32, with: Mutate<'_>) -> usize {
    match data[..size].first() {
        Some(mode) if mode & 1 == 1 && !seed.is_multiple_of(32) => {
            1 + mutate::case(&mut data[1..], size - 1, max_size - 1, seed, with)
        }
        _ => with(data, size, max_size),
    }
}
