//! What is left when processes die: orphans, tails, recovery.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use neon_compute::{
    Adoption, Boot, ComputeError, DataDirectory, Postmaster, Purpose, Stopped, is_in_use, kill_everything,
    read_control, salvage,
};
use neon_postgres::control::DbState;
use neon_postgres::timeline_history::{HistoryEntry, TimelineHistory};
use neon_postgres::wal::{StreamParams, WalDecoder};
use neon_types::Lsn;

use crate::cluster::{PATIENCE, Place, Server, installations};
use crate::directory_source::DirectorySource;

const TLI: u32 = 0x7;

/// A cluster that was built by us, and where its WAL begins.
fn built(old: &Place, new: &Place) -> (Lsn, StreamParams) {
    let server = old.start(&old.settings());
    server.query("create table t (id bigint primary key, filler text)");
    server.stop();
    let source = DirectorySource::open(&old.pgdata());
    let boot = Boot {
        tli: TLI,
        history: TimelineHistory {
            entries: vec![HistoryEntry {
                tli: source.tli(),
                end: source.lsn(),
                reason: "branch".to_owned(),
            }],
        },
        purpose: Purpose::ReadWrite,
        slot: Some("neon".to_owned()),
        settings: None,
    };
    DataDirectory::build(&source, &new.pgdata(), &boot, &|_, _| true).expect("built");
    let control = read_control(&new.pgdata()).expect("control");
    let params = StreamParams {
        version: control.version(),
        system_id: control.system_id(),
        tli: TLI,
        segment_size: control.segment_size(),
    };
    (source.lsn(), params)
}

/// A session that commits one row after another in a procedure, and tells each after its commit. It reads nothing from its
/// client meanwhile, so it does not notice that its postmaster is gone.
struct Committer {
    child: Child,
    reader: std::thread::JoinHandle<()>,
}

static ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);
/// One committer at a time: there is one count.
static ONE: Mutex<()> = Mutex::new(());

const LOOP: &str = "do $$ begin
    for id in 1..1000000000 loop
        insert into t values (id, repeat('x', id % 3000));
        commit;
        raise notice 'row %', id;
    end loop;
end $$";

impl Committer {
    fn start(server: &Server) -> Committer {
        ACKNOWLEDGED.store(0, Ordering::SeqCst);
        let mut command = server.command("postgres");
        let mut child = command
            .arg("-c")
            .arg(LOOP)
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql runs");
        let output = child.stderr.take().expect("piped");
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(id) = line.rsplit("row ").next().and_then(|id| id.parse().ok()) {
                    ACKNOWLEDGED.store(id, Ordering::SeqCst);
                }
            }
        });
        Committer { child, reader }
    }

    fn wait_for(rows: u64) {
        let start = Instant::now();
        while ACKNOWLEDGED.load(Ordering::SeqCst) < rows {
            assert!(start.elapsed() < PATIENCE, "the committer stands still");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the last row that was acknowledged before the session broke.
    fn end(mut self) -> u64 {
        self.child.wait().expect("psql ends");
        self.reader.join().expect("no panic");
        ACKNOWLEDGED.load(Ordering::SeqCst)
    }
}

#[test]
fn orphans_are_ended_and_every_acknowledged_row_is_salvaged() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for installation in installations() {
        let (old, new) = (Place::with_cluster(&installation), Place::new(&installation));
        let (from, params) = built(&old, &new);
        let settings = new.settings();
        let mut server = new.start(&settings);
        let committer = Committer::start(&server);
        Committer::wait_for(300);
        kill(server.postmaster.pid());
        assert!(server.postmaster.wait_end(PATIENCE));
        // The session has lost its postmaster and goes on committing.
        let at_kill = ACKNOWLEDGED.load(Ordering::SeqCst);
        Committer::wait_for(at_kill + 50);
        let adopted = Postmaster::adopt(&new.pgdata(), &new.log()).expect("readable");
        assert!(matches!(adopted, Adoption::Gone), "{adopted:?}");
        let error = new.try_start(&settings).expect_err("an orphan runs");
        assert!(matches!(error, ComputeError::Running { .. }), "{error}");
        let killed = kill_everything(&new.pgdata()).expect("everything ends");
        assert!(!is_in_use(&new.pgdata()).expect("readable"));
        let acknowledged = committer.end();
        assert!(acknowledged >= at_kill + 50 && !killed.pids.is_empty());
        assert!(!killed.pids.contains(&server.postmaster.pid()));

        let mut bytes = Vec::new();
        let mut next = from;
        let found = salvage(&new.pgdata(), from, None, &params, &mut |at, part| {
            assert_eq!(at, next);
            assert!(part.len() <= 1 << 20);
            next = at + part.len() as u64;
            bytes.extend_from_slice(part);
            Ok(())
        })
        .expect("salvaged");
        assert_eq!(next, found.range.end);
        let (rows, last, end) = commits(&bytes, params, from);
        assert!(
            rows >= acknowledged,
            "{rows} commits for {acknowledged} acknowledged rows"
        );
        assert_eq!((Some(last), end), (found.last_record, found.range.end));
        // From a later boundary, with its link and with a wrong one.
        let later = salvage(&new.pgdata(), end, Some(last), &params, &mut |_, _| {
            panic!("there is nothing")
        });
        assert_eq!(later.expect("salvaged").range.end, end);
        let wrong = salvage(&new.pgdata(), from, Some(Lsn(8)), &params, &mut |_, _| {
            panic!("a wrong link was taken")
        });
        assert_eq!(wrong.expect("salvaged").range.end, from);

        // Stock recovery in place finds the same.
        let server = new.start(&settings);
        let count: u64 = server.query("select count(*) from t").parse().expect("a number");
        assert!(count >= acknowledged, "{count} rows of {acknowledged}");
        server.stop();
    }
}

