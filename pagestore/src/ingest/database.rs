//! Relation files, databases, tablespaces and relation maps.

use neon_postgres::layout::DEFAULT_TABLESPACE;
use neon_postgres::records::dbase::DbaseRecord;
use neon_postgres::records::relmap::RelmapUpdate;
use neon_postgres::records::smgr::SmgrRecord;
use neon_postgres::records::standby::{Lock, StandbyRecord};
use neon_postgres::records::tblspc::TblspcRecord;
use neon_redo::change::{Change, HEAP_BLOCKS_PER_VM_PAGE};
use neon_types::{Fork, Key, KeyRange, RelTag};

use super::sizes::Sizes;
use super::{Effect, Ingest, Step, full_xid, heap, known};
use crate::items::{Database, RelMap, RelSize, Tablespace};
use crate::{Result, Value};

impl Ingest {
    /// Locks tell who made a relation whose creation was logged without a transaction.
    pub(super) fn standby(&mut self, step: &mut Step<'_>) -> Result<()> {
        let Some(StandbyRecord::Locks(locks)) =
            known(StandbyRecord::decode(step.record)).map_err(step.bad())?
        else {
            return Ok(());
        };
        let next = self.next_xid(step)?;
        for lock in locks {
            let xid = full_xid(lock.xid, next);
            for spc in self.tablespaces_of(&lock, step)? {
                let rel = RelTag {
                    spc,
                    db: lock.db,
                    rel: lock.rel,
                    fork: Fork::Main,
                };
                self.sizes.locked(rel, xid, step.start, step.state)?;
            }
        }
        Ok(())
    }

