//! The client's side of `neon.sock`: see [`crate::wire`]. A daemon that says nothing for five seconds is reported, not waited for.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use neon_remotes::Command;
use neon_repo::api::{ApiError, Caller, ProgressSink, Response};
use neon_repo::neighbours::Neighbours;
use neon_repo::sockets;
use neon_transport::Channel;
use tokio::net::UnixStream;

use crate::client::{local, runtime};
use crate::wire::{
    Asked, CONVERSATIONS, DAEMON, DaemonStatus, ENDING, Line, MAX_LINE, Opening, REQUESTS, STOP, UPGRADE,
    VERSION, VERSION_HEADER, YIELD,
};

/// How long a daemon may say nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// How often we look how long it has been silent, and whether the user still waits.
const LOOK: Duration = Duration::from_millis(100);

/// What came of asking a daemon.
pub(crate) enum Heard {
    /// It answered.
    Answer(Result<Response, ApiError>),
    /// No daemon runs.
    Nobody,
    /// It ends, and has done nothing.
    Ending,
    /// It went away in the middle of the work.
    Gone(ApiError),
    /// It is another version of the program.
    OtherVersion(DaemonStatus),
}

/// Why a daemon gave no answer.
enum Unanswered {
    /// It went away.
    Gone(ApiError),
    /// It is there, and says nothing; or nothing could be said to it.
    There(ApiError),
}

impl From<Unanswered> for ApiError {
    fn from(unanswered: Unanswered) -> ApiError {
        match unanswered {
            Unanswered::Gone(error) | Unanswered::There(error) => error,
        }
    }
}

/// A connection to a daemon.
struct Daemon {
    sender: SendRequest<Full<Bytes>>,
    /// Its process id, where the system tells it.
    pid: Option<i32>,
}

impl Daemon {
    /// Connects; none when nobody listens there.
    async fn connect(neon_dir: &Path) -> Result<Option<Daemon>, ApiError> {
        let stream = match connect(neon_dir) {
            Ok(stream) => stream,
            // As many wait for it as can.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(silent(None)),
            // Nothing is said to somebody else, and nothing taken from them.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(foreign(neon_dir, error));
            }
            Err(_) => return Ok(None),
        };
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(gone)?;
        tokio::spawn(connection.with_upgrades());
        Ok(Some(Daemon { sender, pid }))
    }

    /// Sends one request and returns the beginning of its answer.
    async fn send(
        &mut self,
        method: Method,
        route: &str,
        body: Vec<u8>,
    ) -> Result<hyper::Response<Incoming>, Unanswered> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(route)
            .header(header::HOST, "neon")
            .header(VERSION_HEADER, VERSION);
        request = if route == CONVERSATIONS {
            request
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, UPGRADE)
        } else {
            request.header(header::CONTENT_TYPE, "application/json")
        };
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| local("internal", "cannot write the request", error))
            .map_err(Unanswered::There)?;
        let pid = self.pid;
        let sent = unless_silent(self.sender.send_request(request), pid).await;
        sent.map_err(Unanswered::There)?
            .map_err(|error| Unanswered::Gone(gone(error)))
    }
}

/// Waits for `work`, but not for a daemon that says nothing.
async fn unless_silent<T>(work: impl Future<Output = T>, pid: Option<i32>) -> Result<T, ApiError> {
    tokio::pin!(work);
    // Looks are counted, not the clock read: it goes on while this process is stopped itself.
    let mut quiet = Duration::ZERO;
    while quiet < SILENCE {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(LOOK) => quiet += LOOK,
        }
    }
    Err(silent(pid))
}

fn silent(pid: Option<i32>) -> ApiError {
    let (who, hint) = match pid {
        Some(pid) => (
            format!("the daemon (process {pid})"),
            format!(
                "if somebody stopped it, it goes on with: kill -CONT {pid}; else end it with: kill {pid} (or kill -9 {pid}), and run the \
                 command again"
            ),
        ),
        None => (
            "the daemon".to_owned(),
            "its process is in .neon/neon.pid: if somebody stopped it, 'kill -CONT' lets it go on".to_owned(),
        ),
    };
    ApiError {
        code: "daemon_silent".into(),
        message: format!("{who} does not answer"),
        caused_by: vec![format!("it has said nothing for {} seconds", SILENCE.as_secs())],
        hint: Some(hint),
    }
}

