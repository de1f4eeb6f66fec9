//! What we say to a running Postgres of ours, over its Unix socket.
//!
//! The database in it may be anybody's: what is said is as little as possible, in sessions that switch its code off
//! ([`neon_transport::guarded`]). Names of roles and databases are read from pages ([`Access`]), signals are sent to processes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neon_compute::socket;
use neon_pagestore::Timeline;
use neon_postgres::PgVersion;
use neon_transport::guarded::{Guarded, Login};
use neon_transport::{Refusal, TransportError, sqlstate};
use neon_types::Lsn;
use tokio::net::UnixStream;

use crate::catalog::Access;
use crate::directory::running;
use crate::endpoint_file::EndpointFile;
use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// How often the flush position is looked at, and how long the WAL writer gets to reach what was inserted.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);
const WAL_WRITER: u32 = 100;
/// How long another name of the superuser, or of a database, may be on its way to us, in looks.
const NAMES: u32 = 500;

/// Where an endpoint lets us in, and as whom.
pub(crate) struct Door {
    socket: PathBuf,
    timeline: Arc<Timeline>,
    /// The position of an endpoint that writes nothing; none: all that we have of its timeline.
    at: Option<Lsn>,
}

impl Repository {
    /// Returns the way into a running endpoint.
    pub(crate) fn door(&self, name: &str, file: &EndpointFile) -> Result<Door> {
        let directory = self.socket_directory(name);
        Ok(Door {
            socket: directory.join(neon_compute::socket_name(file.port)),
            timeline: self.timeline(file.timeline)?,
            at: file.branch.is_none().then_some(file.built_at),
        })
    }
}

impl Door {
    /// Returns who we are there, as far as its history is known here.
    pub fn access(&self) -> Result<Access> {
        Access::read(&self.timeline, self.at.unwrap_or_else(|| self.timeline.end()))
    }

    /// Returns the version of the server.
    pub fn version(&self) -> PgVersion {
        self.timeline.version()
    }

    /// Begins a session in a database that lets us in. Where the server knows neither the superuser nor the database by the names that we
    /// have, those are on their way to us.
    pub async fn enter(&self) -> Result<Guarded> {
        let mut access = tokio::task::block_in_place(|| self.access())?;
        let mut looks = 0;
        loop {
            match self.enter_database(&access, &access.database).await {
                Err(RepoError::Transport(TransportError::Refused(refusal)))
                    if looks < NAMES && is_about_names(&refusal) =>
                {
                    let known = access;
                    access = loop {
                        tokio::time::sleep(LOOK).await;
                        looks += 1;
                        let now = tokio::task::block_in_place(|| self.access())?;
                        if now != known || looks >= NAMES {
                            break now;
                        }
                    };
                }
                other => return other,
            }
        }
    }

    /// Begins a session in a database.
    pub async fn enter_database(&self, access: &Access, database: &str) -> Result<Guarded> {
        let login = Login {
            version: self.version().major(),
            user: &access.superuser,
            database,
        };
        Ok(Guarded::start(connect(&self.socket)?, login).await?)
    }
}

fn is_about_names(refusal: &Refusal) -> bool {
    matches!(
        refusal.code.as_str(),
        sqlstate::INVALID_AUTHORIZATION | sqlstate::UNKNOWN_DATABASE | sqlstate::OBJECT_NOT_IN_STATE
    )
}

/// Connects to the socket of a server of ours.
pub(crate) fn connect(path: &Path) -> Result<UnixStream> {
    let failed = || RepoError::io("connect to", path);
    let stream = socket::connect(path).map_err(failed())?;
    stream.set_nonblocking(true).map_err(failed())?;
    UnixStream::from_std(stream).map_err(failed())
}

/// Returns a position up to which everything acknowledged so far is flushed: the insert position as soon as it is flushed, the
/// flush position when an open transaction keeps its last page back.
pub(crate) async fn insert_lsn(door: &Door) -> Result<Lsn> {
    let mut session = door.enter().await?;
    let inserted = without_page_header(session.insert_lsn().await?);
    let mut flushed = without_page_header(session.flush_lsn().await?);
    for _ in 0..WAL_WRITER {
        if flushed >= inserted {
            return Ok(inserted);
        }
        tokio::time::sleep(LOOK).await;
        flushed = without_page_header(session.flush_lsn().await?);
    }
    Ok(flushed)
}

/// Postgres names the place after a full page by what follows the next page's header; the record before ends at the page.
fn without_page_header(lsn: Lsn) -> Lsn {
    match lsn.0 % 8192 {
        header @ (24 | 40) => Lsn(lsn.0 - header),
        _ => lsn,
    }
}

/// Sets the superuser's password to a verifier and returns where the WAL of that ends, flushed.
pub(crate) async fn set_password(door: &Door, verifier: &str) -> Result<Lsn> {
    let mut session = door.enter().await?;
    // A verifier is base64, '$' and ':'; it cannot end the literal.
    let role = quoted_name(&door.access()?.superuser);
    session
        .run(&format!("ALTER ROLE {role} PASSWORD '{verifier}'"))
        .await?;
    Ok(without_page_header(session.flush_lsn().await?))
}

/// Returns a name as SQL takes it, whatever it holds.
pub(crate) fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes the server in a data directory read its configuration again: autovacuum comes on after the first transaction of a user (law 3).
pub(crate) fn reload(pgdata: &Path) -> Result<()> {
    match running(pgdata) {
        Some(postmaster) => {
            postmaster.reload();
            Ok(())
        }
        None => Err(RepoError::refused(
            format!("no server runs in {}", pgdata.display()),
            "'neon status' shows what runs",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_their_quotes() {
        assert_eq!(
            quoted_name("a\"; DROP ROLE b; \""),
            "\"a\"\"; DROP ROLE b; \"\"\""
        );
    }

    #[test]
    fn the_place_after_a_page_is_its_end() {
        for (said, meant) in [
            (8192 + 24, 8192),
            (8192 + 40, 8192),
            (8192 + 48, 8240),
            (16384, 16384),
        ] {
            assert_eq!(without_page_header(Lsn(said)), Lsn(meant));
        }
    }
}
