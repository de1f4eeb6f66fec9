//! `neon serve`: what is hosted behind a listener, until a signal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neon_repo::api::{ApiError, ProgressSink};
use neon_repo::{OpenOptions, Repository};
use neon_transport::server::{self, Options};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::client::local;
use crate::daemon::LAST_WORK;
use crate::descriptors;
use crate::host::{Host, Root, Slots};
use crate::settings::Settings;
use crate::signals;
use crate::users::UserFile;

/// Where and what to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Every repository below this directory; absent: the one that the command was given in.
    pub root: Option<PathBuf>,
}

/// Refuses to listen where others could read along: there is no TLS in this release.
pub(crate) fn check_address(listen: SocketAddr) -> Result<(), ApiError> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    Err(ApiError {
        code: "not_loopback".into(),
        message: format!("refusing to listen on {listen}: connections are not encrypted in this release"),
        caused_by: Vec::new(),
        hint: Some(
            "listen on 127.0.0.1 and reach it through an SSH tunnel: ssh -L 6543:127.0.0.1:6543 HOST".into(),
        ),
    })
}

/// Binds the listener of `neon serve`.
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener, ApiError> {
    check_address(listen)?;
    TcpListener::bind(listen).await.map_err(|error| ApiError {
        code: "listen".into(),
        message: format!("cannot listen on {listen}"),
        caused_by: vec![error.to_string()],
        hint: Some("another program may use the port: neon serve --listen 127.0.0.1:PORT".into()),
    })
}

/// Serves one open repository until `shutdown`.
pub(crate) async fn serve_one(
    repository: Arc<Repository>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    let neon_dir = repository.neon_dir().to_owned();
    let settings = Settings::of_repository(&neon_dir)?;
    let users = UserFile::of_repository(&neon_dir);
    let audit = Audit::of_repository(&neon_dir, repository.shared_world());
    let host = Host::one(repository, settings.space, audit);
    let options = settings.transport(descriptors::take());
    serve_host(Arc::new(host), users, options, listener, shutdown).await
}

async fn serve_host(
    host: Arc<Host>,
    users: UserFile,
    options: Options,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    if users.list()?.is_empty() {
        tracing::warn!("no user may connect yet: neon user add NAME");
    }
    let options = Options {
        secret: Some(users.secret()?),
        ..options
    };
    server::serve(listener, host, Arc::new(users), options, shutdown)
        .await
        .map_err(|error| local("serve", "the server failed", error))
}

/// Serves every repository below `root` until a signal.
pub(crate) fn serve_root(
    root: &Path,
    listen: SocketAddr,
    options: OpenOptions,
    progress: &mut dyn ProgressSink,
) -> Result<(), ApiError> {
    let root = Root::open(root)?;
    let descriptors = descriptors::take();
    let settings = Settings::of_root(root.path())?.within(descriptors);
    let transport = settings.transport(descriptors);
    let runtime = crate::client::runtime()?;
    let served = runtime.block_on(async {
        let listener = bind(listen).await?;
        let users = UserFile::of_root(root.path());
        let audit = Audit::of_root(root.path(), options.world.clone());
        let what = format!("repositories below {}", root.path().display());
        let slots = Arc::new(Slots::new(root, options, settings.root, settings.space));
        slots.finish_all();
        announce(&listener, &what, progress);
        let host = Arc::new(Host::root(Arc::clone(&slots), audit));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            signals::until_told_to_end().await;
            stop.cancel();
        });
        let looking_after = tokio::spawn(Arc::clone(&slots).look_after());
        let served = serve_host(host, users, transport, listener, shutdown).await;
        looking_after.abort();
        tokio::task::spawn_blocking(move || slots.stop_all())
            .await
            .map_err(|error| local("panic", "closing the repositories failed", error))??;
        served
    });
    // What is still at work has been told to stop, and survives its end as it would survive a crash.
    runtime.shutdown_timeout(LAST_WORK);
    served
}

/// Tells the user where the server listens.
pub(crate) fn announce(listener: &TcpListener, what: &str, progress: &mut dyn ProgressSink) {
    if let Ok(address) = listener.local_addr() {
        progress.note(&format!("serving {what} on {address}; Ctrl-C ends it"));
    }
}
