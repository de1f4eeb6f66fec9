//! What travels on `neon.sock`: a request as JSON, then lines of JSON until the answer.

use neon_repo::api::{ApiError, Caller, Progress, Request, Response};
use serde::{Deserialize, Serialize};

/// Path of the one route that carries every [`neon_repo::api::Request`].
pub const REQUESTS: &str = "/v1/requests";

/// Longest line of an answer that a client reads, in bytes. A listing of 100,000 branches stays below.
pub const MAX_LINE: usize = 64 << 20;

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Whose world the request is about.
    pub caller: Caller,
    /// What is asked.
    pub request: Request,
}

/// One line of an answer. The last line is [`Line::Response`] or [`Line::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// How far the work is.
    Progress(Progress),
    /// A sentence for the user.
    Note(String),
    /// It was done.
    Response(Box<Response>),
    /// It was not.
    Error(ApiError),
}
