//! WAL that somebody changed, from a push to an export: what a repository takes in it can read, and what it refuses leaves nothing.
//!
//! ```text
//! u16 how many records are pushed, of 65536 parts of all | for each change: u16 record | u16 byte in it | u8 what it is then
//! ```
//! The lengths of records, their links and CRCs stay or are put right, so that what looks into records is reached.
//!
//! [`MATERIAL`] names what `scripts/fuzz-material` made: `server`, a repository with the history of an import; `client`, a clone of it;
//! `writer`, the same clone after its endpoint wrote.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use neon_objects::WriterKey;
use neon_pagestore::NewTimeline;
use neon_postgres::wal::segment::header_size;
use neon_postgres::wal::{RECORD_HEADER_SIZE, record_crc};
use neon_repo::api::{Caller, Fsck, Gc, Quiet, Request, Response, Transfer};
use neon_repo::neighbours::Alone;
use neon_repo::world::RealWorld;
use neon_repo::{OpenOptions, Repository};
use neon_types::{Lsn, LsnRange, ObjectId, RepoId};
use tokio::runtime::Runtime;

use crate::scratch;

/// The environment's name for the directory of the material.
pub const MATERIAL: &str = "NEON_FUZZ_MATERIAL";

/// Bytes of a record that stay: its length and its link; the CRC follows from the others.
const KEPT: [std::ops::Range<usize>; 3] = [0..4, 8..16, 20..24];

/// A branch's WAL, as its endpoint wrote it.
struct Strand {
    timeline: NewTimeline,
    wal: Vec<u8>,
    start: Lsn,
    /// For each record the places of its bytes in `wal`, and where it ends there.
    records: Vec<(Vec<usize>, usize)>,
}

struct Material {
    directory: PathBuf,
    runtime: Runtime,
    strand: Strand,
}

static ALL: LazyLock<Material> = LazyLock::new(|| {
    let directory = std::env::var_os(MATERIAL).map(PathBuf::from);
    let directory = directory.expect("NEON_FUZZ_MATERIAL names what scripts/fuzz-material made");
    let runtime = Runtime::new().expect("a runtime");
    let copy = scratch::empty().join("writer");
    copy_tree(&directory.join("writer"), &copy);
    let strand = Strand::of(&open(&copy, &runtime));
    Material {
        directory,
        runtime,
        strand,
    }
});

impl Strand {
    /// Returns what the endpoint of main wrote, whose timeline is that of no commit before it.
    fn of(repository: &Repository) -> Strand {
        let ids = repository.pages().list();
        let mut timelines = ids
            .into_iter()
            .map(|id| repository.pages().get(id).expect("it opens"));
        let timeline = timelines
            .rfind(|timeline| timeline.state().branch.as_deref() == Some("main"))
            .expect("main was written on");
        let range = LsnRange {
            start: timeline.start(),
            end: timeline.end(),
        };
        let (wal, state) = (
            timeline.wal_bytes(range).expect("its WAL is here"),
            timeline.state(),
        );
        let params = timeline.stream_params();
        let mut records = Vec::new();
        timeline
            .for_each_record(range, &mut |record, start, end| {
                let mut places = Vec::with_capacity(record.bytes().len());
                let mut at = start;
                while places.len() < record.bytes().len() {
                    match at.0 % neon_postgres::BLCKSZ as u64 {
                        0 => at = at + header_size(at, params.segment_size) as u64,
                        _ => {
                            places.push((at.0 - range.start.0) as usize);
                            at = at + 1;
                        }
                    }
                }
                records.push((places, (end.0 - range.start.0) as usize));
                true
            })
            .expect("its WAL is here");
        Strand {
            timeline: NewTimeline {
                id: timeline.id(),
                ancestor: timeline.ancestor().expect("a fork"),
                tli: timeline.tli(),
                writer: state.writer,
                branch: Some("main".to_owned()),
                provisional: false,
            },
            wal,
            start: range.start,
            records,
        }
    }

    /// Returns the WAL that an input says.
    fn changed(&self, data: &[u8]) -> Vec<u8> {
        let (part, mut data) = match data.split_first_chunk::<2>() {
            Some((part, rest)) => (u16::from_le_bytes(*part), rest),
            None => (0, data),
        };
        let count = 1 + usize::from(part) * self.records.len() / 0x1_0000;
        let records = &self.records[..count.min(self.records.len())];
        let mut wal = self.wal[..records.last().map_or(0, |(_, end)| *end)].to_vec();
        while let Some(([r0, r1, b0, b1, value], rest)) = data.split_first_chunk::<5>() {
            data = rest;
            let (places, _) = &records[usize::from(u16::from_le_bytes([*r0, *r1])) % records.len()];
            let byte = usize::from(u16::from_le_bytes([*b0, *b1])) % places.len();
            if KEPT.iter().any(|kept| kept.contains(&byte)) {
                continue;
            }
            wal[places[byte]] = *value;
            let record: Vec<u8> = places.iter().map(|place| wal[*place]).collect();
            let crc = record_crc(&record).expect("a whole record").to_le_bytes();
            for (place, byte) in places[RECORD_HEADER_SIZE - 4..RECORD_HEADER_SIZE].iter().zip(crc) {
                wal[*place] = byte;
            }
        }
        wal
    }
}

