//! WAL as people read it: the records between two revisions, and those of a directory of segments.

use std::path::Path;

use neon_objects::ancestry;
use neon_pagestore::PageStoreError;
use neon_postgres::records::summary;
use neon_postgres::wal::{Compression, Record, rmgr};
use neon_redo::oracle::Segments;
use neon_types::{Lsn, LsnRange};

use crate::api::{WalBlock, WalImage, WalPage, WalRecord};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// Most records of one answer.
const PAGE: usize = 20_000;

impl Repository {
    /// Returns the first records of `FROM..TO` that begin at or after `after`. Both ends are revisions, HEAD when left out, and FROM lies
    /// on the line of TO.
    pub(crate) fn wal(&self, range: &str, after: Option<Lsn>) -> Result<WalPage> {
        let (from, to) = range.split_once("..").ok_or_else(|| {
            RepoError::refused(
                format!("'{range}' is not a range"),
                "give two revisions: FROM..TO",
            )
        })?;
        let end = |rev: &str| self.resolve(Some(rev).filter(|rev| !rev.is_empty()));
        let (from, to) = (end(from)?, end(to)?);
        let mut notes = from.notes;
        notes.extend(to.notes);
        let (from, to) = (from.place, to.place);
        if from.line() != to.line() && !ancestry::is_ancestor(from.line(), to.line()) {
            return Err(RepoError::refused(
                format!("{} does not lead to {}", from.position(), to.position()),
                "a range goes forward along one line of history",
            ));
        }
        let mut page = WalPage {
            records: Vec::new(),
            next: None,
            notes,
        };
        for (index, fork) in to.path.iter().enumerate() {
            let left = to.path.get(index + 1).map_or(to.lsn, |next| next.start);
            let range = LsnRange {
                start: fork.start.max(from.lsn).max(after.unwrap_or(Lsn::INVALID)),
                end: left.min(to.lsn),
            };
            if range.is_empty() {
                continue;
            }
            let timeline = self.timeline(fork.timeline)?;
            if range.start < timeline.wal_start() {
                return Err(PageStoreError::WalGone {
                    timeline: fork.timeline,
                    at: range.start,
                    start: timeline.wal_start(),
                }
                .into());
            }
            timeline.for_each_record(range, &mut |record, start, end| {
                if page.records.len() == PAGE {
                    page.next = Some(start);
                    return false;
                }
                page.records.push(describe(record, start, end));
                true
            })?;
            if page.next.is_some() {
                break;
            }
        }
        Ok(page)
    }
}

/// Calls `f` with every record of the segments in a directory, in order, until it returns false.
pub fn of_segments(directory: &Path, f: &mut dyn FnMut(WalRecord) -> bool) -> Result<()> {
    let failed = |error: neon_redo::oracle::OracleError| {
        RepoError::refused(
            format!("cannot read the WAL in {}: {error}", directory.display()),
            "give a directory of whole segment files of one timeline",
        )
    };
    let mut segments = Segments::open(directory).map_err(failed)?;
    let version = segments.version();
    while let Some(raw) = segments.next_record(&mut |_| {}).map_err(failed)? {
        let start = raw.start;
        let record = Record::decode(version, raw.bytes)
            .map_err(|error| PageStoreError::damaged(format!("the record at {start}"), error))?;
        if !f(describe(&record, start, raw.end)) {
            break;
        }
    }
    Ok(())
}

fn describe(record: &Record, start: Lsn, end: Lsn) -> WalRecord {
    let blocks = record.blocks.iter().map(|block| WalBlock {
        id: block.id,
        tablespace: block.rel.spc,
        database: block.rel.db,
        relation: block.rel.rel,
        fork: fork_name(block.rel.fork).to_owned(),
        block: block.block,
        image: block.image.as_ref().map(|image| WalImage {
            apply: image.apply,
            hole_offset: image.hole_offset,
            hole_length: image.hole_length,
            compression: compression_name(image.compression).map(str::to_owned),
        }),
    });
    WalRecord {
        lsn: start,
        end,
        length: record.bytes().len() as u64,
        xid: record.xid,
        prev: record.prev,
        kind: rmgr::describe(record),
        blocks: blocks.collect(),
        summary: summary(record),
    }
}

fn fork_name(fork: neon_types::Fork) -> &'static str {
    match fork {
        neon_types::Fork::Main => "main",
        neon_types::Fork::FreeSpaceMap => "fsm",
        neon_types::Fork::VisibilityMap => "vm",
        neon_types::Fork::Init => "init",
    }
}

fn compression_name(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Pglz => Some("pglz"),
        Compression::Lz4 => Some("lz4"),
        Compression::Zstd => Some("zstd"),
    }
}
