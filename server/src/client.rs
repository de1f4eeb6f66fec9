//! How a command reaches its repository: through the daemon when one runs or is needed, else in this process under the lock.

use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use neon_repo::api::{ApiError, Clone as CloneRequest, Init, Made, ProgressSink, Request, Response, Stopped};
use neon_repo::world::{RealWorld, World};
use neon_repo::{OpenOptions, Repository, sockets};

use crate::context::Context;
use crate::serve::ServeOptions;
use crate::shown::{Shown, shown, shown_error};
use crate::spawn;
use crate::talk::{self, Heard};
use crate::users::UserFile;
use crate::wire::{Asked, DaemonStatus, VERSION};

/// How long a daemon that ends, or was killed, may still hold its socket: its endpoints may have to be stopped first.
const DAEMON_END: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(5);
/// How often a daemon is asked that ends just when it is asked.
const TRIES: u32 = 4;

/// Variables that would lead psql elsewhere than to an endpoint's own socket, or ask more of it than it gives.
const NOT_FOR_PSQL: [&str; 11] = [
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGHOSTADDR",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLNEGOTIATION",
    "PGGSSENCMODE",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
];

/// Carries out one request: by the daemon when one runs, or must run (start, or an endpoint without a daemon); else here. What comes back holds
/// no control characters but ends of lines and tabs, whoever said it.
pub fn call(
    context: &Context,
    request: Request,
    progress: &mut dyn ProgressSink,
) -> Result<Response, ApiError> {
    carry_out(context, request, &mut Shown(progress))
        .and_then(shown)
        .map_err(shown_error)
}

fn carry_out(
    context: &Context,
    request: Request,
    progress: &mut dyn ProgressSink,
) -> Result<Response, ApiError> {
    let neon_dir = context.find()?;
    for _ in 0..TRIES {
        match asked(context, &neon_dir, &request, progress)? {
            Asking::Done(response) => return Ok(*response),
            Asking::Again => {}
            Asking::Alone => {
                // Where nothing can be written, no daemon lives.
                let needs_daemon = !neon_repo::is_read_only(&neon_dir)
                    && (matches!(request, Request::Start { .. }) || neon_repo::endpoint_runs(&neon_dir));
                if !needs_daemon {
                    let runtime = runtime()?;
                    let options = context.options(&purpose(&request));
                    let repository = Repository::open(&neon_dir, options, runtime.handle())?;
                    return repository.handle(request, &context.caller, progress);
                }
                wait(spawn::daemon(&neon_dir, progress))??;
            }
        }
    }
    Err(ApiError {
        hint: Some("run the command again; 'neon daemon status' shows whether one runs".into()),
        ..local(
            "daemon",
            "the daemon goes away whenever it is asked",
            "tried several times",
        )
    })
}

/// What came of asking the daemon.
enum Asking {
    /// It answered.
    Done(Box<Response>),
    /// It is gone now: there may be another one.
    Again,
    /// There is none.
    Alone,
}

/// Asks the daemon, and waits until one that does not answer is gone.
fn asked(
    context: &Context,
    neon_dir: &Path,
    request: &Request,
    progress: &mut dyn ProgressSink,
) -> Result<Asking, ApiError> {
    match wait(ask(context, neon_dir, request, progress))?? {
        Heard::Answer(answer) => return answer.map(Box::new).map(Asking::Done),
        Heard::Nobody => return Ok(Asking::Alone),
        Heard::Ending => {}
        // It died under our hands. What may be done twice is done again.
        Heard::Gone(_) if may_repeat(request) => {}
        Heard::Gone(error) => return Err(error),
        Heard::OtherVersion(status) => {
            if !wait(talk::ask_to_yield(neon_dir, false))?? {
                return Err(other_version(&status));
            }
        }
    }
    wait(until_gone(neon_dir, progress))??;
    Ok(Asking::Again)
}

async fn ask(
    context: &Context,
    neon_dir: &Path,
    request: &Request,
    progress: &mut dyn ProgressSink,
) -> Result<Heard, ApiError> {
    let asked = Asked {
        id: RealWorld
            .random()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        caller: context.caller.clone(),
        request: request.clone(),
    };
    talk::ask(neon_dir, &asked, progress).await
}

/// Runs one conversation with a daemon; it needs no threads.
fn wait<T>(work: impl Future<Output = T>) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| local("runtime", "cannot wait for the daemon", error))?;
    Ok(runtime.block_on(work))
}

/// Returns true for a request that changes nothing more when it is carried out again.
fn may_repeat(request: &Request) -> bool {
    matches!(
        request,
        Request::Start { .. }
            | Request::Stop { .. }
            | Request::Uri { .. }
            | Request::Status
            | Request::BranchList
            | Request::TagList
            | Request::Log { .. }
            | Request::Show { .. }
            | Request::OriginList
            | Request::ConfigGet { .. }
    )
}

