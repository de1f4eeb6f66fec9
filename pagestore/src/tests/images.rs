//! Full-page images that become page deltas when they are sealed.

use std::sync::Arc;

use neon_postgres::Page;
use neon_postgres::wal::{Compression, NewBlock, RecordBuilder, rmgr};
use neon_types::{Key, KeyRange, Lsn};

use super::fixture::*;
use super::model::touched;
use crate::failpoint::fail_once_here;
use crate::layer::LayerCursor;
use crate::value::Value;
use crate::{PageStoreError, Settings, Timeline};

const FPI: u8 = 0xB0;

fn image(page: &Page, block: u32) -> RecordBuilder {
    let block = NewBlock::new(0, rel(0), block).image(page, true, Compression::None);
    RecordBuilder::new(VERSION, rmgr::XLOG, FPI).block(block)
}

/// What a layer holds of block 0: of each version, whether it is a page delta, oldest first.
type InLayer = Vec<(Lsn, bool)>;

/// Returns the versions of block 0 by the layers that hold some, oldest first.
fn versions(timeline: &Timeline, repository: &Repository) -> Vec<InLayer> {
    let mut layers = Vec::new();
    for entry in timeline.layer_map().unwrap().entries() {
        let layer = crate::Layer::open(repository.store.objects(), entry.layer).unwrap();
        let mut cursor = LayerCursor::seek(Arc::new(layer), None, KeyRange::ALL).unwrap();
        let mut here = Vec::new();
        while let Some(found) = cursor.entry() {
            if found.key == Key::Block(rel(0), 0).pack() {
                let (value, _) = Value::from_stored(found.tag, found.value).unwrap();
                here.push((found.lsn, matches!(value, Value::Delta(_))));
            }
            cursor.advance().unwrap();
        }
        layers.push(here);
    }
    layers.retain(|layer| !layer.is_empty());
    layers.sort();
    layers
}

/// Returns the number of page deltas.
fn deltas(layers: &[InLayer]) -> usize {
    layers.iter().flatten().filter(|(_, is_delta)| *is_delta).count()
}

/// Returns how many versions, and from how many layers, the costliest read takes.
fn costliest(layers: &[InLayer]) -> (usize, usize) {
    let (mut versions, mut spanned, mut most) = (0, 0, (0, 0));
    for layer in layers {
        spanned += 1;
        for (_, is_delta) in layer {
            (versions, spanned) = if *is_delta {
                (versions + 1, spanned)
            } else {
                (1, 1)
            };
            most = (most.0.max(versions), most.1.max(spanned));
        }
    }
    most
}

/// Writes images of block 0, each a little different from the one before, but for one; seals after every `seal`. Returns what
/// the page is at which LSN.
fn write_images(timeline: &Timeline, images: usize, seal: usize) -> Vec<(Lsn, Page)> {
    let mut random = Random(31);
    let mut pen = Pen::at_end(timeline);
    let mut current = page(&mut random);
    let mut expected = Vec::new();
    for number in 1..=images {
        current = match number {
            // Nothing like what was there: not worth a delta.
            70 => page(&mut random),
            _ => touched(&current, &mut random),
        };
        let (bytes, span) = pen.write(image(&current, 0));
        receive(timeline, &bytes);
        let mut page = current.clone();
        page.set_lsn(span.end);
        expected.push((span.end, page));
        if number % seal == 0 {
            timeline.seal().unwrap();
        }
    }
    timeline.seal().unwrap();
    expected
}

#[test]
fn images_become_deltas_and_every_page_stays_what_it_was() {
    let mut repository = Repository::new(Settings {
        delta_layers: 3,
        ..settings()
    });
    let timeline = repository.import();
    let expected = write_images(&timeline, 170, 17);
    let layers = versions(&timeline, &repository);
    // Whole are the first one, the strange one, and those after three layers: in the 4th, in the 8th behind the strange one's, and
    // no other.
    let whole = layers.iter().flatten().filter(|(_, is_delta)| !is_delta);
    let whole: Vec<usize> = whole
        .map(|(lsn, _)| expected.iter().position(|(end, _)| end == lsn).unwrap())
        .collect();
    assert_eq!(whole, [0, 3 * 17, 69, 7 * 17]);
    assert_eq!(costliest(&layers).1, 3);
    let bytes: u64 = timeline
        .layer_map()
        .unwrap()
        .entries()
        .map(|entry| entry.len)
        .sum();
    assert!(bytes < 170 * 4096 / 4, "{bytes} bytes of layers");
    drop(timeline);
    repository.reopen();
    let timeline = repository.store.get(ROOT).unwrap();
    for (lsn, page) in &expected {
        assert!(timeline.get_page(rel(0), 0, *lsn).unwrap() == *page, "at {lsn}");
    }
}

