//! Which layers no retained position needs: a pure function of a map and of the positions.

use std::collections::BTreeMap;

use neon_types::{KeyRange, Lsn, PackedKey};

use super::Spans;
use crate::layer::LayerKind;
use crate::map::{LayerMap, MapEntry};

/// Returns the layers of `map` that no read at a position of `retained` visits or needs: what such a read returns is the same without
/// them, of every key.
///
/// A read of a key at X goes from the newest image at or below X up. So of the positions above a delta layer's start, the lowest needs
/// the layer most: images at or above the layer's end and at or below that position make it unnecessary when they
/// cover its keys. An image layer is unnecessary to positions that newer images of all its keys precede.
pub(crate) fn unneeded(map: &LayerMap, retained: &Spans) -> Vec<MapEntry> {
    // By the position that needs a layer most; each with the LSN that images must be at or above.
    let mut asked: BTreeMap<Lsn, Vec<(Lsn, MapEntry)>> = BTreeMap::new();
    let mut unneeded = Vec::new();
    let mut images = Vec::new();
    for entry in map.entries() {
        let visible = entry.visible();
        let (above, from) = match entry.kind {
            // The lowest position that sees a change of it.
            LayerKind::Delta => (Lsn(visible.start.0.saturating_add(1)), visible.end),
            LayerKind::Image => {
                images.push(entry);
                (visible.end, Lsn(visible.end.0.saturating_add(1)))
            }
        };
        match retained.next(above) {
            None => unneeded.push(entry),
            Some((position, _)) if position >= from => asked.entry(position).or_default().push((from, entry)),
            // No image can lie between them.
            Some(_) => {}
        }
    }
    // The map's order is by LSN, newest first.
    for (position, mut entries) in asked {
        entries.sort_by_key(|(from, _)| std::cmp::Reverse(*from));
        let mut older = images
            .iter()
            .skip_while(|image| image.lsns.end > position)
            .peekable();
        let mut covered = Cover::default();
        for (from, entry) in entries {
            while let Some(image) = older.next_if(|image| image.lsns.end >= from) {
                covered.add(image.keys);
            }
            if covered.holds(&entry.keys) {
                unneeded.push(entry);
            }
        }
    }
    unneeded
}

/// Keys: ranges that do not touch each other, by their first key.
#[derive(Default)]
struct Cover(BTreeMap<PackedKey, PackedKey>);

impl Cover {
    fn add(&mut self, keys: KeyRange) {
        let (mut start, mut end) = (keys.start, keys.end);
        while let Some((before, until)) = self.0.range(..=end).next_back().map(|(a, b)| (*a, *b)) {
            if until < start {
                break;
            }
            self.0.remove(&before);
            start = start.min(before);
            end = end.max(until);
        }
        self.0.insert(start, end);
    }

