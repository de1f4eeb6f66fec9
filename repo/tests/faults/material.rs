//! What the course is made of: a stopped data directory of a real Postgres, and the WAL that one wrote on two branches.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use neon_pagestore::{NewTimeline, import};
use neon_repo::Repository;
use neon_repo::api::{Existing, Init, Quiet, Request, Response, Role};
use neon_tests_kit::{Output, TestPostgres};
use neon_types::{Lsn, LsnRange, Position, TimelineId};

use crate::stage::{caller, options};

/// The version that is tested with.
pub const MAJOR: u16 = 15;

/// What a branch's endpoint wrote.
pub struct Strand {
    pub timeline: TimelineId,
    pub tli: u32,
    pub ancestor: Position,
    pub start: Lsn,
    pub end: Lsn,
    pub wal: Vec<u8>,
    /// Ends of its records, and its start.
    pub ends: Vec<Lsn>,
}

impl Strand {
    fn of(repository: &Repository, branch: &str) -> Strand {
        let ids = repository.pages().list();
        let mut timelines = ids
            .into_iter()
            .map(|id| repository.pages().get(id).expect("it opens"));
        let timeline = timelines
            .rfind(|timeline| timeline.state().branch.as_deref() == Some(branch))
            .expect("the branch was written on");
        let range = LsnRange {
            start: timeline.start(),
            end: timeline.end(),
        };
        let mut ends = vec![timeline.start()];
        timeline
            .for_each_record(range, &mut |_, _, end| {
                ends.push(end);
                true
            })
            .expect("its WAL is here");
        Strand {
            timeline: timeline.id(),
            tli: timeline.tli(),
            ancestor: timeline.ancestor().expect("an import is not written on"),
            start: range.start,
            end: range.end,
            wal: timeline.wal_bytes(range).expect("its WAL is here"),
            ends,
        }
    }

    /// Returns the end of the record at so many hundredths of the strand.
    pub fn at(&self, hundredths: u64) -> Lsn {
        let lsn = Lsn(self.start.0 + (self.end.0 - self.start.0) * hundredths / 100);
        let index = self.ends.partition_point(|end| *end <= lsn);
        self.ends[index - 1]
    }
}

pub struct Material {
    /// A data directory that was stopped cleanly.
    pub pgdata: PathBuf,
    /// The repository in which the strands were written: it is what others are compared with.
    pub original: Arc<Repository>,
    pub main: Strand,
    pub dev: Strand,
    /// What the stopped data directory of main, whose WAL nobody has, is taken in as.
    pub gap: NewTimeline,
    pub gap_directory: PathBuf,
    pub gap_end: Lsn,
}

/// Where the branch of a directory with a gap leaves main, in hundredths.
pub const GAP_AT: u64 = 55;

const ON_MAIN: &str = "create table t (id int primary key, word text, pad text) with (fillfactor = 60);
    insert into t select n, 'word ' || n, repeat(md5(n::text), 4) from generate_series(1, 3000) n;
    create index on t (word); checkpoint;
    update t set word = word || ' again' where id % 7 = 0;
    begin; insert into t select n, 'gone', '' from generate_series(5000, 5200) n; rollback;
    create table u as select * from t where id < 300; truncate u; insert into u select * from t where id > 2800;
    vacuum t; checkpoint;";
const MORE_ON_MAIN: &str = "update t set pad = upper(pad) where id % 5 = 0; checkpoint;
    delete from t where id between 100 and 400; vacuum t; create table v (n bigint);
    insert into v select generate_series(1, 5000); checkpoint; update t set word = 'last' where id > 2900;";
const ON_DEV: &str =
    "create table of_dev as select * from t where id < 1500; create index on of_dev (id); checkpoint;
    delete from of_dev where id % 3 = 0; vacuum of_dev; update t set word = 'dev' where id % 11 = 0;";

impl Material {
    pub fn make(directory: &Path, runtime: &tokio::runtime::Handle) -> Material {
        let postgres = TestPostgres::find(MAJOR);
        let pgdata = directory.join("pgdata");
        let mut initdb = Command::new(postgres.bin("initdb"));
        initdb.args([
            "--no-sync",
            "-U",
            "postgres",
            "-A",
            "trust",
            "--locale",
            "C",
            "--wal-segsize",
            "1",
            "-D",
        ]);
        Output::of(initdb.arg(&pgdata)).success();
        // Small enough to be imported a hundred times.
        let mut alone = Command::new(postgres.bin("postgres"));
        let mut alone = alone
            .args(["--single", "-F", "-D"])
            .arg(&pgdata)
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres starts");
        let sql = "update pg_database set datistemplate = false;\ndrop database template0;\ndrop database template1;\n";
        alone
            .stdin
            .take()
            .expect("piped")
            .write_all(sql.as_bytes())
            .expect("postgres reads");
        assert!(alone.wait().expect("postgres ends").success());

        let home = directory.join("original");
        let init = Init {
            directory: home.clone(),
            from: Some(pgdata.clone()),
            ..Init::default()
        };
        neon_repo::init(init, options(1), runtime, &mut Quiet).expect("imported");
        let original = Repository::open(&home.join(".neon"), options(2), runtime).expect("it opens");
        let original = Arc::new(original);
        let run = |request: Request| original.handle(request, &caller(), &mut Quiet).expect("it works");
        let start = |branch: &str| match run(Request::Start {
            existing: Existing::Use,
            role: Role::Copy,
            rev: Some(branch.into()),
            port: None,
        }) {
            Response::Endpoint(endpoint) => endpoint.uri,
            other => panic!("{other:?}"),
        };
        let main = start("main");
        TestPostgres::sql(&main, ON_MAIN);
        run(Request::BranchCreate {
            name: "dev".into(),
            rev: Some("main".into()),
        });
        TestPostgres::sql(&main, MORE_ON_MAIN);
        TestPostgres::sql(&start("dev"), ON_DEV);
        run(Request::Stop {
            branch: None,
            all: true,
        });
        let main = Strand::of(&original, "main");
        let gap = NewTimeline {
            // The number of a fork follows from its id: this one's is the next.
            id: TimelineId([
                0, 0, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a, 0x9a,
            ]),
            ancestor: Position {
                timeline: main.timeline,
                lsn: main.at(GAP_AT),
            },
            tli: main.tli + 1,
            writer: original
                .pages()
                .get(main.timeline)
                .expect("it opens")
                .state()
                .writer,
            branch: Some("gap".into()),
            provisional: false,
        };
        let gap_directory = home.join(".neon/endpoints/main/pgdata");
        let source = import::inspect(&gap_directory).expect("it was stopped");
        let taken = original.pages().resync(gap.clone(), &source, &mut |_, _| true);
        Material {
            pgdata,
            dev: Strand::of(&original, "dev"),
            gap_end: taken.expect("it is ahead").end(),
            main,
            gap,
            gap_directory,
            original,
        }
    }

    /// Returns the positions of a timeline that can be read up to an acknowledged one.
    pub fn positions(&self, timeline: TimelineId, acknowledged: Lsn) -> &[Lsn] {
        let ends = match timeline {
            id if id == self.main.timeline => &self.main.ends,
            id if id == self.dev.timeline => &self.dev.ends,
            _ => return std::slice::from_ref(&self.gap_end),
        };
        &ends[..ends.partition_point(|end| *end <= acknowledged)]
    }
}
