//! A run of which not every position is readable becomes what is readable of it: of each key every version where positions follow each
//! other, elsewhere the one that the next of them sees, a page as its image.
//!
//! What retention drops need not have image layers above it for that, and pages of relations that were dropped meanwhile go as well.

mod contents;
mod writer;

use neon_types::{Lsn, LsnRange};

use super::Merge;
use super::need::{Run, runs};
use crate::gc::Spans;
use crate::map::LayerMap;

pub(crate) use contents::Contents;
pub(crate) use writer::write;

/// A relation is looked for at so many positions before it counts as gone.
const LOOKS: usize = 16;

/// The changes of a run up to an LSN, from where the part before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its end, the last LSN of it.
    pub to: Lsn,
    /// None: all of it can be read. Else nothing of it but its end, first at this position: what does not exist there is not needed.
    pub seen_at: Option<Lsn>,
}

/// A run that may be shrunk.
#[derive(Clone, Debug)]
pub(crate) struct Shrink {
    /// Its layers.
    pub run: Merge,
    /// What is readable of it, in order, up to its end.
    pub parts: Vec<Part>,
    /// Its bytes.
    pub bytes: u64,
}

impl Shrink {
    /// Returns over how much WAL all of it can be read, and of how many of its parts only the end can.
    fn readable(&self) -> (u64, u64) {
        let (mut every, mut lasts) = (0, 0);
        let mut from = self.run.lsns.start;
        for part in &self.parts {
            match part.seen_at {
                None => every += part.to.bytes_since(from),
                Some(_) => lasts += 1,
            }
            from = part.to;
        }
        (every, lasts)
    }

    /// Returns some of the positions that read it, at most [`LOOKS`].
    pub(crate) fn positions(&self) -> impl Iterator<Item = Lsn> + '_ {
        let step = self.parts.len().div_ceil(LOOKS).max(1);
        let some = self.parts.iter().rev().step_by(step);
        some.map(|part| part.seen_at.unwrap_or(part.to))
    }
}

/// Returns the runs of a timeline that begins at `start` of which some positions cannot be read, newest first.
pub(crate) fn candidates(map: &LayerMap, start: Lsn, readable: &Spans) -> Vec<Shrink> {
    let of_run = |run: Run| {
        let parts = parts(run.lsns, readable, map.sealed()).filter(|_| run.own)?;
        Some(Shrink {
            bytes: run.bytes,
            parts,
            run: Merge {
                layers: run.layers,
                lsns: run.lsns,
            },
        })
    };
    runs(map, start).into_iter().filter_map(of_run).collect()
}

/// Divides a run; none when all of it can be read, or nothing from its end on.
fn parts(run: LsnRange, readable: &Spans, sealed: Lsn) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut at = run.start;
    while at < run.end {
        let above = Lsn(at.0.saturating_add(1));
        let (position, span) = readable.next(above)?;
        let part = if position == above {
            Part {
                to: span.to.min(run.end),
                seen_at: None,
            }
        } else {
            Part {
                to: position.min(run.end),
                seen_at: Some(position.min(sealed)),
            }
        };
        at = part.to;
        parts.push(part);
    }
    parts.iter().any(|part| part.seen_at.is_some()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::Span;

    #[test]
    fn a_run_is_divided_where_readable_positions_begin_and_end() {
        let run = LsnRange {
            start: Lsn(100),
            end: Lsn(200),
        };
        let told = |spans: &[(u64, u64)]| {
            let span = |(from, to): &(u64, u64)| Span {
                from: Lsn(*from),
                to: Lsn(*to),
            };
            let parts = parts(run, &spans.iter().map(span).collect(), Lsn(500))?;
            let told = |part: Part| (part.to.0, part.seen_at.map(|lsn| lsn.0));
            Some(parts.into_iter().map(told).collect::<Vec<_>>())
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[(10, 199)]), None, "nothing from its end on");
        assert_eq!(told(&[(101, 200)]), None);
        assert_eq!(told(&[(10, 900)]), None);
        assert_eq!(told(&[(100, 100), (200, 200)]), Some(vec![(200, Some(200))]));
        assert_eq!(told(&[(300, 900)]), Some(vec![(200, Some(300))]));
        assert_eq!(
            told(&[(800, 900)]),
            Some(vec![(200, Some(500))]),
            "by what is sealed"
        );
        assert_eq!(told(&[(150, 900)]), Some(vec![(150, Some(150)), (200, None)]));
        assert_eq!(
            told(&[(90, 120), (140, 140), (160, 170), (250, 900)]),
            Some(vec![
                (120, None),
                (140, Some(140)),
                (160, Some(160)),
                (170, None),
                (200, Some(250))
            ])
        );
    }
}
