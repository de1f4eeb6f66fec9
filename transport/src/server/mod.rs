//! The listening side: accepts connections, checks who they are, and hands their commands to a [`Service`].
//!
//! Any libpq client can connect: `psql -h host -p 6543 -U alice shop -c help`. A command that needs a channel is only
//! opened for clients that said in the start-up packet that they speak neon's protocol, so psql never hangs in copy-both.

mod authenticate;
mod ending;
mod entry;
mod guard;
mod network;
mod opening;
mod room;
mod seats;
mod session;
mod socket;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use opening::Opening;

use crate::Refusal;
use crate::scram::Secret;
use authenticate::SILENT;
use guard::Guard;
use network::Network;
use room::{Room, Seat};

/// Clients that are turned away and get time to read why, at one time.
const TURNED_AWAY: usize = 16;
/// How long to wait when the operating system has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Who may connect.
pub trait Users: Send + Sync + 'static {
    /// Returns the stored SCRAM-SHA-256 verifier of `user` for `database` (the name of a repository), `None` if there is no
    /// such user or it may not use that database. Called once for each login; must be quick, and as quick for users that there are not.
    ///
    /// `None` is not told to the client: it goes through an exchange that no password passes. So salts should be those of
    /// [`crate::scram::salt_of`], with the secret of [`Options::secret`].
    ///
    /// Errors: the users cannot be read now; whoever asks is told to come again.
    fn verifier(&self, user: &str, database: &str) -> Result<Option<String>, UsersError>;

    /// Returns whether somebody who was let in by this `verifier` may still be here. Asked every [`Options::vigil`] of each session.
    fn stands(&self, user: &str, database: &str, verifier: &str) -> bool {
        match self.verifier(user, database) {
            Ok(now) => now.as_deref() == Some(verifier),
            // A file that cannot be read for a moment sends nobody away.
            Err(_) => true,
        }
    }
}

/// The users cannot be read, with the reason for the server's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsersError(pub String);

/// An attempt to log in, as it ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// Who it says to be; nothing if it said no name that anybody can have.
    pub user: Option<&'a str>,
    /// What it wants to use, as it says.
    pub database: Option<&'a str>,
    /// Number of the session; nothing if there is none.
    pub session: Option<u64>,
    /// Why there is none.
    pub refusal: Option<&'a Refusal>,
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

    /// Is told of each login, good or refused, before the client is. Must be quick.
    fn attempted(&self, _attempt: Attempt<'_>) {}
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
    /// Number of the session, unique while the server runs.
    pub session: u64,
    /// The client speaks neon's protocol, so channels may be opened.
    pub neon: bool,
    /// Everything else in the start-up packet.
    pub parameters: BTreeMap<String, String>,
}

/// How a server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a client may take from the connection to its proof. What it has to wait for failed logins is not counted.
    pub login: Duration,
    /// Clients that are logging in at one time; half of them from one address (a /64 of IPv6). Who does least gives way to who comes next.
    pub logins: usize,
    /// Sessions at one time.
    pub sessions: usize,
    /// Sessions of one user at one time.
    pub sessions_per_user: usize,
    /// How long a session may do nothing between two commands.
    pub idle: Duration,
    /// How often a session is looked at: whether its user may still be here, and whether its client still is.
    pub vigil: Duration,
    /// How long running commands may go on after the shutdown was asked for.
    pub drain: Duration,
    /// Makes the salts. Kept by the caller, they survive a restart; `None` draws a new one.
    pub secret: Option<Secret>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            login: Duration::from_secs(5),
            logins: 128,
            sessions: 100,
            sessions_per_user: 50,
            idle: Duration::from_secs(600),
            vigil: Duration::from_millis(500),
            drain: Duration::from_secs(3),
            secret: None,
        }
    }
}

impl Options {
    /// Returns the options with so few places that half of `descriptors` stays free for what commands open.
    pub fn within(mut self, descriptors: u64) -> Options {
        let share = |parts: u64| usize::try_from(descriptors / parts).unwrap_or(usize::MAX).max(1);
        self.logins = self.logins.min(share(8));
        self.sessions = self.sessions.min(share(4));
        self
    }
}

/// What all sessions of a server share.
struct Shared<S, U> {
    service: Arc<S>,
    users: Arc<U>,
    options: Options,
    secret: Secret,
    shutdown: CancellationToken,
    places: Places,
    guard: Mutex<Guard>,
    next_session: AtomicU64,
}

/// Where somebody is on the way in.
struct Places {
    /// Those who are logging in.
    lobby: Arc<Room<Network>>,
    /// Those who have to wait because logins failed. They take nobody's place in the lobby.
    bench: Arc<Room<Network>>,
    /// Those who are in.
    sessions: Arc<Room<String>>,
    /// Those who are told that there is no place.
    doorstep: Arc<Semaphore>,
}

impl Places {
    fn new(options: &Options) -> Places {
        let part = |of: usize| (options.logins / of).max(1);
        Places {
            lobby: Room::new(options.logins, part(2)),
            bench: Room::new(part(2), part(8)),
            sessions: Room::new(options.sessions, options.sessions_per_user),
            doorstep: Arc::new(Semaphore::new(TURNED_AWAY)),
        }
    }
}

impl<S, U> Shared<S, U> {
    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }
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
    let secret = match options.secret.clone() {
        Some(secret) => secret,
        None => Secret::draw().map_err(io::Error::other)?,
    };
    let shared = Arc::new(Shared {
        service,
        users,
        places: Places::new(&options),
        options,
        secret,
        shutdown: shutdown.clone(),
        guard: Mutex::new(Guard::new()),
        next_session: AtomicU64::new(1),
    });
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&mut sessions, &shared, stream, peer),
                Err(error) => {
                    // Mostly for want of a descriptor: somebody who has said little gives his back.
                    let freed = shared.places.lobby.give_way();
                    tracing::warn!(%error, freed, "cannot accept a connection");
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

/// Gives a connection a place in the lobby. There always is one: somebody gives way.
fn admit<S: Service, U: Users>(
    sessions: &mut JoinSet<()>,
    shared: &Arc<Shared<S, U>>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    crate::keepalive::configure(&stream);
    let place: Result<Seat<Network>, _> = shared.places.lobby.enter(Network::of(peer.ip()), SILENT);
    if let Ok(place) = place {
        let shared = Arc::clone(shared);
        sessions.spawn(async move { session::run(stream, peer, place, &shared).await });
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session failed");
    }
}
