//! What a page store keeps versions of.

use std::cmp::Ordering;
use std::fmt;

use crate::Lsn;

/// A fork of a relation (`ForkNumber`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fork {
    /// `MAIN_FORKNUM`
    Main = 0,
    /// `FSM_FORKNUM`
    FreeSpaceMap = 1,
    /// `VISIBILITYMAP_FORKNUM`
    VisibilityMap = 2,
    /// `INIT_FORKNUM`
    Init = 3,
}

impl Fork {
    /// Returns the fork of that number (`ForkNumber`, 0 to 3).
    pub fn from_number(number: u8) -> Option<Fork> {
        Some(match number {
            0 => Fork::Main,
            1 => Fork::FreeSpaceMap,
            2 => Fork::VisibilityMap,
            3 => Fork::Init,
            _ => return None,
        })
    }

    /// Returns what Postgres appends to the file name: nothing, `_fsm`, `_vm`, `_init`.
    pub fn suffix(self) -> &'static str {
        match self {
            Fork::Main => "",
            Fork::FreeSpaceMap => "_fsm",
            Fork::VisibilityMap => "_vm",
            Fork::Init => "_init",
        }
    }
}

/// One fork of one relation file (`RelFileNode` / `RelFileLocator` with its fork).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelTag {
    /// Tablespace oid; 1663 is `pg_default`, 1664 `pg_global`.
    pub spc: u32,
    /// Database oid; 0 for shared relations.
    pub db: u32,
    /// Relation file number.
    pub rel: u32,
    /// Which fork.
    pub fork: Fork,
}

impl RelTag {
    /// Returns another fork of the same relation.
    pub fn with_fork(self, fork: Fork) -> RelTag {
        RelTag { fork, ..self }
    }
}

impl fmt::Display for RelTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}{}", self.spc, self.db, self.rel, self.fork.suffix())
    }
}

/// Postgres's "simple LRU" page files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SlruKind {
    /// `pg_xact`: two bits a transaction.
    Clog = 0,
    /// `pg_multixact/offsets`
    MultixactOffsets = 1,
    /// `pg_multixact/members`
    MultixactMembers = 2,
    /// `pg_commit_ts`
    CommitTs = 3,
}

impl SlruKind {
    /// Every kind, in order.
    pub const ALL: [SlruKind; 4] = [
        SlruKind::Clog,
        SlruKind::MultixactOffsets,
        SlruKind::MultixactMembers,
        SlruKind::CommitTs,
    ];

    /// Returns the kind of that number (its place in [`SlruKind::ALL`]).
    pub fn from_number(number: u8) -> Option<SlruKind> {
        SlruKind::ALL.get(usize::from(number)).copied()
    }

    /// Returns its directory in a data directory.
    pub fn directory(self) -> &'static str {
        match self {
            SlruKind::Clog => "pg_xact",
            SlruKind::MultixactOffsets => "pg_multixact/offsets",
            SlruKind::MultixactMembers => "pg_multixact/members",
            SlruKind::CommitTs => "pg_commit_ts",
        }
    }
}

