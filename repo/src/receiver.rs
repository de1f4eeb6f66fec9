//! The WAL receiver of one endpoint: raw WAL is appended and fsynced, then acknowledged; indexing and sealing follow on a thread
//! of their own, whatever they take.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neon_pagestore::Timeline;
use neon_transport::TransportError;
use neon_transport::replication::{ConnectOptions, Event, Replication};
use neon_types::{Lsn, with_causes};

use crate::catalog::Access;
use crate::compaction::Compactor;
use crate::error::{RepoError, Result};
use crate::first_transaction::{AGAIN, FirstTransaction};
use crate::postgres;

/// Name of the replication slot in every endpoint.
pub const SLOT: &str = "neon";
/// WAL that may wait for its fsync, in bytes and in time.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_TIME: Duration = Duration::from_millis(20);
/// How often those who wait look whether anything moves.
const LOOK: Duration = Duration::from_millis(500);
/// How long the slot may still be held by a connection that is gone, and how often we look.
const SLOT_WAIT: Duration = Duration::from_secs(20);
const SLOT_RETRY: Duration = Duration::from_millis(20);
/// Pause before connecting again after the stream broke, and its limit: it doubles while nothing new becomes durable.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_LIMIT: Duration = Duration::from_secs(5);
/// How long those who wait for a stream that is known to be broken go on, while nothing moves.
const TROUBLE_WAIT: Duration = Duration::from_secs(6);

/// Where an endpoint's walsender is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Directory of the Unix socket.
    pub socket_directory: PathBuf,
    /// Port in the socket's name.
    pub port: u16,
}

impl Place {
    fn socket(&self) -> PathBuf {
        self.socket_directory.join(neon_compute::socket_name(self.port))
    }
}

/// What the receiver tells those who wait.
#[derive(Default)]
struct Reached {
    /// End of the last whole record that is durable and indexed.
    indexed: Lsn,
    /// Received and durable, indexed or not.
    durable: Lsn,
    /// Every whole record below this is indexed; may lie inside a record that has not arrived whole.
    covered: Lsn,
    /// The stream is over: the server was shut down, is gone, or we were told to stop.
    closed: bool,
    /// The stream is over and everything of it is indexed.
    ended: bool,
    /// Why nothing is received just now; none again as soon as more WAL is durable.
    trouble: Option<Arc<RepoError>>,
}

struct Shared {
    timeline: Arc<Timeline>,
    compactor: Arc<Compactor>,
    reached: Mutex<Reached>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut Reached)) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut reached);
        self.changed.notify_all();
    }

    fn durable(&self) -> Lsn {
        self.reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .durable
    }
}

