//! Writes the first inputs of each target: recorded records and pages, streams of real servers, their control files.
//!
//! `seeds CORPUS` writes below that directory, one directory a target. The sources are the fixtures of the tests.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use neon_fuzz::case::Case;
use neon_fuzz::records::RMIDS;
use neon_objects::ObjectStore;
use neon_pagestore::{LayerKind, LayerMap, MapEntry, dissect};
use neon_postgres::control::ControlFile;
use neon_postgres::wal::{Compression, NewBlock, Record, RecordBuilder, StreamParams, WalDecoder, rmgr};
use neon_postgres::{CheckpointState, Page, PgVersion};
use neon_redo::change::{Change, MultixactMember, MultixactOffset, VmBits, XactState};
use neon_redo::oracle::fixture::{self, Fixture};
use neon_types::{Key, KeyRange, LayerId, Lsn, LsnRange, ObjectId};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The targets of redo, with their resource managers in the order of the target.
const REDO: [(&str, &[u8]); 9] = [
    ("heap", &[rmgr::HEAP, rmgr::HEAP2]),
    ("btree", &[rmgr::BTREE]),
    ("sequence", &[rmgr::SEQ]),
    ("generic", &[rmgr::GENERIC]),
    ("gin", &[rmgr::GIN]),
    ("gist", &[rmgr::GIST]),
    ("spgist", &[rmgr::SPGIST]),
    ("hash", &[rmgr::HASH]),
    ("brin", &[rmgr::BRIN]),
];
/// Most bytes of stream in a seed of the reader.
const PIECE: usize = 24 * 1024;
/// Most records of a kind and version that become seeds.
const PER_KIND: usize = 8;

/// Where seeds go.
struct Corpus {
    directory: PathBuf,
    written: HashMap<&'static str, usize>,
}

