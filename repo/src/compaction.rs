//! Compaction in the background: one timeline after the other, on one thread that gives way to everything else.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use neon_objects::Config;
use neon_pagestore::{Compacted, Timeline};
use neon_types::with_causes;

use crate::error::{RepoError, Result};

/// How much less than others the thread gets of a processor that is busy (`nice`).
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// Setting that switches it off.
const SETTING: &str = "pagestore.compaction";

/// Compacts the timelines that it is told of. Until it is started it does nothing: commands without a daemon leave it to the next one.
pub(crate) struct Compactor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    neon_dir: PathBuf,
    /// In the order of their turns, each once.
    waiting: Mutex<VecDeque<Weak<Timeline>>>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Weak<Timeline>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn is_on(&self) -> Result<bool> {
        Ok(Config::load(&self.neon_dir)?.get(SETTING)?.as_deref() != Some("off"))
    }

    /// Waits for a timeline; none when it is time to go.
    fn next(&self) -> Option<Weak<Timeline>> {
        let mut waiting = self.waiting();
        loop {
            if self.stopping() {
                return None;
            }
            if let Some(timeline) = waiting.pop_front() {
                return Some(timeline);
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn add(&self, timeline: Weak<Timeline>) {
        let mut waiting = self.waiting();
        if !waiting.iter().any(|other| other.ptr_eq(&timeline)) {
            waiting.push_back(timeline);
            self.changed.notify_all();
        }
    }

    fn run(&self) {
        while let Some(next) = self.next() {
            // What was removed since has nothing to compact.
            let Some(timeline) = next.upgrade() else {
                continue;
            };
            match self.step(&timeline) {
                // Others first.
                Ok(true) => self.add(next),
                Ok(false) => {}
                Err(error) => {
                    // Nothing is lost by it; the next seal tells of the timeline again.
                    tracing::warn!(timeline = %timeline.id(), error = with_causes(&error), "compaction failed");
                }
            }
        }
    }

    /// Does one step; true when there may be another.
    fn step(&self, timeline: &Timeline) -> Result<bool> {
        if !self.is_on()? {
            return Ok(false);
        }
        let compacted = timeline.compact(&|| self.stopping())?;
        if !matches!(compacted, Compacted::Nothing | Compacted::Stopped) {
            tracing::info!(timeline = %timeline.id(), ?compacted, "compacted");
        }
        Ok(compacted != Compacted::Nothing)
    }
}

impl Compactor {
    pub(crate) fn new(neon_dir: &Path) -> Compactor {
        Compactor {
            shared: Arc::new(Shared {
                neon_dir: neon_dir.to_owned(),
                waiting: Mutex::default(),
                changed: Condvar::new(),
                stop: AtomicBool::new(false),
            }),
            thread: Mutex::new(None),
        }
    }

    /// Begins to work, until [`Compactor::stop`].
    pub(crate) fn start(&self) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() || self.shared.stopping() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new().name("compact".into()).spawn(move || {
            // Of this thread alone: priorities belong to threads on Linux.
            #[cfg(target_os = "linux")]
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::debug!(%error, "compaction has the priority of everything else");
            }
            shared.run();
        });
        *thread = Some(started.map_err(RepoError::io("start a thread for", "compaction"))?);
        Ok(())
    }

    /// Tells of a timeline that there may be something to compact.
    pub(crate) fn wake(&self, timeline: &Arc<Timeline>) {
        self.shared.add(Arc::downgrade(timeline));
    }

    /// Ends what is under way, which changes nothing, and waits for it. Nothing is begun any more.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.waiting());
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stop();
    }
}
