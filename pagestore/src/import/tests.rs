//! Small data directories made by hand: what is refused, and what comes out in which order.

use std::fs;
use std::path::Path;

use neon_postgres::control::{CheckPoint, ControlFile, DbState};
use neon_postgres::wal::{RecordBuilder, StreamParams, StreamWriter, segment};
use neon_postgres::{BLCKSZ, Page, PgVersion};
use neon_types::{Fork, Key, Lsn, PackedKey, RelTag, SlruKind};

use super::{ImportError, Imported, import, inspect};
use crate::Value;
use crate::items::{CarriedFile, RelSize, SlruSegments};

const VERSION: PgVersion = PgVersion::V15;
const SEGMENT: u32 = 1 << 20;
const TLI: u32 = 3;
const SYSTEM: u64 = 7_000_000_000;
/// Behind the long header of the segment's first page.
const CHECKPOINT: Lsn = Lsn(SEGMENT as u64 + 40);

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    fs::write(path, bytes).expect("write");
}

/// Returns a control file with its 32-bit fields at these offsets changed.
fn control(fields: &[(usize, u32)]) -> ControlFile {
    let mut image = vec![0; 288];
    image[..8].copy_from_slice(&SYSTEM.to_le_bytes());
    image[208..216].copy_from_slice(&1_234_567.0_f64.to_le_bytes());
    let usual = [
        (8, VERSION.control_version()),
        (12, VERSION.catalog_version()),
        (16, DbState::ShutDowned as u32),
        (204, 8),
        (216, 8192),
        (220, 131_072),
        (224, 8192),
        (228, SEGMENT),
        (232, 64),
        (252, 1),
    ];
    for (at, value) in usual.iter().chain(fields) {
        image[*at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let mut control = ControlFile::from_image(&image).expect("a control file");
    control.set_checkpoint(CHECKPOINT, &point());
    control
}

fn point() -> CheckPoint {
    CheckPoint {
        redo: CHECKPOINT,
        tli: TLI,
        prev_tli: TLI,
        next_xid: 1 << 32 | 800,
        ..CheckPoint::default()
    }
}

/// A page that says which it is, with its checksum.
fn page(mark: u8, block: u32) -> Page {
    let mut page = Page::zeroed();
    page.init(0);
    page.as_bytes_mut()[8000] = mark;
    let checksum = page.checksum(block);
    page.set_stored_checksum(checksum);
    page
}

fn pages(pages: &[Page]) -> Vec<u8> {
    pages.iter().flat_map(|page| page.as_bytes().to_vec()).collect()
}

/// Makes a data directory that can be imported.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = dir.path();
    put(root, "PG_VERSION", b"15\n");
    put(root, "global/pg_control", &control(&[]).encode());
    put(root, "global/pg_filenode.map", &[1; 512]);
    put(root, "base/5/PG_VERSION", b"15\n");
    put(root, "base/5/pg_filenode.map", &[2; 512]);
    put(root, "postgresql.conf", b"port = 1\n");
    put(
        root,
        "base/5/16384",
        &pages(&[page(1, 0), Page::zeroed(), page(2, 2)]),
    );
    put(root, "base/5/16384_fsm", &pages(&[page(3, 0)]));
    put(root, "base/5/16384_vm", &pages(&[page(4, 0)]));
    put(root, "base/5/16390", &pages(&[page(5, 0)]));
    put(root, "base/5/16390_init", b"");
    put(root, "base/5/t3_16400", &[0; 100]);
    put(root, "global/1262", &pages(&[page(6, 0)]));
    put(root, "pg_xact/0000", &[0x55; 2 * BLCKSZ]);
    put(root, "pg_multixact/offsets/0000", &[0; BLCKSZ]);
    put(root, "pg_replslot/kept/state", b"");
    put(root, "pg_stat/pgstat.stat", b"");
    let content = b"prepared";
    let crc = crc32c::crc32c(content).to_le_bytes();
    put(root, "pg_twophase/00000300", &[&content[..], &crc].concat());
    put(root, "pg_twophase/FFFFFFF0", &[&content[..], &crc].concat());

    let params = StreamParams {
        version: VERSION,
        system_id: SYSTEM,
        tli: TLI,
        segment_size: SEGMENT,
    };
    let mut wal = StreamWriter::new(params, Lsn(u64::from(SEGMENT)), Lsn(0x100));
    wal.push(RecordBuilder::new(VERSION, 0, 0).main(&point().encode(VERSION)));
    let mut bytes = wal.into_bytes();
    bytes.resize(SEGMENT as usize, 0);
    put(
        root,
        &format!("pg_wal/{}", segment::file_name(TLI, 1, SEGMENT)),
        &bytes,
    );
    dir
}

fn run(root: &Path) -> Result<(Imported, Vec<(Key, Value)>), ImportError> {
    let source = inspect(root)?;
    let mut values = Vec::new();
    let mut last = PackedKey::MIN;
    let imported = import(
        &source,
        &mut |key, value| {
            assert!(last < key, "{key:?} is out of order");
            last = key;
            values.push((Key::unpack(&key).expect("a key"), value));
            Ok(())
        },
        &mut |done, total| {
            assert!(done <= total);
            true
        },
    )?;
    Ok((imported, values))
}

#[test]
fn whoever_is_told_of_the_progress_can_end_it() {
    let dir = directory();
    let source = inspect(dir.path()).expect("importable");
    let mut told = 0;
    let ended = import(&source, &mut |_, _| Ok(()), &mut |_, _| {
        told += 1;
        told < 3
    });
    assert!(matches!(ended, Err(ImportError::Interrupted)), "{ended:?}");
    assert_eq!(told, 3, "at once");
}

#[test]
fn a_directory_comes_out_in_key_order() {
    let dir = directory();
    let (imported, values) = run(dir.path()).expect("an import");
    assert_eq!(imported.prev_record, CHECKPOINT);
    assert_eq!(
        imported.lsn,
        Lsn(CHECKPOINT.0 + 120),
        "114 bytes and their padding"
    );
    assert_eq!((imported.tli, imported.system_id), (TLI, SYSTEM));

    let rel = |db, rel, fork| RelTag {
        spc: if db == 0 { 1664 } else { 1663 },
        db,
        rel,
        fork,
    };
    let table = rel(5, 16384, Fork::Main);
    let map = table.with_fork(Fork::VisibilityMap);
    let shared = rel(0, 1262, Fork::Main);
    let slru = |kind, page| Key::SlruPage { kind, page };
    let mut expected = vec![
        Key::Checkpoint,
        CarriedFile::key("PG_VERSION"),
        CarriedFile::key("postgresql.conf"),
        Key::Database { spc: 1663, db: 5 },
        Key::RelMap { spc: 1663, db: 5 },
        Key::RelMap { spc: 1664, db: 0 },
        // Above the next transaction's low half: of the epoch before.
        Key::TwoPhase { xid: 0xFFFF_FFF0 },
        Key::TwoPhase { xid: 1 << 32 | 0x300 },
    ];
    expected[1..3].sort();
    expected.extend(SlruKind::ALL.map(Key::SlruSegments));
    // Zero pages are left out: the only one of offsets, block 1 of the table.
    expected.extend([slru(SlruKind::Clog, 0), slru(SlruKind::Clog, 1)]);
    expected.extend([
        Key::RelSize(table),
        Key::RelSize(map),
        Key::RelSize(rel(5, 16390, Fork::Init)),
        Key::RelSize(shared),
        Key::Block(table, 0),
        Key::Block(table, 2),
        Key::Block(map, 0),
        Key::Block(shared, 0),
    ]);
    let keys: Vec<Key> = values.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, expected);

    let value = |key: Key| values.iter().find(|(k, _)| *k == key).map(|(_, value)| value);
    assert_eq!(
        value(Key::RelSize(table)),
        Some(&Value::Item(RelSize::imported(3).encode()))
    );
    let Some(Value::Item(segments)) = value(Key::SlruSegments(SlruKind::MultixactOffsets)) else {
        panic!("no segments");
    };
    assert_eq!(
        SlruSegments::decode(segments).expect("segments").files(),
        [(0, 1)],
        "a zero page exists"
    );
    let Some(Value::Image(stored)) = value(Key::Block(table, 2)) else {
        panic!("no page");
    };
    assert_eq!((stored.as_bytes()[8000], stored.stored_checksum()), (2, 0));
    let source = inspect(dir.path()).expect("a directory");
    assert_eq!(
        source.left_behind,
        [
            "replication slot kept does not come along: make it where the cluster runs on, with pg_create_logical_replication_slot or \
             pg_create_physical_replication_slot",
            "statistics do not come along: Postgres gathers them anew",
            "1 unlogged relations come out empty: ALTER TABLE ... SET LOGGED, before the import, keeps a table",
        ]
    );
}

