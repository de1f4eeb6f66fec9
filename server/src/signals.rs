//! Signals that ask a process to end.

use std::sync::OnceLock;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that ask for an end: Ctrl-C, kill, and a terminal that went away.
const KINDS: [fn() -> SignalKind; 3] = [SignalKind::interrupt, SignalKind::terminate, SignalKind::hangup];

/// Signals that ask this process to end, as they come.
struct Endings(Vec<(i32, Signal)>);

impl Endings {
    /// Begins to listen, on the runtime of the caller. Signals that whoever started us wants to be ignored (nohup, the background of a
    /// shell) stay ignored.
    fn listen() -> std::io::Result<Endings> {
        let mut heard = Vec::new();
        for kind in KINDS.map(|kind| kind()) {
            if !is_ignored(kind.as_raw_value()) {
                heard.push((kind.as_raw_value(), signal(kind)?));
            }
        }
        Ok(Endings(heard))
    }

    /// Returns the number of the next one.
    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Calls `take` with the number of each signal that asks for an end, on a thread of its own; returns once it listens. Where that is not
/// possible, signals do what they always do.
pub fn watch(take: fn(i32)) {
    let (ready, listening) = std::sync::mpsc::channel();
    let watching = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let Ok(mut endings) = Endings::listen() else {
                return;
            };
            let _ = ready.send(());
            loop {
                take(endings.next().await);
            }
        });
    };
    let thread = std::thread::Builder::new().name("signals".into());
    if thread.spawn(watching).is_ok() {
        // It fails when the thread has ended, which is as good.
        let _ = listening.recv();
    }
}

/// Returns at the first signal that asks for an end.
pub(crate) async fn until_told_to_end() {
    match Endings::listen() {
        Ok(mut endings) => {
            endings.next().await;
        }
        Err(error) => {
            tracing::error!(%error, "cannot wait for signals");
            std::future::pending().await
        }
    }
}

/// Returns true when the signal was ignored at our start, before we listened to any.
fn is_ignored(number: i32) -> bool {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    let mask = IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        ignored_in(&status).unwrap_or(0)
    });
    (1..=64).contains(&number) && mask >> (number - 1) & 1 == 1
}

/// Reads the mask of ignored signals in the text of `/proc/self/status`.
fn ignored_in(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_a_mask() {
        // SIGHUP is 1, SIGINT 2, SIGPIPE 13.
        assert_eq!(
            ignored_in("Name:\tneon\nSigIgn:\t0000000000001003\n"),
            Some(0x1003)
        );
        assert_eq!(ignored_in("Name:\tneon\n"), None);
        assert!(!is_ignored(0));
    }
}
