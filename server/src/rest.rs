//! The REST router on `neon.sock`: one POST carries one request, the answer streams progress and ends with the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use neon_repo::api::{Progress, ProgressSink};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::daemon::Daemon;
use crate::wire::{Asked, Line, REQUESTS};

/// Returns the routes of a daemon.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route(REQUESTS, post(request))
        .route("/v1/alive", get(|| async { "ok\n" }))
        .with_state(daemon)
}

async fn request(State(daemon): State<Arc<Daemon>>, body: Bytes) -> HttpResponse {
    let Asked { caller, request } = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let (lines, answer) = mpsc::unbounded_channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let gone = CancelOnDrop(Arc::clone(&cancelled));
    tokio::task::spawn_blocking(move || {
        let mut sink = LineSink {
            lines: lines.clone(),
            cancelled,
        };
        let last = match daemon.handle(request, &caller, &mut sink) {
            Ok(response) => Line::Response(Box::new(response)),
            Err(error) => Line::Error(error),
        };
        // The caller may have gone; the work is done all the same.
        let _ = lines.send(last);
    });
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
