//! The repositories below a root that are open, each in a slot of its own: opening, waiting for a lock, making or closing one never holds up
//! another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neon_objects::ObjectsError;
use neon_repo::api::ApiError;
use neon_repo::{OpenOptions, Repository};
use neon_transport::{Refusal, sqlstate};
use neon_types::RepoId;
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::quota::Quota;
use super::refusal;
use super::root::Root;
use crate::daemon::{self, Answering};
use crate::settings::{RootLimits, Space};

/// How often it is looked whether a repository is idle.
const LOOK: Duration = Duration::from_millis(500);
/// How often leftovers of unfinished pushes are looked for at most.
const SWEEP: Duration = Duration::from_secs(600);
/// How long who wants a seat waits for what is done in the background of a repository that nobody uses.
const SOON: Duration = Duration::from_secs(2);
/// How long the last users of a repository that is closed may still have it.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Everything below a root that is in use.
pub(crate) struct Slots {
    pub root: Root,
    pub options: OpenOptions,
    pub limits: RootLimits,
    space: Space,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// Repositories that are open, or about to be.
    open: AtomicUsize,
}

/// One name below the root.
pub(super) struct Slot {
    pub name: String,
    /// The id that a repository of this name gets when it is made.
    pub unborn: RepoId,
    pub quota: Arc<Quota>,
    /// Held by the one who makes the repository.
    pub birth: Arc<AsyncMutex<()>>,
    /// Held while the repository is opened or closed.
    state: AsyncMutex<Option<Opened>>,
    users: AtomicUsize,
    /// When it was last used.
    last: Mutex<Instant>,
}

/// A repository that is open and answers on its socket.
struct Opened {
    repository: Arc<Repository>,
    answering: Answering,
}

/// The use of a slot: while it lives, what it leads to stays open.
pub(super) struct Lease {
    pub slot: Arc<Slot>,
    /// Absent when there is no such repository yet.
    pub repository: Option<Arc<Repository>>,
}

impl Lease {
    fn new(slot: Arc<Slot>) -> Lease {
        slot.users.fetch_add(1, Ordering::SeqCst);
        Lease {
            slot,
            repository: None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.slot.last() = Instant::now();
        self.repository = None;
        self.slot.users.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Slot {
    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_used(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 0
    }

    /// Returns for how long nobody has used it.
    fn idle(&self) -> Duration {
        if self.is_used() {
            Duration::ZERO
        } else {
            self.last().elapsed()
        }
    }
}

impl Slots {
    pub fn new(root: Root, options: OpenOptions, limits: RootLimits, space: Space) -> Slots {
        Slots {
            root,
            options,
            limits,
            space,
            slots: Mutex::default(),
            open: AtomicUsize::new(0),
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, name: &str) -> Lease {
        let mut slots = self.slots();
        let slot = slots.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                name: name.to_owned(),
                unborn: RepoId(self.options.world.random()),
                quota: Quota::new(name, self.space),
                birth: Arc::default(),
                state: AsyncMutex::new(None),
                users: AtomicUsize::new(0),
                last: Mutex::new(Instant::now()),
            })
        });
        Lease::new(Arc::clone(slot))
    }

    /// Returns the repository of that name, opened if need be; a lease without one when there is none yet.
    pub(super) async fn lease(self: &Arc<Self>, name: &str) -> Result<Lease, Refusal> {
        let mut lease = self.slot(name);
        let slot = Arc::clone(&lease.slot);
        let mut state = slot.state.lock().await;
        if state.is_none() {
            *state = self.open(&slot).await?;
        }
        lease.repository = state.as_ref().map(|opened| Arc::clone(&opened.repository));
        Ok(lease)
    }

    async fn open(self: &Arc<Self>, slot: &Slot) -> Result<Option<Opened>, Refusal> {
        let name = slot.name.as_str();
        let (slots, wanted) = (Arc::clone(self), name.to_owned());
        // Who makes it gives it its name, too.
        let turn = Arc::clone(&slot.birth).try_lock_owned();
        let found = blocking(move || {
            if turn.is_ok() {
                slots.root.finish(&wanted)?;
            }
            slots.root.find(&wanted)
        });
        let Some(neon_dir) = found.await?.map_err(|error| not_served(name, &error))? else {
            return Ok(None);
        };
        let seat = self.seat().await?;
        let options = self.options.clone();
        let runtime = Handle::current();
        let repository = blocking(move || {
            let repository = Repository::open(&neon_dir, options, &runtime).map_err(ApiError::from)?;
            repository.check_writable().map_err(ApiError::from)?;
            repository.adopt_endpoints();
            Ok(Arc::new(repository))
        });
        let repository = repository.await?.map_err(|error| refusal(&error))?;
        let answering =
            daemon::answer(&repository, daemon::Process::Shared).map_err(|error| refusal(&error))?;
        tracing::info!(repository = ?name, "opened");
        seat.keep();
        Ok(Some(Opened {
            repository,
            answering,
        }))
    }