#[test]
fn the_same_directory_has_the_same_id_and_another_byte_another() {
    let dir = directory();
    let id = |root: &Path| run(root).expect("an import").0.timeline_id();
    let first = id(dir.path());
    assert_eq!(id(dir.path()), first);
    let other = directory();
    assert_eq!(id(other.path()), first, "where it lies does not matter");
    put(other.path(), "base/5/16384_vm", &pages(&[page(9, 0)]));
    assert_ne!(id(other.path()), first);
}

/// Changes a good directory, and returns why it is refused.
fn refusal(change: impl FnOnce(&Path)) -> ImportError {
    let dir = directory();
    change(dir.path());
    run(dir.path()).expect_err("it was taken")
}

#[test]
fn directories_are_refused_by_name() {
    use ImportError as E;
    let remove = |path: &'static str| move |root: &Path| fs::remove_file(root.join(path)).expect("remove");
    let add = |path: &'static str, bytes: &'static [u8]| move |root: &Path| put(root, path, bytes);
    let with = |fields: &'static [(usize, u32)]| {
        move |root: &Path| put(root, "global/pg_control", &control(fields).encode())
    };
    assert!(matches!(
        refusal(remove("PG_VERSION")),
        E::NotADataDirectory { .. }
    ));
    assert!(matches!(
        refusal(remove("global/pg_control")),
        E::NotADataDirectory { .. }
    ));
    assert!(matches!(refusal(add("PG_VERSION", b"13\n")), E::Version { .. }));
    assert!(matches!(refusal(add("PG_VERSION", b"16\n")), E::Control { .. }));
    assert!(matches!(
        refusal(add("global/pg_control", b"short")),
        E::Control { .. }
    ));
    for state in [0, 3, 4, 6] {
        let dir = directory();
        put(dir.path(), "global/pg_control", &control(&[(16, state)]).encode());
        assert!(
            matches!(inspect(dir.path()), Err(E::Unclean { .. })),
            "state {state}"
        );
    }
    assert!(matches!(refusal(with(&[(16, 2)])), E::Standby { .. }));
    assert!(matches!(refusal(with(&[(16, 5)])), E::Standby { .. }));
    assert!(matches!(refusal(add("standby.signal", b"")), E::Standby { .. }));
    assert!(matches!(refusal(add("recovery.signal", b"")), E::Standby { .. }));
    assert!(matches!(refusal(add("backup_label", b"")), E::Backup { .. }));
    assert!(matches!(
        refusal(with(&[(216, 4096)])),
        E::BlockSize { found: 4096, .. }
    ));
    assert!(matches!(
        refusal(with(&[(220, 1)])),
        E::BlockSize { found: 1, .. }
    ));
    let linked = |root: &Path| {
        fs::rename(root.join("base/5"), root.join("elsewhere")).expect("moved");
        std::os::unix::fs::symlink(root.join("elsewhere"), root.join("base/5")).expect("symlink");
    };
    assert!(matches!(
        refusal(linked),
        E::UnknownFiles { files, .. } if files == ["base/5"]
    ));
    let link = |root: &Path| {
        fs::create_dir(root.join("pg_tblspc")).expect("mkdir");
        std::os::unix::fs::symlink("/srv/fast", root.join("pg_tblspc/16500")).expect("symlink");
    };
    assert!(
        matches!(refusal(link), E::Tablespaces { tablespaces, .. } if tablespaces == ["16500 (/srv/fast)"])
    );
}

