//! Who may do what at a time.

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

    pub(crate) fn accepting(&self) -> MutexGuard<'_, ()> {
        take(&self.accepting)
    }
}
