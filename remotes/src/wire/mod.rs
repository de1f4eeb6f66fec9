//! The messages: one per frame, a tag byte and fields. `docs/format/protocol.md` describes them byte by byte.

mod body;
mod codec;
mod refusal;

pub use body::{
    Beat, Chunk, ChunkBytes, FailKind, Failure, Flags, HELLO_MAGIC, Hello, Holdings, Listed, MAX_BRANCHES,
    MAX_HAVES, MAX_WANTED, Motion, Offer, Phase, Pull, Push, Settled, Tip, Want,
};
pub use codec::DecodeError;
use codec::{Decoder, Encoder};

use neon_types::{CommitId, Position};

use crate::{Ladder, Refusal};

/// The protocol version that this program speaks.
pub const VERSION: u16 = 2;
/// Oldest version that it still speaks.
pub const OLDEST_VERSION: u16 = 2;
/// Most bytes of a part in one frame, so that a frame with its header stays within 1 MiB.
pub const CHUNK: usize = (1 << 20) - 64;
/// Longest message of any kind, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Something that one half says to the other. C = client, S = server, X = sender of parts, R = receiver of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// S, first: who it is, what it has.
    Hello(Box<Hello>),
    /// C: where is that branch?
    LookUp(String),
    /// S: there.
    Tip(Option<Tip>),
    /// C: which branches are there?
    ListBranches,
    /// S: these.
    Branches(Vec<Listed>),
    /// C: how many transactions lead from `since` to `commit`?
    Count {
        /// A head of the server.
        commit: CommitId,
        /// A position on its path.
        since: Position,
    },
    /// S: that many, if it can tell.
    Counted(Option<u64>),
    /// C: take this commit as the head of the branch of the command.
    Push(Push),
    /// C: give me that commit. Followed by the client's [`Message::Holdings`].
    Pull(Pull),
    /// R: what it holds.
    Holdings(Holdings),
    /// X: what it will send.
    Offer(Box<Offer>),
    /// R: how many bytes of each offered part it has.
    Have(Vec<u64>),
    /// X: bytes of a part.
    Chunk(Chunk),
    /// Either: still working.
    Beat(Beat),
    /// X: everything has been sent.
    Done,
    /// R, push only: the branch was moved, or needed no move.
    Settled(Settled),
    /// R: the sampled digests differ; send all of them.
    WantLadders,
    /// X: all of them.
    Ladders(Vec<Ladder>),
    /// C: give me these objects.
    Want(Want),
    /// S: the length of each, if C may have it. [`Message::Chunk`]s of those follow, then [`Message::Done`].
    Found(Vec<Option<u64>>),
    /// S: the rules say no.
    Refused(Box<Refusal>),
    /// Either: something broke.
    Failed(Failure),
}

impl Message {
    fn tag(&self) -> u8 {
        match self {
            Message::Hello(_) => 1,
            Message::LookUp(_) => 2,
            Message::Tip(_) => 3,
            Message::ListBranches => 4,
            Message::Branches(_) => 5,
            Message::Count { .. } => 6,
            Message::Counted(_) => 7,
            Message::Push(_) => 8,
            Message::Pull(_) => 9,
            Message::Holdings(_) => 10,
            Message::Offer(_) => 11,
            Message::Have(_) => 12,
            Message::Chunk(_) => 13,
            Message::Beat(_) => 14,
            Message::Done => 15,
            Message::Settled(_) => 16,
            Message::Refused(_) => 17,
            Message::Failed(_) => 18,
            Message::WantLadders => 19,
            Message::Ladders(_) => 20,
            Message::Want(_) => 21,
            Message::Found(_) => 22,
        }
    }

