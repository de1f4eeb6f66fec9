//! What arrives is tried first: what is refused leaves nothing, what is published is whole.

use std::fs;
use std::sync::Arc;

use neon_objects::WriterKey;
use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_types::{Lsn, LsnRange};

use super::fixture::*;
use super::model::{Branch, Model};
use super::transfer::{carry, described, held, send};
use crate::{AcceptPart, Examined, PageStore, PageStoreError, ReceivedTimeline, Timeline, fsck};

const FPI: u8 = 0xB0;
const HEAP_INSERT: u8 = 0;

fn go_on(_: u64, _: u64) -> bool {
    true
}

/// Two repositories with the same import, and a model of ours.
struct Pair {
    ours: Repository,
    theirs: Repository,
    root: Arc<Timeline>,
    branch: Branch,
    random: Random,
    clock: i64,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let (ours, theirs) = (Repository::new(settings()), Repository::new(settings()));
        let root = ours.import();
        send(&root, &ours.store, &theirs.store, root.end());
        Pair {
            ours,
            theirs,
            root,
            branch: Branch {
                id: ROOT,
                model: Model::default(),
            },
            random: Random(seed),
            clock: 0,
        }
    }

    fn grow(&mut self, records: u64) {
        self.branch
            .grow(&self.root, &mut self.random, records, &mut self.clock);
    }

    /// Writes a record on our side.
    fn write(&self, record: RecordBuilder) {
        let (bytes, _) = Pen::at_end(&self.root).write(record);
        receive(&self.root, &bytes);
    }

    /// Carries what leads them from `from` to our end.
    fn parts(&self, timeline: &Arc<Timeline>, from: Option<Lsn>) -> Vec<AcceptPart> {
        let parts = timeline.plan_slice(from, timeline.end()).unwrap();
        carry(timeline, &self.ours.store, &self.theirs.store, &parts)
    }

    fn there(&self) -> Arc<Timeline> {
        self.theirs.store.get(ROOT).unwrap()
    }

    /// Tries what leads them to our end, and takes it back.
    fn try_root(&self) -> Result<Examined, PageStoreError> {
        let parts = self.parts(&self.root, held(&self.there()));
        let mut trial = self.theirs.store.trial().unwrap();
        trial.add(&described(&self.root), self.root.end(), &parts, &mut go_on)?;
        trial.examine(&mut go_on)
    }
}

