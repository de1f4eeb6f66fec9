//! The daemon's side of `neon.sock`: see [`crate::wire`] for its routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use neon_repo::api::{ApiError, Caller, Progress, ProgressSink, Response};
use neon_transport::Channel;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::daemon::Daemon;
use crate::occupancy::Seat;
use crate::wire::{
    Asked, CONVERSATIONS, DAEMON, ENDING, Line, Opening, REQUESTS, STOP, UPGRADE, VERSION, VERSION_HEADER,
    YIELD,
};

/// How often those who wait are told that work goes on.
const BEAT: Duration = Duration::from_secs(1);

/// Returns the routes of a daemon.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route(REQUESTS, post(request))
        .route(&format!("{REQUESTS}/{{id}}/cancel"), post(cancel))
        .route(CONVERSATIONS, post(conversation))
        .route(YIELD, post(yield_lock))
        .route(STOP, post(stop))
        .route(DAEMON, get(status))
        .with_state(daemon)
}

async fn request(State(daemon): State<Arc<Daemon>>, headers: HeaderMap, body: Bytes) -> HttpResponse {
    if !is_of_our_version(&headers) {
        return (StatusCode::CONFLICT, Json(daemon.status())).into_response();
    }
    let Asked { id, caller, request } = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let seat = daemon.enter(Some(id));
    answer(seat, move |seat, sink| {
        let _seat = seat;
        daemon.handle(request, &caller, sink)
    })
}

async fn stop(State(daemon): State<Arc<Daemon>>, body: Bytes) -> HttpResponse {
    // A program of any version may ask; what it says of its caller may not be understood.
    let caller: Option<Caller> = serde_json::from_slice(&body).ok();
    let seat = daemon.enter(None);
    answer(seat, move |seat, sink| {
        let stopped = daemon.stop_endpoints(caller, sink)?;
        drop(seat);
        daemon.end();
        Ok(stopped)
    })
}

async fn cancel(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> StatusCode {
    if daemon.cancel(&id) {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    }
}

async fn yield_lock(State(daemon): State<Arc<Daemon>>, body: Bytes) -> StatusCode {
    if daemon.end_if_idle(body.as_ref() == b"true") {
        StatusCode::OK
    } else {
        StatusCode::CONFLICT
    }
}

async fn status(State(daemon): State<Arc<Daemon>>) -> HttpResponse {
    Json(daemon.status()).into_response()
}

async fn conversation(
    State(daemon): State<Arc<Daemon>>,
    headers: HeaderMap,
    request: HttpRequest,
) -> HttpResponse {
    if !is_of_our_version(&headers) {
        return (StatusCode::CONFLICT, Json(daemon.status())).into_response();
    }
    let seat = match daemon.enter(None) {
        Ok(seat) => seat,
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response(),
    };
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let _seat = seat;
        match upgrade.await {
            Ok(stream) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(stream));
                converse(&daemon, Channel::over(reader, writer)).await;
            }
            Err(error) => tracing::debug!(%error, "a conversation did not begin"),
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Leads the serving half of the conversation that the first frame asks for.
async fn converse(daemon: &Daemon, mut channel: Channel) {
    let opening = match channel.recv().await {
        Ok(Some(frame)) => serde_json::from_slice::<Opening>(&frame).ok(),
        _ => None,
    };
    let Some(Opening { caller, command }) = opening else {
        tracing::debug!("a conversation began with something else");
        return;
    };
    let Ok(command) = command.parse() else {
        tracing::debug!(command, "there is no such conversation");
        return;
    };
    let repository = Arc::new(daemon.repository().seen_by(&caller));
    if let Err(error) = repository
        .converse(command, channel, neon_remotes::Options::default())
        .await
    {
        tracing::debug!(%error, "the other half ended");
    }
}

fn is_of_our_version(headers: &HeaderMap) -> bool {
    headers
        .get(VERSION_HEADER)
        .is_some_and(|version| version.as_bytes() == VERSION.as_bytes())
}

/// Answers with the lines of `work`, which runs on a thread of its own, if the daemon took it.
fn answer(
    seat: Result<Seat, ApiError>,
    work: impl FnOnce(Seat, &mut LineSink) -> Result<Response, ApiError> + Send + 'static,
) -> HttpResponse {
    let (lines, answer) = mpsc::unbounded_channel();
    let gone = match seat {
        Ok(seat) => {
            let cancelled = seat.cancelled();
            let gone = CancelOnDrop(Arc::clone(&cancelled));
            beat(lines.downgrade());
            tokio::task::spawn_blocking(move || {
                let mut sink = LineSink {
                    lines: lines.clone(),
                    cancelled,
                };
                // The caller may have gone; the work is done all the same.
                let _ = lines.send(last_line(work(seat, &mut sink)));
            });
            Some(gone)
        }
        Err(error) => {
            let _ = lines.send(Line::Error(error));
            None
        }
    };
    let stream = UnboundedReceiverStream::new(answer).map(move |line| {
        let _ = &gone;
        serde_json::to_vec(&line).map(|mut bytes| {
            bytes.push(b'\n');
            Bytes::from(bytes)
        })
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(stream),
    )
        .into_response()
}

fn last_line(result: Result<Response, ApiError>) -> Line {
    match result {
        Ok(response) => Line::Response(Box::new(response)),
        Err(error) => Line::Error(error),
    }
}

/// Says every second that work goes on, until it does not.
fn beat(lines: mpsc::WeakUnboundedSender<Line>) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(BEAT).await;
            match lines.upgrade() {
                Some(lines) if lines.send(Line::Beat).is_ok() => {}
                _ => return,
            }
        }
    });
}

/// Returns the error of a daemon that takes no more requests.
pub(crate) fn ending() -> ApiError {
    ApiError {
        code: ENDING.into(),
        message: "the daemon is ending".into(),
        caused_by: Vec::new(),
        hint: Some("run the command again".into()),
    }
}

/// Lives in the answer's stream: dropped when the caller hangs up.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct LineSink {
    lines: mpsc::UnboundedSender<Line>,
    cancelled: Arc<AtomicBool>,
}

impl ProgressSink for LineSink {
    fn report(&mut self, progress: &Progress) {
        let _ = self.lines.send(Line::Progress(progress.clone()));
    }

    fn note(&mut self, line: &str) {
        let _ = self.lines.send(Line::Note(line.to_owned()));
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
