//! Who may do what at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

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

    pub(crate) fn collecting(&self) -> MutexGuard<'_, ()> {
        take(&self.collecting)
    }

    pub(crate) fn accepting(&self) -> MutexGuard<'_, ()> {
        take(&self.accepting)
    }
}
