//! A repository that a first push makes: nothing is on disk before something is to be staged, and nothing has its name before a branch moved.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use neon_objects::Commit;
use neon_remotes::{
    Acceptance, Branch, BranchMove, Catalog, Identity, Ladder, LocalError, Meter, Part, PartWriter,
    Possession, RemoteError, Served, Sink, Step, TimelineFacts,
};
use neon_repo::{RepoError, Repository};
use neon_types::{CommitId, Lsn, Position, with_causes};
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::slot::{Lease, OpenSeat, Slot, Slots};

/// How long a push waits for another one that makes the same repository.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a first push arrives in.
pub(super) struct Newborn {
    slots: Arc<Slots>,
    slot: Arc<Slot>,
    runtime: Handle,
    /// Where it arrives, once something does.
    begun: OnceLock<Begun>,
    /// Taken by the thread that begins.
    beginning: Mutex<()>,
    /// Nobody waits for the result any more.
    gone: CancellationToken,
    /// What arrived is of no use to a next attempt.
    discard: AtomicBool,
}

/// Where a first push arrives.
enum Begun {
    /// In a directory of its own, that gets the repository's name when the branch has moved.
    Hidden {
        repository: Arc<Repository>,
        placed: AtomicBool,
        turn: OwnedMutexGuard<()>,
        _seat: OpenSeat,
    },
    /// In the repository of that name: another push made it meanwhile.
    Made {
        repository: Arc<Repository>,
        _lease: Lease,
    },
}

impl Begun {
    fn repository(&self) -> &Repository {
        match self {
            Begun::Hidden { repository, .. } | Begun::Made { repository, .. } => repository,
        }
    }
}

type Local<T> = Result<T, LocalError>;

impl Newborn {
    pub fn new(slots: Arc<Slots>, slot: Arc<Slot>) -> Newborn {
        Newborn {
            slots,
            slot,
            runtime: Handle::current(),
            begun: OnceLock::new(),
            beginning: Mutex::new(()),
            gone: CancellationToken::new(),
            discard: AtomicBool::new(false),
        }
    }

    /// Returns what is cancelled when nobody waits for the result any more.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Says how the push ended. What arrived stays for the next attempt only when the connection was to blame.
    pub fn ended(&self, result: &Result<Served, RemoteError>) {
        let cut = matches!(
            result,
            Err(RemoteError::Cut { .. } | RemoteError::Silent { .. } | RemoteError::Transport(_))
        );
        self.discard.store(!cut, Ordering::SeqCst);
    }

    /// Returns where the push arrives, making that if need be.
    fn begin(&self) -> Local<&Begun> {
        let _beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = self.begun.get() {
            return Ok(begun);
        }
        let begun = self.make()?;
        Ok(self.begun.get_or_init(|| begun))
    }

    /// Returns where the push arrives if something has, or had in an earlier attempt.
    fn arrived(&self) -> Local<Option<&Begun>> {
        if let Some(begun) = self.begun.get() {
            return Ok(Some(begun));
        }
        let left = self.slots.root.unfinished(&self.slot.name);
        match left.map_err(LocalError::other)? {
            Some(_) => self.begin().map(Some),
            None => Ok(None),
        }
    }

    fn make(&self) -> Local<Begun> {
        let turn = self.turn()?;
        let name = &self.slot.name;
        let root = &self.slots.root;
        if root.find(name).map_err(LocalError::other)?.is_some() {
            drop(turn);
            let lease = self.runtime.block_on(self.slots.lease(name));
            let lease = lease.map_err(LocalError::other)?;
            let repository = lease.repository.clone();
            let repository = repository.ok_or_else(|| LocalError::Missing(format!("repository '{name}'")))?;
            return Ok(Begun::Made {
                repository,
                _lease: lease,
            });
        }
        let seat = self
            .runtime
            .block_on(self.slots.seat())
            .map_err(LocalError::other)?;
        let repository = match root.unfinished(name).map_err(LocalError::other)? {
            Some(neon_dir) => {
                Repository::open(&neon_dir, self.slots.options.clone(), &self.runtime).map_err(failed)?
            }
            None => {
                self.check_count()?;
                // Without a configuration it is not even unfinished.
                root.remove_unfinished(name)?;
                let directory = root.incoming(name);
                neon_repo::create_empty(&directory, self.slot.unborn, &self.slots.options, &self.runtime)
                    .map_err(|error| LocalError::other(error.message))?
            }
        };
        Ok(Begun::Hidden {
            repository: Arc::new(repository),
            placed: AtomicBool::new(false),
            turn,
            _seat: seat,
        })
    }

    /// Waits until nobody else makes this repository.
    fn turn(&self) -> Local<OwnedMutexGuard<()>> {
        let birth = Arc::clone(&self.slot.birth);
        let waiting = async {
            tokio::select! {
                turn = tokio::time::timeout(PATIENCE, birth.lock_owned()) => turn.ok(),
                () = self.gone.cancelled() => None,
            }
        };
        self.runtime.block_on(waiting).ok_or_else(|| {
            LocalError::other(format!(
                "repository '{}' is being made by another push: try again when that is done",
                self.slot.name
            ))
        })
    }

