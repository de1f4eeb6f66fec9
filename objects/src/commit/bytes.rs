//! The bytes of a commit, version 1. All integers little-endian; a *block* is a u32 length and so many bytes; a *list* is a
//! u32 count and so many items. docs/format/commit.md has every offset.
//!
//! ```text
//! magic "NEONCMIT" | version u32 | timeline [16] | lsn u64 | prev record u64 | system id u64 | time i64
//! | path list (timeline [16], tli u32, start u64) | checkpoint block | digests list (segment u64, start u64, end u64, [32])
//! | parents list ([32]) | pg_version_num u32 | segment size u32 | flags u8 | architecture, libc, icu blocks
//! | preload list of blocks | settings block | author block | message block
//! ```
//!
//! No checksum inside: the name of the object is one over all of it.

use neon_types::{CommitId, Lsn, ObjectId, Position, TimelineId};

use super::{Commit, Environment, Fork, WalDigest};
use crate::codec::{Decoder, Encoder};

/// First bytes of every commit; tells it from other kinds of objects.
pub const COMMIT_MAGIC: [u8; 8] = *b"NEONCMIT";
/// Longest commit, in bytes: half of the longest message of the protocol, so that a commit never keeps a branch from being pulled.
pub const MAX_COMMIT: usize = 8 << 20;
/// Most digests of one commit; of more the newest are kept. 1.6 TB of WAL in segments of 16 MB.
pub const MAX_DIGESTS: usize = 100_000;
/// Longest settings, in bytes.
pub const MAX_SETTINGS: usize = 256 << 10;
/// Longest author, in bytes.
pub const MAX_AUTHOR: usize = 1 << 10;
/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;

const VERSION: u32 = 1;
const CHAR_SIGNED: u8 = 1;
const CHECKSUMS: u8 = 2;

pub(super) const MAX_PATH: usize = 4096;
const MAX_CHECKPOINT: usize = 64 << 10;
const MAX_PARENTS: usize = 16;
const MAX_PRELOAD: usize = 64;
const MAX_WORD: usize = 256;

pub(super) fn encode(commit: &Commit) -> Vec<u8> {
    let mut to = Encoder::default();
    to.raw(&COMMIT_MAGIC);
    to.u32(VERSION);
    to.raw(&commit.position.timeline.0);
    to.u64(commit.position.lsn.0);
    to.u64(commit.prev_record.0);
    to.u64(commit.system_id);
    to.i64(commit.time);
    to.count(commit.path.len());
    for fork in &commit.path {
        to.raw(&fork.timeline.0);
        to.u32(fork.tli);
        to.u64(fork.start.0);
    }
    to.block(&commit.checkpoint);
    to.count(commit.digests.len());
    for digest in &commit.digests {
        to.u64(digest.segment);
        to.u64(digest.start.0);
        to.u64(digest.end.0);
        to.raw(&digest.blake3);
    }
    to.count(commit.parents.len());
    for parent in &commit.parents {
        to.raw(&parent.0.to_bytes());
    }
    encode_environment(&commit.environment, &mut to);
    to.block(commit.settings.as_bytes());
    to.block(commit.author.as_bytes());
    to.block(commit.message.as_bytes());
    to.bytes
}

fn encode_environment(environment: &Environment, to: &mut Encoder) {
    to.u32(environment.pg_version_num);
    to.u32(environment.segment_size);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    to.u8(flag(environment.char_signed, CHAR_SIGNED) | flag(environment.checksums, CHECKSUMS));
    to.block(environment.architecture.as_bytes());
    to.block(environment.libc.as_bytes());
    to.block(environment.icu.as_bytes());
    to.count(environment.preload.len());
    for library in &environment.preload {
        to.block(library.as_bytes());
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Commit, String> {
    if bytes.len() > MAX_COMMIT {
        return Err(format!(
            "{} bytes are more than the limit of {MAX_COMMIT}",
            bytes.len()
        ));
    }
    let mut from = Decoder::new(bytes);
    if from.array::<8>("the magic")? != COMMIT_MAGIC {
        return Err("wrong magic".to_owned());
    }
    let version = from.u32("the version")?;
    if version != VERSION {
        return Err(format!("version {version} is not known to this program"));
    }
    let commit = Commit {
        position: Position {
            timeline: TimelineId(from.array("timeline")?),
            lsn: Lsn(from.u64("lsn")?),
        },
        prev_record: Lsn(from.u64("previous record")?),
        system_id: from.u64("system identifier")?,
        time: from.i64("time")?,
        path: decode_path(&mut from)?,
        checkpoint: from.block(MAX_CHECKPOINT, "checkpoint state")?.to_vec(),
        digests: decode_digests(&mut from)?,
        parents: decode_parents(&mut from)?,
        environment: decode_environment(&mut from)?,
        settings: from.text(MAX_SETTINGS, "settings")?,
        author: from.text(MAX_AUTHOR, "author")?,
        message: from.text(MAX_MESSAGE, "message")?,
    };
    from.end()?;
    Ok(commit)
}

fn decode_path(from: &mut Decoder<'_>) -> Result<Vec<Fork>, String> {
    let count = from.count(MAX_PATH, 28, "path")?;
    (0..count)
        .map(|_| {
            Ok(Fork {
                timeline: TimelineId(from.array("path")?),
                tli: from.u32("path")?,
                start: Lsn(from.u64("path")?),
            })
        })
        .collect()
}

fn decode_digests(from: &mut Decoder<'_>) -> Result<Vec<WalDigest>, String> {
    let count = from.count(MAX_DIGESTS, 56, "digests")?;
    (0..count)
        .map(|_| {
            Ok(WalDigest {
                segment: from.u64("digests")?,
                start: Lsn(from.u64("digests")?),
                end: Lsn(from.u64("digests")?),
                blake3: from.array("digests")?,
            })
        })
        .collect()
}

fn decode_parents(from: &mut Decoder<'_>) -> Result<Vec<CommitId>, String> {
    let count = from.count(MAX_PARENTS, 32, "parents")?;
    (0..count)
        .map(|_| Ok(CommitId(ObjectId::from_bytes(from.array("parents")?))))
        .collect()
}

fn decode_environment(from: &mut Decoder<'_>) -> Result<Environment, String> {
    let pg_version_num = from.u32("version of Postgres")?;
    let segment_size = from.u32("segment size")?;
    let flags = from.u8("flags")?;
    if flags & !(CHAR_SIGNED | CHECKSUMS) != 0 {
        return Err(format!("unknown flags {flags:#x}"));
    }
    let architecture = from.text(MAX_WORD, "architecture")?;
    let libc = from.text(MAX_WORD, "version of libc")?;
    let icu = from.text(MAX_WORD, "version of ICU")?;
    let count = from.count(MAX_PRELOAD, 4, "preload list")?;
    let preload = (0..count)
        .map(|_| from.text(MAX_WORD, "preload list"))
        .collect::<Result<Vec<String>, String>>()?;
    Ok(Environment {
        pg_version_num,
        architecture,
        char_signed: flags & CHAR_SIGNED != 0,
        libc,
        icu,
        segment_size,
        preload,
        checksums: flags & CHECKSUMS != 0,
    })
}