fn names(store: &PageStore) -> Vec<String> {
    let entries = fs::read_dir(store.timelines_directory()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn image(rel_number: u32, block: u32, random: &mut Random) -> RecordBuilder {
    let block = NewBlock::new(0, rel(rel_number), block).image(&page(random), true, Compression::None);
    RecordBuilder::new(VERSION, rmgr::XLOG, FPI).block(block)
}

#[test]
fn nothing_is_seen_before_it_is_published() {
    for seed in 0..6 {
        let mut pair = Pair::new(seed);
        pair.grow(40);
        if seed % 2 == 0 {
            pair.root.seal().unwrap();
            pair.grow(20);
        }
        let (there, end) = (pair.there(), pair.root.end());
        let before = names(&pair.theirs.store);
        let parts = pair.parts(&pair.root, held(&there));
        let fork = pair.ours.fork(2, ROOT, end);
        let mut forked = Branch {
            id: fork.id(),
            model: pair.branch.model.clone(),
        };
        forked.grow(&fork, &mut pair.random, 20, &mut pair.clock);
        let fork_parts = pair.parts(&fork, None);
        {
            let store = &pair.theirs.store;
            let mut trial = store.trial().unwrap();
            trial
                .add(&described(&pair.root), end, &parts, &mut go_on)
                .unwrap();
            trial
                .add(&described(&fork), fork.end(), &fork_parts, &mut go_on)
                .unwrap();
            let examined = trial.examine(&mut go_on).unwrap();
            pair.branch.model.check(trial.timeline(ROOT).unwrap(), end);
            forked.model.check(trial.timeline(fork.id()).unwrap(), fork.end());
            assert_eq!(there.end(), START, "the timeline itself is as it was");
            assert!(!store.contains(fork.id()));
            assert!(examined.blocks > 0 && examined.rebuilt > 0, "{examined:?}");
        }
        assert_eq!(
            names(&pair.theirs.store),
            before,
            "a trial that is dropped leaves nothing"
        );

        let mut trial = pair.theirs.store.trial().unwrap();
        trial
            .add(&described(&pair.root), end, &parts, &mut go_on)
            .unwrap();
        trial
            .add(&described(&fork), fork.end(), &fork_parts, &mut go_on)
            .unwrap();
        assert_eq!(trial.publish(&mut go_on).unwrap().len(), 2);
        assert_eq!(names(&pair.theirs.store).len(), before.len() + 1);
        pair.branch.model.check(&there, end);
        pair.theirs.reopen();
        let (there, fork) = (pair.there(), pair.theirs.store.get(fork.id()).unwrap());
        pair.branch.model.check(&there, end);
        forked.model.check(&fork, fork.end());
        let findings = fsck(&pair.theirs.store, &mut |_, _| true).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
    }
}

#[test]
fn a_process_that_dies_during_a_trial_leaves_nothing_to_the_next() {
    let mut pair = Pair::new(1);
    pair.grow(10);
    let before = names(&pair.theirs.store);
    let trial = pair.theirs.store.trial().unwrap();
    std::mem::forget(trial);
    assert_eq!(names(&pair.theirs.store).len(), before.len() + 1);
    pair.theirs.reopen();
    assert_eq!(names(&pair.theirs.store), before);
}

#[test]
fn what_another_transfer_brought_meanwhile_is_passed_over() {
    for (seed, sealed) in [(3, false), (4, true)] {
        let mut pair = Pair::new(seed);
        pair.grow(30);
        if sealed {
            // Their parts are layers that begin below what they hold by then.
            pair.root.seal().unwrap();
        }
        let half = pair
            .root
            .record_at_or_before(Lsn((START.0 + pair.root.end().0) / 2))
            .unwrap()
            .end;
        let parts = pair.parts(&pair.root, held(&pair.there()));
        assert_eq!(
            parts.iter().any(|part| matches!(part, AcceptPart::Layer { .. })),
            sealed
        );
        send(&pair.root, &pair.ours.store, &pair.theirs.store, half);
        let mut trial = pair.theirs.store.trial().unwrap();
        trial
            .add(&described(&pair.root), pair.root.end(), &parts, &mut go_on)
            .unwrap();
        trial.examine(&mut go_on).unwrap();
        trial.publish(&mut go_on).unwrap();
        pair.branch.model.check(&pair.there(), pair.root.end());
        pair.branch.model.check(&pair.there(), half);
    }
}

#[test]
fn other_wal_than_ours_below_our_end_is_refused() {
    let mut pair = Pair::new(5);
    pair.grow(20);
    send(&pair.root, &pair.ours.store, &pair.theirs.store, pair.root.end());
    let held_to = pair.there().end();
    // A forged history: another record from the start on.
    let forger = Repository::new(settings());
    let root = forger.import();
    let (bytes, _) = Pen::at_end(&root).write(image(0, 1, &mut Random(77)));
    receive(&root, &bytes);
    let mut other = Branch {
        id: ROOT,
        model: Model::default(),
    };
    while root.end() <= held_to {
        other.grow(&root, &mut Random(78), 20, &mut 0);
    }
    let parts = root.plan_slice(Some(START), root.end()).unwrap();
    let parts = carry(&root, &forger.store, &pair.theirs.store, &parts);
    let mut trial = pair.theirs.store.trial().unwrap();
    let refused = trial.add(&described(&root), root.end(), &parts, &mut go_on);
    assert!(
        matches!(refused, Err(PageStoreError::Refused { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_timeline_that_is_described_otherwise_is_refused() {
    let mut pair = Pair::new(6);
    pair.grow(5);
    let parts = pair.parts(&pair.root, held(&pair.there()));
    let good = described(&pair.root);
    let mut lies = vec![good.clone(); 4];
    lies[0].tli = 9;
    lies[1].start = START + 8;
    lies[2].writer = neon_types::RepoId([9; 16]);
    lies[3].facts = String::from_utf8(good.facts.clone())
        .unwrap()
        .replace("version = 15", "version = 16")
        .into_bytes();
    for lie in lies {
        let mut trial = pair.theirs.store.trial().unwrap();
        let refused = trial.add(&lie, pair.root.end(), &parts, &mut go_on);
        assert!(
            matches!(refused, Err(PageStoreError::Refused { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_timeline_grows_as_far_as_its_writer_signed() {
    let mut pair = Pair::new(18);
    pair.grow(30);
    let signed = described(&pair.root);
    pair.grow(5);
    let end = pair.root.end();
    let good = described(&pair.root);
    let parts = pair.parts(&pair.root, held(&pair.there()));
    let other = WriterKey::from_seed(&[8; 32]);
    let whole = LsnRange { start: START, end };
    let forged = other.attest(ROOT, whole, good.attestations[0].blake3);
    let wrong = key().attest(ROOT, whole, [0; 32]);
    let lies = [
        ("nothing is signed", vec![]),
        ("less is signed", signed.attestations.clone()),
        ("somebody else signed", vec![forged]),
        (
            "somebody else signed, too",
            [good.attestations.clone(), vec![forged]].concat(),
        ),
        ("something else was signed", vec![wrong]),
        (
            "it was signed for another timeline",
            vec![key().attest(pair.ours.fork(2, ROOT, end).id(), whole, [0; 32])],
        ),
    ];
    for (what, attestations) in lies {
        let lie = ReceivedTimeline {
            attestations,
            ..good.clone()
        };
        let mut trial = pair.theirs.store.trial().unwrap();
        let refused = trial.add(&lie, end, &parts, &mut go_on);
        assert!(
            matches!(refused, Err(PageStoreError::Refused { .. })),
            "{what}: {refused:?}"
        );
    }
    let mut trial = pair.theirs.store.trial().unwrap();
    trial.add(&good, end, &parts, &mut go_on).unwrap();
    trial.publish(&mut go_on).unwrap();
    // What was signed is handed on: what reaches a position, and the whole parts before.
    pair.theirs.reopen();
    let there = pair.there();
    let kept = there.attestations(START, end, 10).unwrap();
    assert_eq!(kept, good.attestations);
    let earlier = there.attestations(START, START + 8, 10).unwrap();
    assert!(earlier.len() == 1 && earlier[0].range.end >= START + 8);
    assert!(
        there
            .attestations(START, end + 8, 10)
            .unwrap()
            .iter()
            .all(|kept| kept.range.end <= end)
    );
}

#[test]
fn an_import_must_be_what_its_id_says() {
    let pair = Pair::new(7);
    let empty = Repository::new(settings());
    let parts = pair.root.plan_slice(None, START).unwrap();
    let parts = carry(&pair.root, &pair.ours.store, &empty.store, &parts);
    // The fixture's id is made up.
    let mut trial = empty.store.trial().unwrap();
    let refused = trial.add(&described(&pair.root), START, &parts, &mut go_on);
    assert!(
        matches!(refused, Err(PageStoreError::Refused { .. })),
        "{refused:?}"
    );
    drop(trial);
    assert_eq!(names(&empty.store), Vec::<String>::new());
}

#[test]
fn a_relation_grows_by_what_records_name() {
    let pair = Pair::new(8);
    let mut random = Random(9);
    pair.write(image(0, 4096, &mut random));
    assert!(pair.try_root().is_ok(), "backends extend by many blocks at once");
    pair.write(image(0, 4097 + 4097, &mut random));
    let refused = pair.try_root();
    assert!(
        matches!(
            refused,
            Err(PageStoreError::Unexplained {
                before: 0,
                after: 8195,
                named: 2,
                ..
            })
        ),
        "{refused:?}"
    );
    // Terabytes by one record of another fork and relation.
    let pair = Pair::new(10);
    pair.write(image(1, 1 << 30, &mut random));
    assert!(matches!(pair.try_root(), Err(PageStoreError::Unexplained { .. })));
    // Many relations that each grow by a little.
    let pair = Pair::new(11);
    for number in 0..40 {
        pair.write(image(number, 4096, &mut random));
    }
    assert!(matches!(pair.try_root(), Err(PageStoreError::TooLarge { .. })));
}

#[test]
fn a_hash_index_reserves_as_many_buckets_as_it_has() {
    let pair = Pair::new(12);
    let mut random = Random(13);
    let mut hash = page(&mut random);
    hash.set_special(8192 - 16);
    hash.as_bytes_mut()[8190..].copy_from_slice(&[0x80, 0xff]);
    let bucket = |block| {
        let block = NewBlock::new(0, rel(0), block).image(&hash, true, Compression::None);
        RecordBuilder::new(VERSION, rmgr::XLOG, FPI).block(block)
    };
    for block in 0..6000 {
        pair.write(bucket(block));
    }
    send(&pair.root, &pair.ours.store, &pair.theirs.store, pair.root.end());
    pair.write(bucket(6000 + 6000));
    assert!(pair.try_root().is_ok());
    pair.write(bucket(18_000));
    assert!(matches!(pair.try_root(), Err(PageStoreError::Unexplained { .. })));
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let mut pair = Pair::new(14);
    pair.grow(10);
    assert!(pair.try_root().is_ok());
    // The checksum is right, and the record makes no sense for its page.
    let block = NewBlock::new(0, rel(0), 2).data(&[1, 2, 3]);
    pair.write(
        RecordBuilder::new(VERSION, rmgr::HEAP, HEAP_INSERT)
            .block(block)
            .main(&[0xff; 3]),
    );
    let refused = pair.try_root();
    assert!(
        matches!(
            refused,
            Err(PageStoreError::Redo { .. } | PageStoreError::BrokenWal { .. })
        ),
        "{refused:?}"
    );
    assert_eq!(pair.there().end(), START);
    // The next image of the page does not make the position between the two readable.
    pair.write(image(0, 2, &mut Random(2)));
    assert!(pair.try_root().is_err());
    // A page that Postgres would not read.
    let pair = Pair::new(15);
    let mut bad = page(&mut Random(1));
    bad.set_special(4000);
    let block = NewBlock::new(0, rel(0), 0).image(&bad, true, Compression::None);
    pair.write(RecordBuilder::new(VERSION, rmgr::XLOG, FPI).block(block));
    assert!(matches!(pair.try_root(), Err(PageStoreError::Damaged { .. })));
}

#[test]
fn whoever_is_not_waited_for_any_more_stops() {
    let mut pair = Pair::new(16);
    pair.grow(60);
    let parts = pair.parts(&pair.root, held(&pair.there()));
    let mut trial = pair.theirs.store.trial().unwrap();
    let stopped = trial.add(&described(&pair.root), pair.root.end(), &parts, &mut |_, _| false);
    assert!(matches!(stopped, Err(PageStoreError::Interrupted)), "{stopped:?}");
    assert_eq!(pair.there().end(), START);
}

#[test]
fn wal_is_compared_by_digest_across_the_end_of_what_is_held() {
    let mut pair = Pair::new(17);
    pair.grow(20);
    let middle = pair.root.end();
    send(&pair.root, &pair.ours.store, &pair.theirs.store, middle);
    pair.grow(20);
    let parts = pair.parts(&pair.root, Some(middle));
    let mut trial = pair.theirs.store.trial().unwrap();
    trial
        .add(&described(&pair.root), pair.root.end(), &parts, &mut go_on)
        .unwrap();
    let range = LsnRange {
        start: START,
        end: pair.root.end(),
    };
    let ours = pair.root.wal_digest(range).unwrap();
    assert!(ours.is_some());
    assert_eq!(trial.timeline(ROOT).unwrap().wal_digest(range).unwrap(), ours);
    let beyond = LsnRange {
        end: pair.root.end() + 8,
        ..range
    };
    assert_eq!(trial.timeline(ROOT).unwrap().wal_digest(beyond).unwrap(), None);
}
