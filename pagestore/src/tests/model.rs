//! The store against a plain map of versions, through random WAL, seals, forks, reopening and rewritten tails.

use std::collections::BTreeMap;
use std::sync::Arc;

use neon_postgres::Page;
use neon_postgres::records::smgr;
use neon_postgres::wal::{Compression, NewBlock, Record, RecordBuilder, rmgr};
use neon_redo::Cluster;
use neon_types::{Lsn, LsnRange, RelTag, TimelineId};

use super::compact::{any_choice, picture, settle};
use super::fixture::*;
use crate::{PageStoreError, RecordSpan, Settings, Timeline, fsck, fsck_deep};

const FPI: u8 = 0xB0;
const RELS: u32 = 3;
const BLOCKS: u32 = 10;

/// None: the block went with a truncation.
type PageVersions = Vec<(Lsn, Option<Arc<Page>>)>;

/// What one timeline should hold, with everything below its fork.
#[derive(Clone, Default)]
pub(super) struct Model {
    pages: BTreeMap<(RelTag, u32), PageVersions>,
    sizes: BTreeMap<RelTag, Vec<(Lsn, u32)>>,
    records: Vec<RecordSpan>,
    commits: Vec<(Lsn, i64)>,
}

fn at<T: Clone>(versions: &[(Lsn, T)], lsn: Lsn) -> Option<T> {
    versions
        .iter()
        .rev()
        .find(|(version, _)| *version <= lsn)
        .map(|(_, value)| value.clone())
}

impl Model {
    fn size(&self, rel: RelTag, lsn: Lsn) -> Option<u32> {
        self.sizes.get(&rel).and_then(|sizes| at(sizes, lsn))
    }

    fn page(&self, rel: RelTag, block: u32, lsn: Lsn) -> Option<Arc<Page>> {
        self.pages
            .get(&(rel, block))
            .and_then(|versions| at(versions, lsn))
            .flatten()
    }

    /// Where records end.
    pub(super) fn ends(&self) -> Vec<Lsn> {
        self.records.iter().map(|span| span.end).collect()
    }

    pub(super) fn cut_at(&self, lsn: Lsn) -> Model {
        let mut model = self.clone();
        model.cut(lsn);
        model
    }

    fn cut(&mut self, lsn: Lsn) {
        self.pages
            .values_mut()
            .for_each(|versions| versions.retain(|(version, _)| *version <= lsn));
        self.sizes
            .values_mut()
            .for_each(|sizes| sizes.retain(|(version, _)| *version <= lsn));
        self.records.retain(|span| span.end <= lsn);
        self.commits.retain(|(version, _)| *version <= lsn);
    }

    /// Replays a record the simple way: at once, in order.
    fn replay(&mut self, record: &Record, span: RecordSpan) {
        let cluster = Cluster {
            version: VERSION,
            hints_logged: true,
        };
        for (index, block) in record.blocks.iter().enumerate() {
            let mut page = self
                .page(block.rel, block.block, span.end)
                .map_or_else(Page::zeroed, |page| Page::clone(&page));
            neon_redo::redo(&cluster, record, span.end, index, &mut page).unwrap();
            self.pages
                .entry((block.rel, block.block))
                .or_default()
                .push((span.end, Some(Arc::new(page))));
            let size = self.size(block.rel, span.end).unwrap_or(0);
            if block.block >= size {
                self.sizes
                    .entry(block.rel)
                    .or_default()
                    .push((span.end, block.block + 1));
            }
        }
        if record.rmid == rmgr::SMGR {
            let blocks = u32::from_le_bytes(record.main_data()[..4].try_into().unwrap());
            let rel_number = u32::from_le_bytes(record.main_data()[12..16].try_into().unwrap());
            let rel = rel(rel_number - 16384);
            self.sizes.entry(rel).or_default().push((span.end, blocks));
            for block in blocks..BLOCKS {
                self.pages.entry((rel, block)).or_default().push((span.end, None));
            }
        }
        if record.rmid == rmgr::XACT {
            let time = i64::from_le_bytes(record.main_data()[..8].try_into().unwrap());
            self.commits.push((span.end, time));
        }
        self.records.push(span);
    }

