//! What one repository plans and makes, another takes in; what is wrong is refused.

use std::fs;
use std::sync::Arc;

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_types::{Key, Lsn, LsnRange};

use super::fixture::*;
use super::model::{Branch, Model};
use crate::failpoint::fail_once_here;
use crate::layer::Layer;
use crate::{AcceptPart, LayerKind, PageStore, PageStoreError, ReceivedTimeline, SlicePart, Timeline, fsck};

pub(super) fn described(timeline: &Timeline) -> ReceivedTimeline {
    let state = timeline.state();
    let digests = timeline.digests(timeline.start(), timeline.end()).unwrap();
    let signed = digests.iter().map(|digest| {
        let range = LsnRange {
            start: digest.start,
            end: digest.end,
        };
        key().attest(state.id, range, digest.blake3)
    });
    ReceivedTimeline {
        attestations: signed.collect(),
        id: state.id,
        ancestor: state.ancestor,
        tli: state.tli,
        writer: state.writer,
        start: state.start,
        facts: state.facts(),
    }
}

/// Makes the parts and copies their bytes, as a connection would.
pub(super) fn carry(
    from: &Arc<Timeline>,
    objects_from: &PageStore,
    to: &PageStore,
    parts: &[SlicePart],
) -> Vec<AcceptPart> {
    let mut carried = Vec::new();
    for part in parts {
        let (id, len) = from.materialize(part, &|| false).unwrap();
        let bytes = match part {
            SlicePart::Wal { range } => {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut from.wal_reader(*range).unwrap(), &mut bytes).unwrap();
                bytes
            }
            _ => objects_from.objects().read(id, u64::MAX).unwrap(),
        };
        assert_eq!(bytes.len() as u64, len);
        assert_eq!(to.objects().put(&bytes).unwrap(), id);
        carried.push(match part {
            SlicePart::Wal { range } => AcceptPart::Wal { id, range: *range },
            part => AcceptPart::Layer {
                id: neon_types::LayerId(id),
                range: part.range(),
            },
        });
    }
    carried
}

pub(super) fn held(timeline: &Timeline) -> Option<Lsn> {
    timeline.served().first().map(|range| range.end)
}