    /// Returns where the files of a new relation may be: a lock names it by its oid, which is the number of its first file.
    fn tablespaces_of(&mut self, lock: &Lock, step: &Step<'_>) -> Result<Vec<u32>> {
        let first = RelTag {
            spc: DEFAULT_TABLESPACE,
            db: lock.db,
            rel: lock.rel,
            fork: Fork::Main,
        };
        for fork in [Fork::Main, Fork::Init] {
            if self.sizes.get(first.with_fork(fork), step.state)?.is_some() {
                return Ok(vec![DEFAULT_TABLESPACE]);
            }
        }
        let all = KeyRange {
            start: Key::Tablespace { spc: 0 }.pack(),
            end: Key::Tablespace { spc: u32::MAX }.pack().next(),
        };
        let mut found = Vec::new();
        step.state.scan_items(all, &mut |key, _| {
            if let Key::Tablespace { spc } = key {
                found.push(spc);
            }
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn smgr(&mut self, step: &mut Step<'_>) -> Result<()> {
        match known(SmgrRecord::decode(step.record)).map_err(step.bad())? {
            Some(SmgrRecord::Create(rel)) if rel.fork != Fork::FreeSpaceMap => {
                let creator = self.creator(step)?;
                self.sizes.create(rel, creator, step.end, step.state)
            }
            Some(SmgrRecord::Truncate {
                rel,
                blocks,
                heap,
                visibility_map,
                ..
            }) => {
                if heap {
                    // As Postgres: a relation that does not exist is created first.
                    self.sizes.create_missing(rel, step.end, step.state)?;
                    self.sizes.truncate(rel, blocks, step.end, step.state)?;
                }
                if visibility_map {
                    self.truncate_map(rel, blocks, step)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the full id of the transaction that wrote the record, 0 when the record names none.
    fn creator(&mut self, step: &Step<'_>) -> Result<u64> {
        match step.record.xid {
            0 => Ok(0),
            xid => Ok(full_xid(xid, self.next_xid(step)?)),
        }
    }

    /// The heap ends at `blocks`: its map has no bits beyond.
    fn truncate_map(&mut self, heap_rel: RelTag, blocks: u32, step: &mut Step<'_>) -> Result<()> {
        let vm = heap_rel.with_fork(Fork::VisibilityMap);
        let (page, keep) = (blocks / HEAP_BLOCKS_PER_VM_PAGE, blocks % HEAP_BLOCKS_PER_VM_PAGE);
        let mut pages = page;
        if keep != 0 {
            if !heap::exists(vm, page, &mut self.sizes, step.state)? {
                return Ok(());
            }
            let change = Change::TruncateVmTail { keep: keep as u16 };
            step.put(Key::Block(vm, page), Value::Change(change.encode()));
            pages += 1;
        }
        self.sizes.truncate(vm, pages, step.end, step.state)
    }

    pub(super) fn dbase(&mut self, step: &mut Step<'_>) -> Result<()> {
        match known(DbaseRecord::decode(step.record)).map_err(step.bad())? {
            Some(DbaseRecord::CreateFileCopy {
                db,
                spc,
                source_db,
                source_spc,
            }) => {
                self.copy_relations((source_spc, source_db), (spc, db), step)?;
                self.put_database(spc, db, step);
            }
            Some(DbaseRecord::CreateWalLog { db, spc }) => self.put_database(spc, db, step),
            Some(DbaseRecord::Drop { db, tablespaces }) => {
                for spc in tablespaces {
                    self.drop_relations(spc, db, step)?;
                    step.put(Key::Database { spc, db }, Value::Absent);
                    step.put(Key::RelMap { spc, db }, Value::Absent);
                }
            }
            None => (),
        }
        Ok(())
    }

    fn put_database(&self, spc: u32, db: u32, step: &mut Step<'_>) {
        let item = Database::of_version(self.version.major());
        step.put(Key::Database { spc, db }, Value::Item(item.encode()));
    }

    /// Every relation of the database is gone.
    fn drop_relations(&mut self, spc: u32, db: u32, step: &mut Step<'_>) -> Result<()> {
        let Step { state, out, .. } = step;
        Sizes::of_database(spc, db, *state, &mut |rel, _| {
            out.push((Key::RelSize(rel), Effect::Put(Value::Absent)));
        })?;
        self.sizes.forget_database(spc, db);
        Ok(())
    }

    /// Every relation of one database appears in another, as it is now, and nothing else is there any more. No page is copied: the new
    /// relation says where its blocks are to be read.
    fn copy_relations(&mut self, source: (u32, u32), target: (u32, u32), step: &mut Step<'_>) -> Result<()> {
        let creator = self.creator(step)?;
        let (spc, db) = target;
        // Left by a copy that never ended. Scans are in the order of tags.
        let mut left = Vec::new();
        Sizes::of_database(spc, db, step.state, &mut |rel, _| left.push(rel))?;
        let Step { state, out, end, .. } = step;
        let mut left = left.into_iter().peekable();
        Sizes::of_database(source.0, source.1, *state, &mut |rel, size| {
            let copy = RelTag { spc, db, ..rel };
            while let Some(gone) = left.next_if(|left| *left <= copy) {
                if gone != copy {
                    out.push((Key::RelSize(gone), Effect::Put(Value::Absent)));
                }
            }
            let size = RelSize {
                creator: Some(creator),
                ..RelSize::copied(rel, *end, size.size)
            };
            out.push((Key::RelSize(copy), Effect::Put(Value::Item(size.encode()))));
        })?;
        out.extend(left.map(|gone| (Key::RelSize(gone), Effect::Put(Value::Absent))));
        self.sizes.forget_database(spc, db);
        let map = |(spc, db): (u32, u32)| Key::RelMap { spc, db };
        if let Some(bytes) = step.state.item(map(source))? {
            step.put(map(target), Value::Item(bytes.to_vec()));
        }
        Ok(())
    }

    pub(super) fn tblspc(&mut self, step: &mut Step<'_>) -> Result<()> {
        match known(TblspcRecord::decode(step.record)).map_err(step.bad())? {
            Some(TblspcRecord::Create { spc, path }) => {
                let item = Tablespace { location: path };
                step.put(Key::Tablespace { spc }, Value::Item(item.encode()));
            }
            Some(TblspcRecord::Drop { spc }) => step.put(Key::Tablespace { spc }, Value::Absent),
            None => (),
        }
        Ok(())
    }

    pub(super) fn relmap(&mut self, step: &mut Step<'_>) -> Result<()> {
        if let Some(update) = known(RelmapUpdate::decode(step.record)).map_err(step.bad())? {
            let key = Key::RelMap {
                spc: update.spc,
                db: update.db,
            };
            let item = RelMap { file: update.map };
            step.put(key, Value::Item(item.encode()));
        }
        Ok(())
    }
}
