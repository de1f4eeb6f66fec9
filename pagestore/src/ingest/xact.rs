//! Transactions: commit, abort, prepare, multixacts, progress of replication origins.

use neon_postgres::records::clog::ClogRecord;
use neon_postgres::records::commit_ts::CommitTsRecord;
use neon_postgres::records::multixact::MultixactRecord;
use neon_postgres::records::replorigin::ReplOriginRecord;
use neon_postgres::records::xact::{Completion, XactRecord, two_phase_file};
use neon_redo::change::{MULTIXACTS_PER_OFFSETS_PAGE, XactState};
use neon_types::{Key, Lsn, SlruKind};

use super::{Ingest, Step, known};
use crate::items::{OriginProgress, TwoPhase};
use crate::{MAX_VALUE, PageStoreError, Result, Value};

/// Origins that are remembered at most.
const MAX_ORIGINS: usize = 1024;

/// Returns the transaction with its epoch in the upper half; `next` is the next full transaction id, which is later.
pub(crate) fn full_xid(xid: u32, next: u64) -> u64 {
    let epoch = next >> 32;
    let epoch = if u64::from(xid) > next & 0xffff_ffff {
        epoch.saturating_sub(1)
    } else {
        epoch
    };
    epoch << 32 | u64::from(xid)
}

impl Ingest {
    pub(super) fn xact(&mut self, step: &mut Step<'_>) -> Result<()> {
        let decoded = known(XactRecord::decode(step.record)).map_err(step.bad())?;
        match decoded {
            Some(XactRecord::Commit(end)) => self.commit(&end, step),
            Some(XactRecord::CommitPrepared(end)) => {
                self.commit(&end, step)?;
                self.forget_prepared(end.xid, step)
            }
            Some(XactRecord::Abort(end)) => self.finish(&end, XactState::Aborted, step),
            Some(XactRecord::AbortPrepared(end)) => {
                self.finish(&end, XactState::Aborted, step)?;
                self.forget_prepared(end.xid, step)
            }
            Some(XactRecord::Prepare(prepare)) => {
                if let Some(origin) = step.record.origin {
                    self.advance_origin(origin, prepare.origin.lsn, false, step)?;
                }
                self.remember_prepared(prepare.xid, step)
            }
            // Which transaction a subtransaction belongs to is not kept over a start.
            Some(XactRecord::Assignment { .. } | XactRecord::Invalidations(_)) | None => Ok(()),
        }
    }

    fn commit(&mut self, end: &Completion, step: &mut Step<'_>) -> Result<()> {
        if self.commit_timestamps(step)? {
            let time = end.origin.map_or(end.time, |origin| origin.time);
            let origin = step.record.origin.unwrap_or(0);
            self.slrus
                .set_commit_ts(tree(end), time, origin, step.state, &mut step.out)?;
        }
        self.finish(end, XactState::Committed, step)
    }

    /// What commit and abort have in common.
    fn finish(&mut self, end: &Completion, xact_state: XactState, step: &mut Step<'_>) -> Result<()> {
        self.slrus
            .set_status(tree(end), xact_state, step.state, &mut step.out)?;
        if let (Some(progress), Some(origin)) = (end.origin, step.record.origin) {
            self.advance_origin(origin, progress.lsn, false, step)?;
        }
        for rel in &end.dropped {
            self.sizes.drop_relation(*rel, step.state)?;
        }
        Ok(())
    }

    fn remember_prepared(&mut self, xid: u32, step: &mut Step<'_>) -> Result<()> {
        let key = self.two_phase_key(xid, step)?;
        let item = TwoPhase {
            file: two_phase_file(step.record.main_data()),
        };
        let bytes = item.encode();
        if bytes.len() > MAX_VALUE {
            return Err(PageStoreError::TooLarge {
                what: format!("the state of prepared transaction {xid}"),
                len: bytes.len() as u64,
                limit: MAX_VALUE as u64,
            });
        }
        step.put(key, Value::Item(bytes));
        Ok(())
    }

    fn forget_prepared(&mut self, xid: u32, step: &mut Step<'_>) -> Result<()> {
        let key = self.two_phase_key(xid, step)?;
        step.put(key, Value::Absent);
        Ok(())
    }

    fn two_phase_key(&mut self, xid: u32, step: &Step<'_>) -> Result<Key> {
        let next = self.next_xid(step)?;
        Ok(Key::TwoPhase {
            xid: full_xid(xid, next),
        })
    }