pub(super) fn send(from: &Arc<Timeline>, source: &PageStore, sink: &PageStore, to: Lsn) {
    let received = sink.create_received(&described(from)).unwrap();
    let parts = from.plan_slice(held(&received), to).unwrap();
    let carried = carry(from, source, sink, &parts);
    received.accept(to, &carried).unwrap();
    assert_eq!(held(&received), Some(to));
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let ours = Repository::new(settings());
    let root = ours.import();
    let mut theirs = Repository::new(settings());
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    let mut clock = 0;
    for round in 0..6 {
        let records = 5 + random.below(40);
        branch.grow(&root, &mut random, records, &mut clock);
        if random.below(2) == 0 {
            root.seal().unwrap();
        }
        // Somewhere between what they have and our end.
        let low = theirs
            .store
            .get(ROOT)
            .ok()
            .and_then(|timeline| held(&timeline))
            .unwrap_or(START);
        let wish = Lsn(low.0 + random.below(root.end().0 - low.0 + 1));
        let to = root.record_at_or_before(wish).unwrap().end;
        if to <= low && round > 0 {
            continue;
        }
        send(&root, &ours.store, &theirs.store, to);
        if random.below(3) == 0 {
            theirs.reopen();
        }
        let received = theirs.store.get(ROOT).unwrap();
        branch.model.check(&received, to);
        let past = Lsn(START.0 + random.below(to.0 - START.0 + 1));
        branch.model.check(&received, past);
        assert!(matches!(
            received.rel_size(rel(0), to + 8),
            Err(PageStoreError::NotReadable { .. })
        ));
    }
    // A fork, sent with what is missing below it.
    let lsn = root
        .record_at_or_before(Lsn(root.end().0 - random.below(60_000)))
        .unwrap()
        .end;
    let fork = ours.fork(2, ROOT, lsn);
    let mut forked = Branch {
        id: fork.id(),
        model: branch.model.cut_at(lsn),
    };
    forked.grow(&fork, &mut random, 30, &mut clock);
    if random.below(2) == 0 {
        fork.seal().unwrap();
        forked.grow(&fork, &mut random, 30, &mut clock);
    }
    if held(&theirs.store.get(ROOT).unwrap()) < Some(lsn) {
        send(&root, &ours.store, &theirs.store, lsn);
    }
    send(&fork, &ours.store, &theirs.store, fork.end());
    theirs.reopen();
    let received = theirs.store.get(fork.id()).unwrap();
    for _ in 0..4 {
        let past = Lsn(START.0 + random.below(received.end().0 - START.0 + 1));
        forked.model.check(&received, past);
    }
    forked.model.check(&received, received.end());
    let findings = fsck(&theirs.store, &mut |_, _| true).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn what_arrives_reads_as_what_was_sent() {
    for seed in 100..112 {
        run(seed);
    }
}

#[test]
fn nothing_outside_the_range_leaves() {
    let ours = Repository::new(settings());
    let root = ours.import();
    let mut random = Random(20);
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    let mut clock = 0;
    branch.grow(&root, &mut random, 200, &mut clock);
    root.seal().unwrap();
    let third = (root.end().0 - START.0) / 3;
    let start = root.record_at_or_before(START + third).unwrap().end;
    let end = root.record_at_or_before(START + 2 * third).unwrap().end;
    let parts = root.plan_slice(Some(start), end).unwrap();
    assert!(
        parts.iter().all(|part| matches!(part, SlicePart::Slice { .. })),
        "{parts:?}"
    );
    for part in &parts {
        let (id, _) = root.materialize(part, &|| false).unwrap();
        let again = root.materialize(part, &|| false).unwrap().0;
        assert_eq!(id, again, "the same slice has the same name");
        let layer = crate::Layer::open(ours.store.objects(), neon_types::LayerId(id)).unwrap();
        layer.verify().unwrap();
        assert_eq!(layer.footer().lsns, LsnRange { start, end });
        for block in 0.. {
            let Some(_) = layer.index_entry(block) else { break };
            for entry in crate::layer::Entries(&layer.block(block).unwrap()) {
                let entry = entry.unwrap();
                assert!(start < entry.lsn && entry.lsn <= end);
                if let Ok(neon_types::Key::Boundaries { .. }) = neon_types::Key::unpack(&entry.key) {
                    let spans = crate::boundaries::Boundaries::decode(entry.value).unwrap().spans;
                    assert!(spans.iter().all(|span| start < span.end && span.end <= end));
                }
            }
        }
    }
}

#[test]
fn claims_that_do_not_hold_are_refused_and_change_nothing() {
    let ours = Repository::new(settings());
    let root = ours.import();
    let mut random = Random(21);
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    let mut clock = 0;
    branch.grow(&root, &mut random, 200, &mut clock);
    root.seal().unwrap();
    let to = root.end();
    let theirs = Repository::new(settings());
    let received = theirs.store.create_received(&described(&root)).unwrap();
    assert!(received.served().is_empty());
    assert!(matches!(
        received.rel_size(rel(0), START),
        Err(PageStoreError::NotReadable { .. })
    ));
    let parts = root.plan_slice(None, to).unwrap();
    let carried = carry(&root, &ours.store, &theirs.store, &parts);
    assert!(carried.len() > 3, "several layers: {carried:?}");
    let refused = |parts: &[AcceptPart], to: Lsn| {
        let result = received.accept(to, parts);
        assert!(
            matches!(result, Err(PageStoreError::Refused { .. })),
            "{result:?}"
        );
        assert!(received.served().is_empty());
    };
    for missing in 0..carried.len() {
        let mut some = carried.clone();
        some.remove(missing);
        refused(&some, to);
    }
    refused(&carried, to + 8);
    refused(&carried, Lsn(to.0 - 8));
    let mut stretched = carried.clone();
    if let Some(AcceptPart::Layer { range, .. }) = stretched.last_mut() {
        range.end = to + 8;
    }
    refused(&stretched, to + 8);
    received.accept(to, &carried).unwrap();
    branch.model.check(&received, to);
    // Once more is nothing at all, not even a look at the parts.
    received.accept(to, &[]).unwrap();
    let other = ReceivedTimeline {
        tli: 9,
        ..described(&root)
    };
    assert!(matches!(
        theirs.store.create_received(&other),
        Err(PageStoreError::Refused { .. })
    ));
}

#[test]
fn a_flipped_bit_is_found_and_the_rest_stays_readable() {
    let ours = Repository::new(settings());
    let root = ours.import();
    let mut random = Random(22);
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    let mut clock = 0;
    branch.grow(&root, &mut random, 600, &mut clock);
    root.seal().unwrap();
    let end = root.end();
    let map = root.layer_map().unwrap();
    // A block of pages; what opening a timeline reads must stay whole.
    let page = Key::Block(rel(1), 0).pack();
    let mut deltas = map.entries().filter(|entry| entry.kind == LayerKind::Delta);
    let victim = deltas.find(|entry| entry.keys.contains(&page)).unwrap().layer;
    let layer = Layer::open(ours.store.objects(), victim).unwrap();
    let place = layer.index_entry(layer.seek(&page, end)).unwrap().at;
    let path = ours.store.objects().path(victim.0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(place).unwrap() + 9] ^= 4;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let mut ours = ours;
    ours.reopen();
    let checked = fsck(&ours.store, &mut |_, _| true).unwrap();
    assert_eq!(checked.findings.len(), 1, "{:?}", checked.findings);
    assert_eq!(checked.findings[0].object, Some(victim.0));
    let timeline = ours.store.get(ROOT).unwrap();
    let (mut good, mut bad) = (0, 0);
    for number in 0..3 {
        for block in 0..timeline.rel_size(rel(number), end).unwrap_or(None).unwrap_or(0) {
            match timeline.get_page(rel(number), block, end) {
                Ok(_) => good += 1,
                Err(PageStoreError::DamagedLayer { layer, .. }) => {
                    assert_eq!(layer, victim);
                    bad += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(good > 0 && bad > 0, "{good} readable, {bad} not");
}

#[test]
fn a_fork_whose_ancestor_has_not_arrived_cannot_be_read() {
    let ours = Repository::new(settings());
    let root = ours.import();
    let mut random = Random(23);
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    let mut clock = 0;
    branch.grow(&root, &mut random, 40, &mut clock);
    let fork = ours.fork(2, ROOT, root.end());
    let mut forked = Branch {
        id: fork.id(),
        model: branch.model.cut_at(root.end()),
    };
    forked.grow(&fork, &mut random, 10, &mut clock);
    let theirs = Repository::new(settings());
    let half = root
        .record_at_or_before(Lsn((START.0 + root.end().0) / 2))
        .unwrap()
        .end;
    send(&root, &ours.store, &theirs.store, half);
    let received = theirs.store.create_received(&described(&fork)).unwrap();
    assert!(received.served().is_empty());
    let read = received.rel_size(rel(0), received.end());
    assert!(
        matches!(read, Err(PageStoreError::NotReadable { .. })),
        "{read:?}"
    );
    let parts = fork.plan_slice(None, fork.end()).unwrap();
    let carried = carry(&fork, &ours.store, &theirs.store, &parts);
    let result = received.accept(fork.end(), &carried);
    assert!(
        matches!(result, Err(PageStoreError::Refused { .. })),
        "{result:?}"
    );
    send(&root, &ours.store, &theirs.store, root.end());
    assert!(!received.served().is_empty());
    received.accept(fork.end(), &carried).unwrap();
    forked.model.check(&received, fork.end());
}

#[test]
fn wal_that_could_not_be_made_durable_is_not_held() {
    let mut random = Random(5);
    let ours = Repository::new(settings());
    let root = ours.import();
    let theirs = Repository::new(settings());
    send(&root, &ours.store, &theirs.store, root.end());
    let mut pen = Pen::at_end(&root);
    let image = page(&mut random);
    let block = NewBlock::new(0, rel(0), 0).image(&image, true, Compression::None);
    let (bytes, span) = pen.write(RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(block));
    receive(&root, &bytes);
    let received = theirs.store.get(ROOT).unwrap();
    let parts = root.plan_slice(held(&received), span.end).unwrap();
    assert!(matches!(parts.as_slice(), [SlicePart::Wal { .. }]));
    let carried = carry(&root, &ours.store, &theirs.store, &parts);
    fail_once_here("wal-fsync");
    assert!(received.accept(span.end, &carried).is_err());
    assert!(received.make_durable(span.end).is_err());
    received.accept(span.end, &carried).unwrap();
    received.make_durable(span.end).unwrap();
    assert_eq!(received.end(), span.end);
}

#[test]
fn objects_that_may_be_had_as_they_are_hold_nothing_beyond() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    let (mut random, mut clock) = (Random(3), 0);
    let mut sealed = vec![START];
    for _ in 0..3 {
        branch.grow(&timeline, &mut random, 30, &mut clock);
        timeline.seal().unwrap();
        sealed.push(timeline.end());
    }
    let map = timeline.layer_map().unwrap();
    let layers = |timeline: &Timeline, to: Lsn| -> Vec<Lsn> {
        let objects = timeline.objects_up_to(to);
        assert!(objects.contains(&timeline.state().layer_map.unwrap().0));
        let had = map.entries().filter(|entry| objects.contains(&entry.layer.0));
        let mut ends: Vec<Lsn> = had.map(|entry| entry.lsns.end).collect();
        ends.sort();
        ends.dedup();
        ends
    };
    for (number, to) in sealed.iter().enumerate() {
        assert_eq!(layers(&timeline, *to), sealed[..=number]);
        assert_eq!(layers(&timeline, Lsn(to.0 + 8)), sealed[..=number]);
    }
    // A fork sees the first half of the second layer, which holds the other half too.
    let middle = branch.model.ends();
    let middle = middle.into_iter().find(|end| *end > sealed[1]).unwrap();
    assert!(middle < sealed[2]);
    let fork = repository.fork(2, ROOT, middle);
    assert_eq!(
        fork.layer_map().unwrap().entries().count(),
        map.entries().filter(|entry| entry.lsns.start < middle).count()
    );
    assert_eq!(layers(&fork, Lsn::MAX), sealed[..2]);
}
