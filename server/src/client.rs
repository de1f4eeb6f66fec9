//! How a command reaches its repository: through the daemon when one runs or is needed, else in this process under the lock.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use neon_repo::api::{ApiError, Clone as CloneRequest, Init, Made, ProgressSink, Request, Response};
use neon_repo::world::{RealWorld, SharedWorld};
use neon_repo::{OpenOptions, Repository};

use crate::serve::ServeOptions;
use crate::users::UserFile;
use crate::wire::{Line, MAX_LINE, REQUESTS};

/// How long a command waits for a daemon that it started to answer.
const DAEMON_START: Duration = Duration::from_secs(20);

/// How long a daemon that is being killed may still hold its socket.
const DAEMON_END: Duration = Duration::from_secs(2);
/// Code of the error when the daemon ends before it has answered.
const DAEMON_GONE: &str = "daemon_gone";

/// Where a command was given, and by whom.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// `-C DIR`: where to look for the repository, upward.
    pub directory: Option<PathBuf>,
    /// The user's defaults.
    pub user: UserDefaults,
}

/// Defaults of a user, from `config.toml` in the configuration directory.
#[derive(Clone, Debug, Default)]
pub struct UserDefaults {
    /// `Name <mail>` for commits.
    pub author: Option<String>,
    /// Postgres major version for `init`.
    pub pg_version: Option<u16>,
    /// Directories to search for Postgres.
    pub pg_dirs: Vec<PathBuf>,
    /// The configuration directory itself.
    pub config_dir: PathBuf,
}

impl Context {
    /// Returns the world that a repository opened here sees.
    pub fn world(&self) -> SharedWorld {
        Arc::new(RealWorld {
            author: self.user.author.clone(),
            postgres_directories: self.user.pg_dirs.clone(),
        })
    }

    fn options(&self, purpose: &str) -> OpenOptions {
        OpenOptions {
            purpose: purpose.to_owned(),
            world: self.world(),
            lock_wait: Duration::from_secs(10),
        }
    }

    /// Returns the `.neon/` that commands given here work on: `NEON_DIR`, else the nearest one from `-C` or the current
    /// directory upward. One that another user owns is refused.
    pub fn find(&self) -> Result<PathBuf, ApiError> {
        let start = match &self.directory {
            Some(directory) => directory.clone(),
            None => std::env::current_dir()
                .map_err(|error| local("cwd", "there is no current directory", error))?,
        };
        let named = std::env::var_os("NEON_DIR")
            .filter(|_| self.directory.is_none())
            .map(PathBuf::from);
        let found = match named {
            Some(directory) if directory.join("config.toml").is_file() => Some(directory),
            Some(directory) => {
                Some(directory.join(".neon")).filter(|inner| inner.join("config.toml").is_file())
            }
            None => {
                let start = std::path::absolute(&start).unwrap_or(start.clone());
                start
                    .ancestors()
                    .map(|dir| dir.join(".neon"))
                    .find(|dir| dir.join("config.toml").is_file())
            }
        };
        let neon_dir = found.ok_or_else(|| ApiError {
            code: "not_a_repository".into(),
            message: format!("not a repository (nor any directory above): {}", start.display()),
            caused_by: Vec::new(),
            hint: Some(
                "'neon init' makes one here, 'neon clone URI' copies one, '-C DIR' or NEON_DIR names one"
                    .into(),
            ),
        })?;
        neon_repo::check_ours(&neon_dir)?;
        Ok(neon_dir)
    }
}

