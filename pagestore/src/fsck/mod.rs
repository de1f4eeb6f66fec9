//! Does everything that timelines name exist, and is it what its name and footer say?

mod deep;
mod objects;

use std::collections::BTreeMap;

use neon_types::{LayerId, Lsn, LsnRange, ObjectId, TimelineId, with_causes};

use crate::gc::Span;
use crate::layer::LayerKind;
use crate::map::{LayerMap, MapEntry, gap};
use crate::timeline::{TimelineState, attested, ladder};
use crate::{PageStore, Result};

pub use deep::{Deep, Skipped, fsck_deep};

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    /// Objects whose bytes were hashed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Returns true when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Something that is wrong.
#[derive(Debug)]
pub struct Finding {
    /// The timeline that is concerned first; others may share the object. None for an object that no map lists.
    pub timeline: Option<TimelineId>,
    /// The object that is concerned, if it is one.
    pub object: Option<ObjectId>,
    /// What is wrong with it.
    pub problem: String,
}

/// What maps say of layers: each differing statement once, with the timeline that makes it.
type Claims = BTreeMap<LayerId, Vec<(TimelineId, MapEntry)>>;

/// Checks every timeline (state, layer map, coverage, the WAL beyond) and every object: its hash, and of a layer every block and every
/// promise of its footer and index. Objects are checked by all processors at once.
///
/// `progress` is told bytes checked and bytes in all, and ends the check by returning false. Errors only where the file system fails;
/// damage is a finding.
pub fn fsck(store: &PageStore, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Checked> {
    let mut checked = Checked::default();
    let claims = check_timelines(store, &mut checked.findings);
    objects::check(store, &claims, progress, &mut checked)?;
    Ok(checked)
}

fn check_timelines(store: &PageStore, findings: &mut Vec<Finding>) -> Claims {
    let mut claims = Claims::new();
    for id in store.list() {
        let mut found = |object, problem: String| {
            findings.push(Finding {
                timeline: Some(id),
                object,
                problem,
            });
        };
        let state = match TimelineState::read(id, &store.directory_of(id)) {
            Ok(state) => state,
            Err(error) => {
                found(None, error.to_string());
                continue;
            }
        };
        let directory = store.directory_of(id);
        if ladder::is_damaged(&directory) {
            found(None, "the digests of its WAL (ladder) are damaged".to_owned());
        }
        if attested::is_damaged(&directory) {
            found(None, "what its writer signed (attested) is damaged".to_owned());
        }
        if let Some(ancestor) = state.ancestor
            && !store.contains(ancestor.timeline)
        {
            found(None, format!("its ancestor {} is missing", ancestor.timeline));
        }
        if let Some(map_id) = state.layer_map {
            match store.layer_map(map_id) {
                Ok(map) => {
                    if let Some(problem) = check_cover(&map, &state) {
                        found(Some(map_id.0), problem);
                    }
                    for entry in map.entries() {
                        claim(&mut claims, id, entry);
                    }
                }
                // One of its chunks may be to blame.
                Err(error) => found(Some(error.object().unwrap_or(map_id.0)), with_causes(&error)),
            }
        }
        // Opening decodes and indexes the WAL.
        match store.get(id) {
            Ok(timeline) if timeline.end() < state.published_end => found(
                None,
                format!(
                    "it ends at {}, and {} was published",
                    timeline.end(),
                    state.published_end
                ),
            ),
            Ok(_) => {}
            Err(error) => found(None, error.to_string()),
        }
    }
    claims
}

fn claim(claims: &mut Claims, timeline: TimelineId, entry: MapEntry) {
    let said = claims.entry(entry.layer).or_default();
    let same = |other: &MapEntry| {
        (other.kind, other.keys, other.lsns, other.len) == (entry.kind, entry.keys, entry.lsns, entry.len)
    };
    if !said.iter().any(|(_, other)| same(other)) {
        said.push((timeline, entry));
    }
}

/// Of every key, the changes from the newest image at or below the first position up to the last must be there.
fn check_span(map: &LayerMap, span: Span) -> Option<String> {
    let images = || map.entries().filter(|entry| entry.kind == LayerKind::Image);
    let below = |entry: &MapEntry| entry.lsns.end <= span.from;
    let Some(base) = images().filter(below).map(|entry| entry.lsns.end).min() else {
        return Some(format!("it has no image layer to begin with at {}", span.from));
    };
    let wanted = LsnRange {
        start: Lsn(base.0.saturating_sub(1)),
        end: span.to.min(map.sealed()),
    };
    let answers = images().filter(below).map(|entry| {
        let lsns = LsnRange {
            start: wanted.start,
            end: entry.lsns.end,
        };
        (entry.keys, lsns)
    });
    let deltas = map.entries().filter(|entry| entry.kind == LayerKind::Delta);
    let rectangles: Vec<_> = answers
        .chain(deltas.map(|entry| (entry.keys, entry.visible())))
        .collect();
    gap(&rectangles, wanted).map(|gap| format!("no layer answers for {:?} after {}", gap.key, gap.from))
}

fn check_cover(map: &LayerMap, state: &TimelineState) -> Option<String> {
    if map.sealed() != state.sealed {
        return Some(format!(
            "it serves up to {}, the timeline is sealed up to {}",
            map.sealed(),
            state.sealed
        ));
    }
    if let Some(readable) = &state.readable {
        return readable
            .iter()
            .filter(|span| span.from <= map.sealed())
            .find_map(|span| check_span(map, span));
    }
    let base = map
        .entries()
        .filter(|entry| entry.kind == LayerKind::Image)
        .map(|entry| entry.lsns.end)
        .min();
    let Some(base) = base else {
        return Some("it has no image layer to begin with".to_owned());
    };
    let rectangles: Vec<_> = map
        .entries()
        .map(|entry| match entry.kind {
            // Images answer for everything below them.
            LayerKind::Image => (
                entry.keys,
                LsnRange {
                    start: Lsn(base.0.saturating_sub(1)),
                    end: entry.lsns.end,
                },
            ),
            LayerKind::Delta => (entry.keys, entry.visible()),
        })
        .collect();
    let wanted = LsnRange {
        start: Lsn(base.0.saturating_sub(1)),
        end: map.sealed(),
    };
    gap(&rectangles, wanted).map(|gap| format!("no layer answers for {:?} after {}", gap.key, gap.from))
}
