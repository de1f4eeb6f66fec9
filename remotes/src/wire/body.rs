//! The fields of the messages.

use neon_objects::{Attestation, MAX_COMMIT, WalDigest};
use neon_types::{CommitId, ObjectId, RepoId, is_safe_name};

use super::CHUNK;
use super::codec::{Decoded, Decoder, Encoder};
use super::refusal::{cut, text};
use crate::{
    Held, Identity, Ladder, MAX_ATTESTATIONS, MAX_FACTS, MAX_PART, MAX_PARTS, MAX_RANGES, MAX_RUNGS,
    MAX_TIMELINES, Part, PartKind, Possession, TimelineFacts, Volume,
};

/// What a hello begins with.
pub const HELLO_MAGIC: &[u8; 8] = b"NEONSYNC";
/// Most branches in one list.
pub const MAX_BRANCHES: usize = 50_000;
/// Most commits that a receiver names as held.
pub const MAX_HAVES: usize = 10_000;
/// Most objects in one want.
pub const MAX_WANTED: usize = 4_096;
/// Most roots of one repository.
const MAX_ROOTS: usize = 1_024;

/// A branch's head with its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Name of the commit.
    pub commit: CommitId,
    /// An endpoint runs on the branch.
    pub running: bool,
    /// The commit's bytes; believed only after hashing.
    pub bytes: Vec<u8>,
}

impl Tip {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.commit(self.commit);
        out.bool(self.running);
        out.blob(&self.bytes);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Tip> {
        Ok(Tip {
            commit: input.commit()?,
            running: input.bool()?,
            bytes: input.blob(MAX_COMMIT)?.to_vec(),
        })
    }
}

/// What a server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version that the server speaks.
    pub min: u16,
    /// Newest version that the server speaks.
    pub max: u16,
    /// Who it is.
    pub identity: Identity,
    /// Where the branch of the command is.
    pub tip: Option<Tip>,
    /// For a push: what the server holds of the path of `tip`, beyond its end too, and which heads it has.
    pub holdings: Option<Holdings>,
}

impl Hello {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bytes(HELLO_MAGIC);
        out.u16(self.min);
        out.u16(self.max);
        out.repository(self.identity.repository);
        out.u64(self.identity.system_id);
        out.list(&self.identity.roots, |out, root| out.timeline(*root));
        out.option(self.identity.head.as_ref(), |out, head| out.text(head));
        out.option(self.tip.as_ref(), |out, tip| tip.encode(out));
        out.option(self.holdings.as_ref(), |out, holdings| holdings.encode(out));
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Hello> {
        if input.bytes(HELLO_MAGIC.len())? != HELLO_MAGIC {
            return Err(input.error("another magic"));
        }
        let hello = Hello {
            min: input.u16()?,
            max: input.u16()?,
            identity: Identity {
                repository: input.repository()?,
                system_id: input.u64()?,
                roots: input.list(MAX_ROOTS, 16, Decoder::timeline)?,
                head: input
                    .option(Decoder::their_name)?
                    .filter(|head| is_safe_name(head)),
            },
            tip: input.option(Tip::decode)?,
            holdings: input.option(Holdings::decode)?,
        };
        // A newer server may say more.
        input.rest();
        Ok(hello)
    }
}

/// One branch of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, as the server says.
    pub name: String,
    /// Its head.
    pub head: CommitId,
    /// An endpoint runs on it.
    pub running: bool,
}

impl Listed {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.text(&self.name);
        out.commit(self.head);
        out.bool(self.running);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Listed> {
        Ok(Listed {
            name: input.their_name()?,
            head: input.commit()?,
            running: input.bool()?,
        })
    }
}

/// Switches of a push, pull or offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Move the branch even if something is dropped.
    pub force: bool,
    /// Stop after the plan.
    pub dry_run: bool,
    /// In a push: the holdings of the hello do not cover the path; answer with holdings. In an offer: the parts follow at once,
    /// without waiting for a have.
    pub extra: bool,
}

impl Flags {
    fn encode(self, out: &mut Encoder) {
        out.u8(u8::from(self.force) | u8::from(self.dry_run) << 1 | u8::from(self.extra) << 2);
    }

    fn decode(input: &mut Decoder<'_>) -> Decoded<Flags> {
        let bits = input.u8()?;
        if bits > 7 {
            return Err(input.error(format!("unknown flags {bits:#x}")));
        }
        Ok(Flags {
            force: bits & 1 != 0,
            dry_run: bits & 2 != 0,
            extra: bits & 4 != 0,
        })
    }
}

