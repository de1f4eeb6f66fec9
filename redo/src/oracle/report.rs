//! What the oracle found.

use std::collections::BTreeMap;
use std::fmt;

use neon_postgres::PgVersion;
use neon_postgres::wal::{Record, rmgr};
use neon_types::{Lsn, RelTag, with_causes};

use super::bases::Author;
use super::compare::Difference;
use super::fixture::Fixture;
use crate::{Damage, RedoError};

/// The outcome of one block reference.
pub(super) enum Finding {
    Equal,
    Differs(Difference),
    /// Image or page could not be read or masked.
    Failed(Damage),
    /// Replay failed.
    Redo(RedoError),
    /// The image was there to be restored.
    Restored,
    /// There is an image but no page before.
    NoBase,
    /// The page before is a visibility map page whose bits the log lost.
    MapLost,
    /// There is nothing to compare with.
    NoImage,
    Unsupported,
}

/// Numbers of block references of one kind of record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// References whose replayed page was compared with the image.
    pub checked: u64,
    /// Of those, how many differed or failed.
    pub mismatched: u64,
    /// References with an image to compare with but no page before.
    pub without_base: u64,
    /// References to visibility map pages whose bits the log lost before.
    pub map_lost: u64,
    /// References without an image to compare with.
    pub without_image: u64,
    /// References that are restored from their image.
    pub restored: u64,
    /// References that replay does not support.
    pub unsupported: u64,
    /// Pages whose LSN, given by a record of this kind, was seen in the next image.
    pub lsn_seen: u64,
    /// Pages whose next image showed another LSN.
    pub lsn_other: u64,
}

impl Counts {
    /// Returns the number of block references.
    pub fn references(&self) -> u64 {
        self.checked
            + self.without_base
            + self.map_lost
            + self.without_image
            + self.restored
            + self.unsupported
    }

    fn numbers(&self) -> [u64; 10] {
        [
            self.records,
            self.checked,
            self.mismatched,
            self.without_base,
            self.map_lost,
            self.without_image,
            self.restored,
            self.unsupported,
            self.lsn_seen,
            self.lsn_other,
        ]
    }
}

/// A reference whose page came out wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Name of the record.
    pub record: String,
    /// Its end.
    pub end: Lsn,
    /// The block's relation.
    pub rel: RelTag,
    /// The block.
    pub block: u32,
    /// Id of the reference.
    pub id: u8,
    /// Where the pages differ, or why there is no page.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch {
            record,
            end,
            rel,
            block,
            id,
            what,
        } = self;
        write!(
            f,
            "{record} ending at {end}, block {block} of {rel} (reference {id}): {what}"
        )
    }
}

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The version that wrote the log.
    pub version: PgVersion,
    /// By name of the kind of record.
    pub kinds: BTreeMap<String, Counts>,
    /// The first mismatches.
    pub mismatches: Vec<Mismatch>,
    /// The references that the first mismatches are about, where there is an image of the page after.
    pub failures: Vec<Fixture>,
    /// Pages that are kept in memory, 8 KiB each.
    pub pages: u64,
    /// The most pages that were kept at any time.
    pub most_pages: u64,
    /// Pages that were forgotten for want of room.
    pub evicted: u64,
    max_described: usize,
    names: BTreeMap<(u8, u8), String>,
}

impl Report {
    pub(super) fn new(version: PgVersion, max_described: usize) -> Report {
        Report {
            version,
            kinds: BTreeMap::new(),
            mismatches: Vec::new(),
            failures: Vec::new(),
            pages: 0,
            most_pages: 0,
            evicted: 0,
            max_described,
            names: BTreeMap::new(),
        }
    }

    /// Returns true while mismatches are described.
    pub(super) fn describes(&self) -> bool {
        self.mismatches.len() < self.max_described
    }

    fn kind(&mut self, rmid: u8, info: u8) -> &mut Counts {
        let version = self.version;
        let name = self.names.entry((rmid, info & 0xF0));
        let name = name.or_insert_with(|| rmgr::describe_kind(version, rmid, info));
        if !self.kinds.contains_key(name) {
            self.kinds.insert(name.clone(), Counts::default());
        }
        self.kinds.entry(name.clone()).or_default()
    }

    pub(super) fn count_record(&mut self, record: &Record) {
        self.kind(record.rmid, record.info).records += 1;
    }

    pub(super) fn count_lsn(&mut self, author: Author, seen: bool) {
        let counts = self.kind(author.rmid, author.info);
        if seen {
            counts.lsn_seen += 1;
        } else {
            counts.lsn_other += 1;
        }
    }

    pub(super) fn finish(&mut self, record: &Record, end: Lsn, index: usize, finding: Finding) {
        let counts = self.kind(record.rmid, record.info);
        let what = match finding {
            Finding::Equal => {
                counts.checked += 1;
                return;
            }
            Finding::Restored => {
                counts.restored += 1;
                return;
            }
            Finding::NoBase => {
                counts.without_base += 1;
                return;
            }
            Finding::MapLost => {
                counts.map_lost += 1;
                return;
            }
            Finding::NoImage => {
                counts.without_image += 1;
                return;
            }
            Finding::Unsupported => {
                counts.unsupported += 1;
                return;
            }
            Finding::Differs(Difference {
                at,
                expected,
                found,
                bytes,
            }) => {
                format!("byte {at} is {found:#04x} instead of {expected:#04x}, {bytes} bytes differ")
            }
            Finding::Failed(damage) => with_causes(&damage),
            Finding::Redo(error) => with_causes(&error),
        };
        counts.checked += 1;
        counts.mismatched += 1;
        let Some(reference) = record.blocks.get(index) else {
            return;
        };
        if self.describes() {
            self.mismatches.push(Mismatch {
                record: rmgr::describe(record),
                end,
                rel: reference.rel,
                block: reference.block,
                id: reference.id,
                what,
            });
        }
    }

    /// Returns the sum over all kinds of records.
    pub fn total(&self) -> Counts {
        self.kinds.values().fold(Counts::default(), |sum, counts| Counts {
            records: sum.records + counts.records,
            checked: sum.checked + counts.checked,
            mismatched: sum.mismatched + counts.mismatched,
            without_base: sum.without_base + counts.without_base,
            map_lost: sum.map_lost + counts.map_lost,
            without_image: sum.without_image + counts.without_image,
            restored: sum.restored + counts.restored,
            unsupported: sum.unsupported + counts.unsupported,
            lsn_seen: sum.lsn_seen + counts.lsn_seen,
            lsn_other: sum.lsn_other + counts.lsn_other,
        })
    }

    /// Returns a Markdown table, a row for each kind of record that names blocks: the numbers of [`Counts`] in their order. The last
    /// row is the total.
    pub fn to_markdown(&self) -> String {
        let mut table = format!(
            "| PostgreSQL {} | records | checked | mismatched | without base | map lost | without image | restored | unsupported | LSN seen | LSN other |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.version
        );
        let total = ("**total**".to_owned(), self.total());
        let rows = self.kinds.iter().filter(|(_, counts)| counts.references() > 0);
        for (name, counts) in rows.chain(std::iter::once((&total.0, &total.1))) {
            let cells: Vec<String> = counts.numbers().iter().map(u64::to_string).collect();
            table.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
        }
        table
    }
}
