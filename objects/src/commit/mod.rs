//! A commit: a signed-off position with all that another repository needs to trust and to start it.

mod bytes;
mod environment;

use jiff::Timestamp;
use neon_types::{CommitId, Lsn, ObjectId, Position, TimelineId};

use crate::ancestry::Line;
use crate::{ObjectsError, Result};

pub use bytes::{COMMIT_MAGIC, MAX_AUTHOR, MAX_COMMIT, MAX_DIGESTS, MAX_MESSAGE, MAX_SETTINGS};
pub use environment::Environment;

/// One stretch of a path: a timeline and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fork {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its number for Postgres.
    pub tli: u32,
    /// Where it leaves the timeline before it in the path; of the root, the LSN of the import.
    pub start: Lsn,
}

/// BLAKE3 of the WAL bytes `[start, end)` of one timeline: one rung of its digest ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WalDigest {
    /// Number of the WAL segment that holds the bytes.
    pub segment: u64,
    /// First byte: the segment's, or the timeline's first where it begins inside.
    pub start: Lsn,
    /// First byte behind: the segment's end, or the committed end in the open segment.
    pub end: Lsn,
    /// The digest.
    pub blake3: [u8; 32],
}

/// A position, signed off. Its name is the BLAKE3 of [`Commit::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where: the end of a whole record.
    pub position: Position,
    /// Start of the record that ends there: the prev-link of what comes next.
    pub prev_record: Lsn,
    /// Forks from the root to the position's timeline, which is the last.
    pub path: Vec<Fork>,
    /// The encoded checkpoint state at the position (`neon_postgres::checkpoint`); opaque here.
    pub checkpoint: Vec<u8>,
    /// Digests of the position's timeline since the parent, in WAL order.
    pub digests: Vec<WalDigest>,
    /// Commits before it; none for an import.
    pub parents: Vec<CommitId>,
    /// Identifier of the Postgres cluster.
    pub system_id: u64,
    /// What it needs to run.
    pub environment: Environment,
    /// `postgresql.auto.conf` at the position.
    pub settings: String,
    /// `Name <mail>`
    pub author: String,
    /// When it was made, in microseconds since 1970-01-01 00:00 UTC.
    pub time: i64,
    /// What was done.
    pub message: String,
}

impl Commit {
    /// Returns the canonical bytes: docs/format/commit.md.
    pub fn encode(&self) -> Vec<u8> {
        bytes::encode(self)
    }

    /// Returns the commit of these bytes; [`ObjectsError::BadCommit`] for any that [`Commit::encode`] does not make of a
    /// commit that makes sense.
    pub fn decode(bytes: &[u8]) -> Result<Commit> {
        let commit = bytes::decode(bytes).map_err(ObjectsError::BadCommit)?;
        commit.check().map_err(ObjectsError::BadCommit)?;
        Ok(commit)
    }

    /// Returns its name.
    pub fn id(&self) -> CommitId {
        CommitId(ObjectId::from_bytes(*blake3::hash(&self.encode()).as_bytes()))
    }

    /// Returns its line of descent, to compare with another's.
    pub fn line(&self) -> Line<'_> {
        Line {
            path: &self.path,
            lsn: self.position.lsn,
        }
    }

    /// Returns when it was made; clipped to what a calendar can say.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_microsecond(self.time).unwrap_or(if self.time < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }

    /// Returns what makes the commit impossible, if anything.
    fn check(&self) -> std::result::Result<(), String> {
        let end = self.position.lsn;
        crate::ancestry::check_path(&self.path, &self.position)?;
        if !end.0.is_multiple_of(8) || !end.is_valid() {
            return Err(format!("{end} is not the end of a record"));
        }
        if self.prev_record >= end {
            return Err(format!(
                "the last record starts at {}, not before {end}",
                self.prev_record
            ));
        }
        let mut last = Lsn::INVALID;
        for digest in &self.digests {
            if digest.start < last || digest.end <= digest.start || digest.end > end {
                return Err(format!(
                    "the digest of {}..{} is out of order",
                    digest.start, digest.end
                ));
            }
            last = digest.end;
        }
        self.check_texts()
    }

    /// Refuses what would act on the terminal of whoever reads it.
    fn check_texts(&self) -> std::result::Result<(), String> {
        let Environment {
            architecture,
            libc,
            icu,
            preload,
            ..
        } = &self.environment;
        let words = [&self.author, architecture, libc, icu].into_iter().chain(preload);
        let line = |text: &String| !text.contains(char::is_control);
        let lines = |text: &String| !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t');
        if words.into_iter().all(line) && lines(&self.message) && lines(&self.settings) {
            Ok(())
        } else {
            Err("its texts hold control characters".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::sample;
