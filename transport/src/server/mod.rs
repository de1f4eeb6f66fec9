//! The listening side: accepts connections, checks who they are, and hands their commands to a [`Service`].
//!
//! Any libpq client can connect: `psql -h host -p 6543 -U alice shop -c help`. A command that needs a channel is only
//! opened for clients that said in the start-up packet that they speak neon's protocol, so psql never hangs in copy-both.

mod authenticate;
mod opening;
mod session;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use opening::Opening;

use crate::Refusal;
use crate::scram::random;

/// Connections above the limit that are told so at one time; more are just closed.
const TURNED_AWAY: usize = 16;
/// How long to wait when the operating system has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may connect.
pub trait Users: Send + Sync + 'static {
    /// Returns the stored SCRAM-SHA-256 verifier of `user` for `database` (the name of a repository), `None` if there is no
    /// such user or it may not use that database. Called once for each connection; must be quick.
    ///
    /// `None` is not told to the client: it goes through an exchange that no password passes.
    fn verifier(&self, user: &str, database: &str) -> Option<String>;
}

/// What a server does with the commands of its sessions.
pub trait Service: Send + Sync + 'static {
    /// Carries out one command line such as `branch_push main 0123..` or `help` (trimmed, without `;` at its end, never
    /// empty), and answers through `opening`, which is good for one answer.
    ///
    /// `Err` is sent as it is, before an answer or in the middle of a channel, where the peer gets it as
    /// [`crate::TransportError::Refused`]. `Ok` after a channel was accepted means a clean end: what was not yet said with
    /// `end` is said then. The future is dropped when the connection must close. A command that is not known should be
    /// refused with a hint that names the known ones.
    fn open(
        &self,
        caller: &Caller,
        command: &str,
        opening: Opening,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Who is on the other side of a session. The password has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub user: String,
    /// Database, that is: the name of a repository. It has the form of one.
    pub database: String,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// The client speaks neon's protocol, so channels may be opened.
    pub neon: bool,
    /// Everything else in the start-up packet.
    pub parameters: BTreeMap<String, String>,
}

/// How a server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a client may take from the connection to the end of authentication.
    pub start_up: Duration,
    /// How long a session may do nothing between two commands.
    pub idle: Duration,
    /// Sessions at one time, those that are not authenticated yet included.
    pub connections: usize,
    /// How long running commands may go on after the shutdown was asked for.
    pub drain: Duration,
    /// Makes the salts shown to unknown users. Kept by the caller, they survive a restart as real ones do; `None` draws a new
    /// one.
    pub mock_secret: Option<[u8; 32]>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            start_up: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            connections: 100,
            drain: Duration::from_secs(10),
            mock_secret: None,
        }
    }
}

/// What all sessions of a server share.
struct Shared<S, U> {
    service: Arc<S>,
    users: Arc<U>,
    options: Options,
    mock_secret: [u8; 32],
    shutdown: CancellationToken,
}

/// Serves connections until `shutdown` is cancelled. Then it stops accepting, ends idle sessions, lets running commands go
/// on for [`Options::drain`], cuts what is left, and returns.
///
/// The caller decides where to listen; nothing here encrypts, so nothing but loopback is right. A service that wants to stop
/// early at shutdown watches a clone of the token.
///
/// Errors: only the operating system's, from random numbers at the start. A failed accept is tried again.
pub async fn serve<S: Service, U: Users>(
    listener: TcpListener,
    service: Arc<S>,
    users: Arc<U>,
    options: Options,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mock_secret = match options.mock_secret {
        Some(secret) => secret,
        None => random().map_err(io::Error::other)?,
    };
    let seats = Arc::new(Semaphore::new(options.connections));
    let doorstep = Arc::new(Semaphore::new(TURNED_AWAY));
    let shared = Arc::new(Shared {
        service,
        users,
        options,
        mock_secret,
        shutdown: shutdown.clone(),
    });
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&mut sessions, &shared, &seats, &doorstep, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(shared.options.drain, drained).await.is_err() {
        tracing::warn!(
            sessions = sessions.len(),
            "cutting connections that did not end in time"
        );
        sessions.shutdown().await;
    }
    Ok(())
}

fn admit<S: Service, U: Users>(
    sessions: &mut JoinSet<()>,
    shared: &Arc<Shared<S, U>>,
    seats: &Arc<Semaphore>,
    doorstep: &Arc<Semaphore>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    crate::keepalive::configure(&stream);
    if let Ok(seat) = Arc::clone(seats).try_acquire_owned() {
        let shared = Arc::clone(shared);
        sessions.spawn(async move {
            session::run(stream, peer, &shared).await;
            drop(seat);
        });
    } else if let Ok(place) = Arc::clone(doorstep).try_acquire_owned() {
        tracing::warn!(%peer, "too many connections");
        sessions.spawn(async move {
            session::turn_away(stream).await;
            drop(place);
        });
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session failed");
    }
}
