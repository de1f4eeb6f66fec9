//! Named places where a test makes the process die or an operation fail.
//!
//! Set by `NEON_FAILPOINTS="seal-after-layer=kill,wal-fsync=error:1"` or [`set_failpoint`]. `kill` is `abort` without any
//! cleaning up, logged first; `error` makes the operation fail; `:N` lets N-1 visits pass and acts on the Nth only.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What happens at a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The process ends as after `kill -9`.
    Kill,
    /// The operation fails with an I/O error.
    Error,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    failure: Failure,
    /// Acts when this many visits were made; 0 acts at each.
    on_visit: u32,
    visits: u32,
}

static ANY: AtomicBool = AtomicBool::new(false);

fn points() -> &'static Mutex<HashMap<String, Armed>> {
    static POINTS: OnceLock<Mutex<HashMap<String, Armed>>> = OnceLock::new();
    POINTS.get_or_init(|| {
        let mut points = HashMap::new();
        for setting in std::env::var("NEON_FAILPOINTS").unwrap_or_default().split(',') {
            let Some((name, action)) = setting.split_once('=') else {
                continue;
            };
            let (action, visit) = action.split_once(':').unwrap_or((action, "0"));
            let failure = match action {
                "kill" => Failure::Kill,
                "error" => Failure::Error,
                _ => {
                    tracing::error!(failpoint = name, action, "unknown action of a failpoint");
                    continue;
                }
            };
            let on_visit = visit.parse().unwrap_or(0);
            points.insert(
                name.trim().to_owned(),
                Armed {
                    failure,
                    on_visit,
                    visits: 0,
                },
            );
        }
        if !points.is_empty() {
            ANY.store(true, Ordering::Release);
        }
        Mutex::new(points)
    })
}

/// Arms or, with none, disarms a failpoint; `on_visit` 0 acts at each visit, N at the Nth from now only.
pub fn set_failpoint(name: &str, failure: Option<Failure>, on_visit: u32) {
    let mut points = points().lock().unwrap_or_else(PoisonError::into_inner);
    match failure {
        Some(failure) => {
            let armed = Armed {
                failure,
                on_visit,
                visits: 0,
            };
            points.insert(name.to_owned(), armed);
            ANY.store(true, Ordering::Release);
        }
        None => {
            points.remove(name);
        }
    }
}

#[cfg(test)]
thread_local! {
    /// A failpoint of this thread alone, which acts once: tests of one process must not fail each other.
    static ONCE_HERE: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Makes the next visit of `name` by this thread fail.
#[cfg(test)]
pub(crate) fn fail_once_here(name: &str) {
    ONCE_HERE.set(Some(name.to_owned()));
}

/// Passes the failpoint `name`: nothing, or what it was set to. Costs one atomic load when none is set.
pub fn failpoint(name: &str) -> io::Result<()> {
    static READ: OnceLock<()> = OnceLock::new();
    READ.get_or_init(|| {
        points();
    });
    #[cfg(test)]
    if ONCE_HERE.with_borrow(|armed| armed.as_deref() == Some(name)) {
        ONCE_HERE.set(None);
        return Err(io::Error::other(format!("failpoint {name}")));
    }
    if !ANY.load(Ordering::Acquire) {
        return Ok(());
    }
    let failure = {
        let mut points = points().lock().unwrap_or_else(PoisonError::into_inner);
        let Some(armed) = points.get_mut(name) else {
            return Ok(());
        };
        armed.visits += 1;
        if armed.on_visit != 0 && armed.visits != armed.on_visit {
            return Ok(());
        }
        armed.failure
    };
    match failure {
        Failure::Kill => {
            tracing::error!(failpoint = name, "failpoint: the process ends here");
            eprintln!("failpoint {name}: the process ends here");
            // SIGKILL to ourselves: no handlers, no destructors, no flush, as a real kill -9.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort()
        }
        Failure::Error => Err(io::Error::other(format!("failpoint {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_acts_on_its_visit_only() {
        set_failpoint("test-visits", Some(Failure::Error), 2);
        assert!(failpoint("test-visits").is_ok());
        assert!(failpoint("test-visits").is_err());
        assert!(failpoint("test-visits").is_ok());
        set_failpoint("test-visits", Some(Failure::Error), 0);
        assert!(failpoint("test-visits").is_err());
        set_failpoint("test-visits", None, 0);
        assert!(failpoint("test-visits").is_ok());
    }
}
