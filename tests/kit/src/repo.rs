//! A repository of a test, and how a test talks to it: always through the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use neon_objects::{Expect, ObjectStore, RefEdit, Refs};
use neon_pagestore::{LayerWriter, MapEntry, PageStore};
use neon_postgres::wal::{NewBlock, RecordBuilder, StreamWriter, rmgr};
use neon_types::{CommitId, Fork, Key, KeyRange, Lsn, ObjectId, RefName, RelTag};
use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::output::{Output, Refused};
use crate::postgres::TestPostgres;

/// A resource manager of an extension (`RM_CUSTOM_MIN_ID` and above).
const EXTENSION: u8 = 200;
/// `XLOG_XACT_COMMIT`
const COMMIT: u8 = 0;

/// A repository in the directory of a test.
#[derive(Clone)]
pub struct TestRepo<'e> {
    environment: &'e TestEnvironment,
    directory: PathBuf,
}

/// Where a branch or revision is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Commit id, in full.
    pub commit: String,
    /// Timeline id.
    pub timeline: String,
    /// LSN.
    pub lsn: String,
}

impl<'e> TestRepo<'e> {
    pub(crate) fn new(environment: &'e TestEnvironment, directory: PathBuf) -> TestRepo<'e> {
        TestRepo {
            environment,
            directory,
        }
    }

    /// Returns the environment that it is in.
    pub fn environment(&self) -> &'e TestEnvironment {
        self.environment
    }