/// Carries out one request: by the daemon when one runs, or must run (start, or an endpoint without a daemon); else here.
pub fn call(
    context: &Context,
    request: Request,
    progress: &mut dyn ProgressSink,
) -> Result<Response, ApiError> {
    let neon_dir = context.find()?;
    if let Some(stream) = connect(&neon_dir) {
        match ask(stream, &request, progress) {
            // It died under our hands. What may be done twice is done again, once it has let go of its socket.
            Err(error) if error.code == DAEMON_GONE && may_repeat(&request) && is_gone(&neon_dir) => {}
            answer => return answer,
        }
    }
    let needs_daemon = matches!(request, Request::Start { .. }) || neon_repo::endpoint_runs(&neon_dir);
    if needs_daemon && request != Request::Shutdown {
        let stream = spawn_daemon(&neon_dir)?;
        return ask(stream, &request, progress);
    }
    let runtime = runtime()?;
    let repository = Repository::open(&neon_dir, context.options(&purpose(&request)), runtime.handle())?;
    Arc::new(repository).handle(request, progress)
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

/// Waits until nobody answers at the daemon's socket; false when somebody still does.
fn is_gone(neon_dir: &Path) -> bool {
    let began = Instant::now();
    while connect(neon_dir).is_some() {
        if began.elapsed() > DAEMON_END {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Makes a repository.
pub fn init(context: &Context, request: Init, progress: &mut dyn ProgressSink) -> Result<Made, ApiError> {
    let runtime = runtime()?;
    neon_repo::init(request, context.options("init"), runtime.handle(), progress)
}

/// Copies a repository.
pub fn clone(
    context: &Context,
    request: CloneRequest,
    progress: &mut dyn ProgressSink,
) -> Result<Made, ApiError> {
    let runtime = runtime()?;
    neon_repo::clone(request, context.options("clone"), runtime.handle(), progress)
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

/// Serves repositories in the foreground until a signal. A repository whose daemon runs is served by that daemon, for as long
/// as this process stays.
pub fn serve(
    context: &Context,
    options: &ServeOptions,
    progress: &mut dyn ProgressSink,
) -> Result<(), ApiError> {
    crate::serve::check_address(options.listen)?;
    if let Some(root) = &options.root {
        return crate::serve::serve_root(root, options.listen, context.options("serve"), progress);
    }
    let neon_dir = context.find()?;
    if let Some(stream) = connect(&neon_dir) {
        return ask(
            stream,
            &Request::Listen {
                address: options.listen,
            },
            progress,
        )
        .map(|_| ());
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

/// Replaces this process with `psql` on the endpoint of a branch.
pub fn psql(
    context: &Context,
    branch: Option<String>,
    args: &[String],
) -> Result<std::convert::Infallible, ApiError> {
    let response = call(context, Request::Uri { branch }, &mut neon_repo::api::Quiet)?;
    let Response::Endpoint(endpoint) = response else {
        return Err(unexpected());
    };
    let program = neon_repo::find_psql(&*context.world())?;
    let error = Command::new(&program)
        .env("PGHOST", &endpoint.socket_directory)
        .env("PGPORT", endpoint.port.to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", "postgres")
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

/// Returns a connection to the daemon, nothing when none runs.
fn connect(neon_dir: &Path) -> Option<UnixStream> {
    UnixStream::connect(neon_repo::sockets::daemon(neon_dir)).ok()
}

/// Starts a daemon in a session of its own and waits until it answers.
fn spawn_daemon(neon_dir: &Path) -> Result<UnixStream, ApiError> {
    let program = std::env::current_exe().map_err(|error| local("exe", "cannot find this program", error))?;
    let log_path = neon_dir.join("daemon.log");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(|error| local("log", &format!("cannot write {}", log_path.display()), error))?;
    let stderr = log
        .try_clone()
        .map_err(|error| local("log", "cannot write the daemon's log", error))?;
    let dir = neon_dir.parent().unwrap_or(neon_dir);
    let mut command = Command::new("setsid");
    command
        .arg(program)
        .arg("-C")
        .arg(dir)
        .arg("daemon")
        .env_remove("NEON_DIR")
        .current_dir("/");
    if let Some(dirs) = std::env::var_os("NEON_PG_DIRS") {
        command.env("NEON_PG_DIRS", dirs);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(stderr)
        .spawn()
        .map_err(|error| local("daemon", "cannot start the daemon", error))?;
    let began = Instant::now();
    loop {
        if let Some(stream) = connect(neon_dir) {
            return Ok(stream);
        }
        let ended = child.try_wait().ok().flatten();
        if ended.is_some() || began.elapsed() > DAEMON_START {
            // Another command may have started one at the same time and won the lock.
            if let Some(stream) = connect(neon_dir) {
                return Ok(stream);
            }
            return Err(ApiError {
                code: "daemon_failed".into(),
                message: "the daemon did not come up".into(),
                caused_by: last_lines(&log_path, 3),
                hint: Some(format!("its log is {}", log_path.display())),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(count))
        .map(|line| (*line).to_owned())
        .collect()
}

/// Sends a request to the daemon and shows what comes back until the answer.
fn ask(stream: UnixStream, request: &Request, progress: &mut dyn ProgressSink) -> Result<Response, ApiError> {
    let body =
        serde_json::to_vec(request).map_err(|error| local("internal", "cannot write the request", error))?;
    // One conversation needs no threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| local("runtime", "cannot wait for the daemon", error))?;
    runtime.block_on(converse(stream, body, progress))
}

async fn converse(
    stream: UnixStream,
    body: Vec<u8>,
    progress: &mut dyn ProgressSink,
) -> Result<Response, ApiError> {
    stream.set_nonblocking(true).map_err(gone)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(gone)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(gone)?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::post(REQUESTS)
        .header(hyper::header::HOST, "neon")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| local("internal", "cannot write the request", error))?;
    let answer = sender.send_request(request).await.map_err(gone)?;
    let understood = answer.status().is_success();
    let mut frames = answer.into_body();
    let mut pending = Vec::new();
    while let Some(frame) = frames.frame().await {
        let Ok(bytes) = frame.map_err(gone)?.into_data() else {
            continue;
        };
        pending.extend_from_slice(&bytes);
        while understood && let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Line::Progress(report)) => progress.report(&report),
                Ok(Line::Note(note)) => progress.note(&note),
                Ok(Line::Response(response)) => return Ok(*response),
                Ok(Line::Error(error)) => return Err(error),
                Err(error) => return Err(local("internal", "the daemon's answer cannot be read", error)),
            }
        }
        if pending.len() > MAX_LINE {
            return Err(local(
                "internal",
                "the daemon's answer cannot be read",
                "a line without end",
            ));
        }
    }
    driver.abort();
    if understood {
        Err(gone("the connection ended"))
    } else {
        Err(local(
            "refused",
            "the daemon did not understand the command",
            String::from_utf8_lossy(&pending).trim(),
        ))
    }
}

fn gone(error: impl std::fmt::Display) -> ApiError {
    ApiError {
        code: DAEMON_GONE.into(),
        message: "the daemon went away before it answered".into(),
        caused_by: vec![error.to_string()],
        hint: Some("run the command again; 'neon status' shows where things are".into()),
    }
}
