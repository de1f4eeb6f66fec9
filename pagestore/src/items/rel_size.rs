//! Size of a relation fork, and below which LSN the versions of its blocks must not be read.

use neon_types::{Fork, Lsn, RelTag};

use super::ItemError;
use super::codec::{Reader, Writer};

const ITEM: &str = "relation size";
const HAS_COPIED: u8 = 1;
const HAS_CREATOR: u8 = 2;

/// Most cuts that are kept; see [`RelSize::truncate`].
pub const MAX_CUTS: usize = 256;

/// Blocks from `keep` on lost their contents at `lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Blocks that were kept: 0 for a new relation.
    pub keep: u32,
    /// End of the record that created or truncated.
    pub lsn: Lsn,
}

/// The fork began as a copy of another relation (CREATE DATABASE ... STRATEGY = FILE_COPY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Copied {
    /// What was copied.
    pub from: RelTag,
    /// The state that was copied.
    pub lsn: Lsn,
    /// Blocks that it had.
    pub blocks: u32,
}

/// The item of [`Key::RelSize`](neon_types::Key::RelSize). A dropped relation has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct RelSize {
    /// Number of blocks.
    pub size: u32,
    /// Floors, with both `keep` and `lsn` strictly ascending.
    pub cuts: Vec<Cut>,
    /// Where the blocks come from that were never written here.
    pub copied_from: Option<Copied>,
    /// Full id of the transaction that created the fork, 0 while no record has said which one. None when the fork was imported or
    /// copied, or when no record created it: then nobody's end decides whether it stays.
    pub creator: Option<u64>,
}

impl RelSize {
    /// Returns the size of a relation that was created empty by the record that ends at `lsn`.
    pub fn created(lsn: Lsn) -> RelSize {
        RelSize {
            size: 0,
            cuts: vec![Cut { keep: 0, lsn }],
            copied_from: None,
            creator: None,
        }
    }

    /// Returns the size of a relation that was imported with `size` blocks: nothing is older.
    pub fn imported(size: u32) -> RelSize {
        RelSize {
            size,
            cuts: Vec::new(),
            copied_from: None,
            creator: None,
        }
    }

    /// Returns the size of a relation that was copied whole from `from`, which had `blocks` blocks at `lsn`.
    pub fn copied(from: RelTag, lsn: Lsn, blocks: u32) -> RelSize {
        RelSize {
            size: blocks,
            cuts: vec![Cut { keep: 0, lsn }],
            copied_from: Some(Copied { from, lsn, blocks }),
            creator: None,
        }
    }

    /// Returns the LSN at and below which no version of `block` may be read; [`Lsn::INVALID`] if there is none.
    pub fn floor(&self, block: u32) -> Lsn {
        self.cuts
            .iter()
            .rev()
            .find(|cut| cut.keep <= block)
            .map_or(Lsn::INVALID, |cut| cut.lsn)
    }

    /// Returns the block of the same number to read instead, and at which LSN, when `block` has no version above its
    /// floor. None: it is a zero page.
    pub fn source(&self, block: u32) -> Option<(RelTag, Lsn)> {
        let copied = self.copied_from.as_ref()?;
        (block < copied.blocks && self.floor(block) <= copied.lsn).then_some((copied.from, copied.lsn))
    }