/// One thing that has versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The checkpoint state: every field of `CheckPoint`, the time of the last record that has one, control-file
    /// parameters. Exact at every record boundary.
    Checkpoint,
    /// The starts and ends of the records whose start lies in mebibyte number `mebibyte` of the WAL.
    Boundaries {
        /// `start >> 20`
        mebibyte: u64,
    },
    /// A file that WAL does not describe and that is carried along, named by the 64-bit hash of its path.
    File {
        /// First 8 bytes (big-endian) of the BLAKE3 of the path relative to the data directory.
        path_hash: u64,
    },
    /// A tablespace exists.
    Tablespace {
        /// Its oid.
        spc: u32,
    },
    /// A database directory exists, with its `PG_VERSION`.
    Database {
        /// Tablespace oid.
        spc: u32,
        /// Database oid.
        db: u32,
    },
    /// `pg_filenode.map` of a database, or with `db` 0 the shared one.
    RelMap {
        /// Tablespace oid.
        spc: u32,
        /// Database oid.
        db: u32,
    },
    /// The state file of a prepared transaction.
    TwoPhase {
        /// Full transaction id: epoch in the upper half.
        xid: u64,
    },
    /// Progress of a replication origin.
    ReplicationOrigin {
        /// `RepOriginId`
        id: u16,
    },
    /// Which segments of an SLRU exist.
    SlruSegments(SlruKind),
    /// One page of an SLRU.
    SlruPage {
        /// Which SLRU.
        kind: SlruKind,
        /// Page number, 8 kB each.
        page: u64,
    },
    /// Size of a relation fork, and what floors its blocks.
    RelSize(RelTag),
    /// The first record of a relation fork since it was created that redo does not know, so that its pages cannot be rebuilt.
    Unreadable(RelTag),
    /// One block of a relation fork.
    Block(RelTag, u32),
}

/// Bytes of a [`PackedKey`].
pub const PACKED_KEY_SIZE: usize = 18;

/// A [`Key`] as 18 bytes whose byte order is the order of keys in layers.
///
/// ```text
/// byte 0    kind: 1 checkpoint, 2 boundaries, 3 file, 4 tablespace, 5 database, 6 relation map, 7 two-phase,
///                 8 replication origin, 9 SLRU segments, 10 SLRU page, 11 relation size, 12 unreadable relation, 16 block
/// 1..18     fields, big-endian, zero-padded:
///           boundaries, file, two-phase: u64 | tablespace: spc u32 | database, relation map: spc u32, db u32
///           origin: id u16 | SLRU segments: kind u8 | SLRU page: kind u8, page u64
///           relation size, unreadable: spc u32, db u32, rel u32, fork u8 | block: the same and block u32
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedKey(pub [u8; PACKED_KEY_SIZE]);

/// That of the bytes. As two numbers, because comparisons of keys are a tenth of what reads and ingest cost when each one is a
/// call of `memcmp`.
impl Ord for PackedKey {
    fn cmp(&self, other: &PackedKey) -> Ordering {
        self.numbers().cmp(&other.numbers())
    }
}

