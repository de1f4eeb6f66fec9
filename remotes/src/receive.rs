//! The receiver of parts: checks the offer, stages, verifies, takes in. The same in a push and in a pull.
//!
//! Disk work runs on one blocking thread, a few frames behind the network. Dropping the future ends it at the next frame; what
//! was staged stays staged.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use neon_types::ObjectId;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::count::Count;
use crate::offer::{self, Target};
use crate::talk::Talk;
use crate::wire::{Beat, CHUNK, Chunk, ChunkBytes, Message, Offer, Phase};
use crate::{LocalError, Part, PartWriter, RemoteError, Sink, Volume, ladder};

/// Frames between the network and the disk.
const QUEUE: usize = 4;

/// An offer of which every part is here.
pub(crate) struct Received {
    offer: Offer,
    /// What arrived of it.
    pub(crate) arrived: Volume,
    /// The room that the host admitted it to, until it is taken in.
    _room: Option<Box<dyn Any + Send>>,
}

impl Received {
    /// Returns what was offered.
    pub(crate) fn offered(&self) -> Volume {
        self.offer.volume
    }
}

/// Hears an offer and stages what it promises; nothing of a dry run.
pub(crate) async fn receive(
    talk: &mut Talk,
    sink: &Arc<dyn Sink>,
    target: &Target,
    dry_run: bool,
) -> Result<Received, RemoteError> {
    talk.enter(Phase::Planning);
    let offer = match talk.expect().await? {
        Message::Offer(offer) => *offer,
        other => return Err(talk.unexpected(&other)),
    };
    offer::check(&offer, target, &talk.options)?;
    if offer.flags.dry_run != dry_run {
        return Err(RemoteError::Protocol(
            "an offer of another kind than was asked for".to_owned(),
        ));
    }
    {
        let (sink, commit, timelines) = (
            Arc::clone(sink),
            Arc::clone(&target.commit),
            offer.timelines.clone(),
        );
        talk.ask(move || sink.check_timelines(&commit, &timelines))
            .await?;
    }
    compare_ladders(talk, sink, target, &offer).await?;
    if dry_run {
        return Ok(Received {
            offer,
            arrived: Volume::default(),
            _room: None,
        });
    }
    let parts: Arc<[Part]> = Arc::from(offer.parts.as_slice());
    let mut arrived = Volume::default();
    let mut room = None;
    for attempt in 0.. {
        let staged = {
            let (sink, parts) = (Arc::clone(sink), Arc::clone(&parts));
            talk.ask(move || offer::staged(sink.as_ref(), &parts)).await?
        };
        if room.is_none() && talk.options.gate.is_some() {
            // Whoever decides may look at the disk.
            let (options, missing) = (talk.options.clone(), offer::missing(&parts, &staged));
            room = talk.work(move |_| Ok(options.admit(missing)?)).await?;
        }
        if attempt > 0 || !offer.flags.extra {
            talk.say(&Message::Have(staged.clone())).await?;
        }
        let round = receive_parts(talk, Arc::clone(sink), Arc::clone(&parts), staged).await?;
        arrived.add_all(&round.arrived);
        match round.spoilt {
            None => break,
            Some(_) if attempt == 0 => {}
            Some(error) => return Err(error),
        }
    }
    Ok(Received {
        offer,
        arrived,
        _room: room,
    })
}

/// Takes in what was received. The conversation can go on after an error.
pub(crate) async fn accept(
    talk: &mut Talk,
    sink: &Arc<dyn Sink>,
    target: &Target,
    received: Received,
) -> Result<(), RemoteError> {
    talk.enter(Phase::Accepting);
    let (sink, target) = (Arc::clone(sink), target.clone());
    let Received { offer, _room, .. } = received;
    talk.work(move |meter| offer::accept(sink.as_ref(), &target, offer, meter))
        .await
}