    fn check_count(&self) -> Local<()> {
        let limit = self.slots.limits.repositories;
        if self.slots.root.has_room(&self.slot.name, limit)? {
            return Ok(());
        }
        Err(LocalError::Limit(too_many(limit)))
    }

    /// Refuses what belongs to another cluster than the repository that was made meanwhile.
    fn check_related(&self, begun: &Begun, path: &[Step]) -> Local<()> {
        let roots = match begun {
            Begun::Hidden { .. } => return Ok(()),
            Begun::Made { repository, .. } => repository.identity()?.roots,
        };
        let ours = path.first().is_some_and(|step| roots.contains(&step.timeline));
        if roots.is_empty() || ours {
            return Ok(());
        }
        Err(LocalError::other(format!(
            "another push made repository '{}' meanwhile, with the history of another cluster",
            self.slot.name
        )))
    }
}

/// Says that no repository can be made.
pub(super) fn too_many(limit: usize) -> String {
    format!("there are {limit} repositories here, and no more may be (serve.max_repositories)")
}

fn failed(error: RepoError) -> LocalError {
    LocalError::other(with_causes(&error))
}

impl Catalog for Newborn {
    fn identity(&self) -> Local<Identity> {
        match self.begun.get() {
            Some(begun) => begun.repository().identity(),
            None => Ok(Identity {
                repository: self.slot.unborn,
                roots: Vec::new(),
                system_id: 0,
                head: None,
            }),
        }
    }

    fn branches(&self) -> Local<Vec<(String, Branch)>> {
        self.begun
            .get()
            .map_or(Ok(Vec::new()), |begun| begun.repository().branches())
    }

    fn branch(&self, name: &str, receiving: bool) -> Local<Option<Branch>> {
        let begun = self.begun.get();
        begun.map_or(Ok(None), |begun| begun.repository().branch(name, receiving))
    }

    fn commit(&self, id: CommitId) -> Local<Option<Vec<u8>>> {
        let begun = self.begun.get();
        begun.map_or(Ok(None), |begun| Catalog::commit(begun.repository(), id))
    }

    fn check_claims(&self, commit: &Commit) -> Local<()> {
        // Where nothing is, nothing is contradicted.
        let begun = self.begun.get();
        begun.map_or(Ok(()), |begun| begun.repository().check_claims(commit))
    }

    fn ladders(&self, path: &[Step], end: Lsn) -> Local<Vec<Ladder>> {
        let begun = self.begun.get();
        begun.map_or(Ok(Vec::new()), |begun| begun.repository().ladders(path, end))
    }

    fn transactions(&self, path: &[Step], end: Lsn, since: Position, meter: &Meter) -> Local<Option<u64>> {
        let begun = self.begun.get();
        begun.map_or(Ok(None), |begun| {
            begun.repository().transactions(path, end, since, meter)
        })
    }
}

impl Sink for Newborn {
    fn possession(&self, path: &[Step], end: Lsn) -> Local<Possession> {
        let begun = self.begun.get();
        begun.map_or(Ok(Possession::default()), |begun| {
            begun.repository().possession(path, end)
        })
    }

    fn check_timelines(&self, commit: &Commit, timelines: &[TimelineFacts]) -> Local<()> {
        let begun = self.begun.get();
        begun.map_or(Ok(()), |begun| {
            begun.repository().check_timelines(commit, timelines)
        })
    }

    fn staged(&self, part: &Part) -> Local<u64> {
        self.arrived()?
            .map_or(Ok(0), |begun| begun.repository().staged(part))
    }

    fn stage(&self, part: &Part) -> Local<Box<dyn PartWriter + '_>> {
        self.begin()?.repository().stage(part)
    }

    fn accept(&self, acceptance: &Acceptance, meter: &Meter) -> Local<()> {
        let begun = self.begin()?;
        self.check_related(begun, &acceptance.path)?;
        begun.repository().accept(acceptance, meter)
    }

    fn move_branch(&self, step: &BranchMove) -> Local<()> {
        let begun = self.begin()?;
        begun.repository().move_branch(step)?;
        if let Begun::Hidden { placed, .. } = begun {
            // A server that dies here gives it its name when it starts again.
            self.slots.root.place(&self.slot.name)?;
            placed.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        let Some(Begun::Hidden {
            repository,
            placed,
            turn,
            _seat,
        }) = self.begun.take()
        else {
            return;
        };
        let keep = placed.into_inner() || (!self.discard.load(Ordering::SeqCst) && has_arrived(&repository));
        // It lets go of its lock before anybody else may look.
        drop(repository);
        if !keep && let Err(error) = self.slots.root.remove_unfinished(&self.slot.name) {
            tracing::warn!(repository = ?self.slot.name, %error, "what a refused push left is not removed");
        }
        drop(turn);
    }
}

/// Returns true when there is something that a next attempt need not send again.
fn has_arrived(repository: &Repository) -> bool {
    let objects = repository.neon_dir().join("objects");
    let names = |path: &Path| -> Vec<OsString> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    let whole = names(&objects).iter().any(|name| name != "incoming");
    whole || !names(&objects.join("incoming")).is_empty()
}
