//! What can go wrong here, a variant per decision that a caller can take.

use std::io;
use std::path::{Path, PathBuf};

use neon_objects::ObjectsError;
use neon_types::{Key, LayerId, LayerMapId, Lsn, LsnRange, ObjectId, RelTag, TimelineId};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, PageStoreError>;

/// Why the page store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PageStoreError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as "read".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Whoever is told of the progress wanted the work to end.
    #[error("interrupted")]
    Interrupted,
    /// The object store refused.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// A layer's bytes are not what a layer's must be; other layers are not affected.
    #[error("layer {layer} is damaged: {reason}")]
    DamagedLayer {
        /// Its name.
        layer: LayerId,
        /// What is wrong.
        reason: String,
    },
    /// A layer map's bytes are not what a layer map's must be.
    #[error("layer map {map} is damaged: {reason}")]
    DamagedMap {
        /// Its name.
        map: LayerMapId,
        /// What is wrong.
        reason: String,
    },
    /// A timeline's state file is not what it must be.
    #[error("the state of timeline {timeline} is damaged: {reason}")]
    DamagedState {
        /// Which timeline.
        timeline: TimelineId,
        /// What is wrong.
        reason: String,
    },
    /// Stored or received bytes could not be decoded.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// What was decoded.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// No timeline of that id is here.
    #[error("timeline {0} is not in this repository")]
    NoSuchTimeline(TimelineId),
    /// A timeline of that id is here already.
    #[error("timeline {0} exists already")]
    TimelineExists(TimelineId),
    /// Other timelines read through this one.
    #[error("timeline {timeline} is needed by timeline {child}, which forks from it")]
    TimelineNeeded {
        /// The timeline that was to be removed.
        timeline: TimelineId,
        /// One that forks from it.
        child: TimelineId,
    },
    /// The LSN is not held on this timeline or its ancestors.
    #[error("timeline {timeline} cannot be read at {lsn}: it is readable from {} to {}", readable.start, readable.end)]
    NotReadable {
        /// Which timeline.
        timeline: TimelineId,
        /// What was asked for.
        lsn: Lsn,
        /// What is held.
        readable: LsnRange,
    },
    /// The history at the LSN was dropped, as retention said.
    #[error(
        "the history of timeline {timeline} at {lsn} was dropped by retention{}",
        readable_again(from)
    )]
    Dropped {
        /// Which timeline.
        timeline: TimelineId,
        /// What was asked for.
        lsn: Lsn,
        /// The lowest position above it that can be read.
        from: Option<Lsn>,
    },
    /// No record of this history ends at or below the LSN.
    #[error("no record ends at or below {0} in this history")]
    NoRecord(Lsn),
    /// The relation does not exist at that LSN.
    #[error("relation {rel} does not exist at {lsn}")]
    NoRelation {
        /// Which relation fork.
        rel: RelTag,
        /// When.
        lsn: Lsn,
    },
    /// The relation is not that long at that LSN.
    #[error("relation {rel} has {size} blocks at {lsn}: there is no block {block}")]
    NoBlock {
        /// Which relation fork.
        rel: RelTag,
        /// The block asked for.
        block: u32,
        /// Its size in blocks.
        size: u32,
        /// When.
        lsn: Lsn,
    },
    /// A page needs a record that this release cannot replay; it is stored, so a later release can.
    #[error("{key:?} needs the record {name} that ends at {lsn}, which this release cannot replay")]
    Unsupported {
        /// The key whose value was asked for.
        key: Key,
        /// Name of the record type, as "Gin/INSERT".
        name: String,
        /// End of the record.
        lsn: Lsn,
    },
    /// A page could not be rebuilt: the record does not fit the page.
    #[error("cannot rebuild {key:?} from the record that ends at {lsn}: {reason}")]
    Redo {
        /// The key whose value was asked for.
        key: Key,
        /// End of the record that failed.
        lsn: Lsn,
        /// What redo said.
        reason: String,
    },
    /// A value has another type than its key.
    #[error("{key:?} has a value of another kind at {lsn}")]
    WrongKind {
        /// The key.
        key: Key,
        /// The version.
        lsn: Lsn,
    },
    /// The WAL does not continue what is held.
    #[error("WAL at {at} does not continue timeline {timeline}, of which {} to {} may be written", allowed.start, allowed.end)]
    NotContiguous {
        /// Which timeline.
        timeline: TimelineId,
        /// Where the bytes were to go.
        at: Lsn,
        /// From the last whole record to the last byte received.
        allowed: LsnRange,
    },
    /// The WAL bytes at that place are not records of this timeline.
    #[error("the WAL of timeline {timeline} breaks off at {lsn}: {reason}")]
    BrokenWal {
        /// Which timeline.
        timeline: TimelineId,
        /// End of the last whole record.
        lsn: Lsn,
        /// What is wrong.
        reason: String,
    },
    /// The WAL was trimmed, or came here as layers.
    #[error("the WAL of timeline {timeline} at {at} is not kept any more: it begins at {start}")]
    WalGone {
        /// Which timeline.
        timeline: TimelineId,
        /// What was asked for.
        at: Lsn,
        /// First byte that is kept.
        start: Lsn,
    },
    /// An fsync of WAL failed earlier: nothing is acknowledged until the timeline's WAL was reopened.
    #[error(
        "an fsync of the WAL of timeline {0} failed; reopen it and receive again from the last acknowledged LSN"
    )]
    Poisoned(TimelineId),
    /// What was offered does not make the range readable, or claims what its layers do not hold.
    #[error("the parts offered for timeline {timeline} are refused: {reason}")]
    Refused {
        /// Which timeline.
        timeline: TimelineId,
        /// What is wrong with them.
        reason: String,
    },
    /// A record or item is larger than the formats allow.
    #[error("{what} has {len} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A source directory could not be imported.
    #[error(transparent)]
    Import(#[from] Box<crate::import::ImportError>),
    /// A relation grew by more blocks than records explain.
    #[error("relation {rel} grew from {before} to {after} blocks, and records name {named} of the new ones")]
    Unexplained {
        /// Which relation fork.
        rel: RelTag,
        /// Blocks that it had.
        before: u32,
        /// Blocks that it would have.
        after: u32,
        /// New blocks that a record names.
        named: u64,
    },
    /// The caller's own function stopped the scan.
    #[error("stopped: {0}")]
    Stopped(String),
}

fn readable_again(from: &Option<Lsn>) -> String {
    from.map_or_else(String::new, |from| format!(": it can be read from {from} on"))
}

impl PageStoreError {
    /// Returns a closure for `map_err` that says what was tried on which file.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> PageStoreError {
        let path = path.as_ref().to_owned();
        move |source| PageStoreError::Io { action, path, source }
    }

    /// Returns the object that is missing or damaged, where that is what went wrong.
    pub fn object(&self) -> Option<ObjectId> {
        match self {
            PageStoreError::Objects(ObjectsError::Missing(id) | ObjectsError::Damaged { id, .. }) => {
                Some(*id)
            }
            PageStoreError::DamagedLayer { layer, .. } => Some(layer.0),
            PageStoreError::DamagedMap { map, .. } => Some(map.0),
            _ => None,
        }
    }

    /// Returns an error for bytes that cannot be decoded.
    pub fn damaged(what: impl Into<String>, reason: impl ToString) -> PageStoreError {
        PageStoreError::Damaged {
            what: what.into(),
            reason: reason.to_string(),
        }
    }
}
