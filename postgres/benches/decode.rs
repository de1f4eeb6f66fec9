//! How fast a stream of WAL becomes records: MiB of stream a second.
//!
//! The streams are the ones that servers wrote for the tests, as they are, and one without full-page images: the records of
//! PostgreSQL 17's with their images left out, laid out again and again up to 32 MiB.
#![expect(clippy::unwrap_used, reason = "a bench that cannot begin has nothing to say")]

use std::fs::File;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use neon_postgres::PgVersion;
use neon_postgres::control::ControlFile;
use neon_postgres::wal::{NewBlock, Record, RecordBuilder, StreamParams, StreamWriter, WalDecoder};
use neon_types::Lsn;

/// Bytes of the stream without images.
const PLAIN: usize = 32 << 20;
/// Bytes that are fed at once.
const PORTION: usize = 256 << 10;

struct Stream {
    name: String,
    params: StreamParams,
    start: Lsn,
    bytes: Vec<u8>,
}

impl Stream {
    /// Returns what a server of that version wrote.
    fn recorded(version: PgVersion) -> Stream {
        let read = |name: &str| {
            let path = format!(
                "{}/tests/fixtures/wal-{version}/{name}.zst",
                env!("CARGO_MANIFEST_DIR")
            );
            zstd::decode_all(File::open(path).unwrap()).unwrap()
        };
        let control = ControlFile::parse(&read("control-before")).unwrap();
        Stream {
            name: format!("{version} as written"),
            params: StreamParams {
                version,
                system_id: control.system_id(),
                tli: 1,
                segment_size: control.segment_size(),
            },
            start: control.checkpoint_lsn(),
            bytes: read("stream"),
        }
    }

    fn decoder(&self) -> WalDecoder {
        WalDecoder::new(self.params, self.start, None)
    }

    /// Calls `take` with every record; returns how many there are.
    fn each(&self, mut take: impl FnMut(Vec<u8>)) -> u64 {
        let (mut decoder, mut count) = (self.decoder(), 0);
        for portion in self.bytes.chunks(PORTION) {
            decoder.feed(portion);
            while let Ok(Some(record)) = decoder.next_record() {
                take(record.bytes);
                count += 1;
            }
        }
        count
    }

    /// Returns a stream of the same records without images.
    fn without_images(&self) -> Stream {
        let mut records = Vec::new();
        self.each(|bytes| records.push(plain(&Record::decode(self.params.version, bytes).unwrap())));
        let mut writer = StreamWriter::new(self.params, self.start, Lsn(8));
        let mut records = records.iter().cycle();
        while writer.end().bytes_since(self.start) < PLAIN as u64 {
            writer.push(records.next().unwrap().clone());
        }
        Stream {
            name: format!("{} without images", self.params.version),
            bytes: writer.into_bytes(),
            ..*self
        }
    }
}

fn plain(record: &Record) -> RecordBuilder {
    // A SWITCH would fill the rest of its segment with zeros.
    let info = if record.rmid == 0 { 0x20 } else { record.info };
    let builder = RecordBuilder::new(record.version(), record.rmid, info)
        .xid(record.xid)
        .main(record.main_data());
    let blocks = record.blocks.iter().enumerate().map(|(index, block)| {
        let mut new = NewBlock::new(block.id, block.rel, block.block).data(record.block_data(index));
        new.will_init = block.will_init;
        new
    });
    blocks.fold(builder, RecordBuilder::block)
}

fn decode(criterion: &mut Criterion) {
    let mut streams: Vec<Stream> = PgVersion::ALL.map(Stream::recorded).into();
    streams.push(streams[3].without_images());
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for stream in &streams {
        let count = stream.each(|_| {});
        assert!(count > 1000, "{}: {count} records", stream.name);
        group.throughput(Throughput::Bytes(stream.bytes.len() as u64));
        let name = format!(
            "{}, {} bytes a record",
            stream.name,
            stream.bytes.len() as u64 / count
        );
        group.bench_function(BenchmarkId::new("frames and CRC", &name), |bencher| {
            bencher.iter(|| stream.each(|bytes| drop(black_box(bytes))));
        });
        group.bench_function(BenchmarkId::new("records", &name), |bencher| {
            bencher
                .iter(|| stream.each(|bytes| drop(black_box(Record::decode(stream.params.version, bytes)))));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
