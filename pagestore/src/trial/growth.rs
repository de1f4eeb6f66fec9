//! Whether relations grew as far as records explain.
//!
//! One record can name any block, and the relation has all blocks below it then: a hundred bytes of WAL make a relation of terabytes.
//! Postgres itself leaves few blocks out: backends that extend a relation for many at once (512 blocks before version 16, 64 since),
//! and a hash index, which reserves as many buckets as it has.

use std::collections::BTreeMap;

use neon_postgres::{BLCKSZ, Page};
use neon_types::{Lsn, RelTag};

use crate::{PageStoreError, Result, Timeline};

/// Blocks of one relation that need no record.
const UNEXPLAINED: u64 = 4096;
/// Blocks of all relations of one arrival that need no record: a gibibyte.
const UNEXPLAINED_IN_ALL: u64 = 128 << 10;

/// How one relation grew.
struct Grown {
    before: u32,
    after: u32,
    /// Blocks behind `before` that records name.
    named: u64,
}

/// The relations that grew in an arrival.
pub(super) struct Growth<'t> {
    timeline: &'t Timeline,
    from: Lsn,
    to: Lsn,
    relations: BTreeMap<RelTag, Grown>,
}

impl<'t> Growth<'t> {
    pub(super) fn new(timeline: &'t Timeline, from: Lsn, to: Lsn) -> Growth<'t> {
        Growth {
            timeline,
            from,
            to,
            relations: BTreeMap::new(),
        }
    }

    /// Notes that the size of a relation changed. All sizes come before all blocks.
    pub(super) fn sized(&mut self, rel: RelTag) -> Result<()> {
        let Some(after) = self.timeline.rel_size_item(rel, self.to)? else {
            return Ok(());
        };
        let copied = after.source(after.size.saturating_sub(1)).is_some();
        let before = self
            .timeline
            .rel_size_item(rel, self.from)?
            .map_or(0, |size| size.size);
        if after.size > before && !copied {
            let grown = Grown {
                before,
                after: after.size,
                named: 0,
            };
            self.relations.insert(rel, grown);
        }
        Ok(())
    }

    /// Notes that a record changes a block.
    pub(super) fn named(&mut self, rel: RelTag, block: u32) {
        if let Some(grown) = self.relations.get_mut(&rel)
            && (grown.before..grown.after).contains(&block)
        {
            grown.named += 1;
        }
    }

    /// Refuses what no record explains.
    pub(super) fn check(&self) -> Result<()> {
        let mut in_all = 0;
        for (rel, grown) in &self.relations {
            let unexplained = grown.unexplained();
            let excess = unexplained.saturating_sub(grown.named);
            if excess > UNEXPLAINED && !self.reserves_buckets(*rel, grown, unexplained)? {
                return Err(PageStoreError::Unexplained {
                    rel: *rel,
                    before: grown.before,
                    after: grown.after,
                    named: grown.named,
                });
            }
            if excess <= UNEXPLAINED {
                in_all += excess;
            }
        }
        if in_all > UNEXPLAINED_IN_ALL {
            return Err(PageStoreError::TooLarge {
                what: "what relations grew by without records".to_owned(),
                len: in_all * BLCKSZ as u64,
                limit: UNEXPLAINED_IN_ALL * BLCKSZ as u64,
            });
        }
        Ok(())
    }

    /// Returns true when the relation is a hash index that at most doubled.
    fn reserves_buckets(&self, rel: RelTag, grown: &Grown, unexplained: u64) -> Result<bool> {
        let allowed = u64::from(grown.before) + grown.named + UNEXPLAINED;
        if unexplained > allowed {
            return Ok(false);
        }
        let last = self
            .timeline
            .get_page(rel, grown.after.saturating_sub(1), self.to)?;
        Ok(is_of_hash(&last))
    }
}

/// Returns true for a page of a hash index: its special space is 16 bytes long and ends with `HASHO_PAGE_ID`.
fn is_of_hash(page: &Page) -> bool {
    usize::from(page.special()) == BLCKSZ - 16 && page.as_bytes().ends_with(&[0x80, 0xff])
}

impl Grown {
    fn unexplained(&self) -> u64 {
        u64::from(self.after - self.before).saturating_sub(self.named)
    }
}