/// Refuses a history whose WAL differs from ours where both have some, and says exactly where.
async fn compare_ladders(
    talk: &mut Talk,
    sink: &Arc<dyn Sink>,
    target: &Target,
    offer: &Offer,
) -> Result<(), RemoteError> {
    if offer.ladders.is_empty() {
        return Ok(());
    }
    let ours = {
        let (sink, target) = (Arc::clone(sink), target.clone());
        talk.ask(move || sink.ladders(&target.commit.path, target.commit.position.lsn))
            .await?
    };
    let Err(roughly) = ladder::compare(&ours, &offer.ladders) else {
        return Ok(());
    };
    talk.say(&Message::WantLadders).await?;
    loop {
        match talk.expect().await? {
            // An eager sender has not stopped yet.
            Message::Chunk(_) | Message::Done => {}
            Message::Ladders(all) => {
                ladder::compare(&ours, &all)?;
                // The samples differed and the whole does not: somebody contradicts himself.
                return Err(roughly.into());
            }
            other => return Err(talk.unexpected(&other)),
        }
    }
}

/// What one round brought.
struct Round {
    arrived: Volume,
    /// A part of which something was staged by an earlier transfer turned out damaged and was thrown away. The staged bytes may
    /// have been to blame (they are not synced before they are whole), so it is worth asking once more.
    spoilt: Option<RemoteError>,
}

/// Stages everything that comes until the sender is done, and verifies it.
async fn receive_parts(
    talk: &mut Talk,
    sink: Arc<dyn Sink>,
    parts: Arc<[Part]>,
    staged: Vec<u64>,
) -> Result<Round, RemoteError> {
    talk.enter(Phase::Transferring);
    let (chunks, queue) = mpsc::channel(QUEUE);
    let count = Count::new(&talk.options, &parts, &staged);
    let writer = spawn_blocking(move || write_parts(sink.as_ref(), &parts, &staged, queue, count));
    take_chunks(talk, chunks, writer).await
}

/// Hands what comes to the disk thread until the sender is done, and waits for the thread.
pub(crate) async fn take_chunks<T>(
    talk: &mut Talk,
    chunks: mpsc::Sender<Chunk>,
    mut writer: JoinHandle<Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    let cut = loop {
        match talk.expect().await {
            Ok(Message::Chunk(chunk)) => {
                match queue_up(talk, &chunks, chunk).await {
                    Ok(true) => {}
                    // The thread ended early, so it has an error to tell.
                    Ok(false) => break None,
                    Err(error) => break Some(error),
                }
            }
            Ok(Message::Done) => break None,
            Ok(other) => break Some(talk.unexpected(&other)),
            Err(error) => break Some(error),
        }
    };
    drop(chunks);
    if let Some(error) = cut {
        // What is queued is staged still, and the part is closed before anybody tries again.
        let _ = writer.await;
        return Err(error);
    }
    // The last fsync can take longer than the sender is patient.
    loop {
        match timeout(talk.options.beat, &mut writer).await {
            Ok(result) => return result.map_err(LocalError::other)?,
            Err(_) => {
                let beat = Beat {
                    phase: Phase::Transferring,
                    done: 0,
                    total: 0,
                };
                talk.say(&Message::Beat(beat)).await?;
            }
        }
    }
}

/// Hands a chunk to the disk thread; a disk that makes us wait is no reason for the sender to give up. Returns false when the
/// thread has ended.
async fn queue_up(talk: &mut Talk, chunks: &mpsc::Sender<Chunk>, chunk: Chunk) -> Result<bool, RemoteError> {
    loop {
        match timeout(talk.options.beat, chunks.reserve()).await {
            Ok(Ok(place)) => {
                place.send(chunk);
                return Ok(true);
            }
            Ok(Err(_)) => return Ok(false),
            Err(_) => {
                let beat = Beat {
                    phase: Phase::Transferring,
                    done: 0,
                    total: 0,
                };
                talk.say(&Message::Beat(beat)).await?;
            }
        }
    }
}

