//! A session with a Postgres whose database others wrote.
//!
//! A database can carry code that runs in every session: settings of roles and databases, libraries, triggers on logins and on
//! definitions, functions and operators that stand before those of the system. Whoever starts a database did not ask for that code. So a
//! session of ours switches off what can be switched off in its start-up packet, which wins over what roles and databases say; asks for
//! numbers by the oid of the function that has them, past parser, planner and search path; and says nothing else but statements that evaluate
//! no expression, as far as it can.
//!
//! What remains is a superuser who has rewritten the system catalogs themselves: Postgres' own processes run that code, too.

use bytes::{BufMut, BytesMut};
use neon_types::Lsn;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::link::{Answer, Link};
use crate::login;
use crate::replication::refined;
use crate::{Rows, TransportError};

/// How long the start of a session may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// `pg_current_wal_insert_lsn`, the same in all versions.
const INSERT_LSN: u32 = 2852;
/// `pg_current_wal_flush_lsn`, the same in all versions.
const FLUSH_LSN: u32 = 3330;

/// What holds in a session of ours, whatever is set for the role, the database or everybody.
const PINNED: [(&str, &str); 25] = [
    ("search_path", "pg_catalog, pg_temp"),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("dynamic_library_path", "$libdir"),
    // Triggers that are not for replicas, rules, foreign keys.
    ("session_replication_role", "replica"),
    ("role", "none"),
    ("check_function_bodies", "off"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "error"),
    ("datestyle", "ISO"),
    ("default_table_access_method", "heap"),
    ("default_tablespace", ""),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("jit", "off"),
    ("lock_timeout", "0"),
    // Passwords are said here.
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_error_statement", "panic"),
    ("statement_timeout", "0"),
    ("synchronous_commit", "on"),
    ("temp_tablespaces", ""),
];

/// Those that a version has had since.
const PINNED_SINCE: [(u16, &str, &str); 2] =
    [(17, "event_triggers", "off"), (17, "transaction_timeout", "0")];

/// Who connects to what.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Major version of the server.
    pub version: u16,
    /// A superuser.
    pub user: &'a str,
    /// A database.
    pub database: &'a str,
}

/// A session. An error leaves it in no state to go on, except a refusal of [`Guarded::run`].
#[derive(Debug)]
pub struct Guarded {
    link: Link,
}

impl Guarded {
    /// Begins a session on a connection to the server's socket, which asks for no password.
    ///
    /// Errors: `NoAnswer`, `NotReady`, `Refused`, `Cut`, `Protocol`.
    pub async fn start(stream: UnixStream, login: Login<'_>) -> Result<Guarded, TransportError> {
        let mut parameters = vec![
            ("user", login.user),
            ("database", login.database),
            ("application_name", "neon"),
        ];
        parameters.extend(PINNED);
        let since = PINNED_SINCE
            .iter()
            .filter(|(version, _, _)| login.version >= *version);
        parameters.extend(since.map(|(_, name, value)| (*name, *value)));
        let (reader, writer) = stream.into_split();
        let nothing_asked = login::Login::new(None, login::RequireAuth::Nothing);
        let start = Link::start(Box::new(reader), Box::new(writer), &parameters, nothing_asked);
        let link = timeout(PATIENCE, start)
            .await
            .map_err(|_| TransportError::NoAnswer {
                address: "the endpoint's socket".to_owned(),
                seconds: PATIENCE.as_secs(),
            })?;
        Ok(Guarded {
            link: link.map_err(refined)?,
        })
    }

    /// Returns where the next WAL record will be put.
    pub async fn insert_lsn(&mut self) -> Result<Lsn, TransportError> {
        self.lsn(INSERT_LSN).await
    }

    /// Returns up to where WAL is on the server's disk.
    pub async fn flush_lsn(&mut self) -> Result<Lsn, TransportError> {
        self.lsn(FLUSH_LSN).await
    }

    /// Runs statements; returns the rows of the last that had any, as text.
    ///
    /// Errors: `Refused` (the session stays usable), `Cut`, `Protocol`.
    pub async fn run(&mut self, sql: &str) -> Result<Rows, TransportError> {
        match self.link.command(sql).await.map_err(refined)? {
            Answer::Rows(rows) => Ok(rows),
            Answer::CopyBoth => Err(TransportError::protocol(
                "the server began to stream without being asked",
            )),
        }
    }

    /// Calls a function without arguments by its oid, which for one of the server's own program is that program's code whatever
    /// `pg_proc` says.
    async fn lsn(&mut self, function: u32) -> Result<Lsn, TransportError> {
        let mut call = BytesMut::new();
        // FunctionCall: oid, no formats, no arguments, result in binary.
        call.put_u8(b'F');
        call.put_u32(4 + 4 + 2 + 2 + 2);
        call.put_u32(function);
        call.put_u16(0);
        call.put_u16(0);
        call.put_u16(1);
        let value = self.link.call(&call).await.map_err(refined)?;
        let bytes: [u8; 8] = value
            .as_ref()
            .try_into()
            .map_err(|_| TransportError::protocol("the server's answer is no LSN"))?;
        Ok(Lsn(u64::from_be_bytes(bytes)))
    }
}
