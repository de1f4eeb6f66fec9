//! Sessions on an endpoint that outlive single statements: one to hold transactions open, and one that commits in a loop and
//! remembers what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, NoTls};

/// One session.
pub struct Connection {
    client: Client,
    runtime: Runtime,
}

impl Connection {
    /// Connects.
    pub fn open(uri: &str) -> Result<Connection, tokio_postgres::Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(connect(uri))?;
        Ok(Connection { client, runtime })
    }

    /// Runs statements.
    pub fn run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }
}

async fn connect(uri: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: Config = uri.parse()?;
    config.connect_timeout(Duration::from_secs(20));
    let (client, connection) = config.connect(NoTls).await?;
    // Its end is told by the client's errors.
    tokio::spawn(connection);
    Ok(client)
}

/// Commits rows one by one into `acknowledged(n)` until it is told to end; connects again after each break.
pub struct Writer {
    stop: Arc<AtomicBool>,
    rows: Arc<Mutex<Vec<i64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Statement that makes the table that writers write.
    pub const TABLE: &'static str =
        "create table acknowledged(n bigint primary key, filler text default repeat('x', 200))";

    /// Begins to write rows from `first` up.
    pub fn start(uri: &str, first: i64) -> Writer {
        let (stop, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (uri, told, taken) = (uri.to_owned(), Arc::clone(&stop), Arc::clone(&rows));
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(write_until(&uri, first, &told, &taken));
        });
        Writer {
            stop,
            rows,
            thread: Some(thread),
        }
    }

    /// Returns how many rows have been acknowledged.
    pub fn count(&self) -> usize {
        self.rows.lock().expect("the writer lives").len()
    }

    /// Waits until `count` more rows are acknowledged.
    ///
    /// # Panics
    /// When that takes more than a minute.
    pub fn wait_for(&self, count: usize) {
        let wanted = self.count() + count;
        for _ in 0..6_000 {
            if self.count() >= wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} rows are acknowledged, not {wanted}", self.count());
    }

    /// Ends it; returns the acknowledged rows.
    pub fn end(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer did not panic");
        }
        std::mem::take(&mut *self.rows.lock().expect("the writer is done"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn write_until(uri: &str, first: i64, stop: &AtomicBool, rows: &Mutex<Vec<i64>>) {
    let mut next = first;
    while !stop.load(Ordering::SeqCst) {
        let Ok(client) = connect(uri).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !stop.load(Ordering::SeqCst) {
            // A row whose fate is unknown is never written again: the next one has a number of its own.
            let row = next;
            next += 1;
            let statement = format!("insert into acknowledged(n) values ({row})");
            match tokio::time::timeout(Duration::from_secs(5), client.batch_execute(&statement)).await {
                Ok(Ok(())) => rows.lock().expect("nobody panics with it").push(row),
                // Broken, or the server hangs as after its postmaster is gone.
                Ok(Err(_)) | Err(_) => break,
            }
        }
    }
}
