//! What a record says, in a few words: for people who read WAL.

use std::fmt::Write;

use super::dbase::DbaseRecord;
use super::heap::{HeapLock, HeapRecord, HeapUpdate};
use super::heap2::Heap2Record;
use super::multixact::MultixactRecord;
use super::relmap::RelmapUpdate;
use super::replorigin::ReplOriginRecord;
use super::smgr::SmgrRecord;
use super::standby::StandbyRecord;
use super::tblspc::TblspcRecord;
use super::xact::{Completion, XactRecord};
use super::xlog::XlogRecord;
use super::{btree::BtreeRecord, clog::ClogRecord, commit_ts::CommitTsRecord, logicalmsg::LogicalMessage};
use crate::wal::{DecodeError, Record, rmgr};

/// Members of a list that are named; the rest is counted.
const NAMED: usize = 8;

/// Returns the main data of a record in a few words, empty when its kind says it all. A record that cannot be decoded says why.
pub fn summary(record: &Record) -> String {
    let words = match record.rmid {
        rmgr::XLOG => xlog(record),
        rmgr::XACT => xact(record),
        rmgr::SMGR => smgr(record),
        rmgr::CLOG => ClogRecord::decode(record).map(|decoded| match decoded {
            ClogRecord::ZeroPage(page) => format!("page {page}"),
            ClogRecord::Truncate { page, oldest_xid, .. } => {
                format!("before page {page}, oldest xid {oldest_xid}")
            }
        }),
        rmgr::COMMIT_TS => CommitTsRecord::decode(record).map(|decoded| match decoded {
            CommitTsRecord::ZeroPage(page) => format!("page {page}"),
            CommitTsRecord::Truncate { page, oldest_xid } => {
                format!("before page {page}, oldest xid {oldest_xid}")
            }
        }),
        rmgr::DBASE => dbase(record),
        rmgr::TBLSPC => TblspcRecord::decode(record).map(|decoded| match decoded {
            TblspcRecord::Create { spc, path } => format!("{spc} at '{}'", String::from_utf8_lossy(&path)),
            TblspcRecord::Drop { spc } => spc.to_string(),
        }),
        rmgr::MULTIXACT => multixact(record),
        rmgr::RELMAP => {
            RelmapUpdate::decode(record).map(|update| format!("database {}/{}", update.spc, update.db))
        }
        rmgr::STANDBY => standby(record),
        rmgr::HEAP => heap(record),
        rmgr::HEAP2 => heap2(record),
        rmgr::BTREE => btree(record),
        rmgr::REPLORIGIN => ReplOriginRecord::decode(record).map(|decoded| match decoded {
            ReplOriginRecord::Set {
                origin, remote_lsn, ..
            } => format!("{origin} at {remote_lsn}"),
            ReplOriginRecord::Drop { origin } => origin.to_string(),
        }),
        rmgr::LOGICALMSG => LogicalMessage::decode(record).map(|message| {
            format!(
                "{}, prefix '{}', {} bytes",
                if message.transactional {
                    "transactional"
                } else {
                    "at once"
                },
                String::from_utf8_lossy(&message.prefix),
                message.message.len()
            )
        }),
        _ => Ok(String::new()),
    };
    words.unwrap_or_else(|error| format!("cannot be decoded: {error}"))
}

type Words = Result<String, DecodeError>;

fn list<T: ToString>(items: &[T]) -> String {
    let named: Vec<String> = items.iter().take(NAMED).map(ToString::to_string).collect();
    match items.len().saturating_sub(NAMED) {
        0 => named.join(" "),
        more => format!("{} and {more} more", named.join(" ")),
    }
}

