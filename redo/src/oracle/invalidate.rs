//! Records that change or end pages without naming them.

use neon_postgres::records::dbase::DbaseRecord;
use neon_postgres::records::smgr::SmgrRecord;
use neon_postgres::records::xact::XactRecord;
use neon_postgres::wal::{DecodeError, Record, rmgr};
use neon_types::{Fork, Lsn};

use super::bases::Bases;
use crate::change::{Change, VmBits};
use crate::visibility::{HEAP_BLOCKS_PER_PAGE, map_block, unnamed_clears};

/// Forgets what a record drops, cuts or creates; changes visibility map pages that it does not name.
pub(super) fn invalidate(bases: &mut Bases, record: &Record, end: Lsn) -> Result<(), DecodeError> {
    let main = record.blocks.first().map(|reference| reference.rel);
    for (clear, rel) in unnamed_clears(record)?.into_iter().zip(std::iter::repeat(main)) {
        let map = rel
            .and_then(|rel| bases.get_mut(rel.with_fork(Fork::VisibilityMap), map_block(clear.heap_block)));
        if let Some(map) = map {
            let slot = (clear.heap_block % HEAP_BLOCKS_PER_PAGE) as u16;
            Change::ClearVm(vec![VmBits {
                slot,
                bits: clear.bits,
            }])
            .apply(end, &mut map.page);
        }
    }
    match record.rmid {
        rmgr::SMGR => match SmgrRecord::decode(record)? {
            SmgrRecord::Create(rel) => bases.create(rel),
            SmgrRecord::Truncate {
                rel,
                blocks,
                heap,
                visibility_map,
                free_space_map,
            } => {
                if heap {
                    bases.cut(rel, blocks);
                }
                if visibility_map {
                    // The last page that stays loses its tail.
                    let map = rel.with_fork(Fork::VisibilityMap);
                    let keep = (blocks % HEAP_BLOCKS_PER_PAGE) as u16;
                    let last = bases.get_mut(map, map_block(blocks)).filter(|_| keep > 0);
                    if let Some(last) = last {
                        Change::TruncateVmTail { keep }.apply(end, &mut last.page);
                    }
                    bases.cut(map, map_block(blocks) + u32::from(keep > 0));
                }
                if free_space_map {
                    bases.drop_fork(rel.with_fork(Fork::FreeSpaceMap));
                }
            }
        },
        rmgr::XACT => match XactRecord::decode(record)? {
            XactRecord::Commit(end)
            | XactRecord::Abort(end)
            | XactRecord::CommitPrepared(end)
            | XactRecord::AbortPrepared(end) => {
                for rel in end.dropped {
                    bases.drop_relation(rel);
                }
            }
            _ => {}
        },
        rmgr::DBASE => match DbaseRecord::decode(record)? {
            DbaseRecord::CreateFileCopy { db, spc, .. } | DbaseRecord::CreateWalLog { db, spc } => {
                bases.drop_database(db, Some(spc));
            }
            DbaseRecord::Drop { db, tablespaces } => {
                for spc in tablespaces {
                    bases.drop_database(db, Some(spc));
                }
            }
        },
        _ => {}
    }
    Ok(())
}
