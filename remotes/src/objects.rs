//! Objects by their names: for whoever has lost or spoilt some of his own. Both halves.
//!
//! Disk work runs on one blocking thread a few frames from the network, as in every transfer.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use neon_transport::Channel;
use neon_types::{ObjectId, RepoId};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::push::hear_hello;
use crate::receive::take_chunks;
use crate::send::{Pumped, pump};
use crate::talk::Talk;
use crate::wire::{CHUNK, Chunk, ChunkBytes, MAX_WANTED, Message, Phase, VERSION, Want};
use crate::{LocalError, MAX_PART, Options, PartWriter, Progress, Refusal, RemoteError, Volume};

/// Frames between the disk and the network.
const QUEUE: usize = 4;

/// What a repository hands out by name.
pub trait Objects: Send + Sync {
    /// Returns the length in bytes of each object that is here and that a peer may have: one that its branches lead to and that holds
    /// nothing beyond their heads. None for all others, whether they are here or not. They stay until the conversation is over.
    fn find_objects(&self, wanted: &[ObjectId]) -> Result<Vec<Option<u64>>, LocalError>;

    /// Opens an object that was found.
    fn open_object(&self, id: ObjectId) -> Result<Box<dyn Read + Send>, LocalError>;
}

/// Where objects go that were asked for by name.
pub trait ObjectSink: Send + Sync {
    /// Opens a place for the object of that name and length, empty. Whatever stands under the name stays until
    /// [`PartWriter::finish`], which puts the object there in one step.
    fn stage_object(&self, id: ObjectId, len: u64) -> Result<Box<dyn PartWriter + '_>, LocalError>;
}

/// What came of a wanted object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is here, with so many bytes, verified.
    Arrived(u64),
    /// The other side does not have it, or does not hand it out.
    NotThere,
    /// What came was something else; nothing of it is kept.
    Wrong(String),
}

/// Asks for objects over a channel that was dialled with [`crate::Command::FetchObjects`]. Returns what came of each.
///
/// Dropping the future leaves every object as it was or whole.
pub async fn perform_fetch_objects(
    channel: Channel,
    sink: Arc<dyn ObjectSink>,
    ours: RepoId,
    wanted: &[ObjectId],
    options: Options,
) -> Result<Vec<Fetched>, RemoteError> {
    let mut talk = Talk::new(channel, options);
    let result = fetch(&mut talk, &sink, ours, wanted).await;
    talk.conclude(result).await
}

async fn fetch(
    talk: &mut Talk,
    sink: &Arc<dyn ObjectSink>,
    ours: RepoId,
    wanted: &[ObjectId],
) -> Result<Vec<Fetched>, RemoteError> {
    hear_hello(talk).await?;
    let mut fetched = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(MAX_WANTED) {
        talk.enter(Phase::Planning);
        talk.say(&Message::Want(Want {
            version: VERSION,
            repository: ours,
            objects: wanted.to_vec(),
        }))
        .await?;
        let found = match talk.expect().await? {
            Message::Found(found) => found,
            other => return Err(talk.unexpected(&other)),
        };
        if found.len() != wanted.len() {
            return Err(RemoteError::Protocol(
                "a found that does not fit the want".to_owned(),
            ));
        }
        let bytes = found
            .iter()
            .flatten()
            .fold(0u64, |sum, len| sum.saturating_add(*len));
        if bytes > talk.options.max_bytes {
            return Err(Refusal::Limit {
                what: format!(
                    "objects of {bytes} bytes are over the limit of {}",
                    talk.options.max_bytes
                ),
            }
            .into());
        }
        talk.enter(Phase::Transferring);
        let wanted: Vec<(ObjectId, Option<u64>)> = wanted.iter().copied().zip(found).collect();
        let (sink, options) = (Arc::clone(sink), talk.options.clone());
        let (chunks, queue) = mpsc::channel(QUEUE);
        let writer = spawn_blocking(move || write(sink.as_ref(), wanted, queue, &options));
        fetched.extend(take_chunks(talk, chunks, writer).await?);
    }
    Ok(fetched)
}

