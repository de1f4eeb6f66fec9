//! Which positions of which timelines are retained: a pure function of lines of history, pins, and of when what was received.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use neon_pagestore::{Span, Spans};
use neon_types::{Lsn, Position, TimelineId};

/// History that leads to one place, and how long it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The timelines from the root on, each with the LSN at which it begins.
    pub path: Vec<(TimelineId, Lsn)>,
    /// The place, on the last of them.
    pub end: Lsn,
    /// In microseconds; none: for ever.
    pub keep: Option<i64>,
    /// It is a branch's, or one that a branch's log remembers. Any other line, as a tag's, says nothing of history that branches lead through.
    pub of_branch: bool,
    /// The place itself is retained, however old, and what follows it on its timeline.
    pub pinned: bool,
}

impl Line {
    /// Returns each timeline with the stretch of it that the line goes through.
    fn stretches(&self) -> impl Iterator<Item = (TimelineId, Span)> + '_ {
        let ends = self.path.iter().skip(1).map(|(_, start)| *start);
        let ends = ends.chain([self.end]);
        self.path.iter().zip(ends).map(|((timeline, start), end)| {
            let span = Span {
                from: *start,
                to: end,
            };
            (*timeline, span)
        })
    }
}

/// Returns up to where branches lead through each timeline.
fn led_through(lines: &[Line]) -> HashMap<TimelineId, Lsn> {
    let mut ends = HashMap::new();
    for line in lines.iter().filter(|line| line.of_branch && line.pinned) {
        for (timeline, stretch) in line.stretches() {
            let end = ends.entry(timeline).or_insert(stretch.to);
            *end = stretch.to.max(*end);
        }
    }
    ends
}

