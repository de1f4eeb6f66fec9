//! Measures import and ingest alone, without a store.
//!
//! `ingest_rate BEFORE AFTER`: two cleanly stopped data directories of one cluster; AFTER still holds the WAL in between. Prints
//! how fast BEFORE is imported, how many records a second ingest turns into effects, and how many bytes the effects have.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use neon_pagestore::import::{import, inspect};
use neon_pagestore::{Effect, Ingest, PageStoreError, State, Value};
use neon_postgres::wal::{Record, StreamParams, WalDecoder, segment};
use neon_types::{Key, KeyRange, Lsn, PackedKey};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Default)]
struct Items(BTreeMap<PackedKey, Arc<[u8]>>);

impl State for Items {
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>, PageStoreError> {
        Ok(self.0.get(&key.pack()).cloned())
    }

    fn scan_items(
        &self,
        range: KeyRange,
        f: &mut dyn FnMut(Key, &[u8]) -> Result<(), PageStoreError>,
    ) -> Result<(), PageStoreError> {
        let items = self.0.range(range.start..range.end);
        let mut unpacked = items.filter_map(|(key, bytes)| Key::unpack(key).ok().map(|key| (key, bytes)));
        unpacked.try_for_each(|(key, bytes)| f(key, bytes))
    }
}

/// Decodes the WAL of `pgdata` from `start` to its end.
fn records(pgdata: &Path, params: &StreamParams, start: Lsn, prev: Lsn) -> Outcome<Vec<(Record, Lsn, Lsn)>> {
    let size = u64::from(params.segment_size);
    let mut decoder = WalDecoder::new(*params, start, Some(prev));
    let mut at = start;
    let mut records = Vec::new();
    loop {
        let name = segment::file_name(params.tli, at.segment(size), params.segment_size);
        let Ok(bytes) = fs::read(pgdata.join("pg_wal").join(name)) else {
            return Ok(records);
        };
        let offset = usize::try_from(at.segment_offset(size))?;
        decoder.feed(bytes.get(offset..).unwrap_or_default());
        at = Lsn((at.segment(size) + 1) * size);
        loop {
            match decoder.next_record() {
                Ok(Some(raw)) => {
                    records.push((Record::decode(params.version, raw.bytes)?, raw.start, raw.end))
                }
                Ok(None) => break,
                Err(_) => return Ok(records),
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [before, after] = arguments.as_slice() else {
        return Err("two data directories are wanted".into());
    };
    let source = inspect(Path::new(before))?;
    let mut items = Items::default();
    let mut bytes = 0;
    let began = Instant::now();
    let imported = import(
        &source,
        &mut |key, value| {
            if let Value::Item(item) = value {
                items.0.insert(key, item.into());
            }
            Ok(())
        },
        &mut |done, _| {
            bytes = done;
            true
        },
    )?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "import: {} MiB of pages, {:.0} MiB/s",
        bytes >> 20,
        bytes as f64 / seconds / f64::from(1 << 20)
    );

    let params = StreamParams {
        version: source.version,
        system_id: imported.system_id,
        tli: imported.tli,
        segment_size: source.control.segment_size(),
    };
    let began = Instant::now();
    let records = records(Path::new(after), &params, imported.lsn, imported.prev_record)?;
    let wal = records
        .last()
        .map_or(0, |(_, _, end)| end.bytes_since(imported.lsn));
    let decoding = began.elapsed().as_secs_f64();
    println!(
        "decode: {} records, {} MiB of WAL, {:.0} records/s",
        records.len(),
        wal >> 20,
        records.len() as f64 / decoding
    );

    let mut ingest = Ingest::new(source.version);
    let (mut effects, mut puts, mut checkpoints, mut busy) = (0_u64, 0_u64, 0_u64, Duration::ZERO);
    for chunk in records.chunks(1000) {
        for (record, start, end) in chunk {
            let began = Instant::now();
            let made = ingest.effects(record, *start, *end, &items)?;
            busy += began.elapsed();
            effects += made.len() as u64;
            for (key, effect) in made {
                match effect {
                    Effect::Put(Value::Item(item)) => {
                        puts += item.len() as u64;
                        if key == Key::Checkpoint {
                            checkpoints += item.len() as u64;
                        }
                        items.0.insert(key.pack(), item.into());
                    }
                    Effect::Put(Value::Absent) => {
                        items.0.remove(&key.pack());
                    }
                    Effect::Put(Value::Change(change)) => puts += change.len() as u64,
                    _ => (),
                }
            }
        }
    }
    let rate = records.len() as f64 / busy.as_secs_f64();
    println!(
        "ingest: {effects} effects, {rate:.0} records/s, {} KiB of values that are not records, {} KiB of them checkpoint states",
        puts >> 10,
        checkpoints >> 10
    );
    Ok(())
}