    /// Makes room for one more open repository; the one that was idle longest is closed for it.
    pub(super) async fn seat(self: &Arc<Self>) -> Result<OpenSeat, Refusal> {
        let began = Instant::now();
        loop {
            if self.open.fetch_add(1, Ordering::SeqCst) < self.limits.open {
                return Ok(OpenSeat(Some(Arc::clone(self))));
            }
            self.open.fetch_sub(1, Ordering::SeqCst);
            if self.close_one_that_is_idle().await {
                continue;
            }
            // What nobody uses may be about to seal, or collect: that is soon over.
            if self.has_unused() && began.elapsed() < SOON {
                tokio::time::sleep(SOON / 100).await;
            } else {
                let refusal = Refusal::new(
                    sqlstate::TOO_MANY_CONNECTIONS,
                    format!(
                        "{} repositories are in use here, and no more may be",
                        self.limits.open
                    ),
                );
                return Err(refusal.with_hint("try again later"));
            }
        }
    }

    /// Returns true when a repository is open that nobody uses.
    fn has_unused(&self) -> bool {
        let open = |slot: &Arc<Slot>| slot.state.try_lock().map_or(true, |state| state.is_some());
        self.slots().values().any(|slot| !slot.is_used() && open(slot))
    }

    async fn close_one_that_is_idle(&self) -> bool {
        let mut idle: Vec<(Duration, Arc<Slot>)> = {
            let slots = self.slots();
            let unused = slots.values().filter(|slot| !slot.is_used());
            unused.map(|slot| (slot.idle(), Arc::clone(slot))).collect()
        };
        idle.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        for (_, slot) in idle {
            if self.close(&slot).await {
                return true;
            }
        }
        false
    }

