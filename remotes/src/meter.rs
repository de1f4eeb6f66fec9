//! Long work on a blocking thread, seen from both ends: how far it is, and whether anybody still waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::LocalError;

/// How far blocking work is, and whether to go on with it. Shared by the threads that do the work; cheap to ask.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
}

impl Meter {
    /// Says how far the work is, in whatever it is counted.
    pub fn set(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Returns done and total.
    pub fn get(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Returns true when nobody waits for the work any more: the other side is gone, or this program is told to end. Work that asks no
    /// later than every second ends in time.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Returns [`LocalError::Stopped`] when nobody waits for the work any more.
    pub fn check(&self) -> Result<(), LocalError> {
        if self.is_stopped() {
            Err(LocalError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Says that nobody waits for the work any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Whoever waits for work. When it goes, the work may stop.
pub(crate) struct Waiting(pub Arc<Meter>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.stop();
    }
}