/// The receiver's disk thread.
fn write_parts(
    sink: &dyn Sink,
    parts: &[Part],
    staged: &[u64],
    mut queue: mpsc::Receiver<Chunk>,
    count: Count,
) -> Result<Round, RemoteError> {
    let whole = parts
        .iter()
        .zip(staged)
        .filter(|(part, staged)| part.len == **staged)
        .map(|(part, _)| part.id)
        .collect();
    let mut receiver = Receiver {
        sink,
        parts,
        staged,
        whole,
        open: None,
        next: 0,
        round: Round {
            arrived: Volume::default(),
            spoilt: None,
        },
        count,
    };
    while let Some(chunk) = queue.blocking_recv() {
        receiver.take(chunk)?;
    }
    match parts.iter().find(|part| !receiver.whole.contains(&part.id)) {
        Some(_) if receiver.round.spoilt.is_some() => Ok(receiver.round),
        None => Ok(receiver.round),
        Some(part) => Err(RemoteError::Protocol(format!(
            "{part} was offered and did not arrive"
        ))),
    }
}

struct Receiver<'a> {
    sink: &'a dyn Sink,
    parts: &'a [Part],
    /// What was here of each part before.
    staged: &'a [u64],
    /// Objects that are here completely.
    whole: HashSet<ObjectId>,
    open: Option<(u32, Box<dyn PartWriter + 'a>)>,
    /// Lowest index that may still come.
    next: u32,
    round: Round,
    count: Count,
}

impl Receiver<'_> {
    /// Returns what was here of a part before.
    fn staged_before(&self, index: u32) -> u64 {
        let position = usize::try_from(index).unwrap_or(usize::MAX);
        self.staged.get(position).copied().unwrap_or(0)
    }

    fn take(&mut self, chunk: Chunk) -> Result<(), RemoteError> {
        let index = chunk.part;
        let part = usize::try_from(index)
            .ok()
            .and_then(|index| self.parts.get(index))
            .copied();
        let Some(part) = part else {
            return Err(RemoteError::Protocol(format!(
                "bytes of part {index}, which was not offered"
            )));
        };
        if index.saturating_add(1) == self.next && self.round.spoilt.is_some() {
            // The rest of what is asked for once more.
            return Ok(());
        }
        if index < self.next {
            return Err(RemoteError::Protocol(format!(
                "part {index} came after part {}",
                self.next
            )));
        }
        self.next = index;
        if self.whole.contains(&part.id) {
            // An eager sender does not know what we have.
            return Ok(());
        }
        let mut writer = match self.open.take() {
            Some((open, writer)) if open == index => writer,
            Some((open, _)) => {
                return Err(RemoteError::Protocol(format!(
                    "part {index} came before part {open} was whole"
                )));
            }
            None => self.sink.stage(&part)?,
        };
        let bytes = match chunk.bytes {
            ChunkBytes::Raw(bytes) => bytes,
            ChunkBytes::Zstd(packed) => zstd::bulk::decompress(&packed, CHUNK).map_err(|error| {
                RemoteError::Protocol(format!("a chunk of {part} does not decompress: {error}"))
            })?,
        };
        let held = writer.len();
        let end = chunk.offset.saturating_add(bytes.len() as u64);
        if chunk.offset > held && self.staged_before(index) > held {
            // Another transfer has taken up what an earlier one had left.
            self.next = index.saturating_add(1);
            self.round.spoilt.get_or_insert(RemoteError::Protocol(format!(
                "the beginning of {part} went to another transfer"
            )));
            return Ok(());
        }
        if chunk.offset > held || end > part.len {
            return Err(RemoteError::Protocol(format!(
                "bytes {} to {end} of {part}, which has {} bytes of which {held} are here",
                chunk.offset, part.len
            )));
        }
        let overlap = usize::try_from(held - chunk.offset).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(overlap..).filter(|new| !new.is_empty()) {
            writer.append(new)?;
            self.count.add(new.len() as u64, 0);
            self.round.arrived.bytes += new.len() as u64;
        }
        if writer.len() < part.len {
            self.open = Some((index, writer));
            return Ok(());
        }
        match writer.finish() {
            Ok(()) => {}
            Err(LocalError::Damaged { reason, .. }) => {
                let error = RemoteError::Damaged {
                    part: Box::new(part),
                    index,
                    reason,
                };
                if self.staged_before(index) == 0 {
                    return Err(error);
                }
                self.round.spoilt.get_or_insert(error);
                self.next = index.saturating_add(1);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.whole.insert(part.id);
        self.round.arrived.add(&part.kind, 0);
        self.count.add(0, 1);
        Ok(())
    }
}
