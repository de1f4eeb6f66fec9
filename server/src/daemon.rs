//! The daemon: owns the write side of one repository, keeps the WAL receivers of its endpoints, answers on `neon.sock`.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use neon_repo::api::{ApiError, Done, ProgressSink, Request, Response};
use neon_repo::{OpenOptions, Repository};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::local;
use crate::keeper::Keeper;
use crate::{rest, serve};

/// How long a daemon without endpoints and requests stays.
const IDLE: Duration = Duration::from_secs(30);
/// How often it looks whether it is idle, and whether those who listen through it are still there.
const TICK: Duration = Duration::from_millis(200);
/// How often at least it looks whether garbage is to be collected.
const LOOK: Duration = Duration::from_secs(30);
/// How long work that nobody waits for may go on at the end of the process.
pub(crate) const LAST_WORK: Duration = Duration::from_secs(1);

/// One repository and those who wait for it.
pub struct Daemon {
    repository: Arc<Repository>,
    runtime: tokio::runtime::Handle,
    busy: AtomicUsize,
    stop: Notify,
}

impl Daemon {
    fn new(repository: Arc<Repository>) -> Arc<Daemon> {
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Daemon {
            repository,
            runtime,
            busy: AtomicUsize::new(0),
            stop: Notify::new(),
        })
    }

    /// Answers one request; called from a blocking thread.
    pub fn handle(&self, request: Request, progress: &mut dyn ProgressSink) -> Result<Response, ApiError> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let last = request == Request::Shutdown;
        let result = match request {
            Request::Listen { address } => self.listen(address, progress),
            request => self.repository.handle(request, progress),
        };
        self.busy.fetch_sub(1, Ordering::SeqCst);
        if last && result.is_ok() {
            self.stop.notify_one();
        }
        result
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

    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0 && !self.repository.has_running_endpoints()
    }
}

/// Runs the daemon of the repository at `neon_dir` until a signal or a [`Request::Shutdown`]; in the background, without
/// `listen`, also until 30 idle seconds after the last endpoint. Endpoints that run already are adopted.
pub fn run(
    neon_dir: &Path,
    options: OpenOptions,
    listen: Option<SocketAddr>,
    progress: &mut dyn ProgressSink,
) -> Result<(), ApiError> {
    let runtime = crate::client::runtime()?;
    let repository = Arc::new(Repository::open(neon_dir, options, runtime.handle())?);
    let ended = runtime.block_on(async {
        let listener = match listen {
            Some(address) => Some(serve::bind(address).await?),
            None => None,
        };
        let adopting = Arc::clone(&repository);
        let _ = tokio::task::spawn_blocking(move || adopting.adopt_endpoints()).await;
        let answering = answer(&repository)?;
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
            () = until_signal() => {}
            () = answering.daemon.stop.notified() => {}
            () = idle(&answering.daemon), if serving.is_none() => {}
        }
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

/// An open repository whose requests are answered on its `neon.sock`, with what is done for it in the background.
pub(crate) struct Answering {
    pub daemon: Arc<Daemon>,
    stop: CancellationToken,
    server: Option<JoinHandle<()>>,
    keepers: Vec<Keeper>,
}

/// Answers requests for an open repository on its `neon.sock` from now on, until what is returned is dropped.
pub(crate) fn answer(repository: &Arc<Repository>) -> Result<Answering, ApiError> {
    let neon_dir = repository.neon_dir();
    let listener = bind(neon_dir).map_err(|error| local("socket", "cannot listen on neon.sock", error))?;
    std::fs::write(neon_dir.join("neon.pid"), format!("{}\n", std::process::id()))
        .map_err(|error| local("pid_file", "cannot write neon.pid", error))?;
    let daemon = Daemon::new(Arc::clone(repository));
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
    // Gone already is as good.
    let _ = std::fs::remove_file(neon_repo::sockets::daemon(repository.neon_dir()));
    let _ = std::fs::remove_file(repository.neon_dir().join("neon.pid"));
}

/// Binds `neon.sock` for its owner alone. A stale socket is removed: we hold the repository's lock, so nobody answers there.
fn bind(neon_dir: &Path) -> io::Result<UnixListener> {
    let path = neon_repo::sockets::daemon(neon_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Returns at SIGTERM or SIGINT.
pub(crate) async fn until_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot wait for signals");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Returns once the daemon has had nothing to do for [`IDLE`].
async fn idle(daemon: &Daemon) {
    let mut quiet = Duration::ZERO;
    while quiet < IDLE {
        tokio::time::sleep(TICK).await;
        quiet = if daemon.is_idle() {
            quiet + TICK
        } else {
            Duration::ZERO
        };
    }
}
