//! A repository in the hands of somebody who writes into its files what he likes, with checksums that fit. What `neon` then tells others is a
//! lie.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use neon_objects::{Commit, ObjectStore};
use neon_pagestore::{PageStore, Timeline};
use neon_postgres::wal::{RecordBuilder, StreamWriter, rmgr};
use neon_types::{CommitId, LsnRange, ObjectId, Position, TimelineId};

use crate::repo::TestRepo;

/// `XLOG_XACT_COMMIT`
const COMMIT: u8 = 0;

/// The files of a repository whose daemon is gone.
pub struct Forge<'r> {
    repo: &'r TestRepo<'r>,
    objects: Arc<ObjectStore>,
    pages: PageStore,
}

impl<'r> Forge<'r> {
    /// Opens the files; the daemon is ended first.
    pub fn open(repo: &'r TestRepo<'r>) -> Forge<'r> {
        repo.quit();
        let objects = Arc::new(ObjectStore::open(repo.inside("objects")).expect("objects"));
        let pages = PageStore::open(&repo.inside(""), Arc::clone(&objects)).expect("a page store");
        Forge { repo, objects, pages }
    }

    /// Returns the commit of a revision.
    pub fn commit(&self, revision: &str) -> Commit {
        let id: CommitId = self.repo.place(revision).commit.parse().expect("an id");
        self.objects.read_commit(id).expect("a commit")
    }

    /// Returns a timeline.
    pub fn timeline(&self, id: TimelineId) -> Arc<Timeline> {
        self.pages.get(id).expect("a timeline")
    }

    /// Returns a record that commits a transaction, as the next of a timeline.
    pub fn transaction(&self, timeline: &Timeline) -> RecordBuilder {
        let state = timeline.checkpoint_state(timeline.end()).expect("its state");
        let xid = u32::try_from(state.checkpoint.next_xid).expect("the first epoch");
        RecordBuilder::new(timeline.version(), rmgr::XACT, COMMIT)
            .xid(xid)
            .main(&0_i64.to_le_bytes())
    }

    /// Writes records where the WAL of a timeline ends, whoever writes it.
    pub fn write(&self, timeline: &Timeline, records: Vec<RecordBuilder>) {
        self.try_write(timeline, records).expect("kept");
    }

    /// The same; says why the forger's own repository does not take it.
    pub fn try_write(&self, timeline: &Timeline, records: Vec<RecordBuilder>) -> Result<(), String> {
        let last = timeline.record_at_or_before(timeline.end()).expect("a record");
        let mut stream = StreamWriter::new(timeline.stream_params(), last.end, last.start);
        for record in records {
            stream.push(record);
        }
        let kept = timeline
            .append_wal(last.end, &stream.into_bytes())
            .and_then(|()| timeline.sync_wal())
            .and_then(|_| timeline.index_wal());
        kept.map(drop).map_err(|error| error.to_string())
    }

    /// Returns a commit of the end of a timeline, on the way of another one, as its writer would make it.
    pub fn commit_at_end(&self, parent: &Commit, timeline: &Timeline) -> Commit {
        let end = timeline.end();
        let state = timeline.checkpoint_state(end).expect("its state");
        Commit {
            position: Position {
                timeline: timeline.id(),
                lsn: end,
            },
            prev_record: timeline.record_at_or_before(end).expect("a record").start,
            checkpoint: state.encode(timeline.version()),
            digests: timeline.digests(parent.position.lsn, end).expect("digests"),
            parents: vec![parent.id()],
            message: "forged".to_owned(),
            ..parent.clone()
        }
    }

    /// Keeps a commit, and makes a branch of it.
    pub fn branch(&self, name: &str, commit: &Commit) -> CommitId {
        let id = CommitId(self.objects.put(&commit.encode()).expect("written"));
        fs::write(self.repo.inside(&format!("refs/heads/{name}")), format!("{id}\n")).expect("written");
        id
    }

    /// Changes the text of a timeline's state.
    pub fn state(&self, timeline: TimelineId, change: impl FnOnce(&str) -> String) {
        let path = self.state_path(timeline);
        let text = fs::read_to_string(&path).expect("a state");
        let (body, _) = text.rsplit_once("# crc32c ").expect("a checksum");
        let body = change(body);
        let checksum = crc32c::crc32c(body.as_bytes());
        fs::write(&path, format!("{body}# crc32c {checksum:08x}\n")).expect("written");
    }

    fn state_path(&self, timeline: TimelineId) -> PathBuf {
        self.repo.inside(&format!("timelines/{timeline}/state"))
    }

    /// Signs a range of a timeline with a key that is not its writer's.
    pub fn sign_with_own_key(&self, timeline: &Timeline, range: LsnRange) {
        let key = neon_objects::WriterKey::from_seed(&[0x66; 32]);
        let digest = timeline.wal_digest(range).expect("read").expect("kept");
        timeline
            .keep_attestations(&[key.attest(timeline.id(), range, digest)])
            .expect("kept");
    }

    /// Keeps bytes as an object.
    pub fn put(&self, bytes: &[u8]) -> ObjectId {
        self.objects.put(bytes).expect("written")
    }
}
