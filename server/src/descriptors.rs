//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are of no use to us, and some libraries look at each that may be.
const ENOUGH: u64 = 65_536;

/// Takes as many descriptors as the system gives; returns how many those are.
pub(crate) fn take() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    let current = limit.current.unwrap_or(ENOUGH);
    if current >= wanted {
        return current;
    }
    let more = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, more) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::debug!(%error, "the limit on descriptors stays as it is");
            current
        }
    }
}