/// Asks that a branch be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The version that the client chose.
    pub version: u16,
    /// `extra`: send holdings.
    pub flags: Flags,
    /// Who the client is.
    pub repository: RepoId,
    /// The new head's bytes.
    pub commit: Vec<u8>,
}

impl Push {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u16(self.version);
        self.flags.encode(out);
        out.repository(self.repository);
        out.blob(&self.commit);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Push> {
        Ok(Push {
            version: input.u16()?,
            flags: Flags::decode(input)?,
            repository: input.repository()?,
            commit: input.blob(MAX_COMMIT)?.to_vec(),
        })
    }
}

/// Asks for a commit and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The version that the client chose.
    pub version: u16,
    /// `dry_run`, else nothing.
    pub flags: Flags,
    /// Who the client is.
    pub repository: RepoId,
    /// A head that this server named in this conversation.
    pub target: CommitId,
}

impl Pull {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u16(self.version);
        self.flags.encode(out);
        out.repository(self.repository);
        out.commit(self.target);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Pull> {
        Ok(Pull {
            version: input.u16()?,
            flags: Flags::decode(input)?,
            repository: input.repository()?,
            target: input.commit()?,
        })
    }
}

/// Asks for objects by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The version that the client chose.
    pub version: u16,
    /// Who the client is.
    pub repository: RepoId,
    /// The names.
    pub objects: Vec<ObjectId>,
}

impl Want {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u16(self.version);
        out.repository(self.repository);
        out.list(&self.objects, |out, object| out.object(*object));
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Want> {
        Ok(Want {
            version: input.u16()?,
            repository: input.repository()?,
            objects: input.list(MAX_WANTED, 32, Decoder::object)?,
        })
    }
}

pub(super) fn encode_found(out: &mut Encoder, found: &[Option<u64>]) {
    out.list(found, |out, len| out.option(*len, Encoder::u64));
}

pub(super) fn decode_found(input: &mut Decoder<'_>) -> Decoded<Vec<Option<u64>>> {
    input.list(MAX_WANTED, 1, |input| {
        let len = input.option(Decoder::u64)?;
        match len {
            Some(len) if len == 0 || len > MAX_PART => Err(input.error(format!("an object of {len} bytes"))),
            len => Ok(len),
        }
    })
}

/// What a receiver holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Of the timelines on a path.
    pub possession: Possession,
    /// Commits that it has, with all that they descend from.
    pub commits: Vec<CommitId>,
}

impl Holdings {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.list(&self.possession.held, |out, held| {
            out.timeline(held.timeline);
            out.list(&held.ranges, |out, range| out.range(*range));
        });
        out.list(&self.commits, |out, commit| out.commit(*commit));
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Holdings> {
        Ok(Holdings {
            possession: Possession {
                held: input.list(MAX_TIMELINES, 20, |input| {
                    Ok(Held {
                        timeline: input.timeline()?,
                        ranges: input.list(MAX_RANGES, 16, Decoder::range)?,
                    })
                })?,
            },
            commits: input.list(MAX_HAVES, 32, Decoder::commit)?,
        })
    }
}

/// What a sender will send, and what the receiver must know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// `dry_run`: no parts are listed and none follow. `extra`: the parts follow at once.
    pub flags: Flags,
    /// How much it is.
    pub volume: Volume,
    /// The timelines of the path, root first.
    pub timelines: Vec<TimelineFacts>,
    /// Samples of the sender's WAL digests where the receiver holds something.
    pub ladders: Vec<Ladder>,
    /// Parents of sent commits that are not sent, because they are not on the path.
    pub left_out: Vec<CommitId>,
    /// The parts, in the order in which they come.
    pub parts: Vec<Part>,
}

