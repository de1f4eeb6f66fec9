//! What the program writes down of its own doings, on stderr; for the daemon that is its log file.
//!
//! One event is one line, whatever is in it: names, messages and errors may come from anybody.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

/// Starts logging. `NEON_LOG` says what, as `debug` or `neon_repo=trace`; `default` holds when it is not set.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_env("NEON_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // It can be started once; a second start changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines(io::stderr()))
        .with_ansi(false)
        // It would say on stderr that stderr cannot be written, and panic: a full disk must not end the thread that logs.
        .log_internal_errors(false)
        .try_init();
}

/// Writes each event, which comes in one piece, as one line of printable characters.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = match text.strip_suffix('\n') {
            Some(line) => neon_types::on_one_line(line) + "\n",
            None => neon_types::on_one_line(&text),
        };
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let mut out = Vec::new();
        let mut lines = Lines(&mut out);
        lines
            .write_all(b"2026 INFO user=x\n2026 INFO forged\x1b[2K\n")
            .expect("written");
        lines
            .write_all("2026 INFO \u{202e}next\n".as_bytes())
            .expect("written");
        lines.flush().expect("flushed");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "2026 INFO user=x\\n2026 INFO forged\\u{1b}[2K\n2026 INFO \\u{202e}next\n"
        );
    }
}
