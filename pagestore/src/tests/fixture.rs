//! A repository in a temporary directory with an empty imported cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neon_objects::{ObjectStore, WriterKey};
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::control::{CheckPoint, ControlFile};
use neon_postgres::wal::{RecordBuilder, StreamParams, StreamWriter};
use neon_postgres::{Page, PgVersion};
use neon_types::{
    Fork, Key, KeyRange, LayerId, Lsn, LsnRange, ObjectId, PackedKey, Position, RelTag, TimelineId,
};

use crate::boundaries::{RecordSpan, Run};
use crate::timeline::{ClusterFacts, ImportFacts, TimelineState};
use crate::{LayerKind, LayerMap, LayerWriter, MapEntry, NewTimeline, PageStore, Settings, Timeline, Value};

pub(super) const VERSION: PgVersion = PgVersion::V15;
pub(super) const SEGMENT: u32 = 1 << 20;
pub(super) const SYSTEM: u64 = 0xfedc_ba98_7654_3210;
/// Where the import ends: mid-page, mid-segment.
pub(super) const START: Lsn = Lsn(0x10_2128);
pub(super) const PREV: Lsn = Lsn(0x10_20b0);
pub(super) const ROOT: TimelineId = TimelineId([1; 16]);

/// The key of whoever writes.
pub(super) fn key() -> WriterKey {
    WriterKey::from_seed(&[7; 32])
}

/// splitmix64: the same seed gives the same test.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn below_u32(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(u64::from(limit))).unwrap()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() & 0xff) as u8).collect()
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        seal_wal_bytes: 1 << 20,
        layer_bytes: 60_000,
        keep_wal: 0,
        ..Settings::default()
    }
}

pub(super) struct Repository {
    path: PathBuf,
    /// Deleted with the repository.
    _directory: Option<tempfile::TempDir>,
    settings: Settings,
    pub store: PageStore,
}

fn open(path: &Path, settings: Settings) -> PageStore {
    let objects = Arc::new(ObjectStore::open(path.join("objects")).unwrap());
    PageStore::open_with(path, objects, settings).unwrap()
}

impl Repository {
    pub(super) fn new(settings: Settings) -> Repository {
        let directory = tempfile::tempdir().unwrap();
        let mut repository = Repository::at(directory.path(), settings);
        repository._directory = Some(directory);
        repository
    }

    pub(super) fn at(path: &Path, settings: Settings) -> Repository {
        Repository {
            path: path.to_owned(),
            _directory: None,
            settings,
            store: open(path, settings),
        }
    }

    /// Forgets everything in memory.
    pub(super) fn reopen(&mut self) {
        self.store = open(&self.path, self.settings);
    }

    /// The same, with other sizes from then on.
    pub(super) fn reopen_with(&mut self, settings: Settings) {
        self.settings = settings;
        self.reopen();
    }

    /// Makes the timeline of an empty cluster.
    pub(super) fn import(&self) -> Arc<Timeline> {
        let objects = self.store.objects();
        let mut writer = LayerWriter::image(objects, START).unwrap();
        let mut run = Run::default();
        run.push(
            RecordSpan {
                start: PREV,
                end: START,
            },
            None,
        );
        let items = [
            (Key::Checkpoint, checkpoint_state().encode(VERSION)),
            (Key::boundaries_of(PREV), run.encode()),
        ];
        for (key, bytes) in items {
            writer
                .add(&key.pack(), START, Value::Item(bytes).stored(true))
                .unwrap();
        }
        let sealed = writer.finish(KeyRange::ALL).unwrap();
        let map = LayerMap::new(START, vec![MapEntry::whole(&sealed)]);
        let mut state = TimelineState::new(ROOT, key().id(), 1, START, cluster());
        state.layer_map = Some(map.write(objects).unwrap());
        state.import = Some(ImportFacts {
            prev_record: PREV,
            digest: "00".repeat(32),
            tli: 1,
        });
        self.store.install(&state).unwrap();
        self.store.get(ROOT).unwrap()
    }