#[test]
fn deltas_of_one_seal_follow_each_other_only_so_far() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let expected = write_images(&timeline, 700, 600);
    let layers = versions(&timeline, &repository);
    assert_eq!(layers.len(), 2);
    assert_eq!(costliest(&layers).0, crate::timeline::MAX_VERSIONS);
    assert!(deltas(&layers) >= 695, "{}", deltas(&layers));
    for (lsn, page) in expected.iter().step_by(37) {
        assert!(timeline.get_page(rel(0), 0, *lsn).unwrap() == *page, "at {lsn}");
    }
}

#[test]
fn where_deltas_are_not_wanted_images_stay() {
    let repository = Repository::new(Settings {
        delta_layers: 0,
        ..settings()
    });
    let timeline = repository.import();
    write_images(&timeline, 40, 20);
    assert_eq!(deltas(&versions(&timeline, &repository)), 0);
}

#[test]
fn a_seal_that_ingest_overtakes_makes_no_deltas() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(33);
    let mut pen = Pen::at_end(&timeline);
    let mut current = page(&mut random);
    let mut write = |images: u64| {
        for _ in 0..images {
            current = touched(&current, &mut random);
            let (bytes, _) = pen.write(image(&current, 0));
            receive(&timeline, &bytes);
        }
    };
    write(20);
    // What was set aside stays so, and waits for the next call.
    fail_once_here("seal-after-layer");
    assert!(timeline.seal().is_err());
    write(3000);
    timeline.seal().unwrap();
    assert_eq!(deltas(&versions(&timeline, &repository)), 0);
    timeline.seal().unwrap();
    assert!(deltas(&versions(&timeline, &repository)) > 2900);
}

#[test]
fn a_delta_without_its_base_is_an_error_that_says_so() {
    let repository = Repository::new(settings());
    let timeline = repository.import();
    let mut random = Random(32);
    let mut pen = Pen::at_end(&timeline);
    let first = page(&mut random);
    let (bytes, _) = pen.write(image(&first, 0));
    receive(&timeline, &bytes);
    timeline.seal().unwrap();
    let base_map = timeline.layer_map().unwrap();
    let (bytes, span) = pen.write(image(&touched(&first, &mut random), 0));
    receive(&timeline, &bytes);
    timeline.seal().unwrap();
    assert_eq!(deltas(&versions(&timeline, &repository)), 1);
    // The layer with the delta hangs above another page than the one that it was made of.
    let newest = timeline.layer_map().unwrap().entries().next().unwrap();
    assert!(base_map.entries().all(|entry| entry.layer != newest.layer));
    let other = Repository::new(settings());
    let theirs = other.import();
    let mut pen = Pen::at_end(&theirs);
    let (bytes, _) = pen.write(image(&page(&mut random), 0));
    receive(&theirs, &bytes);
    theirs.seal().unwrap();
    let layer = repository.store.objects().read(newest.layer.0, u64::MAX).unwrap();
    other.store.objects().put(&layer).unwrap();
    let map = theirs.layer_map().unwrap().with(span.end, [newest]);
    let mut found = Vec::new();
    let key = Key::Block(rel(0), 0);
    let cache = crate::layer::LayerCache::new(
        1 << 20,
        1 << 20,
        std::sync::Arc::new(crate::open_files::OpenFiles::new()),
    );
    let objects = other.store.objects();
    crate::timeline::collect_sealed(
        &cache,
        objects,
        &map,
        &key.pack(),
        span.end,
        Lsn::INVALID,
        &mut found,
    )
    .unwrap();
    assert_eq!(found.len(), 2);
    let result = theirs.rebuild(key, found, || Ok(None));
    let told = result.err().map(|error: PageStoreError| error.to_string());
    assert!(
        told.as_deref().is_some_and(|told| told.contains("another page")),
        "{told:?}"
    );
}
