//! From an address to a walsender connection.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{Phase, Replication, refined};
use crate::link::{Link, LinkError};
use crate::login::{Login, RequireAuth};
use crate::wire::{BoxRead, BoxWrite};
use crate::{Password, PasswordOrigin, TransportError, keepalive, sqlstate};

/// Where a Postgres listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The socket `.s.PGSQL.<port>` in a directory.
    Unix {
        /// The directory.
        directory: PathBuf,
        /// The port in the socket's name.
        port: u16,
    },
    /// A TCP port. Nothing is encrypted.
    Tcp {
        /// Name or number of the host.
        host: String,
        /// The port.
        port: u16,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Unix { directory, port } => write!(f, "{}/.s.PGSQL.{port}", directory.display()),
            Place::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// How to connect to a Postgres for replication. `Debug` hides the password.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Where it listens.
    pub place: Place,
    /// A role with the replication privilege.
    pub user: String,
    /// For SCRAM-SHA-256; not needed where the server trusts us. With one, the server must prove that it knows it, too. Clear-text and MD5
    /// passwords are not supported.
    pub password: Option<Password>,
    /// Connects to this database too, so that [`Replication::query`] takes SQL.
    pub database: Option<String>,
    /// Shown in `pg_stat_replication`.
    pub application_name: String,
    /// How long the connection may take, and then how long the start-up may.
    pub patience: Duration,
}

impl ConnectOptions {
    /// Returns options for the socket in `directory`, without password.
    pub fn unix(directory: impl Into<PathBuf>, port: u16, user: impl Into<String>) -> ConnectOptions {
        ConnectOptions::new(
            Place::Unix {
                directory: directory.into(),
                port,
            },
            user,
        )
    }

    /// Returns options for a TCP port, without password.
    pub fn tcp(host: impl Into<String>, port: u16, user: impl Into<String>) -> ConnectOptions {
        ConnectOptions::new(
            Place::Tcp {
                host: host.into(),
                port,
            },
            user,
        )
    }

    fn new(place: Place, user: impl Into<String>) -> ConnectOptions {
        ConnectOptions {
            place,
            user: user.into(),
            password: None,
            database: None,
            application_name: "neon".into(),
            patience: Duration::from_secs(20),
        }
    }

    async fn open(&self) -> std::io::Result<(BoxRead, BoxWrite)> {
        Ok(match &self.place {
            Place::Unix { directory, port } => {
                let stream = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?;
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Place::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                keepalive::configure(&stream);
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
        })
    }
}

impl Replication {
    /// Opens a walsender connection.
    ///
    /// Errors: `Unreachable`, `NoAnswer`, `PasswordMissing`, `WrongPassword`, `Authentication`, `NotReady` (starting up,
    /// shutting down: try again), `Refused`, `Cut`, `Protocol`.
    pub async fn connect(options: &ConnectOptions) -> Result<Replication, TransportError> {
        let address = options.place.to_string();
        let (reader, writer) = timeout(options.patience, options.open())
            .await
            .map_err(|_| no_answer(options))?
            .map_err(|source| TransportError::Unreachable { address, source })?;
        Replication::start(options, reader, writer).await
    }

    /// Makes a walsender connection of one to the server's socket that is open already. Errors as of [`Replication::connect`].
    pub async fn over(stream: UnixStream, options: &ConnectOptions) -> Result<Replication, TransportError> {
        let (reader, writer) = stream.into_split();
        Replication::start(options, Box::new(reader), Box::new(writer)).await
    }

    async fn start(
        options: &ConnectOptions,
        reader: BoxRead,
        writer: BoxWrite,
    ) -> Result<Replication, TransportError> {
        let address = options.place.to_string();
        let mut parameters = vec![
            ("user", options.user.as_str()),
            ("application_name", &options.application_name),
            ("client_encoding", "UTF8"),
            (
                "replication",
                if options.database.is_some() {
                    "database"
                } else {
                    "true"
                },
            ),
        ];
        if let Some(database) = &options.database {
            parameters.push(("database", database));
        }
        // Without a password there is nothing that the server could prove: then the place is what is trusted.
        let require = match options.password {
            Some(_) => RequireAuth::Scram,
            None => RequireAuth::Nothing,
        };
        let login = Login::new(options.password.as_ref(), require);
        let start = Link::start(reader, writer, &parameters, login);
        let link = timeout(options.patience, start)
            .await
            .map_err(|_| no_answer(options))?
            .map_err(|error| match error {
                LinkError::PasswordNeeded => TransportError::PasswordMissing {
                    address: address.clone(),
                    passfile: None,
                },
                LinkError::Authentication(what) => TransportError::Authentication {
                    address: address.clone(),
                    what,
                },
                LinkError::NotGenuine | LinkError::Unasked | LinkError::Iterations(_) => {
                    TransportError::Unproven {
                        address: address.clone(),
                        found: error.to_string(),
                    }
                }
                LinkError::Refused { refusal, .. } if refusal.code == sqlstate::INVALID_PASSWORD => {
                    TransportError::WrongPassword {
                        address: address.clone(),
                        origin: PasswordOrigin::Given,
                    }
                }
                other => refined(other),
            })?;
        Ok(Replication {
            link,
            phase: Phase::Idle,
        })
    }

    /// Returns what the server reported at the start, such as `server_version`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.link.parameters.get(name).map(String::as_str)
    }
}

fn no_answer(options: &ConnectOptions) -> TransportError {
    TransportError::NoAnswer {
        address: options.place.to_string(),
        seconds: options.patience.as_secs(),
    }
}
