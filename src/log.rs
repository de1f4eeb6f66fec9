//! What the program writes down of its own doings, on stderr; for the daemon that is its log file.

use tracing_subscriber::EnvFilter;

/// Starts logging. `NEON_LOG` says what, as `debug` or `neon_repo=trace`; `default` holds when it is not set.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_env("NEON_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // It can be started once; a second start changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would say on stderr that stderr cannot be written, and panic: a full disk must not end the thread that logs.
        .log_internal_errors(false)
        .try_init();
}