    /// Returns the name of the message, as the document has it.
    pub fn name(&self) -> &'static str {
        name(self.tag()).unwrap_or("unknown")
    }

    /// Returns the bytes of the message, tag first.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u8(self.tag());
        match self {
            Message::Hello(hello) => hello.encode(&mut out),
            Message::LookUp(branch) => out.text(branch),
            Message::Tip(tip) => out.option(tip.as_ref(), |out, tip| tip.encode(out)),
            Message::ListBranches | Message::Done | Message::WantLadders => {}
            Message::Ladders(ladders) => body::encode_ladders(&mut out, ladders),
            Message::Want(want) => want.encode(&mut out),
            Message::Found(found) => body::encode_found(&mut out, found),
            Message::Branches(branches) => out.list(branches, |out, listed| listed.encode(out)),
            Message::Count { commit, since } => {
                out.commit(*commit);
                out.position(*since);
            }
            Message::Counted(count) => out.option(*count, Encoder::u64),
            Message::Push(push) => push.encode(&mut out),
            Message::Pull(pull) => pull.encode(&mut out),
            Message::Holdings(holdings) => holdings.encode(&mut out),
            Message::Offer(offer) => offer.encode(&mut out),
            Message::Have(have) => out.list(have, |out, bytes| out.u64(*bytes)),
            Message::Chunk(chunk) => chunk.encode(&mut out),
            Message::Beat(beat) => beat.encode(&mut out),
            Message::Settled(settled) => settled.encode(&mut out),
            Message::Refused(refusal) => refusal::encode(refusal, &mut out),
            Message::Failed(failure) => failure.encode(&mut out),
        }
        out.0
    }

    /// Reads a message. Never panics, allocates no more than a small multiple of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let Some((tag, body)) = bytes.split_first() else {
            return Err(Decoder::new(bytes, "empty").error("no tag"));
        };
        let Some(name) = name(*tag) else {
            return Err(Decoder::new(body, "unknown").error(format!("unknown tag {tag}")));
        };
        let mut input = Decoder::new(body, name);
        if bytes.len() > MAX_MESSAGE {
            return Err(input.error(format!(
                "{} bytes where at most {MAX_MESSAGE} are allowed",
                bytes.len()
            )));
        }
        let input = &mut input;
        let message = match tag {
            1 => Message::Hello(Box::new(Hello::decode(input)?)),
            2 => Message::LookUp(input.branch()?),
            3 => Message::Tip(input.option(Tip::decode)?),
            4 => Message::ListBranches,
            5 => Message::Branches(input.list(MAX_BRANCHES, 38, Listed::decode)?),
            6 => Message::Count {
                commit: input.commit()?,
                since: input.position()?,
            },
            7 => Message::Counted(input.option(Decoder::u64)?),
            8 => Message::Push(Push::decode(input)?),
            9 => Message::Pull(Pull::decode(input)?),
            10 => Message::Holdings(Holdings::decode(input)?),
            11 => Message::Offer(Box::new(Offer::decode(input)?)),
            12 => Message::Have(input.list(crate::MAX_PARTS, 8, Decoder::u64)?),
            13 => Message::Chunk(Chunk::decode(input)?),
            14 => Message::Beat(Beat::decode(input)?),
            15 => Message::Done,
            16 => Message::Settled(Settled::decode(input)?),
            17 => Message::Refused(Box::new(refusal::decode(input)?)),
            18 => Message::Failed(Failure::decode(input)?),
            19 => Message::WantLadders,
            20 => Message::Ladders(body::decode_ladders(input)?),
            21 => Message::Want(Want::decode(input)?),
            // `name` knew the tag, so it is the last one.
            _ => Message::Found(body::decode_found(input)?),
        };
        // Only the hello may grow: a newer server's additions are skipped.
        if !matches!(message, Message::Hello(_)) {
            input.end()?;
        }
        Ok(message)
    }
}

fn name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        1 => "hello",
        2 => "look-up",
        3 => "tip",
        4 => "list-branches",
        5 => "branches",
        6 => "count",
        7 => "counted",
        8 => "push",
        9 => "pull",
        10 => "holdings",
        11 => "offer",
        12 => "have",
        13 => "chunk",
        14 => "beat",
        15 => "done",
        16 => "settled",
        17 => "refused",
        18 => "failed",
        19 => "want-ladders",
        20 => "ladders",
        21 => "want",
        22 => "found",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