    /// Closes the repository of a slot, unless somebody uses it; true when it was open and is not any more.
    async fn close(&self, slot: &Slot) -> bool {
        // Whoever opens or closes it uses it.
        let Ok(mut state) = slot.state.try_lock() else {
            return false;
        };
        let is_idle = |opened: &Opened| !slot.is_used() && opened.answering.is_idle();
        let Some(opened) = state.take_if(|opened| is_idle(opened)) else {
            return false;
        };
        let Opened {
            repository,
            answering,
        } = opened;
        answering.end().await;
        daemon::hang_up(&repository);
        let left = Arc::downgrade(&repository);
        // Its last act may take the disk a moment.
        let _ = tokio::task::spawn_blocking(move || drop(repository)).await;
        let began = Instant::now();
        while left.strong_count() > 0 && began.elapsed() < LETTING_GO {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if left.strong_count() > 0 {
            tracing::warn!(repository = ?slot.name, "somebody still has a repository that was closed");
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
        tracing::info!(repository = ?slot.name, "closed");
        true
    }

    /// Closes what is idle, forgets names that nobody uses, and removes what unfinished pushes left, for as long as the server runs.
    pub async fn look_after(self: Arc<Self>) {
        let every = SWEEP.min(self.limits.keep_staged).max(LOOK);
        let mut swept = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let idle: Vec<Arc<Slot>> = {
                let slots = self.slots();
                let idle = slots.values().filter(|slot| slot.idle() >= self.limits.idle);
                idle.map(Arc::clone).collect()
            };
            for slot in idle {
                self.close(&slot).await;
            }
            self.forget();
            if swept.elapsed() >= every {
                swept = Instant::now();
                self.sweep().await;
            }
        }
    }

    /// Takes slots away that nothing is in. Only this table has them, so nobody can be about to use one.
    fn forget(&self) {
        self.slots().retain(|_, slot| {
            let is_empty = slot.state.try_lock().is_ok_and(|state| state.is_none());
            !(is_empty && Arc::strong_count(slot) == 1)
        });
    }

    async fn sweep(self: &Arc<Self>) {
        let slots = Arc::clone(self);
        let swept = tokio::task::spawn_blocking(move || {
            // Who has the turn is about to go on with what there is.
            let claim = |name: &str| {
                let lease = slots.slot(name);
                Arc::clone(&lease.slot.birth).try_lock_owned().ok()
            };
            slots.root.expire(slots.limits.keep_staged, claim)
        });
        match swept.await {
            Ok(Ok(0)) => {}
            Ok(Ok(bytes)) => tracing::info!(bytes, "removed what unfinished pushes left"),
            Ok(Err(error)) => tracing::warn!(%error, "leftovers are kept"),
            Err(error) => tracing::error!(%error, "looking for leftovers failed"),
        }
    }

    /// Gives their names to repositories that a server made and could not place before it died.
    pub fn finish_all(&self) {
        for name in self
            .root
            .names()
            .map(|(_, unfinished)| unfinished)
            .unwrap_or_default()
        {
            if let Err(error) = self.root.finish(&name) {
                tracing::warn!(repository = ?name, %error, "an unfinished repository is left as it is");
            }
        }
    }

    /// Stops the endpoints of all that is open, at the end of the process.
    pub fn stop_all(&self) -> Result<(), ApiError> {
        let slots = std::mem::take(&mut *self.slots());
        let mut result = Ok(());
        for slot in slots.into_values() {
            let Some(opened) = slot.state.blocking_lock().take() else {
                continue;
            };
            if opened.repository.has_running_endpoints() {
                result = result.and(opened.repository.stop_all());
            }
            daemon::hang_up(&opened.repository);
        }
        result
    }
}

/// One repository more that is open, unless it is not kept.
pub(super) struct OpenSeat(Option<Arc<Slots>>);

impl OpenSeat {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for OpenSeat {
    fn drop(&mut self) {
        if let Some(slots) = &self.0 {
            slots.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Does blocking work on its own thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::new(sqlstate::INTERNAL_ERROR, error.to_string()))
}

/// Says that a repository is there and not served; why is in the server's log alone.
fn not_served(name: &str, error: &ObjectsError) -> Refusal {
    tracing::error!(repository = ?name, %error, hint = error.hint(), "a repository is not served");
    Refusal::new(
        sqlstate::UNKNOWN_DATABASE,
        format!("repository '{name}' is not served here"),
    )
    .with_hint("the server's log says why")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use neon_objects::RepoLock;
    use neon_repo::world::RealWorld;

    use super::*;

    /// A root with two empty repositories, and as many open as `open` says.
    async fn slots(open: usize) -> (tempfile::TempDir, Arc<Slots>) {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::open(dir.path()).expect("ours");
        let options = OpenOptions {
            takes_over: false,
            purpose: "test".to_owned(),
            world: Arc::new(RealWorld),
            caller: Arc::default(),
            neighbours: Arc::new(crate::talk::Sockets),
            lock_wait: Duration::from_secs(3600),
        };
        let limits = RootLimits {
            repositories: 10,
            open,
            idle: Duration::from_secs(3600),
            keep_staged: Duration::from_secs(3600),
        };
        let space = Space {
            repository: u64::MAX,
            staging: u64::MAX,
        };
        for name in ["one", "two"] {
            let (directory, options) = (root.directory(name), options.clone());
            let runtime = Handle::current();
            let made = blocking(move || {
                neon_repo::create_empty(&directory, RepoId([1; 16]), &options, &runtime).map(drop)
            });
            made.await.expect("no panic").expect("made");
        }
        (dir, Arc::new(Slots::new(root, options, limits, space)))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_repository_that_waits_for_its_lock_holds_up_nobody_else() {
        let (dir, slots) = slots(10).await;
        let lock = RepoLock::try_acquire(&dir.path().join("one/.neon"), "somebody else").expect("free");
        let waiting = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.lease("one").await.map(|lease| lease.repository.is_some()) }
        });
        let also_waiting = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.lease("one").await.map(|lease| lease.repository.is_some()) }
        });
        for _ in 0..3 {
            let lease = slots.lease("two").await.expect("nobody has it");
            assert!(lease.repository.is_some());
            assert!(slots.lease("three").await.expect("looked").repository.is_none());
        }
        assert!(!waiting.is_finished() && !also_waiting.is_finished());
        drop(lock);
        assert_eq!(waiting.await.expect("no panic"), Ok(true));
        assert_eq!(also_waiting.await.expect("no panic"), Ok(true));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_idle_gives_way_and_what_is_used_stays() {
        let (dir, slots) = slots(1).await;
        let one = slots.lease("one").await.expect("room");
        let refused = slots.lease("two").await.map(drop).expect_err("it is used");
        assert_eq!(refused.code, sqlstate::TOO_MANY_CONNECTIONS);
        drop(one);
        let two = slots.lease("two").await.expect("the other one was idle");
        assert!(two.repository.is_some());
        // Closed means that somebody else may have it.
        let neon_dir = dir.path().join("one/.neon");
        drop(RepoLock::try_acquire(&neon_dir, "somebody else").expect("free"));
        assert!(!neon_dir.join("neon.sock").exists() && !neon_dir.join("neon.pid").exists());
        assert!(slots.lease("one").await.is_err());
        drop(two);
        assert!(slots.lease("one").await.expect("room again").repository.is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn names_that_are_asked_for_once_are_forgotten() {
        let (dir, slots) = slots(10).await;
        for number in 0..100 {
            let lease = slots.lease(&format!("none{number}")).await.expect("looked");
            assert!(lease.repository.is_none());
        }
        let used = slots.lease("one").await.expect("room");
        slots.forget();
        assert_eq!(slots.slots().keys().collect::<Vec<_>>(), ["one"]);
        assert!(!slots.close(&used.slot).await, "it is used");
        let slot = Arc::clone(&used.slot);
        drop(used);
        let began = std::time::Instant::now();
        while !slots.close(&slot).await {
            assert!(began.elapsed() < Duration::from_secs(60), "it never ends");
            // It may be about to seal, for the first time.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(slot);
        slots.forget();
        assert!(slots.slots().is_empty());
        let left = fs::read_dir(dir.path()).expect("there").count();
        assert_eq!(left, 2, "looking made nothing");
    }
}