    pub(super) fn check(&self, timeline: &Timeline, lsn: Lsn) {
        for number in 0..RELS {
            let rel = rel(number);
            let size = self.size(rel, lsn);
            assert_eq!(
                timeline.rel_size(rel, lsn).unwrap(),
                size,
                "size of {rel} at {lsn}"
            );
            let Some(size) = size else {
                assert!(matches!(
                    timeline.get_page(rel, 0, lsn),
                    Err(PageStoreError::NoRelation { .. })
                ));
                continue;
            };
            let expected = |block| {
                self.page(rel, block, lsn)
                    .map_or_else(Page::zeroed, |page| Page::clone(&page))
            };
            for block in 0..size {
                let page = timeline.get_page(rel, block, lsn).unwrap();
                assert!(
                    page == expected(block),
                    "block {block} of {rel} at {lsn}: LSN {} instead of {}",
                    page.lsn(),
                    expected(block).lsn()
                );
            }
            assert!(matches!(
                timeline.get_page(rel, size, lsn),
                Err(PageStoreError::NoBlock { .. })
            ));
            let mut seen = Vec::new();
            let check = &mut |block: u32, page: &Page| {
                assert!(
                    *page == expected(block),
                    "scanned block {block} of {rel} at {lsn}"
                );
                seen.push(block);
                Ok(())
            };
            timeline.scan_pages(rel, 0..u32::MAX, lsn, check).unwrap();
            assert_eq!(seen, (0..size).collect::<Vec<_>>());
        }
        let record = self.records.iter().rev().find(|span| span.end <= lsn).copied();
        let record = record.unwrap_or(RecordSpan {
            start: PREV,
            end: START,
        });
        assert_eq!(
            timeline.record_at_or_before(lsn).unwrap(),
            record,
            "the record at {lsn}"
        );
        assert_eq!(timeline.checkpoint_state(lsn).unwrap().last_record, record.start);
    }

    pub(super) fn check_times(&self, timeline: &Timeline) {
        let own: Vec<_> = self
            .commits
            .iter()
            .filter(|(lsn, _)| *lsn > timeline.start())
            .collect();
        for (_, time) in &own {
            for time in [*time - 1, *time] {
                let expected = own
                    .iter()
                    .rev()
                    .find(|(_, committed)| *committed <= time)
                    .map(|(lsn, _)| *lsn);
                assert_eq!(
                    timeline.lsn_at_time(time).unwrap(),
                    expected,
                    "the commit at {time}"
                );
            }
        }
        let all = LsnRange {
            start: Lsn::INVALID,
            end: Lsn::MAX,
        };
        assert_eq!(timeline.commits_in(all, &|| false).unwrap(), own.len() as u64);
    }
}

pub(super) struct Branch {
    pub id: TimelineId,
    pub model: Model,
}

