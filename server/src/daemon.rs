//! The daemon: owns the write side of one repository, keeps the WAL receivers of its endpoints, answers on `neon.sock`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neon_repo::api::{ApiError, Caller, Done, ProgressSink, Request, Response};
use neon_repo::{OpenOptions, Repository};
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::local;
use crate::keeper::Keeper;
use crate::occupancy::{Occupancy, Seat};
use crate::signals;
use crate::wire::{DaemonStatus, VERSION};
use crate::{rest, serve};

/// How long a daemon without endpoints and requests stays.
const IDLE: Duration = Duration::from_secs(30);
/// How often it looks whether it is idle, whether its repository is where it was, and whether those who listen through it are still there.
const TICK: Duration = Duration::from_millis(200);
/// How often at least it looks whether garbage is to be collected.
const LOOK: Duration = Duration::from_secs(30);
/// How long work that nobody waits for may go on at the end of the process.
pub(crate) const LAST_WORK: Duration = Duration::from_secs(1);

/// Whose the process is that answers for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It has this repository alone, and ends with it.
    Own,
    /// The same, and it serves the repository to others: it ends when it is told to.
    Serving,
    /// It serves many (`neon serve --root`).
    Shared,
}

/// One repository and those who wait for it.
pub struct Daemon {
    repository: Arc<Repository>,
    runtime: tokio::runtime::Handle,
    occupancy: Arc<Occupancy>,
    process: Process,
    over: Notify,
    /// Whoever has the repository next goes on with its endpoints.
    handed_over: AtomicBool,
}

impl Daemon {
    fn new(repository: Arc<Repository>, process: Process) -> Arc<Daemon> {
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Daemon {
            repository,
            runtime,
            occupancy: Arc::default(),
            process,
            over: Notify::new(),
            handed_over: AtomicBool::new(false),
        })
    }

    /// Returns the repository.
    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Takes a request, or says why none is taken.
    pub(crate) fn enter(&self, id: Option<String>) -> Result<Seat, ApiError> {
        // A repository that is elsewhere now is somebody else's: what we know of it is a place that may hold another one.
        match (self.repository.is_in_place(), self.process) {
            (true, _) => self.occupancy.enter(id).ok_or_else(rest::ending),
            (false, Process::Own | Process::Serving) => Err(rest::ending()),
            (false, Process::Shared) => Err(ApiError {
                hint: Some("move it back, or end that process".into()),
                ..local(
                    "moved",
                    "the repository was moved while 'neon serve --root' serves it",
                    format!("process {} has it", std::process::id()),
                )
            }),
        }
    }

    /// Answers one request; called from a blocking thread.
    pub(crate) fn handle(
        &self,
        request: Request,
        caller: &Caller,
        progress: &mut dyn ProgressSink,
    ) -> Result<Response, ApiError> {
        match request {
            Request::Listen { address } => self.listen(address, progress),
            request => self.repository.handle(request, caller, progress),
        }
    }

    /// Serves the repository on `address` for as long as the caller stays (`neon serve` beside a running daemon).
    fn listen(&self, address: SocketAddr, progress: &mut dyn ProgressSink) -> Result<Response, ApiError> {
        let shutdown = CancellationToken::new();
        let listener = self.runtime.block_on(serve::bind(address))?;
        serve::announce(&listener, "this repository", progress);
        let serving = self.runtime.spawn(serve::serve_one(
            Arc::clone(&self.repository),
            listener,
            shutdown.clone(),
        ));
        while !progress.cancelled() && !serving.is_finished() {
            std::thread::sleep(TICK);
        }
        shutdown.cancel();
        match self.runtime.block_on(serving) {
            Ok(result) => result.map(|()| Response::Done(Done::default())),
            Err(error) => Err(local("panic", "the server failed", error)),
        }
    }

    /// Tells a request that nobody waits for it.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        self.occupancy.cancel(id)
    }

    /// Stops every endpoint, for a caller who ends the daemon.
    pub(crate) fn stop_endpoints(
        &self,
        caller: Option<Caller>,
        progress: &mut dyn ProgressSink,
    ) -> Result<Response, ApiError> {
        if self.process == Process::Shared {
            let pid = std::process::id();
            return Err(ApiError {
                hint: Some(format!("end that process: kill {pid}")),
                ..local(
                    "shared_process",
                    "this repository is served by 'neon serve --root'",
                    format!("process {pid} serves others too"),
                )
            });
        }
        let stop = Request::Stop {
            branch: None,
            all: true,
        };
        match caller {
            Some(caller) => self.repository.handle(stop, &caller, progress),
            None => self.repository.handle(stop, self.repository.caller(), progress),
        }
    }

    /// Ends the daemon: it takes no more requests, and those that it works on are told.
    pub(crate) fn end(&self) {
        self.occupancy.end();
        self.over.notify_one();
    }

    /// Ends the daemon if it has nothing to do; true when it ends. With `endpoints` those that run are no reason to stay: somebody goes on with
    /// them.
    pub(crate) fn end_if_idle(&self, endpoints: bool) -> bool {
        let ends = self.process == Process::Own
            && self
                .occupancy
                .end_if_idle(|| endpoints || !self.repository.has_running_endpoints());
        if ends {
            self.handed_over.fetch_or(endpoints, Ordering::SeqCst);
            self.over.notify_one();
        }
        ends
    }

    /// Returns true when nothing is asked of it, and no endpoint runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.occupancy.count() == 0 && !self.repository.has_running_endpoints()
    }

    /// Returns who this is, and what it does.
    pub(crate) fn status(&self) -> DaemonStatus {
        DaemonStatus {
            pid: std::process::id(),
            version: VERSION.to_owned(),
            requests: self.occupancy.count(),
            endpoints: self.repository.running_endpoints(),
        }
    }
}