/// A running receiver. Dropping it stops it; [`Receiver::drain`] waits for the server's own end first.
pub struct Receiver {
    shared: Arc<Shared>,
    indexer: Mutex<Option<JoinHandle<()>>>,
    stream: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Receiver {
    /// Makes the slot if there is none, and begins to receive from the timeline's end.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        timeline: Arc<Timeline>,
        compactor: Arc<Compactor>,
        place: Place,
        first: Option<FirstTransaction>,
    ) -> Result<Receiver> {
        let end = timeline.index_wal()?;
        compactor.wake(&timeline);
        let shared = Arc::new(Shared {
            timeline,
            compactor,
            reached: Mutex::new(Reached {
                indexed: end,
                durable: end,
                covered: end,
                closed: false,
                ended: false,
                trouble: None,
            }),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        // The first connection is made here, so that no endpoint is announced whose WAL nobody reserves.
        let connection = runtime.block_on(connect(&shared, &place))?;
        let streaming = Arc::clone(&shared);
        let stream = runtime.spawn(async move { receive_until_stopped(streaming, place, connection).await });
        let indexing = Arc::clone(&shared);
        let indexer = std::thread::Builder::new()
            .name("index".into())
            .spawn(move || index_until_stopped(&indexing, first))
            .map_err(RepoError::io("start a thread for", "indexing"))?;
        Ok(Receiver {
            shared,
            indexer: Mutex::new(Some(indexer)),
            stream: Mutex::new(Some(stream)),
        })
    }

    /// Waits until every whole record below `wanted` is durable and indexed here, as long as nothing stands still for `limit`;
    /// returns how far that is so.
    pub fn wait_for(&self, wanted: Lsn, limit: Duration) -> Lsn {
        self.wait(wanted, limit, |reached| {
            reached.covered >= wanted || reached.ended
        });
        self.shared
            .reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .covered
    }

    /// Waits until the server, which is shutting down, has sent everything, and everything is indexed, as long as nothing stands
    /// still for `limit`; stops receiving.
    pub fn drain(&self, limit: Duration) -> Lsn {
        self.wait(Lsn(u64::MAX), limit, |reached| reached.ended);
        self.finish();
        self.shared
            .reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .indexed
    }

    /// Returns true when the stream is over and everything of it is indexed.
    pub fn is_over(&self) -> bool {
        self.shared
            .reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ended
    }

    /// Returns why nothing is received just now, though the server runs.
    pub fn trouble(&self) -> Option<Arc<RepoError>> {
        let reached = self.shared.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.trouble.clone()
    }

    fn wait(&self, wanted: Lsn, limit: Duration, done: impl Fn(&Reached) -> bool) {
        let mut moved = Instant::now();
        let mut seen = (Lsn::INVALID, 0);
        let mut reached = self.shared.reached.lock().unwrap_or_else(PoisonError::into_inner);
        while !done(&reached) {
            // Indexing may be far behind what a busy server writes; that takes its time.
            let now = (reached.durable.min(wanted), self.shared.timeline.work());
            if now != seen {
                (seen, moved) = (now, Instant::now());
            }
            let limit = match reached.trouble {
                Some(_) => limit.min(TROUBLE_WAIT),
                None => limit,
            };
            let Some(left) = limit.checked_sub(moved.elapsed()) else {
                break;
            };
            (reached, _) = self
                .shared
                .changed
                .wait_timeout(reached, left.min(LOOK))
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Stops both halves; what was received is indexed first.
    fn finish(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.update(|_| {});
        if let Some(stream) = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
            stream.abort();
        }
        if let Some(indexer) = self.indexer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = indexer.join();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Opens a walsender connection, as the cluster's own superuser. Of the database, nothing runs in it.
async fn open(shared: &Shared, place: &Place) -> Result<Replication> {
    let timeline = &shared.timeline;
    let superuser = tokio::task::block_in_place(|| Access::read(timeline, timeline.end()))?.superuser;
    let options = ConnectOptions::unix(&place.socket_directory, place.port, superuser);
    Ok(Replication::over(postgres::connect(&place.socket())?, &options).await?)
}

async fn connect(shared: &Shared, place: &Place) -> Result<Replication> {
    let mut replication = open(shared, place).await?;
    replication.ensure_physical_slot(SLOT).await?;
    let began = Instant::now();
    loop {
        let (from, tli) = (shared.timeline.end(), shared.timeline.tli());
        match replication.start_physical(Some(SLOT), from, tli).await {
            // The walsender of the receiver before us has not noticed yet that nobody listens.
            Err(TransportError::SlotInUse { .. }) if began.elapsed() < SLOT_WAIT => {
                tokio::time::sleep(SLOT_RETRY).await;
            }
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(replication),
        }
    }
}

/// Says that the stream is over, however its task ends: nobody may wait for a stream that nobody reads.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.update(|reached| reached.closed = true);
    }
}

async fn receive_until_stopped(shared: Arc<Shared>, place: Place, first: Replication) {
    let _closing = Closing(Arc::clone(&shared));
    let mut connection = Some(first);
    let mut pause = RETRY;
    while !shared.stop.load(Ordering::SeqCst) {
        let before = shared.durable();
        let replication = match connection.take() {
            Some(replication) => Ok(replication),
            None => connect(&shared, &place).await,
        };
        let ended = match replication {
            Ok(replication) => receive(&shared, replication).await,
            Err(error) => Err(error),
        };
        match ended {
            // The server said that it has no more: it is shut down.
            Ok(()) => break,
            Err(_) if !place_answers(&place) => break,
            Err(error) => {
                let moved = shared.durable() > before;
                pause = if moved {
                    RETRY
                } else {
                    (pause * 2).min(RETRY_LIMIT)
                };
                let error = Arc::new(error);
                tracing::warn!(
                    error = with_causes(&error),
                    ?pause,
                    "the WAL stream broke; asking again from the last whole record"
                );
                shared.update(|reached| reached.trouble = Some(error));
                tokio::time::sleep(pause).await;
                // A failed fsync poisons the open file (law 10): reopening reads back what is really there.
                if let Err(error) = tokio::task::block_in_place(|| shared.timeline.index_wal()) {
                    tracing::warn!(
                        error = with_causes(&error),
                        "the received WAL cannot be read back"
                    );
                }
            }
        }
    }
    if let Ok(durable) = tokio::task::block_in_place(|| shared.timeline.sync_wal()) {
        shared.update(|reached| reached.durable = durable);
    }
}

fn place_answers(place: &Place) -> bool {
    neon_compute::socket::connect(&place.socket()).is_ok()
}

/// Receives until the server ends the stream. Bytes are acknowledged once they are fsynced, not before.
async fn receive(shared: &Arc<Shared>, mut replication: Replication) -> Result<()> {
    let mut pending = 0u64;
    let mut oldest: Option<tokio::time::Instant> = None;
    loop {
        let deadline = oldest.map(|at| at + BATCH_TIME);
        let event = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, replication.next()).await.ok(),
            None => Some(replication.next().await),
        };
        let mut answer = false;
        match event {
            Some(Ok(Event::Wal { start, bytes })) => {
                pending += bytes.len() as u64;
                oldest.get_or_insert_with(tokio::time::Instant::now);
                tokio::task::block_in_place(|| shared.timeline.append_wal(start, &bytes))?;
            }
            Some(Ok(Event::Keepalive { reply, .. })) => answer = reply,
            Some(Ok(Event::Done)) => {
                flush(shared)?;
                return Ok(());
            }
            Some(Err(error)) => {
                flush(shared)?;
                return Err(error.into());
            }
            None => {}
        }
        let due = pending >= BATCH_BYTES || oldest.is_some_and(|at| at.elapsed() >= BATCH_TIME);
        if due || (answer && pending > 0) {
            flush(shared)?;
            (pending, oldest) = (0, None);
            answer = true;
        }
        if answer {
            let (durable, whole) = {
                let reached = shared.reached.lock().unwrap_or_else(PoisonError::into_inner);
                (reached.durable, reached.indexed.min(reached.durable))
            };
            // The slot may not pass the last whole record: that is where we ask again from if the stream breaks.
            replication.status(durable, whole, whole).await?;
        }
    }
}

fn flush(shared: &Shared) -> Result<()> {
    let durable = tokio::task::block_in_place(|| shared.timeline.sync_wal())?;
    shared.update(|reached| {
        if durable > reached.durable {
            reached.trouble = None;
        }
        reached.durable = durable;
    });
    Ok(())
}

/// Indexes what has become durable, and seals in the background when the open layer is large enough.
fn index_until_stopped(shared: &Arc<Shared>, mut first: Option<FirstTransaction>) {
    let mut sealing = Sealing::new(&shared.timeline);
    let mut seen = Lsn::INVALID;
    loop {
        let stopping = {
            let mut reached = shared.reached.lock().unwrap_or_else(PoisonError::into_inner);
            while reached.durable == seen && !reached.closed && !shared.stop.load(Ordering::SeqCst) {
                if !first.as_ref().is_some_and(FirstTransaction::is_due) {
                    reached = shared
                        .changed
                        .wait(reached)
                        .unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let waited = shared.changed.wait_timeout(reached, AGAIN);
                let timeout;
                (reached, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                if timeout.timed_out() {
                    break;
                }
            }
            seen = reached.durable;
            reached.closed || shared.stop.load(Ordering::SeqCst)
        };
        let indexed = shared.timeline.index_wal_pausing(&mut || {
            if !stopping {
                sealing.begin_if_wanted(shared);
            }
            let end = shared.timeline.end();
            // A server that writes faster than it is indexed here never lets this catch up: who waits for a position need not wait for that.
            shared.update(|reached| {
                reached.indexed = end;
                reached.covered = reached.covered.max(end.min(reached.durable));
            });
        });
        match indexed {
            Ok(end) => {
                if !stopping {
                    first = first.and_then(|mut first| (!first.look(&shared.timeline)).then_some(first));
                }
                shared.update(|reached| {
                    reached.indexed = end;
                    reached.covered = seen;
                });
            }
            Err(error) => {
                tracing::error!(
                    error = with_causes(&error),
                    "indexing stopped; the WAL itself is safe"
                );
            }
        }
        if stopping {
            shared.update(|reached| reached.ended = true);
        }
        if stopping {
            return sealing.finish();
        }
        sealing.begin_if_wanted(shared);
    }
}

/// Seals of one timeline, one at a time on a thread of its own.
struct Sealing {
    running: Option<JoinHandle<()>>,
    /// How far it was sealed when compaction was told last.
    told: Lsn,
}

impl Sealing {
    fn new(timeline: &Timeline) -> Sealing {
        Sealing {
            running: None,
            told: timeline.sealed(),
        }
    }

    fn begin_if_wanted(&mut self, shared: &Shared) {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.running = None;
        }
        // Indexing seals by itself, too, where memory ends.
        let sealed = shared.timeline.sealed();
        if sealed > self.told {
            self.told = sealed;
            shared.compactor.wake(&shared.timeline);
        }
        if self.running.is_some() || !shared.timeline.wants_seal() {
            return;
        }
        let timeline = Arc::clone(&shared.timeline);
        let compactor = Arc::clone(&shared.compactor);
        self.running = std::thread::Builder::new()
            .name("seal".into())
            .spawn(move || match timeline.seal() {
                Ok(_) => compactor.wake(&timeline),
                Err(error) => {
                    tracing::error!(error = with_causes(&error), "sealing failed; it is tried again");
                }
            })
            .ok();
    }

    fn finish(self) {
        if let Some(running) = self.running {
            let _ = running.join();
        }
    }
}