/// Waits until nobody listens at the daemon's socket any more.
async fn until_gone(neon_dir: &Path, progress: &dyn ProgressSink) -> Result<(), ApiError> {
    let began = Instant::now();
    while talk::answers(neon_dir).await {
        if began.elapsed() > DAEMON_END || progress.cancelled() {
            return Err(ApiError {
                hint: Some("'neon daemon status' shows it; run the command again when it is gone".into()),
                ..local(
                    "daemon_ending",
                    "the daemon is ending, and has not ended yet",
                    "its socket is still open",
                )
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn other_version(status: &DaemonStatus) -> ApiError {
    ApiError {
        code: "other_version".into(),
        message: format!(
            "the daemon of this repository (process {}) is neon {}, and this is neon {VERSION}",
            status.pid, status.version
        ),
        caused_by: Vec::new(),
        hint: Some(
            "'neon daemon stop' stops its endpoints and ends it; the next command starts another".into(),
        ),
    }
}

/// Makes a repository.
pub fn init(context: &Context, request: Init, progress: &mut dyn ProgressSink) -> Result<Made, ApiError> {
    let runtime = runtime()?;
    let made = neon_repo::init(
        request,
        context.options("init"),
        runtime.handle(),
        &mut Shown(progress),
    );
    made.and_then(shown).map_err(shown_error)
}

/// Copies a repository.
pub fn clone(
    context: &Context,
    request: CloneRequest,
    progress: &mut dyn ProgressSink,
) -> Result<Made, ApiError> {
    let runtime = runtime()?;
    let made = neon_repo::clone(
        request,
        context.options("clone"),
        runtime.handle(),
        &mut Shown(progress),
    );
    made.and_then(shown).map_err(shown_error)
}

/// Runs the daemon of the repository in this process (`neon daemon`, spawned by [`call`]).
pub fn daemon(context: &Context) -> Result<(), ApiError> {
    crate::daemon::run(
        &context.find()?,
        context.options("daemon"),
        None,
        &mut neon_repo::api::Quiet,
    )
}

/// Returns who the daemon of the repository is; none when no daemon runs.
pub fn daemon_status(context: &Context) -> Result<Option<DaemonStatus>, ApiError> {
    wait(talk::status(&context.find()?))?
}

/// Stops the endpoints of the repository and ends its daemon. Returns who that was, and what was stopped; none when no daemon runs.
pub fn stop_daemon(
    context: &Context,
    progress: &mut dyn ProgressSink,
) -> Result<Option<(DaemonStatus, Vec<Stopped>)>, ApiError> {
    let neon_dir = context.find()?;
    let Some(status) = wait(talk::status(&neon_dir))?? else {
        return Ok(None);
    };
    let stopped = match wait(talk::stop(&neon_dir, &context.caller, progress))?? {
        Heard::Answer(Ok(Response::Stopped(stopped))) => stopped,
        Heard::Answer(Err(error)) => return Err(error),
        // It ended by itself meanwhile.
        _ => Vec::new(),
    };
    wait(until_gone(&neon_dir, progress))??;
    Ok(Some((status, stopped)))
}

/// Serves repositories in the foreground until a signal. A repository whose daemon runs is served by that daemon, for as long
/// as this process stays.
pub fn serve(
    context: &Context,
    options: &ServeOptions,
    progress: &mut dyn ProgressSink,
) -> Result<(), ApiError> {
    crate::serve::check_address(options.listen)?;
    if let Some(root) = &options.root {
        let opening = OpenOptions {
            takes_over: true,
            ..context.options("serve")
        };
        return crate::serve::serve_root(root, options.listen, opening, progress);
    }
    let neon_dir = context.find()?;
    let listen = Request::Listen {
        address: options.listen,
    };
    for _ in 0..TRIES {
        match asked(context, &neon_dir, &listen, progress)? {
            Asking::Done(_) => return Ok(()),
            Asking::Again => {}
            Asking::Alone => break,
        }
    }
    crate::daemon::run(
        &neon_dir,
        context.options("serve"),
        Some(options.listen),
        progress,
    )
}

/// Returns the file of those who may connect: that of a server root, or of the repository found here.
pub fn users(context: &Context, root: Option<&Path>) -> Result<UserFile, ApiError> {
    match root {
        Some(root) => Ok(UserFile::of_root(root)),
        None => Ok(UserFile::of_repository(&context.find()?)),
    }
}

/// Replaces this process with `psql` on an endpoint: of a branch, or of a position.
pub fn psql(
    context: &Context,
    branch: Option<String>,
    args: &[String],
) -> Result<std::convert::Infallible, ApiError> {
    let response = call(context, Request::Uri { branch }, &mut neon_repo::api::Quiet)?;
    let Response::Endpoint(endpoint) = response else {
        return Err(unexpected());
    };
    let program = neon_repo::find_psql(&context.caller)?;
    // psql knows paths only: one that is too long for it is named by a descriptor that it gets from us.
    let directory = sockets::Inherited::open(&endpoint.socket_directory)
        .map_err(|error| local("socket", "cannot reach the endpoint's socket", error))?;
    let host = if sockets::fits(&endpoint.socket_directory) {
        &endpoint.socket_directory
    } else {
        directory.path()
    };
    let mut command = Command::new(&program);
    for name in NOT_FOR_PSQL {
        command.env_remove(name);
    }
    let error = command
        .env("PGHOST", host)
        .env("PGPORT", endpoint.port.to_string())
        .env("PGUSER", &endpoint.user)
        .env("PGDATABASE", &endpoint.database)
        .args(args)
        .exec();
    Err(local("psql", &format!("cannot run {}", program.display()), error))
}

fn purpose(request: &Request) -> String {
    serde_json::to_value(request)
        .ok()
        .and_then(|value| {
            value
                .get("command")
                .and_then(|name| name.as_str().map(str::to_owned))
        })
        .unwrap_or_else(|| "command".into())
}

/// Returns the runtime that drives connections of this process.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ApiError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| local("runtime", "cannot start threads", error))
}

/// Wraps a failure of this machine.
pub(crate) fn local(code: &str, message: &str, error: impl std::fmt::Display) -> ApiError {
    ApiError {
        code: code.into(),
        message: message.into(),
        caused_by: vec![error.to_string()],
        hint: None,
    }
}

fn unexpected() -> ApiError {
    local(
        "internal",
        "the daemon answered something else than was asked",
        "versions differ?",
    )
}