fn connect(neon_dir: &Path) -> io::Result<UnixStream> {
    let stream = sockets::connect(&sockets::daemon(neon_dir))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn foreign(neon_dir: &Path, error: io::Error) -> ApiError {
    ApiError {
        hint: Some(format!(
            "see who may write in {0} and who listens there, then: chmod 700 {0}",
            neon_dir.display()
        )),
        ..local("foreign_socket", "neon.sock is not this user's alone", error)
    }
}

fn gone(error: impl std::fmt::Display) -> ApiError {
    ApiError {
        code: "daemon_gone".into(),
        message: "the daemon went away before it answered".into(),
        caused_by: vec![error.to_string()],
        hint: Some("run the command again; 'neon status' shows where things are".into()),
    }
}

/// Sends a request and shows what comes back until the answer. When the user does not wait any more, the daemon is told, and its last word heard.
pub(crate) async fn ask(
    neon_dir: &Path,
    asked: &Asked,
    progress: &mut dyn ProgressSink,
) -> Result<Heard, ApiError> {
    let body =
        serde_json::to_vec(asked).map_err(|error| local("internal", "cannot write the request", error))?;
    lines(neon_dir, REQUESTS, body, Some(&asked.id), progress).await
}

/// Ends the daemon, with its endpoints.
pub(crate) async fn stop(
    neon_dir: &Path,
    caller: &Caller,
    progress: &mut dyn ProgressSink,
) -> Result<Heard, ApiError> {
    let body =
        serde_json::to_vec(caller).map_err(|error| local("internal", "cannot write the request", error))?;
    lines(neon_dir, STOP, body, None, progress).await
}

async fn lines(
    neon_dir: &Path,
    route: &str,
    body: Vec<u8>,
    id: Option<&str>,
    progress: &mut dyn ProgressSink,
) -> Result<Heard, ApiError> {
    let Some(mut daemon) = Daemon::connect(neon_dir).await? else {
        return Ok(Heard::Nobody);
    };
    let answer = match daemon.send(Method::POST, route, body).await {
        Err(Unanswered::Gone(error)) => return Ok(Heard::Gone(error)),
        answer => answer?,
    };
    match answer.status() {
        StatusCode::CONFLICT => Ok(match whole(answer.into_body(), daemon.pid).await {
            Ok(status) => Heard::OtherVersion(status),
            Err(error) => Heard::Gone(error),
        }),
        status if status.is_success() => {
            Ok(until_the_last(neon_dir, answer.into_body(), daemon.pid, id, progress).await)
        }
        _ => {
            let text = answer.into_body().collect().await.map_err(gone)?.to_bytes();
            Err(ApiError {
                hint: Some("it may be another build of the program: 'neon daemon stop' ends it".into()),
                ..local(
                    "refused",
                    "the daemon did not understand the command",
                    String::from_utf8_lossy(&text).trim(),
                )
            })
        }
    }
}

/// Reads lines until the last one.
async fn until_the_last(
    neon_dir: &Path,
    mut frames: Incoming,
    pid: Option<i32>,
    id: Option<&str>,
    progress: &mut dyn ProgressSink,
) -> Heard {
    let mut pending = Vec::new();
    let mut quiet = Duration::ZERO;
    let mut told = false;
    loop {
        let frame = tokio::select! {
            biased;
            frame = frames.frame() => frame,
            () = tokio::time::sleep(LOOK) => {
                quiet += LOOK;
                if quiet >= SILENCE {
                    return Heard::Answer(Err(silent(pid)));
                }
                if let Some(id) = id && progress.cancelled() && !told {
                    told = true;
                    cancel(neon_dir, id).await;
                }
                continue;
            }
        };
        quiet = Duration::ZERO;
        let bytes = match frame {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Heard::Gone(gone(error)),
            None => return Heard::Gone(gone("the connection ended")),
        };
        pending.extend_from_slice(&bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Line::Beat) => {}
                Ok(Line::Progress(report)) => progress.report(&report),
                Ok(Line::Note(note)) => progress.note(&note),
                Ok(Line::Response(response)) => return Heard::Answer(Ok(*response)),
                Ok(Line::Error(error)) if error.code == ENDING => return Heard::Ending,
                Ok(Line::Error(error)) => return Heard::Answer(Err(error)),
                Err(error) => return Heard::Answer(Err(unreadable(error))),
            }
        }
        if pending.len() > MAX_LINE {
            return Heard::Answer(Err(unreadable("a line without end")));
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> ApiError {
    local("internal", "the daemon's answer cannot be read", error)
}

/// Reads a short answer as JSON.
async fn whole<T: serde::de::DeserializeOwned>(body: Incoming, pid: Option<i32>) -> Result<T, ApiError> {
    let bytes = unless_silent(body.collect(), pid)
        .await?
        .map_err(gone)?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(unreadable)
}

/// Tells the daemon that nobody waits for a request any more. If that fails, it will notice when we hang up.
async fn cancel(neon_dir: &Path, id: &str) {
    if let Ok(Some(mut daemon)) = Daemon::connect(neon_dir).await {
        let _ = daemon
            .send(Method::POST, &format!("{REQUESTS}/{id}/cancel"), Vec::new())
            .await;
    }
}

/// Asks the daemon to end if it is idle, with `endpoints` also while some run. True when it does, or when none runs.
pub(crate) async fn ask_to_yield(neon_dir: &Path, endpoints: bool) -> Result<bool, ApiError> {
    let Some(mut daemon) = Daemon::connect(neon_dir).await? else {
        return Ok(true);
    };
    let body = endpoints.to_string().into_bytes();
    match daemon.send(Method::POST, YIELD, body).await {
        Err(Unanswered::Gone(_)) => Ok(true),
        answer => Ok(answer?.status().is_success()),
    }
}

/// Returns who the daemon is; none when no daemon runs.
pub(crate) async fn status(neon_dir: &Path) -> Result<Option<DaemonStatus>, ApiError> {
    let Some(mut daemon) = Daemon::connect(neon_dir).await? else {
        return Ok(None);
    };
    let answer = daemon.send(Method::GET, DAEMON, Vec::new()).await?;
    whole(answer.into_body(), daemon.pid).await.map(Some)
}

/// Returns true while somebody listens on the daemon's socket.
pub(crate) async fn answers(neon_dir: &Path) -> bool {
    connect(neon_dir).is_ok()
}

/// The daemons of other repositories on this machine, by their sockets.
pub(crate) struct Sockets;

impl Neighbours for Sockets {
    fn ask_to_yield(&self, neon_dir: &Path, endpoints: bool) {
        // Whoever waits for a lock waits on a thread; one without a runtime of its own is needed here.
        let neon_dir = neon_dir.to_owned();
        let asking = std::thread::spawn(move || {
            let runtime = runtime().ok()?;
            runtime.block_on(ask_to_yield(&neon_dir, endpoints)).ok()
        });
        if let Ok(answer) = asking.join() {
            tracing::debug!(?answer, "asked a daemon to yield");
        }
    }

    fn converse<'a>(
        &'a self,
        neon_dir: &'a Path,
        command: &'a Command,
        caller: &'a Caller,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Channel>, ApiError>> + Send + 'a>> {
        Box::pin(converse(neon_dir, command, caller))
    }
}

async fn converse(neon_dir: &Path, command: &Command, caller: &Caller) -> Result<Option<Channel>, ApiError> {
    let Some(mut daemon) = Daemon::connect(neon_dir).await? else {
        return Ok(None);
    };
    let answer = match daemon.send(Method::POST, CONVERSATIONS, Vec::new()).await {
        // It died, or is about to.
        Err(Unanswered::Gone(_)) => return Ok(None),
        answer => answer?,
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let stream = hyper::upgrade::on(answer).await.map_err(gone)?;
    let (reader, writer) = tokio::io::split(TokioIo::new(stream));
    let mut channel = Channel::over(reader, writer);
    let opening = Opening {
        caller: caller.clone(),
        command: command.to_string(),
    };
    let opening =
        serde_json::to_vec(&opening).map_err(|error| local("internal", "cannot write the request", error))?;
    channel.send(Bytes::from(opening)).await.map_err(gone)?;
    Ok(Some(channel))
}
