//! The replication client of a running, stock Postgres 14 to 18: slots, and its WAL as bytes.
//!
//! ```no_run
//! # async fn example() -> Result<(), neon_transport::TransportError> {
//! use neon_transport::replication::{ConnectOptions, Event, Replication};
//! let mut replication = Replication::connect(&ConnectOptions::unix("/run/postgresql", 5432, "postgres")).await?;
//! let system = replication.identify_system().await?;
//! replication.ensure_physical_slot("neon").await?;
//! replication.start_physical(Some("neon"), system.flushed, system.tli).await?;
//! loop {
//!     match replication.next().await? {
//!         Event::Wal { start, bytes } => println!("{} bytes at {start}", bytes.len()),
//!         Event::Keepalive { end, reply: true } => replication.status(end, end, end).await?,
//!         Event::Keepalive { .. } => {}
//!         Event::Done => break,
//!     }
//! }
//! # Ok(()) }
//! ```

mod connect;
mod message;
mod stream;

use neon_types::Lsn;

use crate::link::{Answer, Link, LinkError};
use crate::{Rows, TransportError, sqlstate};

pub use connect::{ConnectOptions, Place};
#[cfg(feature = "testing")]
pub(crate) use message::reads_message;
pub use stream::{End, Event, NextTimeline};

/// A walsender connection. Commands first; after [`Replication::start_physical`] a stream, until [`Replication::finish`].
///
/// An error leaves the connection in no state to go on, except the refusals of commands, see each.
#[derive(Debug)]
pub struct Replication {
    link: Link,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Takes commands.
    Idle,
    /// WAL is coming; `expected` is where the next byte must be.
    Streaming { expected: Lsn, server_end: Lsn },
    /// The server said that nothing more comes.
    Ended(End),
}

/// What a server says of itself (`IDENTIFY_SYSTEM`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster's identifier, as in its control file.
    pub system_id: u64,
    /// Its current timeline.
    pub tli: u32,
    /// Its WAL is flushed up to here.
    pub flushed: Lsn,
    /// The database that we are connected to, if any.
    pub database: Option<String>,
}

/// A physical replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// WAL from here on is kept, `None` when nothing is reserved.
    pub restart: Option<Lsn>,
    /// The timeline of that position.
    pub tli: Option<u32>,
}

impl Replication {
    /// Sends one command or, when connected to a database, one SQL statement, and returns its rows as text (at most 64 MiB).
    ///
    /// Errors: `Refused` (the connection stays usable), `Cut`, `Protocol`.
    pub async fn query(&mut self, command: &str) -> Result<Rows, TransportError> {
        if !matches!(self.phase, Phase::Idle) {
            return Err(TransportError::protocol(
                "a command was given while WAL is streaming",
            ));
        }
        match self.link.command(command).await.map_err(refined)? {
            Answer::Rows(rows) => Ok(rows),
            Answer::CopyBoth => Err(TransportError::protocol(
                "the server began to stream without being asked",
            )),
        }
    }

    /// Asks the server who it is. Errors: as [`Replication::query`].
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, TransportError> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        Ok(SystemIdentity {
            system_id: field(&rows, "systemid")?,
            tli: field(&rows, "timeline")?,
            flushed: field(&rows, "xlogpos")?,
            database: rows.get(0, "dbname").map(str::to_owned),
        })
    }

    /// Makes a physical slot that keeps WAL from now on.
    ///
    /// Errors: `SlotExists` (the connection stays usable), else as [`Replication::query`].
    pub async fn create_physical_slot(&mut self, name: &str) -> Result<(), TransportError> {
        check_slot_name(name)?;
        let command = format!("CREATE_REPLICATION_SLOT \"{name}\" PHYSICAL RESERVE_WAL");
        match self.query(&command).await {
            Err(TransportError::Refused(refusal)) if refusal.code == sqlstate::DUPLICATE_OBJECT => {
                Err(TransportError::SlotExists {
                    slot: name.to_owned(),
                })
            }
            other => other.map(|_| ()),
        }
    }

    /// Makes the slot unless it is there. Returns true if it was made. Errors: as [`Replication::query`].
    pub async fn ensure_physical_slot(&mut self, name: &str) -> Result<bool, TransportError> {
        match self.create_physical_slot(name).await {
            Ok(()) => Ok(true),
            Err(TransportError::SlotExists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a slot. Errors: `SlotMissing`, `SlotInUse` (the connection stays usable), else as [`Replication::query`].
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), TransportError> {
        check_slot_name(name)?;
        let dropped = self.query(&format!("DROP_REPLICATION_SLOT \"{name}\"")).await;
        dropped.map(|_| ()).map_err(|error| about_slot(error, name))
    }

    /// Returns what the server knows of a physical slot, `None` if it has none of that name. Postgres 15 and later; 14
    /// refuses the command with a syntax error. Errors: as [`Replication::query`].
    pub async fn slot(&mut self, name: &str) -> Result<Option<Slot>, TransportError> {
        check_slot_name(name)?;
        let rows = self.query(&format!("READ_REPLICATION_SLOT \"{name}\"")).await?;
        if rows.get(0, "slot_type").is_none() {
            return Ok(None);
        }
        let optional = |column: &str| rows.get(0, column).is_some();
        Ok(Some(Slot {
            restart: optional("restart_lsn")
                .then(|| field(&rows, "restart_lsn"))
                .transpose()?,
            tli: optional("restart_tli")
                .then(|| field(&rows, "restart_tli"))
                .transpose()?,
        }))
    }

    /// Returns name and text of the history file of timeline `tli`. Errors: as [`Replication::query`].
    pub async fn timeline_history(&mut self, tli: u32) -> Result<(String, String), TransportError> {
        let rows = self.query(&format!("TIMELINE_HISTORY {tli}")).await?;
        Ok((field(&rows, "filename")?, field(&rows, "content")?))
    }
}

/// Reads one value of the first row.
fn field<T: std::str::FromStr>(rows: &Rows, column: &str) -> Result<T, TransportError> {
    rows.get(0, column)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| TransportError::protocol(format!("the server's answer has no good '{column}'")))
}

/// The rule of Postgres; so a name can be put into a command as it is.
fn check_slot_name(name: &str) -> Result<(), TransportError> {
    let good = (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if good {
        Ok(())
    } else {
        Err(TransportError::protocol(format!(
            "'{name}' cannot be the name of a slot"
        )))
    }
}

/// Errors that are about the slot `name` become their own variants.
fn about_slot(error: TransportError, name: &str) -> TransportError {
    match error {
        TransportError::Refused(refusal) if refusal.code == sqlstate::UNDEFINED_OBJECT => {
            TransportError::SlotMissing {
                slot: name.to_owned(),
            }
        }
        TransportError::Refused(refusal) if refusal.code == sqlstate::OBJECT_IN_USE => {
            TransportError::SlotInUse {
                slot: name.to_owned(),
                detail: refusal.message,
            }
        }
        other => other,
    }
}

/// An error after the start of a session.
pub(crate) fn refined(error: LinkError) -> TransportError {
    match error {
        LinkError::Wire(error) => error.into(),
        LinkError::Closed => TransportError::Cut { source: None },
        LinkError::Refused { refusal, .. } => match refusal.code.as_str() {
            sqlstate::CANNOT_CONNECT_NOW => TransportError::NotReady(refusal),
            _ => TransportError::Refused(refusal),
        },
        other => TransportError::protocol(other.to_string()),
    }
}