    pub(super) fn fork(&self, number: u8, ancestor: TimelineId, lsn: Lsn) -> Arc<Timeline> {
        let new = NewTimeline {
            id: TimelineId([number; 16]),
            ancestor: Position {
                timeline: ancestor,
                lsn,
            },
            tli: u32::from(number),
            writer: key().id(),
            branch: Some(format!("b{number}")),
            provisional: false,
        };
        self.store.create(new).unwrap()
    }
}

pub(super) fn cluster() -> ClusterFacts {
    ClusterFacts {
        system_id: SYSTEM,
        version: VERSION,
        segment_size: SEGMENT,
        hints_logged: true,
    }
}

fn checkpoint_state() -> CheckpointState {
    let mut image = vec![0; 288];
    image[8..12].copy_from_slice(&VERSION.control_version().to_le_bytes());
    image[12..16].copy_from_slice(&VERSION.catalog_version().to_le_bytes());
    let mut control = ControlFile::from_image(&image).unwrap();
    control.set_system_id(SYSTEM);
    let point = CheckPoint {
        redo: PREV,
        tli: 1,
        prev_tli: 1,
        full_page_writes: true,
        next_xid: 730,
        next_oid: 16384,
        next_multi: 1,
        oldest_xid: 700,
        oldest_multi: 1,
        ..CheckPoint::default()
    };
    control.set_checkpoint(PREV, &point);
    CheckpointState::from_control(&control)
}

pub(crate) fn rel(number: u32) -> RelTag {
    RelTag {
        spc: 1663,
        db: 5,
        rel: 16384 + number,
        fork: Fork::Main,
    }
}

/// A block of relation 1, as a key.
pub(crate) fn block_key(block: u32) -> PackedKey {
    Key::Block(rel(1), block).pack()
}

/// A layer as a map lists it: its keys are numbers, of which 0 is the first key of all and 99 the end.
pub(crate) fn map_entry(number: u8, kind: LayerKind, keys: (u64, u64), lsns: (u64, u64)) -> MapEntry {
    let key = |mebibyte| match mebibyte {
        0 => PackedKey::MIN,
        99 => PackedKey::MAX,
        _ => Key::Boundaries { mebibyte }.pack(),
    };
    MapEntry {
        layer: LayerId(ObjectId::from_bytes([number; 32])),
        kind,
        keys: KeyRange {
            start: key(keys.0),
            end: key(keys.1),
        },
        lsns: LsnRange {
            start: Lsn(lsns.0),
            end: Lsn(lsns.1),
        },
        clip: Lsn::MAX,
        len: 1000,
    }
}

/// A page with a sane header, a hole, and random content.
pub(super) fn page(random: &mut Random) -> Page {
    let mut page = Page::zeroed();
    page.init(0);
    page.set_lower(100);
    page.set_upper(4096);
    let byte = (random.next() & 0xff) as u8;
    page.as_bytes_mut()[4096..].fill(byte);
    let front = random.bytes(76);
    page.as_bytes_mut()[24..100].copy_from_slice(&front);
    page
}

/// Writes records where a timeline's WAL ends.
#[derive(Clone)]
pub(super) struct Pen {
    params: StreamParams,
    pub at: Lsn,
    prev: Lsn,
}

impl Pen {
    pub(super) fn at_end(timeline: &Timeline) -> Pen {
        let span = timeline.record_at_or_before(timeline.end()).unwrap();
        assert_eq!(span.end, timeline.end());
        Pen {
            params: timeline.stream_params(),
            at: span.end,
            prev: span.start,
        }
    }

    /// Returns the bytes of a record with its start and end.
    pub(super) fn write(&mut self, record: RecordBuilder) -> (Vec<u8>, RecordSpan) {
        let mut stream = StreamWriter::new(self.params, self.at, self.prev);
        let (start, end) = stream.push(record);
        (self.at, self.prev) = (end, start);
        (stream.into_bytes(), RecordSpan { start, end })
    }
}

/// Appends, makes durable and indexes.
pub(super) fn receive(timeline: &Timeline, bytes: &[u8]) {
    timeline.append_wal(timeline.received_end(), bytes).unwrap();
    timeline.sync_wal().unwrap();
    timeline.index_wal().unwrap();
}