fn caller() -> Caller {
    Caller {
        directory: "/".into(),
        zone: "UTC".into(),
        author: "fuzz <fuzz@localhost>".into(),
        ..Caller::default()
    }
}

fn open(directory: &Path, runtime: &Runtime) -> Repository {
    let options = OpenOptions {
        takes_over: false,
        purpose: "fuzz".into(),
        world: Arc::new(RealWorld),
        caller: Arc::new(caller()),
        neighbours: Arc::new(Alone),
        lock_wait: std::time::Duration::from_secs(5),
    };
    Repository::open(&directory.join(".neon"), options, runtime.handle()).expect("it opens")
}

/// Returns who writes in a repository that was opened.
fn writer(repository: &Path) -> RepoId {
    let text = fs::read_to_string(repository.join(".neon/instance")).expect("it is there");
    let seed = text
        .split(' ')
        .next()
        .and_then(|seed| seed.parse::<ObjectId>().ok());
    WriterKey::from_seed(&seed.expect("the seed of a key").to_bytes()).id()
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("can be made");
    for entry in fs::read_dir(from).expect("can be read") {
        let entry = entry.expect("can be read");
        let (path, kind) = (entry.path(), entry.file_type().expect("has a type"));
        if kind.is_dir() {
            copy_tree(&path, &to.join(entry.file_name()));
        } else if kind.is_file() {
            fs::copy(&path, to.join(entry.file_name())).expect("can be copied");
        }
    }
}

/// Returns the names of all files that are history: objects, timelines, refs. `received` is none: it says how much of a timeline is durable.
fn kept(repository: &Path) -> BTreeSet<PathBuf> {
    fn below(directory: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path(), found);
            } else if entry.file_name() != "received" {
                found.insert(entry.path());
            }
        }
    }
    let mut found = BTreeSet::new();
    for name in ["objects", "timelines", "refs"] {
        below(&repository.join(".neon").join(name), &mut found);
    }
    found
}

/// Pushes what the input says.
///
/// # Panics
/// What was refused left something, or what was accepted cannot be checked, read or exported.
pub fn run(data: &[u8]) {
    push(data);
}

/// The same; returns true when it was accepted.
fn push(data: &[u8]) -> bool {
    let all = &*ALL;
    let home = scratch::empty();
    let (client, server) = (home.join("client"), home.join("server"));
    copy_tree(&all.directory.join("client"), &client);
    copy_tree(&all.directory.join("server"), &server);
    let before = kept(&server);
    let wal = all.strand.changed(data);
    let repository = open(&client, &all.runtime);
    let new = NewTimeline {
        writer: writer(&client),
        ..all.strand.timeline.clone()
    };
    let timeline = repository.pages().create(new).expect("it is new");
    let taken = timeline
        .append_wal(all.strand.start, &wal)
        .and_then(|()| timeline.sync_wal())
        .and_then(|_| timeline.index_wal());
    if taken.is_err() {
        // Who pushes cannot say what the state is at its end; who receives stops at the same record.
        return false;
    }
    drop(timeline);
    let repository = Arc::new(repository);
    let ask = |request| repository.handle(request, &caller(), &mut Quiet);
    ask(Request::OriginAdd {
        name: "server".into(),
        uri: server.display().to_string(),
    })
    .expect("it is new");
    let made = ask(Request::Commit {
        branch: Some("main".into()),
        message: "changed".into(),
        author: None,
    });
    if made.is_err() {
        return false;
    }
    let pushed = ask(Request::Push(Transfer {
        branch: Some("main".into()),
        target: Some("server".into()),
        ..Transfer::default()
    }));
    drop(repository);
    if let Err(error) = pushed {
        // What arrived and has no name goes with the next collection.
        let collected = open(&server, &all.runtime).handle(
            Request::Gc(Gc {
                grace_seconds: Some(0),
                ..Gc::default()
            }),
            &caller(),
            &mut Quiet,
        );
        collected.expect("what was refused keeps nothing from being collected");
        assert_eq!(
            kept(&server),
            before,
            "what was refused leaves nothing: {error:?}"
        );
        return false;
    }
    let repository = open(&server, &all.runtime);
    let ask = |request| repository.handle(request, &caller(), &mut Quiet);
    let checked = ask(Request::Fsck(Fsck {
        deep: true,
        ..Fsck::default()
    }));
    match checked.expect("what was accepted can be checked") {
        Response::Checked(checked) => assert!(checked.findings.is_empty(), "{:?}", checked.findings),
        other => panic!("{other:?}"),
    }
    ask(Request::Export {
        rev: "main".into(),
        pgdata: home.join("pgdata"),
    })
    .expect("what was accepted can be exported");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs the material of scripts/fuzz-material"]
    fn what_nobody_changed_is_accepted_whole_and_in_part() {
        for part in [0, 1, 0x4000, 0x8000, 0xFFFF_u16] {
            assert!(push(&part.to_le_bytes()), "{part:x}");
        }
    }
}
