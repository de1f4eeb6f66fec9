//! What a peer sent, tried: a path of timelines as it would be, beside the one that is.
//!
//! Each timeline that grows gets a stand-in in a directory that an opening of the store removes: a fork of the timeline at its end, or the
//! whole timeline when it is not here. Parts are taken in there and everything is checked by reading it. Only then is it
//! published, and until then nobody sees anything of it.

mod contents;
mod growth;
mod replay;
mod sample;
mod sizes;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use neon_objects::{Attestation, durable};
use neon_types::{LayerId, Lsn, Position, TimelineId};

use crate::layer::Layer;
use crate::timeline::{AcceptPart, ReceivedTimeline, TimelineState, WAL_DIRECTORY};
use crate::{PageStore, PageStoreError, Result, Timeline};

pub use contents::Examined;

/// Is told how far the work is, done and in all; false ends it.
pub type Going<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// A path of timelines as it would be.
pub struct Trial<'s> {
    store: &'s PageStore,
    directory: PathBuf,
    steps: Vec<Step>,
}

/// One timeline of the path.
struct Step {
    /// What reads it: the timeline itself, or its stand-in.
    timeline: Arc<Timeline>,
    arrival: Option<Arrival>,
}

/// What a timeline is to grow by.
struct Arrival {
    from: Lsn,
    to: Lsn,
    parts: Vec<AcceptPart>,
    attestations: Vec<Attestation>,
    /// The timeline that grows; none: the stand-in becomes it.
    held: Option<Arc<Timeline>>,
}

impl PageStore {
    /// Begins a trial. One at a time: what it found held must still be the end when it is published.
    pub fn trial(&self) -> Result<Trial<'_>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "{}trial-{}-{number}",
            durable::TEMPORARY_PREFIX,
            std::process::id()
        );
        let directory = self.timelines_directory().join(name);
        fs::create_dir(&directory).map_err(PageStoreError::io("create", &directory))?;
        Ok(Trial {
            store: self,
            directory,
            steps: Vec::new(),
        })
    }
}

impl Trial<'_> {
    /// Takes in what was sent of one timeline, so that it reaches `to`; those of a path in order, root first. Parts of what is held are
    /// passed over.
    ///
    /// Errors: whatever the parts are refused for; the trial is of no use then.
    pub fn add(
        &mut self,
        received: &ReceivedTimeline,
        to: Lsn,
        parts: &[AcceptPart],
        going: Going<'_>,
    ) -> Result<()> {
        let held = match self.store.contains(received.id) {
            true => Some(self.store.get(received.id)?),
            false => None,
        };
        if let Some(held) = &held {
            received.check_same(&held.state())?;
        }
        if let Some(held) = held.as_ref().filter(|held| held.is_held() && held.end() >= to) {
            held.make_durable(to)?;
            self.steps.push(Step {
                timeline: Arc::clone(held),
                arrival: None,
            });
            return Ok(());
        }
        for part in parts {
            if let AcceptPart::Layer { id, .. } = part {
                self.check_layer(*id)?;
            }
            if !going(0, 0) {
                return Err(PageStoreError::Interrupted);
            }
        }
        let based = held.as_ref().filter(|held| held.is_held());
        let (state, ancestor) = match based {
            Some(held) => (continuation(held), Some(Arc::clone(held))),
            None => (received.state()?, self.ancestor_of(received)?),
        };
        let from = state.start;
        let directory = self.directory.join(received.id.to_string());
        durable::create_directories(&self.directory, &directory.join(WAL_DIRECTORY))?;
        state.write(&directory)?;
        let timeline = Timeline::open(received.id, directory, self.store.core(), Weak::new(), ancestor)?;
        let timeline = Arc::new(timeline);
        timeline.take_in(to, parts, going)?;
        received.check_signed(&timeline, to)?;
        if based.is_none() && received.ancestor.is_none() {
            received.check_import()?;
            timeline.check_import(going)?;
        }
        self.steps.push(Step {
            timeline,
            arrival: Some(Arrival {
                from,
                to,
                parts: parts.to_vec(),
                attestations: received.attestations.clone(),
                held,
            }),
        });
        Ok(())
    }

    fn check_layer(&self, id: LayerId) -> Result<()> {
        Layer::open(self.store.objects(), id)?.verify().map(|_| ())
    }

    /// Returns what a timeline that is not here forks from.
    fn ancestor_of(&self, received: &ReceivedTimeline) -> Result<Option<Arc<Timeline>>> {
        let Some(position) = received.ancestor else {
            return Ok(None);
        };
        let refused = |reason: &str| PageStoreError::Refused {
            timeline: received.id,
            reason: reason.to_owned(),
        };
        let ancestor = match self.timeline(position.timeline) {
            Some(ancestor) => Arc::clone(ancestor),
            None => self.store.get(position.timeline)?,
        };
        if ancestor.state().cluster() != received.state()?.cluster() {
            return Err(refused("it is of another cluster than its ancestor"));
        }
        if ancestor.record_at_or_before(position.lsn)?.end != position.lsn {
            return Err(refused("no record of its ancestor ends where it forks"));
        }
        Ok(Some(ancestor))
    }

    /// Returns a timeline of the path as it would be.
    pub fn timeline(&self, id: TimelineId) -> Option<&Arc<Timeline>> {
        let step = self.steps.iter().rev().find(|step| step.timeline.id() == id);
        step.map(|step| &step.timeline)
    }

    /// Reads what everything that arrived became: each item that changed, each block up to a limit, a sample of more. Checks that
    /// relations grew by no more than records explain.
    pub fn examine(&self, going: Going<'_>) -> Result<Examined> {
        let mut examined = Examined::default();
        for step in &self.steps {
            if let Some(arrival) = &step.arrival {
                contents::examine(&step.timeline, arrival.from, arrival.to, &mut examined, going)?;
            }
        }
        Ok(examined)
    }

    /// Returns the path of a directory that is not there and that goes with the trial, for whoever tries more than this does.
    pub fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// Returns true when there is nothing to publish.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.arrival.is_none())
    }

    /// Makes it so, root first. Each timeline is whole when it is seen; what was published before an error stays, and is nobody's.
    pub fn publish(mut self, going: Going<'_>) -> Result<Vec<Arc<Timeline>>> {
        let mut grown = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            let Step { timeline, arrival } = step;
            let Some(arrival) = arrival else { continue };
            let (id, state, directory) = (timeline.id(), timeline.state(), timeline.directory().to_owned());
            let published = match arrival.held {
                Some(held) => {
                    held.keep_attestations(&arrival.attestations)?;
                    held.take_in(arrival.to, &arrival.parts, going)?;
                    held
                }
                None => {
                    timeline.keep_attestations(&arrival.attestations)?;
                    timeline.make_durable(arrival.to)?;
                    drop(timeline);
                    self.store.adopt(&state, &directory)?;
                    self.store.get(id)?
                }
            };
            for part in arrival.parts {
                if let AcceptPart::Wal { id, .. } = part {
                    self.store.objects().remove(id)?;
                }
            }
            grown.push(published);
        }
        Ok(grown)
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.steps.clear();
        // What stays behind is removed by the next opening of the store.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Returns the state of a stand-in for what comes behind the end of a timeline: a fork there that is the same timeline.
fn continuation(held: &Timeline) -> TimelineState {
    let (id, end, theirs) = (held.id(), held.end(), held.state());
    let mut state = TimelineState::new(id, theirs.writer, theirs.tli, end, theirs.cluster());
    state.ancestor = Some(Position {
        timeline: id,
        lsn: end,
    });
    state
}
