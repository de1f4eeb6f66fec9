//! `fsck --deep`: what layers hold against what the WAL makes.

use std::sync::Arc;

use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_types::{Key, KeyRange, Lsn, LsnRange, PackedKey};

use super::compact::settle;
use super::fixture::*;
use super::model::{Branch, Model, touched};
use crate::layer::{LayerCursor, LayerKind};
use crate::timeline::TimelineState;
use crate::value::Value;
use crate::{Layer, LayerWriter, MapEntry, Settings, Timeline, fsck, fsck_deep};

fn keeping() -> Settings {
    Settings {
        keep_wal: u64::MAX,
        ..settings()
    }
}

/// A version as a layer stores it.
type Version = (PackedKey, Lsn, u8, Vec<u8>);

/// Puts a layer with other versions, and right checksums, in the place of one that the map of the root timeline lists. Returns the
/// problems that a deep check finds; a plain one finds none.
fn replace(
    repository: &mut Repository,
    entry: MapEntry,
    change: impl FnOnce(&mut Vec<Version>),
) -> Vec<String> {
    let objects = Arc::clone(repository.store.objects());
    let layer = Arc::new(Layer::open(&objects, entry.layer).unwrap());
    let mut cursor = LayerCursor::seek(layer, None, KeyRange::ALL).unwrap();
    let mut versions: Vec<Version> = Vec::new();
    while let Some(found) = cursor.entry() {
        versions.push((found.key, found.lsn, found.tag, found.value.to_vec()));
        cursor.advance().unwrap();
    }
    let before = versions.clone();
    change(&mut versions);
    assert_ne!(versions, before);
    let mut writer = match entry.kind {
        LayerKind::Delta => LayerWriter::delta(&objects, entry.lsns).unwrap(),
        LayerKind::Image => LayerWriter::image(&objects, entry.lsns.end).unwrap(),
    };
    for (key, lsn, tag, value) in &versions {
        writer.add(key, *lsn, (*tag, value)).unwrap();
    }
    let changed = MapEntry::whole(&writer.finish(entry.keys).unwrap());
    let map = repository.store.get(ROOT).unwrap().layer_map().unwrap();
    let map = map.replaced(&[entry], [changed]).unwrap();
    let directory = repository.store.directory_of(ROOT);
    let mut state = TimelineState::read(ROOT, &directory).unwrap();
    let good = state.layer_map.replace(map.write(&objects).unwrap());
    state.write(&directory).unwrap();
    repository.reopen();
    let plain = fsck(&repository.store, &mut |_, _| true).unwrap();
    assert!(plain.is_empty(), "{:?}", plain.findings);
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert!(deep.findings.iter().all(|finding| finding.timeline == Some(ROOT)));
    state.layer_map = good;
    state.write(&directory).unwrap();
    repository.reopen();
    let problems = deep.findings.into_iter().map(|finding| {
        let object = finding.object.map(|object| object == changed.layer.0);
        assert_ne!(object, Some(false), "another layer is blamed");
        finding.problem
    });
    problems.collect()
}

/// A timeline with a few seals, merged runs, image layers and page deltas, of which all WAL is kept.
fn written(repository: &Repository) -> Arc<Timeline> {
    let timeline = repository.import();
    let mut branch = Branch {
        id: ROOT,
        model: Model::default(),
    };
    let (mut random, mut clock) = (Random(77), 0);
    for _ in 0..6 {
        branch.grow(&timeline, &mut random, 150, &mut clock);
        timeline.seal().unwrap();
        settle(&timeline);
    }
    timeline
}

fn entries(repository: &Repository, kind: LayerKind) -> Vec<MapEntry> {
    let map = repository.store.get(ROOT).unwrap().layer_map().unwrap();
    let mut entries: Vec<MapEntry> = map.entries().filter(|entry| entry.kind == kind).collect();
    entries.retain(|entry| entry.lsns.end > START);
    entries
}

