//! What travels on `neon.sock`: HTTP, with JSON in it.
//!
//! | route | body | answer |
//! |---|---|---|
//! | `POST /v1/requests` | [`Asked`] | lines of JSON, each a [`Line`], until the result |
//! | `POST /v1/requests/ID/cancel` | none | the request of that id ends as soon as it can |
//! | `POST /v1/conversations` | none; upgrades to `neon` | frames: the first is an [`Opening`], then the conversation of two repositories |
//! | `POST /v1/yield` | `true`: whoever asks goes on with endpoints that run; else `false` | 200 and the daemon ends, if it is idle; else 409 |
//! | `POST /v1/stop` | [`neon_repo::api::Caller`] | lines, as for a request: the endpoints are stopped, then the daemon ends |
//! | `GET /v1/daemon` | none | [`DaemonStatus`] |
//!
//! Requests and conversations say in the header [`VERSION_HEADER`] which program asks; one of another version is answered 409, with a
//! [`DaemonStatus`]. The other routes are the same in all versions.

use neon_repo::api::{ApiError, Caller, Progress, Request, Response};
use serde::{Deserialize, Serialize};

/// Route that carries every [`Request`].
pub const REQUESTS: &str = "/v1/requests";
/// Route of the conversations of two repositories.
pub const CONVERSATIONS: &str = "/v1/conversations";
/// Route by which somebody who waits for the repository's lock asks for it.
pub const YIELD: &str = "/v1/yield";
/// Route that ends the daemon.
pub const STOP: &str = "/v1/stop";
/// Route that says who the daemon is.
pub const DAEMON: &str = "/v1/daemon";

/// Header that says which version of the program asks.
pub const VERSION_HEADER: &str = "neon-version";
/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Protocol that [`CONVERSATIONS`] upgrades to.
pub const UPGRADE: &str = "neon";

/// Longest line of an answer that a client reads, in bytes. A listing of 100,000 branches stays below.
pub const MAX_LINE: usize = 64 << 20;

/// Code of the error of a daemon that ends: it has done nothing, and whoever asked goes on without it.
pub const ENDING: &str = "daemon_ending";

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// By what it can be cancelled: random.
    pub id: String,
    /// Whose world the request is about.
    pub caller: Caller,
    /// What is asked.
    pub request: Request,
}

/// The first frame of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Whose world the conversation is about.
    pub caller: Caller,
    /// The command, as it is sent to a server.
    pub command: String,
}

/// One line of an answer. The last line is [`Line::Response`] or [`Line::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Work goes on; comes every second.
    Beat,
    /// How far the work is.
    Progress(Progress),
    /// A sentence for the user.
    Note(String),
    /// It was done.
    Response(Box<Response>),
    /// It was not.
    Error(ApiError),
}

/// Who a daemon is, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Requests and conversations that it works on.
    pub requests: usize,
    /// Endpoints that run.
    pub endpoints: Vec<String>,
}
