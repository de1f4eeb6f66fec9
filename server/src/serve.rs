//! `neon serve`: the conversation of `neon_remotes` behind a listener, for one repository or for all below a directory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use neon_remotes::Command;
use neon_repo::api::{ApiError, ProgressSink};
use neon_repo::{OpenOptions, Repository};
use neon_transport::Refusal;
use neon_transport::server::{self, Caller, Opening, Options, Service};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::local;
use crate::daemon;
use crate::users::UserFile;

/// Where and what to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Every repository below this directory; absent: the one that the command was given in.
    pub root: Option<PathBuf>,
}

/// What a server hosts.
pub(crate) enum Host {
    /// One repository, under the name of its directory.
    One(Arc<Repository>),
    /// Every repository below a directory; opened when it is asked for, made by the first push.
    Root {
        /// The directory.
        root: PathBuf,
        /// How to open.
        options: OpenOptions,
        /// Those that are open.
        open: Mutex<HashMap<String, Arc<Repository>>>,
    },
}

impl Host {
    /// Returns the repository of that name.
    fn repository(&self, name: &str, create: bool) -> Result<Arc<Repository>, Refusal> {
        match self {
            Host::One(repository) => {
                let own = repository
                    .directory()
                    .file_name()
                    .map(|name| name.to_string_lossy().to_lowercase());
                if own.as_deref() == Some(name) {
                    return Ok(Arc::clone(repository));
                }
                let own = own.unwrap_or_default();
                Err(
                    Refusal::new("3D000", format!("there is no repository '{name}' here"))
                        .with_hint(format!("this server has one repository: '{own}'")),
                )
            }
            Host::Root { root, options, open } => {
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(repository) = open.get(name) {
                    return Ok(Arc::clone(repository));
                }
                let directory = root.join(name);
                let neon_dir = directory.join(".neon");
                let runtime = tokio::runtime::Handle::current();
                let repository = if neon_dir.join("config.toml").is_file() {
                    Repository::open(&neon_dir, options.clone(), &runtime).map_err(ApiError::from)
                } else if create {
                    neon_repo::create_empty(&directory, options, &runtime)
                } else {
                    return Err(
                        Refusal::new("3D000", format!("there is no repository '{name}' here"))
                            .with_hint("the first push makes it"),
                    );
                };
                let repository = Arc::new(repository.map_err(|error| refusal(&error))?);
                repository.adopt_endpoints();
                daemon::answer(&repository).map_err(|error| refusal(&error))?;
                open.insert(name.to_owned(), Arc::clone(&repository));
                Ok(repository)
            }
        }
    }

    fn close(&self) -> Result<(), ApiError> {
        let Host::Root { open, .. } = self else {
            return Ok(());
        };
        let open = std::mem::take(&mut *open.lock().unwrap_or_else(PoisonError::into_inner));
        for repository in open.into_values() {
            repository.stop_all()?;
            daemon::hang_up(&repository);
        }
        Ok(())
    }
}

impl Service for Host {
    async fn open(&self, caller: &Caller, command: &str, opening: Opening) -> Result<(), Refusal> {
        let parsed: Command = command.parse().map_err(|_| {
            Refusal::new("42601", format!("'{command}' is not a command of neon")).with_hint(
                "this is a neon server, not Postgres; use neon clone, fetch, pull or push with this address",
            )
        })?;
        let create = matches!(parsed, Command::Push { .. });
        let repository = tokio::task::block_in_place(|| self.repository(&caller.database, create))?;
        let channel = opening.accept().await.map_err(Refusal::from)?;
        tracing::info!(
            user = caller.user,
            repository = caller.database,
            command,
            "serving"
        );
        if let Err(error) = repository.converse(parsed, channel, &caller.user).await {
            tracing::warn!(user = caller.user, repository = caller.database, %error, "the conversation failed");
        }
        Ok(())
    }
}

/// Says an error of ours to a client.
fn refusal(error: &ApiError) -> Refusal {
    let refusal = Refusal::new("XX000", error.message.clone());
    match &error.hint {
        Some(hint) => refusal.with_hint(hint.clone()),
        None => refusal,
    }
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
    let users = UserFile::of_repository(repository.neon_dir());
    serve_host(Arc::new(Host::One(repository)), users, listener, shutdown).await
}

async fn serve_host(
    host: Arc<Host>,
    users: UserFile,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    if users.list()?.is_empty() {
        tracing::warn!("no user may connect yet: neon user add NAME");
    }
    let options = Options {
        secret: Some(users.secret()?),
        ..Options::default()
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
    let root = std::fs::canonicalize(root)
        .map_err(|error| local("root", &format!("cannot enter {}", root.display()), error))?;
    let runtime = crate::client::runtime()?;
    runtime.block_on(async {
        let listener = bind(listen).await?;
        announce(
            &listener,
            &format!("repositories below {}", root.display()),
            progress,
        );
        let users = UserFile::of_root(&root);
        let host = Arc::new(Host::Root {
            root,
            options,
            open: Mutex::default(),
        });
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            daemon::until_signal().await;
            stop.cancel();
        });
        let served = serve_host(Arc::clone(&host), users, listener, shutdown).await;
        tokio::task::spawn_blocking(move || host.close())
            .await
            .map_err(|error| local("panic", "closing the repositories failed", error))??;
        served
    })
}

/// Tells the user where the server listens.
pub(crate) fn announce(listener: &TcpListener, what: &str, progress: &mut dyn ProgressSink) {
    if let Ok(address) = listener.local_addr() {
        progress.note(&format!("serving {what} on {address}; Ctrl-C ends it"));
    }
}