fn xlog(record: &Record) -> Words {
    Ok(match XlogRecord::decode(record)? {
        XlogRecord::CheckpointShutdown(point) | XlogRecord::CheckpointOnline(point) => format!(
            "redo {}, timeline {}, next xid {}, oid {}, multi {} offset {}, oldest xid {}, multi {}, active {}",
            point.redo,
            point.tli,
            point.next_xid,
            point.next_oid,
            point.next_multi,
            point.next_multi_offset,
            point.oldest_xid,
            point.oldest_multi,
            point.oldest_active_xid
        ),
        XlogRecord::NextOid(oid) => oid.to_string(),
        XlogRecord::BackupEnd { start } => start.to_string(),
        XlogRecord::ParameterChange(to) => format!(
            "max_connections {}, max_worker_processes {}, max_wal_senders {}, max_prepared_transactions {}, max_locks_per_transaction {}, \
             wal_level {}, wal_log_hints {}, track_commit_timestamp {}",
            to.max_connections,
            to.max_worker_processes,
            to.max_wal_senders,
            to.max_prepared_xacts,
            to.max_locks_per_xact,
            to.wal_level,
            to.wal_log_hints,
            to.track_commit_timestamp
        ),
        XlogRecord::RestorePoint { name, .. } => String::from_utf8_lossy(&name).into_owned(),
        XlogRecord::FullPageWrites(on) => on.to_string(),
        XlogRecord::EndOfRecovery { tli, prev_tli, .. } => format!("timeline {tli} after {prev_tli}"),
        XlogRecord::OverwriteContrecord { abandoned, .. } => abandoned.to_string(),
        XlogRecord::CheckpointRedo { wal_level } => format!("wal_level {wal_level}"),
        XlogRecord::Noop | XlogRecord::Switch | XlogRecord::FullPageImages => String::new(),
    })
}

fn xact(record: &Record) -> Words {
    Ok(match XactRecord::decode(record)? {
        XactRecord::Commit(end)
        | XactRecord::Abort(end)
        | XactRecord::CommitPrepared(end)
        | XactRecord::AbortPrepared(end) => completion(record, &end),
        XactRecord::Prepare(prepare) => format!("'{}'", String::from_utf8_lossy(&prepare.gid)),
        XactRecord::Assignment { top, subxacts } => format!("to {top}: {}", list(&subxacts)),
        XactRecord::Invalidations(messages) => format!("{} invalidations", messages.len()),
    })
}

fn completion(record: &Record, end: &Completion) -> String {
    let mut words = format!("at {}", end.time);
    if end.xid != record.xid {
        _ = write!(words, ", xid {}", end.xid);
    }
    if let Some(gid) = &end.gid {
        _ = write!(words, ", '{}'", String::from_utf8_lossy(gid));
    }
    if !end.subxacts.is_empty() {
        _ = write!(words, ", subtransactions {}", list(&end.subxacts));
    }
    if !end.dropped.is_empty() {
        _ = write!(words, ", drops {}", list(&end.dropped));
    }
    if !end.invalidations.is_empty() {
        _ = write!(words, ", {} invalidations", end.invalidations.len());
    }
    if let Some(origin) = end.origin {
        _ = write!(words, ", origin at {}", origin.lsn);
    }
    words
}

fn smgr(record: &Record) -> Words {
    Ok(match SmgrRecord::decode(record)? {
        SmgrRecord::Create(rel) => rel.to_string(),
        SmgrRecord::Truncate { rel, blocks, .. } => format!("{rel} to {blocks} blocks"),
    })
}

fn dbase(record: &Record) -> Words {
    Ok(match DbaseRecord::decode(record)? {
        DbaseRecord::CreateFileCopy {
            db,
            spc,
            source_db,
            source_spc,
        } => format!("{spc}/{db} from {source_spc}/{source_db}"),
        DbaseRecord::CreateWalLog { db, spc } => format!("{spc}/{db}"),
        DbaseRecord::Drop { db, tablespaces } => format!("{db} in {}", list(&tablespaces)),
    })
}

fn multixact(record: &Record) -> Words {
    Ok(match MultixactRecord::decode(record)? {
        MultixactRecord::ZeroOffsetsPage(page) | MultixactRecord::ZeroMembersPage(page) => {
            format!("page {page}")
        }
        MultixactRecord::Create {
            multi,
            offset,
            members,
        } => {
            let members: Vec<String> = members
                .iter()
                .map(|member| format!("{}({})", member.xid, member.status))
                .collect();
            format!("{multi} offset {offset}: {}", list(&members))
        }
        MultixactRecord::Truncate {
            start_multi,
            end_multi,
            start_member,
            end_member,
            ..
        } => format!("offsets {start_multi} to {end_multi}, members {start_member} to {end_member}"),
    })
}

fn standby(record: &Record) -> Words {
    Ok(match StandbyRecord::decode(record)? {
        StandbyRecord::Locks(locks) => {
            let locks: Vec<String> = locks
                .iter()
                .map(|lock| format!("xid {} database {} relation {}", lock.xid, lock.db, lock.rel))
                .collect();
            list(&locks)
        }
        StandbyRecord::RunningXacts(running) => format!(
            "next xid {}, oldest {}, latest completed {}, running {}, {} subtransactions{}",
            running.next_xid,
            running.oldest_running,
            running.latest_completed,
            list(&running.xids),
            running.subxids.len(),
            if running.overflowed { ", overflowed" } else { "" }
        ),
        StandbyRecord::Invalidations { messages, .. } => format!("{} invalidations", messages.len()),
    })
}