#[test]
fn a_running_server_is_noticed_and_a_dead_one_is_not_in_the_way() {
    let dir = directory();
    put(
        dir.path(),
        "postmaster.pid",
        format!("{}\n/data\n", std::process::id()).as_bytes(),
    );
    assert!(matches!(
        inspect(dir.path()),
        Err(ImportError::Running { pid, .. }) if pid as u32 == std::process::id()
    ));
    // No process has that number.
    put(dir.path(), "postmaster.pid", b"2147483646\n/data\n");
    inspect(dir.path()).expect("a stopped directory");
}

#[test]
fn what_postgres_did_not_make_is_left_and_told() {
    let dir = directory();
    let id = run(dir.path()).expect("an import").0.timeline_id();
    for path in [
        "pg_hba.conf.bak",
        "base/5/16384.old",
        "pg_xact/0000.bak",
        "pg_xact/00001",
        "deep/er/file",
    ] {
        put(dir.path(), path, b"x");
    }
    assert_eq!(
        run(dir.path()).expect("an import").0.timeline_id(),
        id,
        "it is no part of it"
    );
    let told = inspect(dir.path()).expect("a directory").left_behind;
    assert!(told.iter().any(|line| line.starts_with("deep/ is")), "{told:?}");
    assert!(
        told.contains(&"pg_hba.conf.bak is left where it is: Postgres did not make it".to_owned()),
        "{told:?}"
    );
    assert_eq!(
        told.iter()
            .filter(|line| line.contains("did not make it"))
            .count(),
        5,
        "{told:?}"
    );
}

