//! The sender of parts: plans, offers, reads, compresses and sends. The same in a push and in a pull.
//!
//! Disk work runs on one blocking thread, a few frames ahead of the network. Dropping the future ends it at the next frame.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use neon_types::{CommitId, ObjectId};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::count::Count;
use crate::offer::{self, Target};
use crate::talk::Talk;
use crate::wire::{Beat, CHUNK, Chunk, ChunkBytes, Holdings, Message, Phase};
use crate::{Keeps, LocalError, Part, PartKind, Possession, RemoteError, Source, Volume};

/// Frames between the disk and the network.
const QUEUE: usize = 4;
/// Level for WAL and commits; layers are compressed already.
const ZSTD_LEVEL: i32 = 3;

/// What is being sent to whom.
pub(crate) struct Sending {
    source: Arc<dyn Source>,
    target: Target,
    /// What the receiver holds.
    possession: Possession,
    /// What was offered.
    parts: Arc<[Part]>,
    /// What keeps them here until everything is sent.
    keeps: Keeps,
}

impl Sending {
    pub(crate) fn new(source: Arc<dyn Source>, target: Target, holdings: &Holdings) -> Sending {
        Sending {
            source,
            target,
            possession: holdings.possession.clone(),
            parts: Arc::from([]),
            keeps: Keeps::default(),
        }
    }

    /// Plans, offers and sends. Returns what was planned and what was sent.
    pub(crate) async fn send(
        &mut self,
        talk: &mut Talk,
        holdings: Holdings,
        dry_run: bool,
    ) -> Result<(Volume, Volume), RemoteError> {
        talk.enter(Phase::Planning);
        let (offer, keeps) = {
            let (source, target) = (Arc::clone(&self.source), self.target.clone());
            talk.work(move |meter| offer::make(source.as_ref(), &target, holdings, dry_run, meter))
                .await?
        };
        let (planned, eager) = (offer.volume, offer.flags.extra);
        self.parts = Arc::from(offer.parts.as_slice());
        self.keeps = keeps;
        talk.say(&Message::Offer(Box::new(offer))).await?;
        if dry_run {
            return Ok((planned, Volume::default()));
        }
        if eager {
            let nothing = vec![0; self.parts.len()];
            return Ok((planned, send_parts(talk, self, nothing).await?));
        }
        loop {
            let message = talk.expect().await?;
            let is_have = matches!(message, Message::Have(_));
            match self.answer(talk, message).await? {
                Ok(sent) if is_have => return Ok((planned, sent)),
                Ok(_) => {}
                Err(other) => return Err(talk.unexpected(&other)),
            }
        }
    }

    /// Does what a receiver asks for: the rest of the parts, or all ladders. Returns what was sent, or a message that is none of
    /// these.
    pub(crate) async fn answer(
        &mut self,
        talk: &mut Talk,
        message: Message,
    ) -> Result<Result<Volume, Message>, RemoteError> {
        match message {
            Message::Have(have) => {
                let fits = have.len() == self.parts.len()
                    && have
                        .iter()
                        .zip(self.parts.iter())
                        .all(|(have, part)| *have <= part.len);
                if !fits {
                    return Err(RemoteError::Protocol(
                        "a have that does not fit the offer".to_owned(),
                    ));
                }
                Ok(Ok(send_parts(talk, self, have).await?))
            }
            Message::WantLadders => {
                self.say_ladders(talk).await?;
                Ok(Ok(Volume::default()))
            }
            other => Ok(Err(other)),
        }
    }

    /// Returns the receiver's next message that is not a question about what is sent, and what its questions made us send.
    pub(crate) async fn hear(&mut self, talk: &mut Talk) -> Result<(Volume, Message), RemoteError> {
        let mut sent = Volume::default();
        loop {
            let message = talk.expect().await?;
            match self.answer(talk, message).await? {
                Ok(more) => sent.add_all(&more),
                Err(other) => return Ok((sent, other)),
            }
        }
    }

    /// Answers a receiver that found a difference in the sampled ladders.
    async fn say_ladders(&self, talk: &mut Talk) -> Result<(), RemoteError> {
        let (source, target, possession) = (
            Arc::clone(&self.source),
            self.target.clone(),
            self.possession.clone(),
        );
        let all = talk
            .ask(move || offer::ladders(source.as_ref(), &target, &possession))
            .await?;
        talk.say(&Message::Ladders(all)).await
    }
}