    fn holds(&self, keys: &KeyRange) -> bool {
        let before = self.0.range(..=keys.start).next_back();
        before.is_some_and(|(_, end)| *end >= keys.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use neon_types::{Key, LayerId};
    use proptest::prelude::*;

    use super::*;
    use crate::gc::Span;
    use crate::tests::map_entry as entry;

    /// What a read of a key at a position depends on: the newest image, and the changes above it.
    fn answer(entries: &[MapEntry], key: u64, lsn: Lsn) -> (Option<Lsn>, BTreeSet<LayerId>) {
        let key = Key::Boundaries { mebibyte: key }.pack();
        let holding = || entries.iter().filter(|entry| entry.keys.contains(&key));
        let image = holding()
            .filter(|entry| entry.kind == LayerKind::Image && entry.lsns.end <= lsn)
            .map(|entry| entry.lsns.end)
            .max();
        let deltas = holding()
            .filter(|entry| entry.kind == LayerKind::Delta)
            .filter(|entry| entry.lsns.start < lsn && Some(entry.visible().end) > image);
        (image, deltas.map(|entry| entry.layer).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn what_a_retained_position_returns_is_unchanged_and_nothing_more_can_go(
            layers in proptest::collection::vec((0u64..10, 1u64..8, 0u64..40, 0u64..20), 0..24),
            clip in proptest::option::of(10u64..50),
            retained in proptest::collection::vec((0u64..60, 0u64..12), 0..5),
            open in proptest::option::of(0u64..70),
        ) {
            let entries: Vec<MapEntry> = (1u8..).zip(&layers).map(|(number, (key, keys, start, len))| {
                let kind = if *len < 6 { LayerKind::Image } else { LayerKind::Delta };
                let lsns = if kind == LayerKind::Image { (start + len, start + len) } else { (*start, start + len) };
                entry(number, kind, (*key, (key + keys).min(10)), lsns)
            }).filter(|entry| entry.keys.start < entry.keys.end).collect();
            let mut map = LayerMap::new(Lsn(80), entries);
            if let Some(clip) = clip {
                map = map.clipped(Lsn(clip));
            }
            let retained: Spans = retained
                .iter()
                .map(|(from, len)| Span { from: Lsn(*from), to: Lsn(from + len) })
                .chain(open.map(|from| Span::since(Lsn(from))))
                .collect();
            let all: Vec<MapEntry> = map.entries().collect();
            let gone = unneeded(&map, &retained);
            let left: Vec<MapEntry> = all.iter().filter(|entry| !gone.contains(entry)).copied().collect();
            prop_assert_eq!(left.len() + gone.len(), all.len(), "each once");
            for lsn in (0..82).map(Lsn).filter(|lsn| retained.contains(*lsn)) {
                for key in 0..10 {
                    prop_assert_eq!(answer(&left, key, lsn), answer(&all, key, lsn), "key {} at {}", key, lsn);
                }
            }
            // Each layer that is left is needed by some key at some position; of equal images one would do.
            for entry in &left {
                let without: Vec<MapEntry> = left.iter().filter(|other| *other != entry).copied().collect();
                let twin = |other: &&MapEntry| {
                    other.kind == LayerKind::Image && entry.kind == LayerKind::Image && other.lsns == entry.lsns
                };
                let needed = (0..82).map(Lsn).filter(|lsn| retained.contains(*lsn)).any(|lsn| {
                    (0..10).any(|key| answer(&without, key, lsn) != answer(&left, key, lsn))
                });
                prop_assert!(needed || without.iter().any(|other| twin(&other)), "{:?}", entry);
            }
        }
    }

    #[test]
    fn what_lies_below_an_image_below_the_horizon_goes() {
        let map = LayerMap::new(
            Lsn(300),
            vec![
                entry(1, LayerKind::Image, (0, 9), (100, 100)),
                entry(2, LayerKind::Delta, (0, 9), (100, 200)),
                entry(3, LayerKind::Image, (0, 5), (200, 200)),
                entry(4, LayerKind::Image, (5, 9), (210, 210)),
                entry(5, LayerKind::Delta, (0, 9), (200, 300)),
            ],
        );
        let gone = |spans: &[Span]| -> Vec<u8> {
            let mut gone: Vec<u8> = unneeded(&map, &spans.iter().copied().collect())
                .iter()
                .map(|entry| entry.layer.0.to_bytes()[0])
                .collect();
            gone.sort_unstable();
            gone
        };
        assert_eq!(
            gone(&[Span::since(Lsn(205))]),
            [],
            "keys 5 to 9 begin at 100 there"
        );
        assert_eq!(gone(&[Span::since(Lsn(210))]), [1, 2]);
        assert_eq!(gone(&[Span::since(Lsn(210)), Span::at(Lsn(150))]), []);
        assert_eq!(gone(&[Span::since(Lsn(210)), Span::at(Lsn(100))]), [2]);
        assert_eq!(gone(&[]), [1, 2, 3, 4, 5]);
    }
}
