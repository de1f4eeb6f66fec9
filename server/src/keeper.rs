//! A thread that does something for a repository now and then, until it is told to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread. Dropped, it is told to end and not waited for.
pub(crate) struct Keeper {
    /// Nothing is ever sent: the thread hears when this end goes.
    stop: Option<SyncSender<()>>,
    busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread has of it.
pub(crate) struct Rest {
    stop: Receiver<()>,
    busy: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts a thread with `work`, which must return soon after [`Rest::is_over`] says so.
    pub fn start(name: &str, work: impl FnOnce(&Rest) + Send + 'static) -> io::Result<Keeper> {
        let (stop, told) = sync_channel(0);
        let busy = Arc::new(AtomicBool::new(false));
        let rest = Rest {
            stop: told,
            busy: Arc::clone(&busy),
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&rest))?;
        Ok(Keeper {
            stop: Some(stop),
            busy,
            thread: Some(thread),
        })
    }

    /// Returns true while it does something that takes its time.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst)
    }

    /// Tells the thread to end.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Tells the thread to end and waits for that.
    pub fn join(mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

impl Rest {
    /// Waits; true when it is over.
    pub fn is_over_after(&self, time: Duration) -> bool {
        self.stop.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }

    /// Does something that takes its time.
    pub fn while_busy(&self, work: impl FnOnce()) {
        self.busy.store(true, Ordering::SeqCst);
        work();
        self.busy.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_ends_when_it_is_told_however_long_it_would_rest() {
        let (said, heard) = std::sync::mpsc::channel();
        let keeper = Keeper::start("test", move |rest| {
            rest.while_busy(|| said.send("at work").expect("heard"));
            while !rest.is_over_after(Duration::from_secs(3600)) {}
            said.send("over").expect("heard");
        });
        let keeper = keeper.expect("a thread");
        assert_eq!(heard.recv(), Ok("at work"));
        keeper.join();
        assert_eq!(heard.recv(), Ok("over"));
    }
}