    pub(super) fn replorigin(&mut self, step: &mut Step<'_>) -> Result<()> {
        match known(ReplOriginRecord::decode(step.record)).map_err(step.bad())? {
            Some(ReplOriginRecord::Set {
                origin,
                remote_lsn,
                force,
            }) => self.advance_origin(origin, remote_lsn, force, step),
            Some(ReplOriginRecord::Drop { origin }) => {
                self.origins.insert(origin, None);
                step.put(Key::ReplicationOrigin { id: origin }, Value::Absent);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// `replorigin_advance`: progress goes back only when it is forced to.
    fn advance_origin(&mut self, id: u16, remote: Lsn, force: bool, step: &mut Step<'_>) -> Result<()> {
        let key = Key::ReplicationOrigin { id };
        let before = match self.origins.get(&id) {
            Some(progress) => *progress,
            None => match step.state.item(key)? {
                Some(bytes) => Some(
                    OriginProgress::decode(&bytes)
                        .map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))?,
                ),
                None => None,
            },
        };
        let after = match before {
            Some(before) if !force => OriginProgress {
                remote: before.remote.max(remote),
                local: before.local.max(step.end),
            },
            _ => OriginProgress {
                remote,
                local: step.end,
            },
        };
        if self.origins.len() >= MAX_ORIGINS {
            self.origins.clear();
        }
        self.origins.insert(id, Some(after));
        if before != Some(after) {
            step.put(key, Value::Item(after.encode()));
        }
        Ok(())
    }

    pub(super) fn clog(&mut self, step: &mut Step<'_>) -> Result<()> {
        let kind = SlruKind::Clog;
        match known(ClogRecord::decode(step.record)).map_err(step.bad())? {
            Some(ClogRecord::ZeroPage(page)) => self.slrus.zero(kind, page.into(), step.state, &mut step.out),
            Some(ClogRecord::Truncate { page, .. }) => {
                self.slrus.truncate(kind, page.into(), step.state, &mut step.out)
            }
            None => Ok(()),
        }
    }

    pub(super) fn commit_ts(&mut self, step: &mut Step<'_>) -> Result<()> {
        let kind = SlruKind::CommitTs;
        match known(CommitTsRecord::decode(step.record)).map_err(step.bad())? {
            Some(CommitTsRecord::ZeroPage(page)) => {
                self.slrus.zero(kind, page.into(), step.state, &mut step.out)
            }
            Some(CommitTsRecord::Truncate { page, .. }) => {
                self.slrus.truncate(kind, page.into(), step.state, &mut step.out)
            }
            None => Ok(()),
        }
    }

    pub(super) fn multixact(&mut self, step: &mut Step<'_>) -> Result<()> {
        let (offsets, members) = (SlruKind::MultixactOffsets, SlruKind::MultixactMembers);
        let decoded = known(MultixactRecord::decode(step.record)).map_err(step.bad())?;
        let (state, out) = (step.state, &mut step.out);
        match decoded {
            Some(MultixactRecord::ZeroOffsetsPage(page)) => self.slrus.zero(offsets, page.into(), state, out),
            Some(MultixactRecord::ZeroMembersPage(page)) => self.slrus.zero(members, page.into(), state, out),
            Some(MultixactRecord::Create {
                multi,
                offset,
                members,
            }) => self.slrus.multixact(multi, offset, &members, state, out),
            Some(MultixactRecord::Truncate {
                end_multi,
                start_member,
                end_member,
                ..
            }) => {
                self.slrus
                    .truncate_members(start_member, end_member, state, out)?;
                // As Postgres: the page of the multixact before, which surely exists.
                let before = if end_multi <= 1 { u32::MAX } else { end_multi - 1 };
                let page = before / MULTIXACTS_PER_OFFSETS_PAGE;
                self.slrus.truncate(offsets, page.into(), state, out)
            }
            None => Ok(()),
        }
    }
}

/// The transaction and its subtransactions.
fn tree(end: &Completion) -> impl Iterator<Item = u32> + '_ {
    std::iter::once(end.xid).chain(end.subxacts.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_above_the_next_one_is_of_the_epoch_before() {
        assert_eq!(full_xid(700, 701), 700);
        assert_eq!(full_xid(700, (1 << 32) | 701), (1 << 32) | 700);
        assert_eq!(full_xid(u32::MAX, (1 << 32) | 5), u64::from(u32::MAX));
        assert_eq!(full_xid(800, 5), 800, "there is no epoch before the first");
    }
}