fn is_block(version: &Version) -> bool {
    matches!(Key::unpack(&version.0), Ok(Key::Block(..)))
}

/// Returns the layer of that kind with the most versions of blocks, and where one is that has an older and a newer one.
fn victim(repository: &Repository, kind: LayerKind) -> MapEntry {
    let count = |entry: &MapEntry| {
        let layer = Layer::open(repository.store.objects(), entry.layer).unwrap();
        layer.footer().entries
    };
    entries(repository, kind).into_iter().max_by_key(count).unwrap()
}

#[test]
fn a_store_with_merges_images_and_page_deltas_is_clean() {
    let repository = Repository::new(keeping());
    let timeline = written(&repository);
    assert!(
        !entries(&repository, LayerKind::Image).is_empty(),
        "images were written"
    );
    let mut told = Vec::new();
    let deep = fsck_deep(&repository.store, &mut |done, total| {
        told.push((done, total));
        true
    });
    assert!(deep.findings.is_empty(), "{:#?}", deep.findings);
    assert_eq!(deep.wal_bytes, timeline.sealed().bytes_since(START));
    assert!(deep.versions > 500 && deep.images > 20 && !deep.ended, "{deep:?}");
    assert_eq!(deep.skipped, []);
    assert!(told.is_sorted());
    assert_eq!(told.last(), Some(&(deep.wal_bytes, deep.wal_bytes)));
}

#[test]
fn a_version_that_was_left_out_is_found() {
    let mut repository = Repository::new(keeping());
    written(&repository);
    let entry = victim(&repository, LayerKind::Delta);
    let mut gone = String::new();
    let problems = replace(&mut repository, entry, |versions| {
        let place = versions.iter().rposition(is_block).unwrap() / 2 + versions.len() / 2;
        let (key, lsn, ..) = versions.remove(place);
        let Ok(Key::Block(rel, block)) = Key::unpack(&key) else {
            panic!("no block");
        };
        gone = format!(
            "block {block} of relation {rel} at {lsn}: no layer holds the version that the WAL makes"
        );
    });
    assert_eq!(problems.first(), Some(&gone));
}

#[test]
fn a_version_that_was_altered_is_found_whatever_it_is() {
    let mut repository = Repository::new(keeping());
    written(&repository);
    let entry = victim(&repository, LayerKind::Delta);
    let kinds: [fn(&Key) -> bool; 4] = [
        |key| matches!(key, Key::Block(..)),
        |key| matches!(key, Key::RelSize(_)),
        |key| matches!(key, Key::Checkpoint),
        |key| matches!(key, Key::SlruPage { .. }),
    ];
    for kind in kinds {
        let mut place = String::new();
        let problems = replace(&mut repository, entry, |versions| {
            let version = versions
                .iter_mut()
                .rfind(|version| Key::unpack(&version.0).is_ok_and(|key| kind(&key)));
            let (key, lsn, _, value) = version.unwrap();
            *value.last_mut().unwrap() ^= 0x10;
            place = format!("{} at {lsn}: ", super::super::timeline::key_name(key));
        });
        let found = problems.iter().any(|problem| problem.starts_with(&place));
        assert!(found, "{place} {problems:?}");
    }
}

#[test]
fn a_version_that_is_too_many_is_found() {
    let mut repository = Repository::new(keeping());
    written(&repository);
    let entry = victim(&repository, LayerKind::Delta);
    let mut place = String::new();
    let problems = replace(&mut repository, entry, |versions| {
        let at = versions.iter().rposition(is_block).unwrap();
        let (key, lsn, tag, value) = versions[at].clone();
        let Ok(Key::Block(rel, block)) = Key::unpack(&key) else {
            panic!("no block");
        };
        // Between two records of the block: the layer of the same bytes at another LSN.
        let lsn = Lsn(lsn.0 - 8);
        versions.insert(at, (key, lsn, tag, value));
        place = format!(
            "block {block} of relation {rel} at {lsn}: the layer holds a version that the WAL does not make"
        );
    });
    assert_eq!(problems.first(), Some(&place));
}