/// Runs the daemon of the repository at `neon_dir` until a signal or `neon daemon stop`; in the background, without
/// `listen`, also until 30 idle seconds after the last endpoint, or until somebody waits for the lock while it is idle. Endpoints that run
/// already are adopted.
pub fn run(
    neon_dir: &Path,
    options: OpenOptions,
    listen: Option<SocketAddr>,
    progress: &mut dyn ProgressSink,
) -> Result<(), ApiError> {
    let runtime = crate::client::runtime()?;
    let repository = Arc::new(Repository::open(neon_dir, options, runtime.handle())?);
    repository.check_writable().map_err(ApiError::from)?;
    let ended = runtime.block_on(async {
        let listener = match listen {
            Some(address) => Some(serve::bind(address).await?),
            None => None,
        };
        let adopting = Arc::clone(&repository);
        let _ = tokio::task::spawn_blocking(move || adopting.adopt_endpoints()).await;
        let process = match listen {
            Some(_) => Process::Serving,
            None => Process::Own,
        };
        let answering = answer(&repository, process)?;
        let daemon = Arc::clone(&answering.daemon);
        let shutdown = CancellationToken::new();
        let serving = listener.map(|listener| {
            serve::announce(
                &listener,
                &format!("{}", repository.directory().display()),
                progress,
            );
            tokio::spawn(serve::serve_one(
                Arc::clone(&repository),
                listener,
                shutdown.clone(),
            ))
        });
        tokio::select! {
            () = signals::until_told_to_end() => {}
            () = daemon.over.notified() => {}
            () = moved(&daemon) => leave(&repository),
            () = idle(&daemon), if serving.is_none() => {}
        }
        if daemon.handed_over.load(Ordering::SeqCst) {
            // As if it died here: everything that is acknowledged is durable, and endpoints outlive their daemon.
            hang_up(&repository);
            std::process::exit(0);
        }
        daemon.end();
        shutdown.cancel();
        if let Some(serving) = serving {
            serving
                .await
                .map_err(|error| local("panic", "the server failed", error))??;
        }
        let closing = Arc::clone(&repository);
        let closed = tokio::task::spawn_blocking(move || closing.stop_all()).await;
        // The names go last: until then commands find this daemon, not an empty chair.
        hang_up(&repository);
        drop(answering);
        closed.map_err(|error| local("panic", "stopping the endpoints failed", error))?
    });
    // What is still at work has been told to stop, and survives its end as it would survive a crash.
    runtime.shutdown_timeout(LAST_WORK);
    ended
}

/// Ends the process where the repository is not in its place any more: nothing may be written where it was. Its endpoints run on; the next
/// command, where it is now, adopts them.
fn leave(repository: &Repository) -> ! {
    tracing::warn!(
        repository = %repository.neon_dir().display(),
        "the repository was moved or removed; ending without a word there"
    );
    std::process::exit(0)
}

/// An open repository whose requests are answered on its `neon.sock`, with what is done for it in the background.
pub(crate) struct Answering {
    pub daemon: Arc<Daemon>,
    stop: CancellationToken,
    server: Option<JoinHandle<()>>,
    keepers: Vec<Keeper>,
}