/// The receiver's disk thread.
fn write(
    sink: &dyn ObjectSink,
    wanted: Vec<(ObjectId, Option<u64>)>,
    mut queue: mpsc::Receiver<Chunk>,
    options: &Options,
) -> Result<Vec<Fetched>, RemoteError> {
    let total: u64 = wanted.iter().filter_map(|(_, len)| *len).sum();
    let mut bytes_done = 0;
    let mut fetched = vec![Fetched::NotThere; wanted.len()];
    for ((number, (id, len)), result) in (0u32..).zip(&wanted).zip(&mut fetched) {
        let Some(len) = *len else { continue };
        let mut writer = sink.stage_object(*id, len)?;
        while writer.len() < len {
            // The channel ends early where the other side did.
            let Some(chunk) = queue.blocking_recv() else {
                return Err(RemoteError::Protocol(format!(
                    "object {id} was found and did not arrive"
                )));
            };
            let bytes = match (chunk.part, chunk.bytes) {
                (part, _) if part != number => {
                    return Err(RemoteError::Protocol(format!(
                        "bytes of object {part} of the list where those of {number} were due"
                    )));
                }
                (_, ChunkBytes::Raw(bytes)) => bytes,
                (_, ChunkBytes::Zstd(packed)) => zstd::bulk::decompress(&packed, CHUNK).map_err(|error| {
                    RemoteError::Protocol(format!("a chunk of object {id} does not decompress: {error}"))
                })?,
            };
            if chunk.offset != writer.len() || bytes.is_empty() || bytes.len() as u64 > len - writer.len() {
                return Err(RemoteError::Protocol(format!(
                    "{} bytes at {} of object {id}, which has {len} bytes of which {} are here",
                    bytes.len(),
                    chunk.offset,
                    writer.len()
                )));
            }
            writer.append(&bytes)?;
            bytes_done += bytes.len() as u64;
            options.report(Progress {
                phase: Phase::Transferring,
                bytes_done,
                bytes_total: total,
                objects_done: u64::from(number),
                objects_total: 0,
            });
        }
        *result = match writer.finish() {
            Ok(()) => Fetched::Arrived(len),
            Err(LocalError::Damaged { reason, .. }) => Fetched::Wrong(reason),
            Err(error) => return Err(error.into()),
        };
    }
    match queue.blocking_recv() {
        None => Ok(fetched),
        Some(chunk) => Err(RemoteError::Protocol(format!(
            "bytes of object {} of the list behind the last one",
            chunk.part
        ))),
    }
}

/// The server's half: answers one want. Returns what was sent.
pub(crate) async fn answer(
    talk: &mut Talk,
    objects: Arc<impl Objects + ?Sized + 'static>,
    wanted: Vec<ObjectId>,
) -> Result<Volume, RemoteError> {
    talk.enter(Phase::Planning);
    let (found, wanted) = {
        let objects = Arc::clone(&objects);
        talk.ask(move || Ok((objects.find_objects(&wanted)?, wanted)))
            .await?
    };
    // Nobody takes an object without bytes, or one that is beyond every limit.
    let fits = |len: &u64| (1..=MAX_PART).contains(len);
    let found: Vec<Option<u64>> = found.into_iter().map(|len| len.filter(fits)).collect();
    talk.say(&Message::Found(found.clone())).await?;
    talk.enter(Phase::Transferring);
    let (frames, mut queue) = mpsc::channel(QUEUE);
    let sending: Vec<(ObjectId, Option<u64>)> = wanted.into_iter().zip(found).collect();
    let reader = spawn_blocking(move || read(objects.as_ref(), &sending, &frames));
    match pump(talk, &mut queue).await? {
        Pumped::Ended => {}
        Pumped::Heard(other) => return Err(talk.unexpected(&other)),
    }
    let sent = reader.await.map_err(LocalError::other)??;
    talk.say(&Message::Done).await?;
    Ok(sent)
}

/// The sender's disk thread.
fn read(
    objects: &(impl Objects + ?Sized),
    sending: &[(ObjectId, Option<u64>)],
    frames: &mpsc::Sender<Bytes>,
) -> Result<Volume, LocalError> {
    let mut sent = Volume::default();
    for ((id, len), part) in sending.iter().zip(0u32..) {
        let Some(len) = *len else { continue };
        let mut reader = objects.open_object(*id)?;
        let mut offset = 0;
        while offset < len {
            let size = usize::try_from(len - offset).map_or(CHUNK, |left| left.min(CHUNK));
            let mut bytes = vec![0; size];
            reader.read_exact(&mut bytes)?;
            let bytes = ChunkBytes::Raw(bytes);
            let message = Message::Chunk(Chunk { part, offset, bytes });
            if frames.blocking_send(message.encode().into()).is_err() {
                // The conversation is over; its own error says why.
                return Ok(sent);
            }
            offset += size as u64;
        }
        sent.bytes = sent.bytes.saturating_add(len);
    }
    Ok(sent)
}