impl Offer {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.flags.encode(out);
        for count in [
            self.volume.commits,
            self.volume.layers,
            self.volume.wal,
            self.volume.bytes,
        ] {
            out.u64(count);
        }
        out.list(&self.timelines, |out, timeline| {
            out.timeline(timeline.id);
            out.option(timeline.ancestor, Encoder::position);
            out.u32(timeline.tli);
            out.repository(timeline.writer);
            out.lsn(timeline.start);
            out.blob(&timeline.facts);
            out.list(&timeline.attestations, encode_attestation);
        });
        encode_ladders(out, &self.ladders);
        out.list(&self.left_out, |out, commit| out.commit(*commit));
        out.list(&self.parts, encode_part);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Offer> {
        let mut left = MAX_ATTESTATIONS;
        let offer = Offer {
            flags: Flags::decode(input)?,
            volume: Volume {
                commits: input.u64()?,
                layers: input.u64()?,
                wal: input.u64()?,
                bytes: input.u64()?,
            },
            timelines: input.list(MAX_TIMELINES, 53, |input| {
                let timeline = TimelineFacts {
                    id: input.timeline()?,
                    ancestor: input.option(Decoder::position)?,
                    tli: input.u32()?,
                    writer: input.repository()?,
                    start: input.lsn()?,
                    facts: input.blob(MAX_FACTS)?.to_vec(),
                    attestations: input.list(left, 144, decode_attestation)?,
                };
                left -= timeline.attestations.len();
                Ok(timeline)
            })?,
            ladders: decode_ladders(input)?,
            left_out: input.list(MAX_PARTS, 32, Decoder::commit)?,
            parts: input.list(MAX_PARTS, 41, decode_part)?,
        };
        Ok(offer)
    }
}

fn encode_attestation(out: &mut Encoder, attestation: &Attestation) {
    out.range(attestation.range);
    out.bytes(&attestation.blake3);
    out.bytes(&attestation.key);
    out.bytes(&attestation.signature);
}

fn decode_attestation(input: &mut Decoder<'_>) -> Decoded<Attestation> {
    Ok(Attestation {
        range: input.range()?,
        blake3: input.array()?,
        key: input.array()?,
        signature: input.array()?,
    })
}

pub(super) fn encode_ladders(out: &mut Encoder, ladders: &[Ladder]) {
    out.list(ladders, |out, ladder| {
        out.timeline(ladder.timeline);
        out.list(&ladder.rungs, |out, rung| {
            out.u64(rung.segment);
            out.lsn(rung.start);
            out.lsn(rung.end);
            out.bytes(&rung.blake3);
        });
    });
}

pub(super) fn decode_ladders(input: &mut Decoder<'_>) -> Decoded<Vec<Ladder>> {
    let mut left = MAX_RUNGS;
    input.list(MAX_TIMELINES, 20, |input| {
        let timeline = input.timeline()?;
        let rungs = input.list(left, 56, |input| {
            let segment = input.u64()?;
            let range = input.range()?;
            Ok(WalDigest {
                segment,
                start: range.start,
                end: range.end,
                blake3: input.array()?,
            })
        })?;
        left -= rungs.len();
        Ok(Ladder { timeline, rungs })
    })
}

fn encode_part(out: &mut Encoder, part: &Part) {
    out.object(part.id);
    out.u64(part.len);
    match part.kind {
        PartKind::Commit => out.u8(1),
        PartKind::Layer { timeline, range } => {
            out.u8(2);
            out.timeline(timeline);
            out.range(range);
        }
        PartKind::Wal { timeline, range } => {
            out.u8(3);
            out.timeline(timeline);
            out.range(range);
        }
    }
}

fn decode_part(input: &mut Decoder<'_>) -> Decoded<Part> {
    let id = input.object()?;
    let len = input.u64()?;
    if len == 0 || len > MAX_PART {
        return Err(input.error(format!("a part of {len} bytes")));
    }
    let kind = match input.u8()? {
        1 if len <= MAX_COMMIT as u64 => PartKind::Commit,
        1 => return Err(input.error(format!("a commit of {len} bytes"))),
        2 => PartKind::Layer {
            timeline: input.timeline()?,
            range: input.range()?,
        },
        3 => {
            let (timeline, range) = (input.timeline()?, input.range()?);
            if range.end.bytes_since(range.start) != len {
                return Err(input.error(format!("{len} bytes of WAL for {range}")));
            }
            PartKind::Wal { timeline, range }
        }
        other => return Err(input.error(format!("unknown kind of part {other}"))),
    };
    Ok(Part { id, len, kind })
}

/// Bytes of a part, possibly compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkBytes {
    /// As they are.
    Raw(Vec<u8>),
    /// One zstd frame that holds at most [`CHUNK`] bytes.
    Zstd(Vec<u8>),
}

/// A stretch of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Index in the offer.
    pub part: u32,
    /// Offset of the first byte in the part.
    pub offset: u64,
    /// The bytes.
    pub bytes: ChunkBytes,
}