/// Answers requests for an open repository on its `neon.sock` from now on, until what is returned is dropped.
pub(crate) fn answer(repository: &Arc<Repository>, process: Process) -> Result<Answering, ApiError> {
    let neon_dir = repository.neon_dir();
    let listener = bind(neon_dir).map_err(|error| local("socket", "cannot listen on neon.sock", error))?;
    std::fs::write(neon_dir.join("neon.pid"), format!("{}\n", std::process::id()))
        .map_err(|error| local("pid_file", "cannot write neon.pid", error))?;
    let daemon = Daemon::new(Arc::clone(repository), process);
    let keepers = [collect_now_and_then(repository), seal_by_age(repository)];
    repository.compact_in_background();
    let router = rest::router(Arc::clone(&daemon));
    let stop = CancellationToken::new();
    let told = stop.clone();
    let server = tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(told.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "neon.sock failed");
        }
    });
    Ok(Answering {
        daemon,
        stop,
        server: Some(server),
        keepers: keepers.into_iter().flatten().collect(),
    })
}

impl Answering {
    /// Returns true when nothing is asked or done.
    pub fn is_idle(&self) -> bool {
        self.daemon.is_idle() && !self.keepers.iter().any(Keeper::is_busy)
    }

    /// Ends it all and waits for that, so that nothing has the repository any more.
    pub async fn end(mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            // Only idle connections are left: nothing was asked.
            let _ = server.await;
        }
        let keepers = std::mem::take(&mut self.keepers);
        let joining = tokio::task::spawn_blocking(|| keepers.into_iter().for_each(Keeper::join));
        let _ = joining.await;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Collects garbage every `gc.interval` for as long as the repository is open here. A collection that is cut is harmless.
fn collect_now_and_then(repository: &Arc<Repository>) -> Option<Keeper> {
    let repository = Arc::downgrade(repository);
    let keeper = Keeper::start("gc", move |rest| {
        let mut last = Instant::now();
        while let Some(repository) = repository.upgrade() {
            let wait = repository.gc_interval().saturating_sub(last.elapsed());
            if wait.is_zero() {
                rest.while_busy(|| repository.collect_in_background());
                last = Instant::now();
                continue;
            }
            drop(repository);
            // The interval may be set anew meanwhile.
            if rest.is_over_after(wait.min(LOOK)) {
                return;
            }
        }
    });
    started(keeper, "garbage is not collected in the background")
}

/// Seals timelines that are written little, for as long as the repository is open here. A seal that is cut changes nothing.
fn seal_by_age(repository: &Arc<Repository>) -> Option<Keeper> {
    let repository = Arc::downgrade(repository);
    let keeper = Keeper::start("seal-age", move |rest| {
        let mut backlog = neon_repo::Backlog::default();
        while let Some(repository) = repository.upgrade() {
            let mut pause = Duration::ZERO;
            rest.while_busy(|| pause = repository.seal_in_background(&mut backlog));
            drop(repository);
            if rest.is_over_after(pause) {
                return;
            }
        }
    });
    started(keeper, "timelines that are written little are not sealed")
}

fn started(keeper: io::Result<Keeper>, otherwise: &str) -> Option<Keeper> {
    keeper
        .inspect_err(|error| tracing::warn!(%error, "{otherwise}"))
        .ok()
}

/// Takes away the names by which commands find this process.
pub(crate) fn hang_up(repository: &Repository) {
    if !repository.is_in_place() {
        return;
    }
    // Gone already is as good.
    let _ = std::fs::remove_file(neon_repo::sockets::daemon(repository.neon_dir()));
    let _ = std::fs::remove_file(repository.neon_dir().join("neon.pid"));
}

/// Binds `neon.sock` for its owner alone. A stale socket is removed: we hold the repository's lock, so nobody answers there.
fn bind(neon_dir: &Path) -> io::Result<UnixListener> {
    let listener = neon_repo::sockets::bind(&neon_repo::sockets::daemon(neon_dir))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Returns once the daemon has had nothing to do for [`IDLE`], and takes nothing more.
async fn idle(daemon: &Daemon) {
    let mut quiet = Duration::ZERO;
    loop {
        tokio::time::sleep(TICK).await;
        let busy = daemon.occupancy.count() > 0 || daemon.repository.has_running_endpoints();
        quiet = if busy { Duration::ZERO } else { quiet + TICK };
        if quiet >= IDLE && daemon.end_if_idle(false) {
            return;
        }
    }
}

/// Returns once the repository is not any more where it was opened.
async fn moved(daemon: &Daemon) {
    while daemon.repository.is_in_place() {
        tokio::time::sleep(TICK).await;
    }
}
