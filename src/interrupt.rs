//! Ctrl-C, kill, and a terminal that goes away: the first asks the work to end without leaving anything half-made, the second ends the program.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use neon_server::signals;
use rustix::stdio;
use rustix::termios::{self, OptionalActions, Termios};

/// The first signal that came; 0 before.
static FIRST: AtomicI32 = AtomicI32::new(0);
/// Somebody is asked at the terminal, which was set so before: nothing can be left half-made, so the first signal ends the program.
static ASKING: Mutex<Option<Termios>> = Mutex::new(None);

fn asking() -> MutexGuard<'static, Option<Termios>> {
    ASKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to listen. Until then, signals end the program as they always do.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| signals::watch(take));
}

/// Returns true once somebody has interrupted the work.
pub fn happened() -> bool {
    FIRST.load(Ordering::SeqCst) != 0
}

/// Returns the exit status after an interruption; none when nobody interrupted.
pub fn exit_status() -> Option<u8> {
    let signal = FIRST.load(Ordering::SeqCst);
    (signal != 0).then(|| u8::try_from(status(signal)).ok()).flatten()
}

/// Carries out `work`, which waits for somebody at the terminal. A signal ends the program then, and the terminal is as it was.
pub fn at_once<T>(work: impl FnOnce() -> T) -> T {
    *asking() = termios::tcgetattr(stdio::stdin()).ok();
    listen();
    let result = work();
    *asking() = None;
    result
}

/// Returns the exit status of a program that a signal ended, as shells count.
fn status(signal: i32) -> i32 {
    128 + signal
}

fn take(signal: i32) {
    let is_first = FIRST
        .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok();
    let asking = asking();
    if let Some(before) = &*asking {
        let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Now, before);
    }
    if asking.is_some() || !is_first {
        std::process::exit(status(signal));
    }
}