impl Chunk {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u32(self.part);
        out.u64(self.offset);
        match &self.bytes {
            ChunkBytes::Raw(bytes) => {
                out.u8(0);
                out.bytes(bytes);
            }
            ChunkBytes::Zstd(bytes) => {
                out.u8(1);
                out.bytes(bytes);
            }
        }
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Chunk> {
        let (part, offset, encoding) = (input.u32()?, input.u64()?, input.u8()?);
        let bytes = input.rest();
        if bytes.is_empty() || bytes.len() > CHUNK {
            return Err(input.error(format!("a chunk of {} bytes", bytes.len())));
        }
        let bytes = match encoding {
            0 => ChunkBytes::Raw(bytes.to_vec()),
            1 => ChunkBytes::Zstd(bytes.to_vec()),
            other => return Err(input.error(format!("unknown encoding {other}"))),
        };
        Ok(Chunk { part, offset, bytes })
    }
}

/// What goes on, for progress bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Heads are compared.
    Negotiating = 1,
    /// The list of parts is made, layers are sliced.
    Planning = 2,
    /// Parts travel.
    Transferring = 3,
    /// The receiver takes the parts in.
    Accepting = 4,
}

/// Still working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// On what.
    pub phase: Phase,
    /// How much is done; 0 when that cannot be told.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

impl Beat {
    /// Returns true for the bytes of a beat message.
    pub(crate) fn is(message: &[u8]) -> bool {
        message.first() == Some(&14)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u8(self.phase as u8);
        out.u64(self.done);
        out.u64(self.total);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Beat> {
        let phase = match input.u8()? {
            1 => Phase::Negotiating,
            2 => Phase::Planning,
            3 => Phase::Transferring,
            4 => Phase::Accepting,
            other => return Err(input.error(format!("unknown phase {other}"))),
        };
        Ok(Beat {
            phase,
            done: input.u64()?,
            total: input.u64()?,
        })
    }
}

/// What happens, or happened, to a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Motion {
    /// It stays where it is: nothing is newer, or it is ahead of what was pulled.
    Stay = 0,
    /// It is made.
    Create = 1,
    /// It moves to a descendant.
    Forward = 2,
    /// It moves to another commit at an equal position that descends from its head.
    Recommit = 3,
    /// It is moved back to an ancestor.
    Back = 4,
    /// It is moved from a history of its own to another.
    Replace = 5,
}

impl Motion {
    pub(super) fn from_number(number: u8) -> Option<Motion> {
        Some(match number {
            0 => Motion::Stay,
            1 => Motion::Create,
            2 => Motion::Forward,
            3 => Motion::Recommit,
            4 => Motion::Back,
            5 => Motion::Replace,
            _ => return None,
        })
    }
}

/// The end of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What happened to the branch; of a dry run, what would.
    pub motion: Motion,
    /// Where the branch is now.
    pub head: Option<CommitId>,
}

impl Settled {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u8(self.motion as u8);
        out.option(self.head, Encoder::commit);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Settled> {
        let number = input.u8()?;
        let motion =
            Motion::from_number(number).ok_or_else(|| input.error(format!("unknown motion {number}")))?;
        Ok(Settled {
            motion,
            head: input.option(Decoder::commit)?,
        })
    }
}

/// What kind of failure it is, where that changes what the other side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailKind {
    /// Anything.
    Other,
    /// The part with this index of the offer arrived damaged.
    Damaged(u32),
    /// The other side broke the protocol.
    Protocol,
}

/// Something broke; nothing more follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which kind.
    pub kind: FailKind,
    /// What happened.
    pub message: String,
    /// What to do, may be empty.
    pub hint: String,
}

impl Failure {
    pub(super) fn encode(&self, out: &mut Encoder) {
        match self.kind {
            FailKind::Other => out.u8(0),
            FailKind::Damaged(part) => {
                out.u8(1);
                out.u32(part);
            }
            FailKind::Protocol => out.u8(2),
        }
        out.text(cut(&self.message));
        out.text(cut(&self.hint));
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Failure> {
        let kind = match input.u8()? {
            0 => FailKind::Other,
            1 => FailKind::Damaged(input.u32()?),
            2 => FailKind::Protocol,
            other => return Err(input.error(format!("unknown failure {other}"))),
        };
        Ok(Failure {
            kind,
            message: text(input)?,
            hint: text(input)?,
        })
    }
}