/// Sends what `have` leaves of each part, then says done. Returns what was sent.
async fn send_parts(talk: &mut Talk, sending: &Sending, have: Vec<u64>) -> Result<Volume, RemoteError> {
    talk.enter(Phase::Transferring);
    let (source, parts) = (Arc::clone(&sending.source), Arc::clone(&sending.parts));
    let (frames, mut queue) = mpsc::channel(QUEUE);
    let count = Count::new(&talk.options, &parts, &have);
    let reader = spawn_blocking(move || read_parts(source.as_ref(), &parts, &have, &frames, count));
    loop {
        match pump(talk, &mut queue).await? {
            Pumped::Ended => break,
            Pumped::Heard(Message::WantLadders) => sending.say_ladders(talk).await?,
            Pumped::Heard(other) => return Err(talk.unexpected(&other)),
        }
    }
    let sent = reader.await.map_err(LocalError::other)??;
    talk.say(&Message::Done).await?;
    Ok(sent)
}

/// Why a pump stands still.
pub(crate) enum Pumped {
    /// There are no more frames.
    Ended,
    /// The other side said something.
    Heard(Message),
}

/// Sends the frames of a disk thread until there are no more or the other side says something.
pub(crate) async fn pump(talk: &mut Talk, queue: &mut mpsc::Receiver<Bytes>) -> Result<Pumped, RemoteError> {
    let beat = talk.options.beat;
    loop {
        let heard = tokio::select! {
            biased;
            // A failure, most likely; hear_now is cancel-safe.
            heard = talk.hear_now() => match heard? {
                None => return Err(RemoteError::Cut { phase: "transferring" }),
                heard => heard,
            },
            frame = queue.recv() => match frame {
                Some(frame) => talk.say_listening(frame).await?,
                None => return Ok(Pumped::Ended),
            },
            () = sleep(beat) => {
                let beat = Beat { phase: Phase::Transferring, done: 0, total: 0 };
                talk.say_listening(Message::Beat(beat).encode().into()).await?
            }
        };
        match heard {
            None | Some(Message::Beat(_)) => {}
            Some(other) => return Ok(Pumped::Heard(other)),
        }
    }
}

/// The sender's disk thread.
fn read_parts(
    source: &dyn Source,
    parts: &[Part],
    have: &[u64],
    frames: &mpsc::Sender<Bytes>,
    mut count: Count,
) -> Result<Volume, LocalError> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    let mut sent = Volume::default();
    let mut seen: HashSet<ObjectId> = HashSet::new();
    let mut buffer = vec![0; CHUNK];
    for ((part, have), index) in parts.iter().zip(have).zip(0u32..) {
        // One object can hang under two timelines; it travels once.
        if !seen.insert(part.id) {
            count.add(part.len - have, u64::from(*have < part.len));
            continue;
        }
        if *have >= part.len {
            continue;
        }
        let mut reader = open_part(source, part, *have)?;
        let mut offset = *have;
        while offset < part.len {
            let len = usize::try_from(part.len - offset).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = buffer.get_mut(..len).unwrap_or_default();
            reader
                .read_exact(chunk)
                .map_err(|error| short(error, part, offset))?;
            let bytes = match part.kind {
                PartKind::Layer { .. } => None,
                PartKind::Commit | PartKind::Wal { .. } => Some(compressor.compress(chunk)?)
                    .filter(|packed| packed.len() < len && !packed.is_empty()),
            };
            let bytes = bytes.map_or_else(|| ChunkBytes::Raw(chunk.to_vec()), ChunkBytes::Zstd);
            let message = Message::Chunk(Chunk {
                part: index,
                offset,
                bytes,
            });
            if frames.blocking_send(message.encode().into()).is_err() {
                // The conversation is over; its own error says why.
                return Ok(sent);
            }
            offset += len as u64;
            count.add(len as u64, u64::from(offset == part.len));
        }
        sent.add(&part.kind, part.len - have);
    }
    Ok(sent)
}

fn open_part<'a>(
    source: &'a dyn Source,
    part: &Part,
    offset: u64,
) -> Result<Box<dyn Read + Send + 'a>, LocalError> {
    if part.kind != PartKind::Commit {
        return source.open_part(part, offset);
    }
    let bytes = source
        .commit(CommitId(part.id))?
        .ok_or_else(|| LocalError::Missing(format!("commit {}", part.id)))?;
    let mut bytes = std::io::Cursor::new(bytes);
    bytes.set_position(offset);
    Ok(Box::new(bytes))
}

fn short(error: std::io::Error, part: &Part, offset: u64) -> LocalError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        LocalError::Damaged {
            id: part.id,
            reason: format!("it ends after {offset} of {} bytes", part.len),
        }
    } else {
        LocalError::other(error)
    }
}
