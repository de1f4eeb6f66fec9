//! Which of all the changes are tried: a fixed sample, or each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::disk::Cut;
use crate::reference::Reference;

/// Says what to try: `all`, `sample` (the default), or the numbers of steps whose changes are all tried.
const VARIABLE: &str = "NEON_FAULTS";
/// Nothing that is tried takes so long.
const LIMIT: Duration = Duration::from_secs(300);

pub enum Plan {
    Sample,
    All,
    Steps(Vec<usize>),
}

/// A directory that goes when it is dropped.
pub struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Plan {
    pub fn from_environment() -> Plan {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("sample") => Plan::Sample,
            Ok("all") => Plan::All,
            Ok(numbers) => Plan::Steps(
                numbers
                    .split(',')
                    .map(|number| number.parse().expect("a number"))
                    .collect(),
            ),
        }
    }

    pub fn root(&self, top: &Path) -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Scratch(crate::reference::root(top, NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Returns whether a change is one of the sample: more of those that names and durability depend on.
    fn sampled(reference: &Reference, number: usize, usual: usize) -> bool {
        let turns = reference
            .log
            .get(number)
            .is_none_or(|logged| logged.change.is_a_turn());
        let stride = if turns { usual } else { usual * 3 };
        number % stride == usual / 2
    }

    /// Says now and then how far a long run is.
    pub fn tell(&self, what: &str, reference: &Reference, number: usize, failures: usize) {
        if !matches!(self, Plan::Sample) && number.is_multiple_of(100) {
            println!(
                "{what}: {number} of {} changes, {failures} failures",
                reference.log.len()
            );
        }
    }

    /// Returns what becomes of the disk before a change.
    pub fn cuts(&self, reference: &Reference, number: usize) -> Vec<Cut> {
        let seed = number as u64;
        let all = [
            Cut::Killed,
            Cut::Lost,
            Cut::Torn,
            Cut::NamesFirst,
            Cut::Mixed(seed),
            Cut::Mixed(!seed),
        ];
        match self {
            Plan::All => all.to_vec(),
            Plan::Steps(steps) if steps.contains(&reference.describe(number).0) => all.to_vec(),
            Plan::Sample if Plan::sampled(reference, number, 13) => vec![all[number / 13 % all.len()]],
            _ => Vec::new(),
        }
    }

    /// Returns whether the course goes on after that crash.
    pub fn goes_on(&self, number: usize, cut: Cut) -> bool {
        match self {
            Plan::Sample => number.is_multiple_of(4),
            Plan::All | Plan::Steps(_) => matches!(cut, Cut::Killed) || number.is_multiple_of(5),
        }
    }

    /// Returns whether a change is made to fail.
    pub fn fails(&self, reference: &Reference, number: usize) -> bool {
        match self {
            Plan::All => true,
            Plan::Steps(steps) => steps.contains(&reference.describe(number).0),
            Plan::Sample => Plan::sampled(reference, number, 23),
        }
    }
}

/// Ends the process, with a word on what it was at, when something hangs.
pub struct Watchdog(Arc<AtomicBool>);

impl Watchdog {
    pub fn new(what: &str) -> Watchdog {
        let over = Arc::new(AtomicBool::new(false));
        let (seen, what) = (Arc::clone(&over), what.to_owned());
        std::thread::spawn(move || {
            let begun = Instant::now();
            while !seen.load(Ordering::Relaxed) {
                if begun.elapsed() > LIMIT {
                    eprintln!("hangs: {what}");
                    std::process::abort();
                }
                std::thread::park_timeout(Duration::from_millis(500));
            }
        });
        Watchdog(over)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