    /// Cuts the relation to `keep` blocks at `lsn`, which is not below any earlier cut.
    ///
    /// Beyond [`MAX_CUTS`] the cut that floors the fewest blocks (never the first or the last) is forgotten: one of those
    /// blocks that was not written since then shows what it held before, not zeros. It takes 257 truncations, each less
    /// deep than the one before.
    pub fn truncate(&mut self, keep: u32, lsn: Lsn) {
        self.cuts.retain(|cut| cut.keep < keep);
        self.cuts.push(Cut { keep, lsn });
        self.size = self.size.min(keep);
        if self.cuts.len() > MAX_CUTS {
            let floored = self.cuts.iter().zip(self.cuts.iter().skip(1)).enumerate();
            let least = floored
                .skip(1)
                .min_by_key(|(_, (cut, next))| next.keep - cut.keep)
                .map(|(index, _)| index);
            if let Some(index) = least {
                self.cuts.remove(index);
            }
        }
    }

    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let copied = if self.copied_from.is_some() { HAS_COPIED } else { 0 };
        let creator = if self.creator.is_some() { HAS_CREATOR } else { 0 };
        let mut out = Writer::new().u8(copied | creator).u32(self.size);
        if let Some(copied) = &self.copied_from {
            out = out
                .u32(copied.from.spc)
                .u32(copied.from.db)
                .u32(copied.from.rel)
                .u8(copied.from.fork as u8)
                .u64(copied.lsn.0)
                .u32(copied.blocks);
        }
        if let Some(creator) = self.creator {
            out = out.u64(creator);
        }
        for cut in &self.cuts {
            out = out.u32(cut.keep).u64(cut.lsn.0);
        }
        out.done()
    }

    /// Returns the item that these bytes encode.
    pub fn decode(bytes: &[u8]) -> Result<RelSize, ItemError> {
        let mut fields = Reader::new(ITEM, bytes)?;
        let flags = fields.u8()?;
        if flags & !(HAS_COPIED | HAS_CREATOR) != 0 {
            return Err(fields.bad("flag"));
        }
        let size = fields.u32()?;
        let copied_from = if flags & HAS_COPIED != 0 {
            let (spc, db, rel) = (fields.u32()?, fields.u32()?, fields.u32()?);
            let fork = Fork::from_number(fields.u8()?).ok_or_else(|| fields.bad("fork"))?;
            Some(Copied {
                from: RelTag { spc, db, rel, fork },
                lsn: Lsn(fields.u64()?),
                blocks: fields.u32()?,
            })
        } else {
            None
        };
        let creator = if flags & HAS_CREATOR != 0 {
            Some(fields.u64()?)
        } else {
            None
        };
        const CUT_SIZE: usize = 12;
        let cuts = fields.rest();
        let (cuts, rest) = cuts.as_chunks::<CUT_SIZE>();
        let length = ItemError::Length {
            item: ITEM,
            length: bytes.len(),
        };
        if !rest.is_empty() || cuts.len() > MAX_CUTS {
            return Err(length);
        }
        let cuts: Vec<Cut> = cuts
            .iter()
            .map(|[a, b, c, d, lsn @ ..]| Cut {
                keep: u32::from_le_bytes([*a, *b, *c, *d]),
                lsn: Lsn(u64::from_le_bytes(*lsn)),
            })
            .collect();
        let ascending = |pair: (&Cut, &Cut)| pair.0.keep < pair.1.keep && pair.0.lsn <= pair.1.lsn;
        if !cuts.iter().zip(cuts.iter().skip(1)).all(ascending) {
            return Err(ItemError::Field {
                item: ITEM,
                field: "order of cuts",
            });
        }
        Ok(RelSize {
            size,
            cuts,
            copied_from,
            creator,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: RelTag = RelTag {
        spc: 1663,
        db: 1,
        rel: 1259,
        fork: Fork::Main,
    };

    #[test]
    fn the_floor_is_the_last_cut_at_or_below_the_block() {
        let mut size = RelSize::created(Lsn(100));
        size.size = 50;
        size.truncate(40, Lsn(200));
        size.size = 60;
        size.truncate(50, Lsn(300));
        let floors: Vec<u64> = [0, 39, 40, 49, 50, u32::MAX]
            .map(|block| size.floor(block).0)
            .to_vec();
        assert_eq!(floors, [100, 100, 200, 200, 300, 300]);
        size.truncate(10, Lsn(400));
        assert_eq!(
            size.cuts,
            [
                Cut {
                    keep: 0,
                    lsn: Lsn(100)
                },
                Cut {
                    keep: 10,
                    lsn: Lsn(400)
                }
            ]
        );
        assert_eq!(size.size, 10);
        assert_eq!(RelSize::imported(7).floor(6), Lsn::INVALID);
    }

    #[test]
    fn a_copied_block_is_read_from_its_source_until_it_is_cut() {
        let mut size = RelSize::copied(SOURCE, Lsn(100), 10);
        size.size = 20;
        assert_eq!(size.source(9), Some((SOURCE, Lsn(100))));
        assert_eq!(size.source(10), None, "the source had 10 blocks");
        size.truncate(5, Lsn(200));
        size.size = 20;
        assert_eq!(size.source(4), Some((SOURCE, Lsn(100))));
        assert_eq!(size.source(5), None, "cut");
    }

    #[test]
    fn items_round_trip_and_damage_is_refused() {
        let mut copied = RelSize::copied(SOURCE, Lsn(u64::MAX - 1), 10);
        copied.truncate(3, Lsn(u64::MAX));
        let mut created = RelSize::created(Lsn(8));
        created.creator = Some(1 << 32 | 700);
        copied.creator = Some(0);
        for size in [RelSize::imported(0), RelSize::created(Lsn(8)), created, copied] {
            let bytes = size.encode();
            assert_eq!(RelSize::decode(&bytes), Ok(size));
            for length in 0..bytes.len() {
                let cut = RelSize::decode(&bytes[..length]);
                assert!(
                    cut.is_err() || (bytes.len() - length) % 12 == 0,
                    "cut at {length}: {cut:?}"
                );
            }
        }
        assert_eq!(
            RelSize::decode(&[2, 0, 0, 0, 0, 0]),
            Err(ItemError::Version {
                item: ITEM,
                version: 2
            })
        );
        assert!(
            RelSize::decode(&[1, 4, 0, 0, 0, 0]).is_err(),
            "an unknown flag was taken"
        );
        let mut unordered = RelSize::created(Lsn(1));
        unordered.cuts.push(Cut { keep: 0, lsn: Lsn(2) });
        assert!(RelSize::decode(&unordered.encode()).is_err());
    }

    #[test]
    fn cuts_are_bounded() {
        let mut size = RelSize::created(Lsn(1));
        for step in 1..1000_u32 {
            size.size = 10 * step + 5;
            size.truncate(10 * step, Lsn(u64::from(step) + 1));
        }
        assert_eq!(size.cuts.len(), MAX_CUTS);
        assert_eq!(size.floor(9990), Lsn(1000), "the newest cut stays");
        assert_eq!(size.floor(0), Lsn(1), "the first cut stays");
        assert_eq!(RelSize::decode(&size.encode()), Ok(size));
    }
}