/// Returns what is retained of each timeline that a line goes through: of what branches lead through, as long as the longest of them says;
/// of other history, as long as its own lines say. `horizon` tells up to where a timeline had been received so long ago, none when
/// nothing of it had.
pub(crate) fn retained(
    lines: &[Line],
    pins: &[Position],
    horizon: &mut dyn FnMut(TimelineId, i64) -> Option<Lsn>,
) -> BTreeMap<TimelineId, Spans> {
    let mut spans: BTreeMap<TimelineId, Vec<Span>> = BTreeMap::new();
    let mut left: BTreeMap<TimelineId, BTreeSet<Lsn>> = BTreeMap::new();
    let led_through = led_through(lines);
    for line in lines {
        let count = line.path.len();
        for (number, (timeline, stretch)) in line.stretches().enumerate() {
            let of_timeline = spans.entry(timeline).or_default();
            let is_last = number + 1 == count;
            if line.pinned {
                left.entry(timeline).or_default().insert(stretch.to);
            }
            let others = led_through.get(&timeline).filter(|_| !line.of_branch);
            let old = line.keep.and_then(|keep| horizon(timeline, keep));
            // Where the line's end is not above them, all of it is older, or for branches to say.
            if [others, old.as_ref()]
                .into_iter()
                .flatten()
                .all(|lsn| *lsn < stretch.to)
            {
                of_timeline.push(Span {
                    from: others.copied().max(old).unwrap_or(stretch.from).max(stretch.from),
                    to: stretch.to,
                });
            }
            if is_last && line.pinned && others.is_none_or(|end| *end < stretch.to) {
                of_timeline.push(Span::since(stretch.to));
            }
        }
    }
    // Where lines part: below the last place at which one leaves, or ends on, a timeline.
    for (timeline, mut places) in left {
        places.pop_last();
        spans
            .entry(timeline)
            .or_default()
            .extend(places.into_iter().map(Span::at));
    }
    for pin in pins {
        if let Some(spans) = spans.get_mut(&pin.timeline) {
            spans.push(Span::at(pin.lsn));
        }
    }
    let sets = spans
        .into_iter()
        .map(|(timeline, spans)| (timeline, spans.into_iter().collect()));
    sets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(number: u8) -> TimelineId {
        TimelineId([number; 16])
    }

    fn line(path: &[(u8, u64)], end: u64, keep: Option<i64>) -> Line {
        Line {
            path: path
                .iter()
                .map(|(number, start)| (timeline(*number), Lsn(*start)))
                .collect(),
            end: Lsn(end),
            keep,
            of_branch: true,
            pinned: true,
        }
    }

    fn told(retained: &BTreeMap<TimelineId, Spans>, number: u8) -> Vec<(u64, u64)> {
        let spans = retained.get(&timeline(number)).into_iter().flat_map(Spans::iter);
        spans.map(|span| (span.from.0, span.to.0)).collect()
    }

    /// On every timeline, everything up to ten times an age had been received so long ago, counted down from 1000.
    fn horizon(_: TimelineId, keep: i64) -> Option<Lsn> {
        Some(Lsn(1000 - 10 * keep as u64))
    }

    const END: u64 = u64::MAX;

    #[test]
    fn history_begins_at_the_horizon_of_the_branch_that_keeps_it_longest() {
        let main = line(&[(1, 100), (2, 100), (3, 500)], 950, Some(20));
        let retained = |lines: &[Line], pins: &[Position]| super::retained(lines, pins, &mut horizon);
        let alone = retained(std::slice::from_ref(&main), &[]);
        assert_eq!(
            (told(&alone, 1), told(&alone, 2)),
            (vec![], vec![]),
            "all of it is older"
        );
        assert_eq!(told(&alone, 3), [(800, END)]);
        let other = line(&[(1, 100), (2, 100), (4, 300)], 400, None);
        let both = retained(&[main.clone(), other], &[]);
        assert_eq!(told(&both, 1), [(100, 100)]);
        assert_eq!(told(&both, 2), [(100, 300)], "also where the lines part");
        assert_eq!(
            (told(&both, 3), told(&both, 4)),
            (vec![(800, END)], vec![(300, END)])
        );
        let old = line(&[(1, 100), (2, 100), (4, 300)], 400, Some(5));
        let pin = Position {
            timeline: timeline(3),
            lsn: Lsn(600),
        };
        let both = retained(&[main, old], &[pin]);
        assert_eq!(told(&both, 2), [(300, 300)], "a branch point");
        assert_eq!(told(&both, 4), [(400, END)], "a head stays, however old");
        assert_eq!(told(&both, 3), [(600, 600), (800, END)]);
    }

    #[test]
    fn a_tag_keeps_its_place_and_what_no_branch_leads_through() {
        let main = line(&[(1, 100), (2, 100)], 950, Some(20));
        let tag = |path: &[(u8, u64)], end| Line {
            of_branch: false,
            ..line(path, end, None)
        };
        let retained = |lines: &[Line]| super::retained(lines, &[], &mut horizon);
        let both = retained(&[main.clone(), tag(&[(1, 100), (2, 100)], 400)]);
        assert_eq!(
            (told(&both, 1), told(&both, 2)),
            (vec![], vec![(400, 400), (800, END)])
        );
        let ahead = retained(&[tag(&[(1, 100), (2, 100)], 990), main.clone()]);
        assert_eq!(told(&ahead, 2), [(800, END)], "a head of an origin's");
        let aside = retained(&[main, tag(&[(1, 100), (2, 100), (3, 500)], 600)]);
        assert_eq!(told(&aside, 2), [(500, 500), (800, END)]);
        assert_eq!(told(&aside, 3), [(500, END)]);
        let alone = tag(&[(1, 100), (2, 100)], 400);
        let remembered = Line {
            of_branch: true,
            pinned: false,
            keep: Some(20),
            ..alone.clone()
        };
        assert_eq!(
            told(&retained(&[alone, remembered]), 2),
            [(100, END)],
            "its branch is elsewhere"
        );
        let remembered = Line {
            pinned: false,
            ..tag(&[(1, 100), (2, 100)], 300)
        };
        let other = line(&[(1, 100), (2, 200)], 250, Some(20));
        let beyond = retained(&[remembered, other]);
        assert_eq!(told(&beyond, 2), [(250, END)], "from where the branch ends");
    }

    #[test]
    fn what_a_log_remembers_is_kept_as_long_as_history_and_pins_nothing() {
        let remembered = Line {
            pinned: false,
            ..line(&[(1, 100), (2, 700)], 850, Some(20))
        };
        let retained = retained(&[remembered], &[], &mut horizon);
        assert_eq!(
            (told(&retained, 1), told(&retained, 2)),
            (vec![], vec![(800, 850)])
        );
        let main = line(&[(1, 100), (2, 100)], 950, Some(20));
        let commits = [500, 600, 700, 850].map(|end| Line {
            pinned: false,
            ..line(&[(1, 100), (2, 100)], end, Some(20))
        });
        let lines: Vec<Line> = commits.into_iter().chain([main]).collect();
        assert_eq!(told(&super::retained(&lines, &[], &mut horizon), 2), [(800, END)]);
        let ended = Line {
            pinned: false,
            ..line(&[(1, 100)], 800, Some(20))
        };
        assert_eq!(
            told(&super::retained(&[ended], &[], &mut horizon), 1),
            [],
            "its end was received so long ago"
        );
        let nothing_known = super::retained(&[line(&[(1, 100)], 200, Some(20))], &[], &mut |_, _| None);
        assert_eq!(told(&nothing_known, 1), [(100, END)]);
    }
}
