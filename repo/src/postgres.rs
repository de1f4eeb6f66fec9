//! What we say to a running Postgres of ours, over its Unix socket.

use std::path::Path;

use neon_types::Lsn;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::error::{RepoError, Result};

/// The superuser that `init` makes.
pub const SUPERUSER: &str = "postgres";

/// Connects over the Unix socket.
pub async fn connect(socket_directory: &Path, port: u16) -> Result<Client> {
    connect_to(socket_directory, port, "postgres").await
}

/// Connects to a database over the Unix socket.
pub async fn connect_to(socket_directory: &Path, port: u16, database: &str) -> Result<Client> {
    let mut config = Config::new();
    config
        .host_path(socket_directory)
        .port(port)
        .user(SUPERUSER)
        .dbname(database)
        .application_name("neon");
    config.connect_timeout(std::time::Duration::from_secs(10));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Returns what functions say that return LSNs, asked in one message.
async fn lsns<const N: usize>(client: &Client, functions: [&str; N]) -> Result<[Lsn; N]> {
    let calls = functions.map(|function| format!("{function}()")).join(", ");
    let answer = client.simple_query(&format!("SELECT {calls}")).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let mut found = [Lsn::INVALID; N];
    for (column, lsn) in found.iter_mut().enumerate() {
        let text = row.and_then(|row| row.get(column)).unwrap_or_default();
        let said: Lsn = text.parse().map_err(|error: neon_types::ParseLsnError| {
            RepoError::refused(error.to_string(), "report this")
        })?;
        *lsn = without_page_header(said);
    }
    Ok(found)
}

/// Postgres names the place after a full page by what follows the next page's header; the record before ends at the page.
fn without_page_header(lsn: Lsn) -> Lsn {
    match lsn.0 % 8192 {
        header @ (24 | 40) => Lsn(lsn.0 - header),
        _ => lsn,
    }
}

/// The function that says up to where WAL is on disk.
const FLUSHED: &str = "pg_current_wal_flush_lsn";

/// How often the flush position is looked at, and how long the WAL writer gets to reach what was inserted.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);
const WAL_WRITER: u32 = 100;

/// Returns a position up to which everything acknowledged so far is flushed: the insert position as soon as it is flushed, the
/// flush position when an open transaction keeps its last page back.
pub async fn insert_lsn(socket_directory: &Path, port: u16) -> Result<Lsn> {
    let client = connect(socket_directory, port).await?;
    let [inserted, mut flushed] = lsns(&client, ["pg_current_wal_insert_lsn", FLUSHED]).await?;
    for _ in 0..WAL_WRITER {
        if flushed >= inserted {
            return Ok(inserted);
        }
        tokio::time::sleep(LOOK).await;
        [flushed] = lsns(&client, [FLUSHED]).await?;
    }
    Ok(flushed)
}

/// Returns true when `password` opens the endpoint over TCP.
pub async fn password_works(port: u16, password: &str) -> bool {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(SUPERUSER)
        .dbname("postgres")
        .password(password);
    config.connect_timeout(std::time::Duration::from_secs(10));
    match config.connect(NoTls).await {
        Ok((client, connection)) => {
            let driver = tokio::spawn(connection);
            let answered = client.simple_query("SELECT 1").await.is_ok();
            drop(client);
            let _ = driver.await;
            answered
        }
        Err(_) => false,
    }
}

/// Sets the superuser's password to a verifier and returns where the WAL of that ends, flushed.
pub async fn set_password(socket_directory: &Path, port: u16, verifier: &str) -> Result<Lsn> {
    let client = connect(socket_directory, port).await?;
    // A verifier is base64, '$' and ':'; it cannot end the literal.
    client
        .batch_execute(&format!("SET synchronous_commit = on; SET log_statement = none; ALTER ROLE {SUPERUSER} PASSWORD '{verifier}'"))
        .await?;
    let [flushed] = lsns(&client, [FLUSHED]).await?;
    Ok(flushed)
}

/// Turns autovacuum on, after the first transaction of a user (law 3).
pub async fn reload(socket_directory: &Path, port: u16) -> Result<()> {
    let client = connect(socket_directory, port).await?;
    client.simple_query("SELECT pg_reload_conf()").await?;
    Ok(())
}