#[test]
fn slrus_that_a_start_would_miss_are_missed() {
    use ImportError as E;
    let damaged = |name: &str, change: &dyn Fn(&Path)| {
        let error = refusal(change);
        assert!(
            matches!(&error, E::Damaged { path, .. } if path.ends_with(name)),
            "{error:?}"
        );
    };
    let at = |xid: u64, multi: u32, member: u32| {
        move |root: &Path| {
            let mut control = control(&[]);
            let next = CheckPoint {
                next_xid: xid,
                next_multi: multi,
                next_multi_offset: member,
                ..point()
            };
            control.set_checkpoint(CHECKPOINT, &next);
            put(root, "global/pg_control", &control.encode());
            put(root, "pg_multixact/members/0000", &[0; BLCKSZ]);
        }
    };
    damaged("pg_xact/0000", &at(2 * 32768 + 1, 0, 0));
    damaged("pg_multixact/offsets/0000", &at(800, 2048 + 1, 0));
    damaged("pg_multixact/members/0000", &at(800, 1, 1636 + 4));
    damaged("pg_multixact/offsets/0000", &|root| {
        fs::remove_file(root.join("pg_multixact/offsets/0000"))
            .map(|()| at(800, 5, 1)(root))
            .expect("removed")
    });
    // The next one begins a page, which is made when it is needed.
    for fine in [at(2 * 32768, 2048, 1636), at(800, 2047, 1635)] {
        let dir = directory();
        fine(dir.path());
        inspect(dir.path()).expect("a directory that starts");
    }
    // No member has that number.
    damaged("pg_multixact/members/FFFF0", &|root| {
        put(root, "pg_multixact/members/FFFF0", &[0; BLCKSZ])
    });
    damaged("pg_multixact/offsets/0001", &|root| {
        put(root, "pg_multixact/offsets/0001", &[0; BLCKSZ + 1])
    });
}

#[test]
fn damage_is_found_and_named() {
    use ImportError as E;
    let flip = |root: &Path| {
        let mut bytes = pages(&[page(1, 0), Page::zeroed(), page(2, 2)]);
        bytes[2 * BLCKSZ + 100] ^= 1;
        put(root, "base/5/16384", &bytes);
    };
    assert!(matches!(
        refusal(flip),
        E::Checksum { block: 2, path, .. } if path.ends_with("base/5/16384")
    ));
    let swapped = |root: &Path| put(root, "base/5/16384", &pages(&[page(1, 1)]));
    assert!(
        matches!(refusal(swapped), E::Checksum { block: 0, .. }),
        "a checksum knows its block"
    );
    let cut = |root: &Path| put(root, "base/5/16384", &[0; 100]);
    assert!(matches!(refusal(cut), E::Damaged { .. }));
    let gap = |root: &Path| put(root, "base/5/16384.2", &[]);
    assert!(matches!(refusal(gap), E::Damaged { .. }));
    let after_short = |root: &Path| put(root, "base/5/16384.1", &[0; BLCKSZ]);
    assert!(matches!(refusal(after_short), E::Damaged { .. }));
    let prepared = |root: &Path| put(root, "pg_twophase/00000300", b"prepared....");
    assert!(matches!(refusal(prepared), E::Damaged { .. }));
    let map = |root: &Path| put(root, "base/5/pg_filenode.map", &[0; 524]);
    assert!(matches!(refusal(map), E::Damaged { .. }));
    let database = |root: &Path| put(root, "base/5/PG_VERSION", b"14\n");
    assert!(matches!(refusal(database), E::Damaged { .. }));
    let origins = |root: &Path| put(root, "pg_logical/replorigin_checkpoint", b"xxxxxxxx");
    assert!(matches!(refusal(origins), E::Damaged { .. }));
    let wal = |root: &Path| {
        let name = segment::file_name(TLI, 1, SEGMENT);
        put(root, &format!("pg_wal/{name}"), &vec![0; SEGMENT as usize]);
    };
    assert!(matches!(
        refusal(wal),
        E::CheckpointRecord { lsn: CHECKPOINT, .. }
    ));
    let no_wal = |root: &Path| {
        fs::remove_file(root.join("pg_wal").join(segment::file_name(TLI, 1, SEGMENT))).expect("remove");
    };
    assert!(matches!(refusal(no_wal), E::Io { .. }));
}

#[test]
fn an_empty_segment_behind_a_short_one_is_what_truncation_leaves() {
    let dir = directory();
    put(dir.path(), "base/5/16384.1", &[]);
    run(dir.path()).expect("an import");
}