    /// Returns the directory that holds `.neon/`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns a path in `.neon/`.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.directory.join(".neon").join(path)
    }

    /// Returns `neon` in this repository, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        self.environment.neon_command(&self.directory, args)
    }

    /// Runs `neon` in this repository.
    pub fn neon(&self, args: &[&str]) -> Output {
        Output::of(&mut self.command(args))
    }

    /// Runs `neon`, which must succeed; returns its stdout.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.neon(args).success()
    }

    /// Runs `neon --json`, which must succeed; returns its result.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.neon(&[args, &["--json"]].concat()).json()
    }

    /// Runs `neon`, which must refuse; returns what it said.
    #[track_caller]
    pub fn refused(&self, args: &[&str]) -> Refused {
        self.neon(args).refused()
    }

    /// Starts an endpoint; returns its URI, which is the last line on stdout.
    #[track_caller]
    pub fn start(&self, revision: &str) -> String {
        let stdout = self.ok(&["start", revision]);
        stdout.lines().next_back().expect("a URI").to_owned()
    }

    /// Returns the URI of a running endpoint.
    #[track_caller]
    pub fn uri(&self, branch: &str) -> String {
        self.ok(&["uri", branch])
    }

    /// Runs SQL on the endpoint of a branch.
    #[track_caller]
    pub fn sql(&self, branch: &str, sql: &str) -> String {
        TestPostgres::sql(&self.uri(branch), sql)
    }

    /// Runs SQL on the endpoint of a branch, which is started when it does not run.
    #[track_caller]
    pub fn sql_on(&self, branch: &str, sql: &str) -> String {
        TestPostgres::sql(&self.start(branch), sql)
    }

    /// Returns where a revision is.
    #[track_caller]
    pub fn place(&self, revision: &str) -> Place {
        let shown = self.json(&["show", revision]);
        let text = |key: &str| shown[key].as_str().expect("text").to_owned();
        Place {
            commit: text("id"),
            timeline: text("timeline"),
            lsn: text("lsn"),
        }
    }

    /// Writes a commit whose id begins with the same four digits as that of a revision; returns both ids.
    pub fn twin_of(&self, revision: &str) -> (String, String) {
        let objects = ObjectStore::open(self.inside("objects")).expect("objects");
        let id: CommitId = self.place(revision).commit.parse().expect("an id");
        let mut commit = objects.read_commit(id).expect("a commit");
        let digits = &id.to_string()[..4];
        for number in 0.. {
            commit.message = format!("attempt {number}");
            let twin = commit.id().to_string();
            if twin.starts_with(digits) && twin != id.to_string() {
                objects.write_commit(&commit).expect("written");
                return (id.to_string(), twin);
            }
        }
        unreachable!("every 65536th attempt succeeds")
    }

    /// Moves a branch, whose daemon must be gone, to a commit that is its head but for the settings, which are this text.
    pub fn forge_settings(&self, branch: &str, settings: &str) {
        let objects = ObjectStore::open(self.inside("objects")).expect("objects");
        let id: CommitId = self.place(branch).commit.parse().expect("an id");
        let mut commit = objects.read_commit(id).expect("a commit");
        commit.settings = settings.to_owned();
        commit.parents = vec![id];
        let forged = objects.write_commit(&commit).expect("written");
        let edit = RefEdit {
            name: RefName::branch(branch).expect("a name"),
            expect: Expect::Exactly(id),
            new: Some(forged),
        };
        let refs = Refs::open(self.inside("")).expect("refs");
        refs.edit(&[edit], "somebody", "forged", commit.time)
            .expect("moved");
    }

    /// Continues the WAL of a branch, whose daemon must be gone, with a record of an extension's own kind that changes block 0 of a
    /// relation, and with a transaction's commit. Returns where the former ends.
    pub fn write_record_of_an_extension(&self, branch: &str, rel: RelTag) -> Lsn {
        let id = self.place(branch).timeline.parse().expect("an id");
        let objects = ObjectStore::open(self.inside("objects")).expect("objects");
        let store = PageStore::open(&self.inside(""), Arc::new(objects)).expect("a page store");
        let timeline = store.get(id).expect("a timeline");
        let last = timeline.record_at_or_before(timeline.end()).expect("a record");
        let version = timeline.version();
        let mut stream = StreamWriter::new(timeline.stream_params(), last.end, last.start);
        let block = NewBlock::new(0, rel, 0).data(b"what only the extension knows");
        let (_, end) = stream.push(RecordBuilder::new(version, EXTENSION, 0).block(block));
        let state = timeline.checkpoint_state(timeline.end()).expect("its state");
        let xid = u32::try_from(state.checkpoint.next_xid).expect("the first epoch");
        stream.push(
            RecordBuilder::new(version, rmgr::XACT, COMMIT)
                .xid(xid)
                .main(&0i64.to_le_bytes()),
        );
        timeline
            .append_wal(last.end, &stream.into_bytes())
            .expect("appended");
        timeline.sync_wal().expect("durable");
        timeline.index_wal().expect("indexed");
        end
    }

    /// Lists so many layers of the import, which are empty, that the list is an object of its own, a chunk of the layer map; returns that. The
    /// daemon must be gone. A clone that does the same has the same chunk.
    pub fn list_more_layers(&self) -> ObjectId {
        let objects = Arc::new(ObjectStore::open(self.inside("objects")).expect("objects"));
        let store = PageStore::open(&self.inside(""), Arc::clone(&objects)).expect("a page store");
        let timelines = store
            .list()
            .into_iter()
            .map(|id| store.get(id).expect("a timeline"));
        let root = timelines
            .into_iter()
            .find(|timeline| timeline.ancestor().is_none());
        let root = root.expect("an import");
        let map = root.layer_map().expect("a map");
        // Of relations that nobody has.
        let key = |rel| {
            let (spc, db, fork) = (u32::MAX, 0, Fork::Main);
            Key::Block(RelTag { spc, db, rel, fork }, 0).pack()
        };
        let empty = (0..70).map(|rel| {
            let writer = LayerWriter::image(&objects, root.start()).expect("a layer");
            let keys = KeyRange {
                start: key(rel),
                end: key(rel + 1),
            };
            MapEntry::whole(&writer.finish(keys).expect("written"))
        });
        let more = map.with(map.sealed(), empty.collect::<Vec<_>>());
        let id = more.write(&objects).expect("written");
        let path = root.directory().join("state");
        let state = fs::read_to_string(&path).expect("a state");
        let old = root.state().layer_map.expect("a map");
        let state = state.replace(&old.to_string(), &id.to_string());
        // The last eight digits are the checksum of the lines before that one.
        let body = state.trim_end().rfind('\n').expect("lines") + 1;
        let prefix = state.trim_end().len() - 8;
        let checksum = crc32c::crc32c(&state.as_bytes()[..body]);
        fs::write(&path, format!("{}{checksum:08x}\n", &state[..prefix])).expect("written");
        let chunk = more.objects().next();
        chunk.expect("a chunk")
    }

    /// Returns the file of an object.
    pub fn object(&self, id: &str) -> PathBuf {
        let (fan, rest) = id.split_at(2);
        self.inside("objects").join(fan).join(rest)
    }

    /// Sets a setting.
    #[track_caller]
    pub fn set(&self, key: &str, value: &str) {
        self.ok(&["config", "set", key, value]);
    }

    /// Checks the repository, as deep as its WAL goes; it must be well.
    #[track_caller]
    pub fn fsck(&self) {
        let output = self.neon(&["fsck", "--deep"]);
        assert!(output.status.success(), "{}", output.describe());
    }

    /// Returns the process id of the daemon, as the repository says.
    pub fn daemon(&self) -> Option<u32> {
        fs::read_to_string(self.inside("neon.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Ends the daemon, if one runs, and waits until it is gone.
    #[track_caller]
    pub fn quit(&self) {
        let Some(daemon) = self.daemon() else { return };
        crate::process::kill(daemon, rustix::process::Signal::TERM);
        for _ in 0..6_000 {
            if !Path::new(&format!("/proc/{daemon}")).exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the daemon {daemon} does not end");
    }

    /// Returns the process id of an endpoint's postmaster, as its data directory says.
    pub fn postmaster(&self, branch: &str) -> Option<u32> {
        crate::process::postmaster_of(&self.inside(&format!("endpoints/{branch}/pgdata")))
    }

    /// Returns bytes of all objects.
    pub fn object_bytes(&self) -> u64 {
        fn size(path: &Path) -> u64 {
            let Ok(metadata) = fs::symlink_metadata(path) else {
                return 0;
            };
            if !metadata.is_dir() {
                return metadata.len();
            }
            let Ok(entries) = fs::read_dir(path) else { return 0 };
            entries
                .filter_map(Result::ok)
                .map(|entry| size(&entry.path()))
                .sum()
        }
        size(&self.inside("objects"))
    }
}
