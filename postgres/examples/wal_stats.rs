//! Counts the records of a directory of WAL segments by kind, as `pg_waldump --stats=record` does.
//!
//! `wal_stats VERSION SYSTEM_ID DIRECTORY START-LSN [END-LSN] [--quiet]`. Prints `count kind` lines, then totals, where the WAL
//! ended and why, and the final checkpoint state's counters.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use neon_postgres::PgVersion;
use neon_postgres::wal::{Record, StreamParams, WalDecoder, rmgr, segment};
use neon_types::Lsn;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .ok_or("usage: wal_stats VERSION SYSTEM_ID DIRECTORY START [END]")
    };
    let version = PgVersion::from_major(next()?.parse()?).ok_or("version must be 14 to 18")?;
    let params = StreamParams {
        version,
        system_id: next()?.parse()?,
        tli: 1,
        segment_size: segment::DEFAULT_SEGMENT_SIZE,
    };
    let directory = next()?;
    let start: Lsn = next()?.parse()?;
    let end: Lsn = next().map_or(Ok(Lsn::MAX), |text| text.parse())?;

    let mut counts: BTreeMap<(u8, u8), (u64, u64)> = BTreeMap::new();
    let (mut images, mut sliced) = (0u64, 0u64);
    let mut decoder = WalDecoder::new(params, start, None);
    let began = std::time::Instant::now();
    let mut number = start.segment(u64::from(params.segment_size));
    let mut skip = start.segment_offset(u64::from(params.segment_size)) as usize;
    let why = 'stream: loop {
        let path = Path::new(&directory).join(segment::file_name(params.tli, number, params.segment_size));
        let Ok(bytes) = std::fs::read(&path) else {
            break format!("no segment {number}");
        };
        decoder.feed(&bytes[skip..]);
        (number, skip) = (number + 1, 0);
        loop {
            let raw = match decoder.next_record() {
                Ok(Some(raw)) => raw,
                Ok(None) => break,
                Err(error) => break 'stream error.to_string(),
            };
            if raw.start >= end {
                break 'stream "asked for".to_owned();
            }
            let size = raw.bytes.len() as u64;
            let record =
                Record::decode(version, raw.bytes).map_err(|error| format!("{}: {error}", raw.start))?;
            for index in 0..record.blocks.len() {
                if let Some(image) = record.block_image(index) {
                    image.map_err(|error| format!("{}: {error}", raw.start))?;
                    images += 1;
                }
                if std::env::var_os("WAL_STATS_SLICE").is_some() {
                    let slice = record.slice_for_block(index);
                    sliced += slice.len() as u64;
                    let slice = Record::decode(version, slice)
                        .map_err(|error| format!("{}: slice: {error}", raw.start))?;
                    if slice.block_data(index) != record.block_data(index)
                        || slice.main_data() != record.main_data()
                    {
                        return Err(
                            format!("{}: the slice of block {index} is another record", raw.start).into(),
                        );
                    }
                }
            }
            let opcode = if record.rmid == rmgr::XACT {
                record.info & 0x70
            } else {
                record.opcode()
            };
            let count = counts.entry((record.rmid, opcode)).or_default();
            *count = (count.0 + 1, count.1 + size);
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    for ((rmid, info), (count, _)) in &counts {
        println!("{count:10} {}", rmgr::describe_kind(version, *rmid, *info));
    }
    let total: u64 = counts.values().map(|(count, _)| count).sum();
    let bytes: u64 = counts.values().map(|(_, bytes)| bytes).sum();
    println!("{total:10} records, {bytes} bytes, {images} images, {sliced} bytes of slices");
    eprintln!("ended at {}: {why}", decoder.end());
    let stream = decoder.end().bytes_since(start) as f64 / 1e6;
    eprintln!(
        "{stream:.0} MB of WAL in {seconds:.2} s: {:.0} MB/s",
        stream / seconds
    );
    Ok(())
}