pub(super) fn any_record(random: &mut Random, model: &Model, end: Lsn, time: i64) -> RecordBuilder {
    let rel_number = random.below_u32(RELS);
    let target = rel(rel_number);
    match random.below(20) {
        0 => {
            let size = model.size(target, end).unwrap_or(0);
            if size > 0 {
                let mut main = random.below_u32(size).to_le_bytes().to_vec();
                for field in [target.spc, target.db, target.rel, 7] {
                    main.extend_from_slice(&field.to_le_bytes());
                }
                return RecordBuilder::new(VERSION, rmgr::SMGR, smgr::TRUNCATE).main(&main);
            }
        }
        1..3 => {
            let xid = 730 + u32::try_from(model.commits.len()).unwrap();
            return RecordBuilder::new(VERSION, rmgr::XACT, 0)
                .xid(xid)
                .main(&time.to_le_bytes());
        }
        3 => {
            // A long record that touches no page.
            let len = 30 + usize::try_from(random.below(40_000)).unwrap();
            let main = random.bytes(len);
            return RecordBuilder::new(VERSION, rmgr::LOGICALMSG, 0).main(&main);
        }
        4..14 => {
            let existing: Vec<u32> = (0..model.size(target, end).unwrap_or(0))
                .filter(|block| model.page(target, *block, end).is_some())
                .collect();
            if !existing.is_empty() {
                let block = existing[usize::try_from(random.below(existing.len() as u64)).unwrap()];
                let offset = 4096 + u16::try_from(random.below(4000)).unwrap();
                let mut data = offset.to_le_bytes().to_vec();
                data.extend_from_slice(&16_u16.to_le_bytes());
                data.extend_from_slice(&random.bytes(16));
                return RecordBuilder::new(VERSION, rmgr::GENERIC, 0)
                    .block(NewBlock::new(0, target, block).data(&data));
            }
        }
        _ => {}
    }
    let mut record = RecordBuilder::new(VERSION, rmgr::XLOG, FPI);
    let first = random.below_u32(BLOCKS - 3);
    for id in 0..1 + random.below(3) {
        let id = u8::try_from(id).unwrap();
        let number = first + u32::from(id);
        // Mostly what is there, with some bytes changed, as full-page images are.
        let before = model.page(target, number, end).filter(|_| random.below(4) > 0);
        let image = match before {
            Some(before) => touched(&before, random),
            None => page(random),
        };
        let block = NewBlock::new(id, target, number).image(&image, true, Compression::None);
        record = record.block(block);
    }
    record
}

/// Returns the page with a few bytes of its content changed.
pub(super) fn touched(page: &Page, random: &mut Random) -> Page {
    let mut page = page.clone();
    for _ in 0..1 + random.below(30) {
        let at = 4096 + usize::try_from(random.below(4096)).unwrap();
        page.as_bytes_mut()[at] = (random.next() & 0xff) as u8;
    }
    page
}

impl Branch {
    /// Writes records and receives them in odd portions, sometimes with a tail that is taken back.
    pub(super) fn grow(&mut self, timeline: &Timeline, random: &mut Random, records: u64, clock: &mut i64) {
        let mut pen = Pen::at_end(timeline);
        let mut bytes = Vec::new();
        for _ in 0..records {
            *clock += 1 + i64::try_from(random.below(1000)).unwrap();
            let record = any_record(random, &self.model, pen.at, *clock);
            let (more, span) = pen.write(record);
            let mut decoder =
                neon_postgres::wal::WalDecoder::new(timeline.stream_params(), timeline.end(), None);
            bytes.extend_from_slice(&more);
            decoder.feed(&bytes);
            let mut last = None;
            while let Some(raw) = decoder.next_record().unwrap() {
                last = Some(raw);
            }
            let record = Record::decode(VERSION, last.unwrap().bytes).unwrap();
            self.model.replay(&record, span);
        }
        let mut at = timeline.end();
        if random.below(3) == 0 {
            // A tail that never became whole, from a connection that broke.
            let len = 1 + usize::try_from(random.below(3000)).unwrap();
            let junk = random.bytes(len);
            timeline.append_wal(at, &junk).unwrap();
            if random.below(2) == 0 {
                assert!(timeline.index_wal().is_err() || timeline.end() == at);
            }
        }
        let portion = 1 + usize::try_from(random.below(50_000)).unwrap();
        for chunk in bytes.chunks(portion) {
            timeline.append_wal(at, chunk).unwrap();
            at = at + chunk.len() as u64;
            if random.below(2) == 0 {
                timeline.index_wal().unwrap();
            }
        }
        if random.below(2) == 0 {
            assert_eq!(timeline.sync_wal().unwrap(), at);
        }
        assert_eq!(timeline.index_wal().unwrap(), pen.at);
    }
}

fn any_lsn(random: &mut Random, timeline: &Timeline) -> Lsn {
    let span = timeline.end().0 - START.0;
    match random.below(4) {
        0 => timeline.end(),
        1 => timeline.start(),
        _ => Lsn(START.0 + random.below(span + 1)),
    }
}