#[test]
fn boundaries_that_leave_a_record_out_are_found() {
    let mut repository = Repository::new(keeping());
    written(&repository);
    let entry = entries(&repository, LayerKind::Delta)
        .into_iter()
        .find(|entry| entry.keys.start == PackedKey::MIN)
        .unwrap();
    let mut last = Lsn::INVALID;
    let problems = replace(&mut repository, entry, |versions| {
        let version = versions
            .iter_mut()
            .find(|version| matches!(Key::unpack(&version.0), Ok(Key::Boundaries { .. })));
        let (_, lsn, _, value) = version.unwrap();
        let boundaries = crate::boundaries::Boundaries::decode(value).unwrap();
        last = boundaries.spans.last().unwrap().end;
        let cut = LsnRange {
            start: Lsn(lsn.0 - 1),
            end: Lsn(last.0 - 1),
        };
        *value = boundaries.within(cut).unwrap().1;
    });
    assert_eq!(problems.len(), 1, "{problems:?}");
    let expected = format!(" at {last}: no layer tells of the record that ends there");
    assert!(problems[0].ends_with(&expected), "{problems:?}");
}

#[test]
fn an_image_layer_that_differs_is_found() {
    let mut repository = Repository::new(keeping());
    written(&repository);
    let entry = victim(&repository, LayerKind::Image);
    let altered = replace(&mut repository, entry, |versions| {
        let version = versions.iter_mut().rfind(|version| is_block(version)).unwrap();
        version.3[5000] ^= 1;
    });
    assert_eq!(altered.len(), 1, "{altered:?}");
    assert!(
        altered[0].contains("the image layer holds something else"),
        "{altered:?}"
    );
    let cut = replace(&mut repository, entry, |versions| {
        versions.pop();
    });
    assert!(
        cut.iter()
            .any(|problem| problem.contains("the image layer leaves it out")),
        "{cut:?}"
    );
}

#[test]
fn a_page_delta_that_leads_to_another_page_is_found() {
    let mut repository = Repository::new(keeping());
    let timeline = repository.import();
    let (mut random, mut pen) = (Random(8), Pen::at_end(&timeline));
    let first = page(&mut random);
    for image in [first.clone(), touched(&first, &mut random)] {
        let block = NewBlock::new(0, rel(0), 0).image(&image, true, Compression::None);
        let (bytes, _) = pen.write(RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(block));
        receive(&timeline, &bytes);
    }
    timeline.seal().unwrap();
    drop(timeline);
    let entry = victim(&repository, LayerKind::Delta);
    let problems = replace(&mut repository, entry, |versions| {
        let delta = versions.iter_mut().find(|version| {
            matches!(
                Value::from_stored(version.2, &version.3),
                Ok((Value::Delta(_), _))
            )
        });
        let (_, _, _, value) = delta.unwrap();
        // One of the bytes that are new; its hash of the result is that of the right page.
        *value.last_mut().unwrap() ^= 1;
    });
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("leads to no page"), "{problems:?}");
}

#[test]
fn what_no_wal_is_kept_for_is_said() {
    let repository = Repository::new(Settings {
        keep_wal: 2 << 20,
        ..settings()
    });
    let timeline = repository.import();
    let mut random = Random(6);
    let mut pen = Pen::at_end(&timeline);
    let mut current = page(&mut random);
    while pen.at < Lsn(0x10_0000 * 6) {
        current = touched(&current, &mut random);
        let block = NewBlock::new(0, rel(0), 0).image(&current, true, Compression::None);
        let (bytes, _) = pen.write(RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(block));
        receive(&timeline, &bytes);
        if timeline.wants_seal() {
            timeline.seal().unwrap();
        }
    }
    timeline.seal().unwrap();
    assert!(timeline.wal_start() > START, "some went");
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert!(deep.findings.is_empty(), "{:?}", deep.findings);
    let [skipped] = &deep.skipped[..] else {
        panic!("{:?}", deep.skipped);
    };
    assert_eq!(
        (skipped.range.start, skipped.reason.as_str()),
        (START, "no WAL is kept")
    );
    let first = skipped.range.end;
    assert!(first >= timeline.wal_start() && first.bytes_since(timeline.wal_start()) < 20_000);
    assert_eq!(timeline.record_at_or_before(first).unwrap().end, first);
    assert_eq!(deep.wal_bytes, timeline.sealed().bytes_since(first));
}