impl Corpus {
    fn add(&mut self, target: &'static str, bytes: &[u8]) -> Result<()> {
        let directory = self.directory.join(target);
        let number = self.written.entry(target).or_default();
        if *number == 0 {
            fs::create_dir_all(&directory)?;
        }
        fs::write(directory.join(format!("seed-{number:05}")), bytes)?;
        *number += 1;
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut corpus = Corpus {
        directory: std::env::args().nth(1).ok_or("where to?")?.into(),
        written: HashMap::new(),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(root.join("redo/tests/fixtures"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "zst") {
            fixtures.extend(fixture::read(File::open(path)?)?);
        }
    }
    redo(&mut corpus, &fixtures)?;
    images(&mut corpus, &fixtures)?;
    let mut kinds = HashMap::new();
    for version in PgVersion::ALL {
        let directory = root.join(format!("postgres/tests/fixtures/wal-{version}"));
        stream(&mut corpus, version, &directory, &mut kinds)?;
    }
    formats(&mut corpus, &root)?;
    for (target, count) in &corpus.written {
        println!("{count:6} seeds for {target}");
    }
    Ok(())
}

fn redo(corpus: &mut Corpus, fixtures: &[Fixture]) -> Result<()> {
    for fixture in fixtures {
        let page = fixture.base.clone().unwrap_or_else(Page::zeroed);
        let case = |rmids| {
            Case::of(
                &fixture.record,
                fixture.index,
                &page,
                fixture.cluster.hints_logged,
                rmids,
            )
        };
        for (target, rmids) in REDO {
            if let Some(case) = case(rmids) {
                corpus.add(target, &case.encode())?;
            }
        }
        if let Some(mut case) = case(&RMIDS) {
            case.page.clear();
            corpus.add("decoder", &[&[1], case.encode().as_slice()].concat())?;
        }
    }
    Ok(())
}

/// Pages of the fixtures packed in every way.
fn images(corpus: &mut Corpus, fixtures: &[Fixture]) -> Result<()> {
    for fixture in fixtures.iter().step_by(fixtures.len() / 60 + 1) {
        for (number, version) in PgVersion::ALL.into_iter().enumerate() {
            for compression in [
                Compression::None,
                Compression::Pglz,
                Compression::Lz4,
                Compression::Zstd,
            ] {
                if version == PgVersion::V14 && matches!(compression, Compression::Lz4 | Compression::Zstd) {
                    continue;
                }
                let block =
                    NewBlock::new(0, neon_fuzz::case::REL, 1).image(&fixture.after, true, compression);
                let bytes = RecordBuilder::new(version, rmgr::XLOG, 0xB0).block(block).build();
                let record = Record::decode(version, bytes)?;
                let Some(image) = record.blocks.first().and_then(|block| block.image.as_ref()) else {
                    continue;
                };
                // Fixed header, id, flags and data length, then length, hole offset and bits of the image.
                let bits = record.bytes()[32];
                let packed = record.bytes().len() - record_overhead(image.hole_length > 0, image.compression);
                let mut seed = vec![number as u8, rmgr::XLOG, bits];
                seed.extend_from_slice(&image.hole_offset.to_le_bytes());
                seed.extend_from_slice(&image.hole_length.to_le_bytes());
                seed.extend_from_slice(&record.bytes()[record.bytes().len() - packed..]);
                corpus.add("images", &seed)?;
            }
        }
    }
    Ok(())
}

/// Bytes of a record with one image and nothing else that are not the image's.
fn record_overhead(hole: bool, compression: Compression) -> usize {
    24 + 4
        + 5
        + if hole && compression != Compression::None {
            2
        } else {
            0
        }
        + 16
}

/// Pieces of the stream that a server wrote, its records and its control files.
fn stream(
    corpus: &mut Corpus,
    version: PgVersion,
    directory: &Path,
    kinds: &mut HashMap<(u16, u8, u8), usize>,
) -> Result<()> {
    let number = PgVersion::ALL.iter().position(|v| *v == version).unwrap_or(0) as u8;
    let [before, after] = [
        read(directory, "control-before")?,
        read(directory, "control-after")?,
    ];
    let control = ControlFile::parse(&before)?;
    for file in [&before, &after] {
        corpus.add("files", &[&[0], file.as_slice()].concat())?;
        let state = CheckpointState::from_control(&ControlFile::parse(file)?);
        corpus.add("items", &[&[8], state.encode(version).as_slice()].concat())?;
    }
    let bytes = read(directory, "stream")?;
    let params = StreamParams {
        version,
        system_id: control.system_id(),
        tli: 1,
        segment_size: control.segment_size(),
    };
    let start = control.checkpoint_lsn();
    let mut decoder = WalDecoder::new(params, start, None);
    decoder.feed(&bytes);
    let mut next_piece = start;
    while let Ok(Some(record)) = decoder.next_record() {
        if record.start >= next_piece {
            let at = record.start.bytes_since(start) as usize;
            let units = (record.start.0 % 8192 / 8) as u16;
            let mut seed = vec![number, 10];
            seed.extend_from_slice(&units.to_le_bytes());
            seed.extend_from_slice(&[0, 2, 100, 0, 0, 0x30]);
            seed.extend_from_slice(&bytes[at..bytes.len().min(at + PIECE)]);
            corpus.add("reader", &seed)?;
            next_piece = record.start + 16 * PIECE as u64;
        }
        let decoded = Record::decode(version, record.bytes.clone())?;
        let seen = kinds
            .entry((version.major(), decoded.rmid, decoded.info))
            .or_default();
        *seen += 1;
        if *seen > PER_KIND {
            continue;
        }
        corpus.add("decoder", &[&[0, number], record.bytes.as_slice()].concat())?;
        if let Some(mut case) = Case::of(&decoded, 0, &Page::zeroed(), true, &RMIDS) {
            case.page.clear();
            corpus.add("decoder", &[&[1], case.encode().as_slice()].concat())?;
            corpus.add("ingest", &neon_fuzz::ingest::join(&[case.encode()]))?;
        }
    }
    Ok(())
}

/// The golden files of our own formats, and texts with every part.
fn formats(corpus: &mut Corpus, root: &Path) -> Result<()> {
    corpus.add(
        "commit",
        &fs::read(root.join("objects/tests/golden/commit-v1.bin"))?,
    )?;
    let layer = fs::read(root.join("pagestore/fixtures/delta-1.layer"))?;
    corpus.add("layer", &[&[0], layer.as_slice()].concat())?;
    let mut block = Key::Checkpoint.pack().0.to_vec();
    block.extend_from_slice(&[4, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 7, 7]);
    corpus.add("layer", &[&[1], block.as_slice()].concat())?;
    for line in fs::read_to_string(root.join("remotes/tests/fixtures/protocol-v2.txt"))?.lines() {
        corpus.add("conversation", &hex(line.rsplit(' ').next().unwrap_or_default())?)?;
    }
    let entry = MapEntry {
        layer: LayerId(ObjectId::from_bytes([7; 32])),
        kind: LayerKind::Delta,
        keys: KeyRange::ALL,
        lsns: LsnRange {
            start: Lsn(8),
            end: Lsn(64),
        },
        clip: Lsn(64),
        len: 9,
    };
    maps(corpus, entry)?;
    let mut page = Page::zeroed();
    page.as_bytes_mut()[100..200].fill(7);
    corpus.add("delta", &dissect::delta(&Page::zeroed(), &page))?;
    let slots = vec![1, 700];
    for change in [
        Change::ClearVm(vec![VmBits { slot: 5, bits: 3 }]),
        Change::TruncateVmTail { keep: 9 },
        Change::XactStatus {
            state: XactState::Committed,
            slots: slots.clone(),
        },
        Change::CommitTs {
            time: 1,
            origin: 1,
            slots,
        },
        Change::MultixactOffsets {
            fresh: true,
            entries: vec![MultixactOffset { slot: 3, offset: 4 }],
        },
        Change::MultixactMembers(vec![MultixactMember {
            slot: 9,
            xid: 7,
            status: 4,
        }]),
    ] {
        corpus.add("change", &change.encode())?;
    }
    let (zero, id) = ("0".repeat(64), "7".repeat(64));
    let entry = format!("{zero} {id} 5 Ada <ada@example.org>\tpush\n");
    corpus.add("refs", format!("\0refs/heads/main {entry}").as_bytes())?;
    corpus.add("refs", format!("\u{1}{id}\n").as_bytes())?;
    corpus.add("refs", format!("\u{2}{entry}").as_bytes())?;
    corpus.add(
        "config",
        b"\x01[origins.cloud]\nuri = \"postgresql://a@b/shop\"\n[branches.main]\norigin = \"cloud\"\nbranch = \"main\"\n",
    )?;
    let configuration = [
        b"\x03work_mem = 5MB # why\ninclude 'more.conf'\ninclude_dir conf.d\nshared_preload_libraries = 'pg_cron, auto_explain'\n".as_slice(),
        b"a.b = 'it''s \\101'\nssl_cert_file = '/etc/x'\nArchive_Mode on\n",
        b"local all all peer\nhost all \"a b\" 10.0.0.0/8 scram-sha-256 map=x\nlocal all @file trust\n",
    ];
    corpus.add("settings", &configuration.join(&0xFF))?;
    corpus.add("files", b"\x011\t0/3000000\tno recovery target specified\n")?;
    corpus.add("files", b"\x01pg_tblspc/1663/PG_17_202406281/5/16384_vm.1")?;
    let pieces: [&[u8]; 9] = [
        b"\0\0\x03\0\0user\0alice\0database\0shop\0\0",
        b"\x01SCRAM-SHA-256\0\0\0\0\x02n,",
        b"\x02help\0",
        b"\x03Z\0\0\0\x05I",
        b"\x03D\0\0\0\x0b\0\x01\0\0\0\x01x",
        b"\x04k\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x01",
        b"\x05SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$AAAA:AAAA",
        b"\x06n,,n=,r=abc\nc=biws,r=abcnonce,p=AAAA",
        b"\x07postgresql://al%40ice:p%3aw%2Fd@db.example:7000/shop?passfile=x",
    ];
    for piece in pieces {
        corpus.add("pieces", piece)?;
    }
    corpus.add("channel", b"\x03d\0\0\0\x06abd\0\0\0\x04c\0\0\0\x04")
}

/// A map that lists its layer, and one that refers to a chunk with the same layer.
fn maps(corpus: &mut Corpus, entry: MapEntry) -> Result<()> {
    let objects = ObjectStore::open(neon_fuzz::scratch::empty())?;
    let id = LayerMap::new(Lsn(64), vec![entry]).write(&objects)?;
    let map = objects.read(id.0, 1 << 20)?;
    corpus.add("map", &[&[0, 0], map.as_slice()].concat())?;
    let (head, layer) = map.split_at(32);
    let chunk = [b"NEONLMCH", [1, 0, 0, 0, 1, 0, 0, 0].as_slice(), layer].concat();
    let mut head = head.to_vec();
    head[12] = 0;
    head[24] = 1;
    let reference = [&[0; 32], [0xFF; 8].as_slice(), &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    let length = (chunk.len() as u16).to_le_bytes();
    corpus.add("map", &[&length, chunk.as_slice(), &head, &reference].concat())
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| Ok(u8::from_str_radix(&pair.iter().collect::<String>(), 16)?);
    digits.chunks(2).map(byte).collect()
}

fn read(directory: &Path, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    zstd::Decoder::new(File::open(directory.join(format!("{name}.zst")))?)?
        .take(1 << 30)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