fn run(seed: u64, steps: u32) {
    let mut random = Random(seed);
    let keep_wal = [0, 1 << 20, u64::MAX][usize::try_from(seed % 3).unwrap()];
    let mut repository = Repository::new(Settings {
        keep_wal,
        ..settings()
    });
    repository.import();
    let mut branches = vec![Branch {
        id: ROOT,
        model: Model::default(),
    }];
    let mut clock = 0;
    for _ in 0..steps {
        let chosen = usize::try_from(random.below(branches.len() as u64)).unwrap();
        let timeline = repository.store.get(branches[chosen].id).unwrap();
        match random.below(15) {
            0..6 => {
                let records = 1 + random.below(25);
                branches[chosen].grow(&timeline, &mut random, records, &mut clock);
            }
            6..8 => {
                let end = timeline.end();
                timeline.seal().unwrap();
                assert_eq!(timeline.sealed(), end);
            }
            8 => repository.reopen(),
            12 => {
                settle(&timeline);
            }
            13 | 14 => {
                // Wise or not: nothing that can be read changes.
                let model = &branches[chosen].model;
                let ends: Vec<Lsn> = model.records.iter().map(|span| span.end).collect();
                let lsns: Vec<Lsn> = (0..3).map(|_| any_lsn(&mut random, &timeline)).collect();
                let before: Vec<_> = lsns.iter().map(|lsn| picture(&timeline, *lsn)).collect();
                let choice = any_choice(&timeline, &mut random, &ends);
                timeline.compact_as(choice, &|| false).unwrap();
                for (lsn, before) in lsns.iter().zip(before) {
                    model.check(&timeline, *lsn);
                    assert!(picture(&timeline, *lsn) == before, "everything at {lsn}");
                }
            }
            9 if branches.len() < 5 => {
                let model = &branches[chosen].model;
                let forks: Vec<Lsn> = model
                    .records
                    .iter()
                    .map(|span| span.end)
                    .filter(|lsn| *lsn >= timeline.start())
                    .collect();
                let lsn = match forks.len() {
                    _ if random.below(4) == 0 => timeline.start(),
                    0 => timeline.start(),
                    count => forks[usize::try_from(random.below(count as u64)).unwrap()],
                };
                let number = u8::try_from(branches.len() + 1).unwrap();
                let fork = repository.fork(number, timeline.id(), lsn);
                let mut model = model.clone();
                model.cut(lsn);
                branches.push(Branch { id: fork.id(), model });
            }
            _ => {
                let lsn = any_lsn(&mut random, &timeline);
                branches[chosen].model.check(&timeline, lsn);
            }
        }
    }
    repository.reopen();
    for branch in &branches {
        let timeline = repository.store.get(branch.id).unwrap();
        for _ in 0..4 {
            let lsn = any_lsn(&mut random, &timeline);
            branch.model.check(&timeline, lsn);
        }
        branch.model.check(&timeline, timeline.end());
        if seed.is_multiple_of(4) {
            // Every state that there was.
            let ends = branch.model.records.iter().map(|span| span.end);
            ends.chain([timeline.start()])
                .for_each(|lsn| branch.model.check(&timeline, lsn));
        }
        branch.model.check_times(&timeline);
        assert!(matches!(
            timeline.rel_size(rel(0), timeline.end() + 8),
            Err(PageStoreError::NotReadable { .. })
        ));
        assert!(matches!(
            timeline.rel_size(rel(0), Lsn(START.0 - 8)),
            Err(PageStoreError::NotReadable { .. })
        ));
    }
    let findings = fsck(&repository.store, &mut |_, _| true).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert!(deep.findings.is_empty(), "{:?}", deep.findings);
    let all = seed % 3 == 2;
    assert!(
        !all || (deep.skipped.is_empty() && deep.versions > 100),
        "{deep:?}"
    );
}

#[test]
fn the_store_holds_what_a_plain_map_holds() {
    for seed in 0..12 {
        run(seed, 60);
    }
}
