//! Who may do what at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// What commands and conversations wait for each other for.
#[derive(Default)]
pub(crate) struct Turns {
    /// To move refs, timelines and endpoints.
    commands: Mutex<()>,
    /// To collect garbage.
    collecting: Mutex<()>,
    /// To try what a peer sent. Taken before `commands`.
    accepting: Mutex<()>,
    /// Collections that deleted something since the repository was opened.
    collections: AtomicU64,
}

/// A turn that panicked left nothing half-made: every step of a command is durable or absent by itself.
fn take(turn: &Mutex<()>) -> MutexGuard<'_, ()> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    pub(crate) fn commands(&self) -> MutexGuard<'_, ()> {
        take(&self.commands)
    }

    /// As [`Turns::commands`], for somebody who has other things to look at while others take theirs.
    pub(crate) fn try_commands(&self) -> Option<MutexGuard<'_, ()>> {
        match self.commands.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn collecting(&self) -> MutexGuard<'_, ()> {
        take(&self.collecting)
    }

    /// Says that something is about to be deleted.
    pub(crate) fn count_collection(&self) {
        self.collections.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns how often that was so.
    pub(crate) fn collections(&self) -> u64 {
        self.collections.load(Ordering::SeqCst)
    }

    pub(crate) fn accepting(&self) -> MutexGuard<'_, ()> {
        take(&self.accepting)
    }
}