/// Returns how many commit records there are, the start of the last record, and its end.
fn commits(bytes: &[u8], params: StreamParams, from: Lsn) -> (u64, Lsn, Lsn) {
    let mut decoder = WalDecoder::new(params, from, None);
    decoder.feed(bytes);
    let mut commits = 0;
    let mut last = Lsn::INVALID;
    while let Some(record) = decoder
        .next_record()
        .expect("nothing behind the last record was given out")
    {
        let (info, rmid) = (record.bytes[16], record.bytes[17]);
        commits += u64::from(rmid == 1 && info & 0x70 == 0);
        last = record.start;
    }
    (commits, last, decoder.end())
}

fn kill(pid: i32) {
    let status = std::process::Command::new("kill")
        .arg("-KILL")
        .arg(pid.to_string())
        .status()
        .expect("kill runs");
    assert!(status.success());
}

#[test]
fn everything_of_a_running_server_can_be_killed() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for installation in installations() {
        let place = Place::with_cluster(&installation);
        let settings = place.settings();
        let mut server = place.start(&settings);
        server.query("create table t (id bigint primary key, filler text)");
        let committer = Committer::start(&server);
        Committer::wait_for(50);
        // A renamed directory is still the same one.
        let moved = place.root.path().join("aside");
        std::fs::rename(place.pgdata(), &moved).expect("rename");
        assert!(is_in_use(&moved).expect("readable"));
        let killed = kill_everything(&moved).expect("everything ends");
        assert!(killed.pids.contains(&server.postmaster.pid()), "{killed:?}");
        assert!(killed.pids.len() > 3, "{killed:?}");
        assert!(server.postmaster.wait_end(PATIENCE));
        assert!(!moved.join("postmaster.pid").exists());
        let acknowledged = committer.end();
        std::fs::rename(&moved, place.pgdata()).expect("rename");
        assert_eq!(
            read_control(&place.pgdata()).expect("control").state(),
            Some(DbState::InProduction)
        );
        let server = place.start(&settings);
        let count: u64 = server.query("select count(*) from t").parse().expect("a number");
        assert!(count >= acknowledged);
        server.stop();
        assert!(
            kill_everything(&place.pgdata())
                .expect("nothing runs")
                .pids
                .is_empty()
        );
    }
}

#[test]
fn an_immediate_stop_leaves_a_directory_that_recovers() {
    let installation = &installations()[0];
    let place = Place::with_cluster(installation);
    let settings = place.settings();
    let mut server = place.start(&settings);
    server.query("create table t as select generate_series(1, 1000) i");
    assert_eq!(
        server.postmaster.stop_now(PATIENCE).expect("stopped"),
        Stopped::Immediate
    );
    assert_eq!(
        read_control(&place.pgdata()).expect("control").state(),
        Some(DbState::InProduction)
    );
    let server = place.start(&settings);
    assert_eq!(server.query("select count(*) from t"), "1000");
    server.stop();
    let mut log = String::new();
    std::fs::File::open(place.log())
        .expect("log")
        .read_to_string(&mut log)
        .expect("text");
    assert!(log.contains("automatic recovery in progress"), "{log}");
}