fn heap(record: &Record) -> Words {
    let update = |update: &HeapUpdate| {
        format!(
            "{} to {}, xmax {} to {}, flags {:#04x}",
            update.old_offset, update.new_offset, update.old_xmax, update.new_xmax, update.flags
        )
    };
    Ok(match HeapRecord::decode(record)? {
        HeapRecord::Insert(insert) => format!("{}, flags {:#04x}", insert.offset, insert.flags),
        HeapRecord::Delete(delete) => {
            format!(
                "{}, xmax {}, infobits {:#04x}, flags {:#04x}",
                delete.offset, delete.xmax, delete.infobits, delete.flags
            )
        }
        HeapRecord::Update(to) | HeapRecord::HotUpdate(to) => update(&to),
        HeapRecord::Truncate(truncate) => {
            format!("database {}, tables {}", truncate.db, list(&truncate.tables))
        }
        HeapRecord::Confirm { offset } | HeapRecord::Inplace { offset } => offset.to_string(),
        HeapRecord::Lock(to) => lock(&to),
    })
}

fn lock(lock: &HeapLock) -> String {
    format!(
        "{}, xmax {}, infobits {:#04x}, flags {:#04x}",
        lock.offset, lock.xmax, lock.infobits, lock.flags
    )
}

fn heap2(record: &Record) -> Words {
    Ok(match Heap2Record::decode(record)? {
        Heap2Record::Prune(prune) => format!(
            "horizon {}, {} redirected, {} dead",
            prune.horizon, prune.redirected, prune.dead
        ),
        Heap2Record::Vacuum { unused } => format!("{unused} unused"),
        Heap2Record::FreezePage { count } => format!("{count} tuples or plans"),
        Heap2Record::PruneFreeze(prune) => match prune.horizon {
            Some(horizon) => format!("flags {:#04x}, horizon {horizon}", prune.flags),
            None => format!("flags {:#04x}", prune.flags),
        },
        Heap2Record::Visible(visible) => {
            format!("flags {:#04x}, horizon {}", visible.flags, visible.horizon)
        }
        Heap2Record::MultiInsert(insert) => format!("{} tuples, flags {:#04x}", insert.count, insert.flags),
        Heap2Record::LockUpdated(to) => lock(&to),
        Heap2Record::Rewrite | Heap2Record::NewCid => String::new(),
    })
}

fn btree(record: &Record) -> Words {
    Ok(match BtreeRecord::decode(record)? {
        BtreeRecord::Insert { offset, .. } => offset.to_string(),
        BtreeRecord::Split(split) => format!(
            "level {}, first right {}, new item {} on the {}",
            split.level,
            split.first_right,
            split.new_item,
            if split.new_item_on_left { "left" } else { "right" }
        ),
        BtreeRecord::Dedup { intervals } => format!("{intervals} intervals"),
        BtreeRecord::Delete(delete) => format!("{} deleted, {} updated", delete.deleted, delete.updated),
        BtreeRecord::MarkHalfDead(page) => format!("between {} and {}", page.left, page.right),
        BtreeRecord::UnlinkPage { unlink, .. } => {
            format!(
                "level {}, between {} and {}",
                unlink.level, unlink.left, unlink.right
            )
        }
        BtreeRecord::NewRoot { level } => format!("level {level}"),
        BtreeRecord::ReusePage | BtreeRecord::MetaCleanup => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, words};
    use super::*;
    use crate::PgVersion;

    #[test]
    fn a_record_in_a_few_words() {
        let truncate = record(
            PgVersion::V15,
            rmgr::SMGR,
            0x20,
            700,
            &words(&[3, 1663, 5, 16384, 7]),
        );
        assert_eq!(summary(&truncate), "1663/5/16384 to 3 blocks");
        let assignment = record(
            PgVersion::V15,
            rmgr::XACT,
            0x50,
            700,
            &words(&[700, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        );
        assert_eq!(summary(&assignment), "to 700: 1 2 3 4 5 6 7 8 and 1 more");
        let cut = record(PgVersion::V15, rmgr::SMGR, 0x20, 700, &[1]);
        assert!(summary(&cut).starts_with("cannot be decoded: "));
        let unknown = record(PgVersion::V15, 200, 0, 700, &[1]);
        assert_eq!(summary(&unknown), "");
    }
}