impl PartialOrd for PackedKey {
    fn partial_cmp(&self, other: &PackedKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PackedKey {
    /// Returns the bytes as two big-endian numbers.
    fn numbers(&self) -> (u128, u16) {
        let [high @ .., last_but_one, last] = self.0;
        (
            u128::from_be_bytes(high),
            u16::from_be_bytes([last_but_one, last]),
        )
    }

    /// Below every key.
    pub const MIN: PackedKey = PackedKey([0; PACKED_KEY_SIZE]);
    /// Above every key.
    pub const MAX: PackedKey = PackedKey([0xff; PACKED_KEY_SIZE]);

    /// Returns the next packed key in byte order; [`PackedKey::MAX`] stays itself.
    pub fn next(mut self) -> PackedKey {
        if self == PackedKey::MAX {
            return self;
        }
        for byte in self.0.iter_mut().rev() {
            let (sum, carry) = byte.overflowing_add(1);
            *byte = sum;
            if !carry {
                break;
            }
        }
        self
    }
}

impl fmt::Debug for PackedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Key::unpack(self) {
            Ok(key) => write!(f, "{key:?}"),
            Err(_) => self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// The 18 bytes are not a key of this format version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: {0:02x?}")]
pub struct ParseKeyError(pub [u8; PACKED_KEY_SIZE]);

const CHECKPOINT: u8 = 1;
const BOUNDARIES: u8 = 2;
const FILE: u8 = 3;
const TABLESPACE: u8 = 4;
const DATABASE: u8 = 5;
const REL_MAP: u8 = 6;
const TWO_PHASE: u8 = 7;
const REPLICATION_ORIGIN: u8 = 8;
const SLRU_SEGMENTS: u8 = 9;
const SLRU_PAGE: u8 = 10;
const REL_SIZE: u8 = 11;
const UNREADABLE: u8 = 12;
const BLOCK: u8 = 16;

/// Writes big-endian fields behind the kind byte.
struct Fields {
    bytes: [u8; PACKED_KEY_SIZE],
    at: usize,
}

impl Fields {
    fn new(kind: u8) -> Fields {
        let mut fields = Fields {
            bytes: [0; PACKED_KEY_SIZE],
            at: 0,
        };
        fields.put(&[kind]);
        fields
    }

    fn put(&mut self, value: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.at).zip(value) {
            *to = *from;
        }
        self.at += value.len();
    }

    fn u32(mut self, value: u32) -> Fields {
        self.put(&value.to_be_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Fields {
        self.put(&value.to_be_bytes());
        self
    }

    fn u8(mut self, value: u8) -> Fields {
        self.put(&[value]);
        self
    }

    fn rel(self, rel: RelTag) -> Fields {
        self.u32(rel.spc).u32(rel.db).u32(rel.rel).u8(rel.fork as u8)
    }

    fn done(self) -> PackedKey {
        PackedKey(self.bytes)
    }
}

impl Key {
    /// Returns the key as 18 bytes in key order.
    pub fn pack(&self) -> PackedKey {
        match *self {
            Key::Checkpoint => Fields::new(CHECKPOINT),
            Key::Boundaries { mebibyte } => Fields::new(BOUNDARIES).u64(mebibyte),
            Key::File { path_hash } => Fields::new(FILE).u64(path_hash),
            Key::Tablespace { spc } => Fields::new(TABLESPACE).u32(spc),
            Key::Database { spc, db } => Fields::new(DATABASE).u32(spc).u32(db),
            Key::RelMap { spc, db } => Fields::new(REL_MAP).u32(spc).u32(db),
            Key::TwoPhase { xid } => Fields::new(TWO_PHASE).u64(xid),
            Key::ReplicationOrigin { id } => {
                let mut fields = Fields::new(REPLICATION_ORIGIN);
                fields.put(&id.to_be_bytes());
                fields
            }
            Key::SlruSegments(kind) => Fields::new(SLRU_SEGMENTS).u8(kind as u8),
            Key::SlruPage { kind, page } => Fields::new(SLRU_PAGE).u8(kind as u8).u64(page),
            Key::RelSize(rel) => Fields::new(REL_SIZE).rel(rel),
            Key::Unreadable(rel) => Fields::new(UNREADABLE).rel(rel),
            Key::Block(rel, block) => Fields::new(BLOCK).rel(rel).u32(block),
        }
        .done()
    }

    /// Returns the key that was packed; an error for bytes that [`Key::pack`] never makes.
    pub fn unpack(packed: &PackedKey) -> Result<Key, ParseKeyError> {
        let bytes = &packed.0;
        let bad = || ParseKeyError(*bytes);
        let field = |at: usize, length: usize| -> Result<u64, ParseKeyError> {
            let slice = bytes.get(at..at + length).ok_or_else(bad)?;
            Ok(slice.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        let u32_at = |at: usize| field(at, 4).and_then(|value| u32::try_from(value).map_err(|_| bad()));
        let u8_at = |at: usize| bytes.get(at).copied().ok_or_else(bad);
        let slru = |at: usize| u8_at(at).and_then(|number| SlruKind::from_number(number).ok_or_else(bad));
        let rel = || -> Result<RelTag, ParseKeyError> {
            let fork = Fork::from_number(u8_at(13)?).ok_or_else(bad)?;
            Ok(RelTag {
                spc: u32_at(1)?,
                db: u32_at(5)?,
                rel: u32_at(9)?,
                fork,
            })
        };
        let key = match u8_at(0)? {
            CHECKPOINT => Key::Checkpoint,
            BOUNDARIES => Key::Boundaries {
                mebibyte: field(1, 8)?,
            },
            FILE => Key::File {
                path_hash: field(1, 8)?,
            },
            TABLESPACE => Key::Tablespace { spc: u32_at(1)? },
            DATABASE => Key::Database {
                spc: u32_at(1)?,
                db: u32_at(5)?,
            },
            REL_MAP => Key::RelMap {
                spc: u32_at(1)?,
                db: u32_at(5)?,
            },
            TWO_PHASE => Key::TwoPhase { xid: field(1, 8)? },
            REPLICATION_ORIGIN => Key::ReplicationOrigin {
                id: u16::try_from(field(1, 2)?).map_err(|_| bad())?,
            },
            SLRU_SEGMENTS => Key::SlruSegments(slru(1)?),
            SLRU_PAGE => Key::SlruPage {
                kind: slru(1)?,
                page: field(2, 8)?,
            },
            REL_SIZE => Key::RelSize(rel()?),
            UNREADABLE => Key::Unreadable(rel()?),
            BLOCK => Key::Block(rel()?, u32_at(14)?),
            _ => return Err(bad()),
        };
        // Padding must be zero, or one key would have two spellings.
        if key.pack() == *packed {
            Ok(key)
        } else {
            Err(bad())
        }
    }

    /// Returns the boundaries key of the record that starts at `start`.
    pub fn boundaries_of(start: Lsn) -> Key {
        Key::Boundaries {
            mebibyte: start.0 >> 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(fork: Fork) -> RelTag {
        RelTag {
            spc: 1663,
            db: 5,
            rel: 16384,
            fork,
        }
    }

    fn samples() -> Vec<Key> {
        vec![
            Key::Checkpoint,
            Key::Boundaries { mebibyte: 7 },
            Key::File { path_hash: u64::MAX },
            Key::Tablespace { spc: 1 },
            Key::Database { spc: 1663, db: 5 },
            Key::RelMap { spc: 1664, db: 0 },
            Key::TwoPhase { xid: 1 << 33 },
            Key::ReplicationOrigin { id: 513 },
            Key::SlruSegments(SlruKind::CommitTs),
            Key::SlruPage {
                kind: SlruKind::Clog,
                page: 99,
            },
            Key::RelSize(rel(Fork::Main)),
            Key::RelSize(rel(Fork::Init)),
            Key::Unreadable(rel(Fork::Main)),
            Key::Block(rel(Fork::Main), 0),
            Key::Block(rel(Fork::Main), u32::MAX),
            Key::Block(rel(Fork::VisibilityMap), 1),
        ]
    }

    #[test]
    fn keys_round_trip_and_packed_order_is_key_order() {
        let keys = samples();
        for key in &keys {
            assert_eq!(Key::unpack(&key.pack()), Ok(*key));
        }
        assert!(
            keys.windows(2).all(|pair| pair[0].pack() < pair[1].pack()),
            "packed order differs"
        );
    }

    #[test]
    fn packed_keys_are_ordered_as_their_bytes() {
        let mut keys = vec![PackedKey::MIN, PackedKey::MAX];
        for place in 0..PACKED_KEY_SIZE {
            for byte in [1, 0x7f, 0x80, 0xff] {
                let mut key = PackedKey([3; PACKED_KEY_SIZE]);
                key.0[place] = byte;
                keys.push(key);
            }
        }
        for (a, b) in keys.iter().flat_map(|a| keys.iter().map(move |b| (a, b))) {
            assert_eq!(a.cmp(b), a.0.cmp(&b.0), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn one_key_has_one_spelling() {
        let mut packed = Key::Checkpoint.pack();
        packed.0[17] = 1;
        assert!(Key::unpack(&packed).is_err());
        assert!(Key::unpack(&PackedKey::MIN).is_err());
        assert!(Key::unpack(&PackedKey::MAX).is_err());
    }

    #[test]
    fn next_carries() {
        let mut packed = PackedKey::MIN;
        packed.0[17] = 0xff;
        let next = packed.next();
        assert_eq!((next.0[16], next.0[17]), (1, 0));
        assert_eq!(PackedKey::MAX.next(), PackedKey::MAX);
    }
}