/// The record that switches to the next segment may itself go on in another one, which then holds nothing else.
#[test]
fn wal_that_begins_behind_a_switch_is_taken_in() {
    let repository = Repository::new(Settings {
        keep_wal: 1 << 20,
        ..settings()
    });
    let timeline = repository.import();
    let (mut random, mut pen) = (Random(9), Pen::at_end(&timeline));
    let filler = |len: usize| RecordBuilder::new(VERSION, rmgr::LOGICALMSG, 0).main(&vec![1; len]);
    let boundary = Lsn(0x20_0000);
    let mut bytes = Vec::new();
    while boundary.bytes_since(pen.at) > 60_000 {
        bytes.extend(pen.write(filler(30_000)).0);
    }
    // So that the switch begins 16 bytes before the boundary.
    let len = (1000..60_000)
        .step_by(8)
        .find(|len| pen.clone().write(filler(*len)).1.end + 16 == boundary);
    bytes.extend(pen.write(filler(len.unwrap())).0);
    let (switch, span) = pen.write(RecordBuilder::new(VERSION, rmgr::XLOG, rmgr::XLOG_SWITCH));
    assert_eq!((span.start + 16, span.end), (boundary, Lsn(0x30_0000)));
    bytes.extend(switch);
    receive(&timeline, &bytes);
    timeline.seal().unwrap();
    let current = page(&mut random);
    while pen.at < Lsn(0x30_0000 + 0x2000) {
        let block = NewBlock::new(0, rel(0), 0).image(&current, true, Compression::None);
        receive(
            &timeline,
            &pen.write(RecordBuilder::new(VERSION, rmgr::XLOG, 0xB0).block(block))
                .0,
        );
    }
    timeline.seal().unwrap();
    assert_eq!(
        timeline.wal_start(),
        boundary,
        "the segment that holds nothing else is the first"
    );
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert!(deep.findings.is_empty(), "{:?}", deep.findings);
    assert_eq!(deep.skipped[0].range.end, Lsn(0x30_0000));
    assert_eq!(deep.wal_bytes, timeline.sealed().bytes_since(Lsn(0x30_0000)));
}

#[test]
fn raw_wal_that_is_damaged_is_found_and_what_follows_is_skipped() {
    let mut repository = Repository::new(keeping());
    let timeline = written(&repository);
    let sealed = timeline.sealed();
    let file = timeline
        .directory()
        .join("wal")
        .join(format!("{:08X}{:016X}", 1, 1));
    drop(timeline);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0x5_0000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    repository.reopen();
    assert!(fsck(&repository.store, &mut |_, _| true).unwrap().is_empty());
    let deep = fsck_deep(&repository.store, &mut |_, _| true);
    assert_eq!(deep.findings.len(), 1, "{:?}", deep.findings);
    assert!(
        deep.findings[0].problem.contains("breaks off"),
        "{:?}",
        deep.findings
    );
    assert_eq!(deep.skipped.len(), 1);
    assert_eq!(deep.skipped[0].range.end, sealed);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let repository = Repository::new(keeping());
    written(&repository);
    let mut asked = 0;
    let deep = fsck_deep(&repository.store, &mut |_, _| {
        asked += 1;
        asked < 3
    });
    assert!(deep.ended && asked == 3, "{asked}");
    assert!(deep.findings.is_empty());
}
