//! The dialling side: from an address and a command to a channel.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::channel::Role;
use crate::link::{Answer, Link, LinkError};
use crate::login::Login;
use crate::wire::WireError;
use crate::{
    Address, Channel, PROTOCOL_PARAMETER, PROTOCOL_VERSION, Password, PasswordOrigin, PasswordSources,
    RecvHalf, Refusal, RequireAuth, Rows, SendHalf, TransportError, keepalive, sqlstate,
};

/// How long we wait each time that a login had to give way to others.
const COME_AGAIN: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1200),
    Duration::from_millis(3000),
];

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Where to look for a password that the address does not hold.
    pub passwords: PasswordSources,
    /// Who asks, when the address does not say.
    pub user: String,
    /// How long the TCP connection may take, and then how long the start-up may.
    pub patience: Duration,
}

/// Connects to the server at `address`, names a `command` such as `branch_push main 0123..`, and returns the channel that
/// the server opens for it. Waits as long as the server needs to answer the command.
///
/// Errors: every variant of [`TransportError`] but `Finished` and `FrameTooLarge`.
pub async fn dial_with(
    address: &Address,
    command: &str,
    options: &DialOptions,
) -> Result<Channel, TransportError> {
    let mut link = connect(address, options).await?;
    match link.command(command).await.map_err(after_start)? {
        Answer::CopyBoth => Ok(Channel::new(
            SendHalf::new(link.writer, Role::Client, None),
            RecvHalf::new(link.reader, Role::Client, None),
        )),
        Answer::Rows(_) => Err(TransportError::protocol(format!(
            "the server answered rows where '{}' opens a channel",
            command.split_whitespace().next().unwrap_or_default()
        ))),
    }
}

/// Connects, asks one question that is answered in rows, such as `help`, and hangs up.
///
/// Errors: as [`dial_with`].
pub async fn ask(address: &Address, question: &str, options: &DialOptions) -> Result<Rows, TransportError> {
    let mut link = connect(address, options).await?;
    let answer = link.command(question).await.map_err(after_start)?;
    match answer {
        Answer::Rows(rows) => {
            // The answer is here; whether the goodbye arrives does not matter.
            let _ = link.writer.write(&crate::wire::bare(b'X')).await;
            link.writer.shutdown().await;
            Ok(rows)
        }
        Answer::CopyBoth => Err(TransportError::protocol(
            "the server opened a channel where rows were expected",
        )),
    }
}

/// Connects; comes again a few times where others who log in at the same time were more than there are places.
async fn connect(address: &Address, options: &DialOptions) -> Result<Link, TransportError> {
    for pause in COME_AGAIN {
        match connect_once(address, options).await {
            Err(TransportError::Refused(refusal)) if refusal.code == sqlstate::INSUFFICIENT_RESOURCES => {
                tokio::time::sleep(pause).await;
            }
            other => return other,
        }
    }
    connect_once(address, options).await
}

async fn connect_once(address: &Address, options: &DialOptions) -> Result<Link, TransportError> {
    let place = address.place();
    let no_answer = || TransportError::NoAnswer {
        address: place.clone(),
        seconds: options.patience.as_secs(),
    };
    let stream = tokio::time::timeout(
        options.patience,
        TcpStream::connect((address.host.as_str(), address.port)),
    )
    .await
    .map_err(|_| no_answer())?
    .map_err(|source| TransportError::Unreachable {
        address: place.clone(),
        source,
    })?;
    keepalive::configure(&stream);
    let secret = Secret::find(address, options);
    let (reader, writer) = stream.into_split();
    let version = PROTOCOL_VERSION.to_string();
    let parameters = [
        ("user", secret.user.as_str()),
        ("database", &address.repository),
        ("application_name", "neon"),
        ("client_encoding", "UTF8"),
        (PROTOCOL_PARAMETER, &version),
    ];
    let start = Link::start(
        Box::new(reader),
        Box::new(writer),
        &parameters,
        Login::new(secret.password.as_ref(), address.require_auth),
    );
    let link = tokio::time::timeout(options.patience, start)
        .await
        .map_err(|_| no_answer())?
        .map_err(|error| secret.explain(error, address))?;
    match link.parameters.get(PROTOCOL_PARAMETER) {
        Some(spoken) if *spoken == version => Ok(link),
        Some(spoken) => Err(TransportError::protocol(format!(
            "{place} speaks version {} of neon's protocol, this program version {version}",
            neon_types::on_one_line(&spoken.chars().take(20).collect::<String>())
        ))),
        None => Err(TransportError::NotANeonServer {
            address: place,
            found: "it is a PostgreSQL server".into(),
        }),
    }
}

/// Who asks, and how that is proved.
struct Secret {
    user: String,
    password: Option<Password>,
    origin: PasswordOrigin,
    passfile: Option<String>,
}

impl Secret {
    fn find(address: &Address, options: &DialOptions) -> Secret {
        let user = address.user.clone().unwrap_or_else(|| options.user.clone());
        let nothing = |passfile| (None, PasswordOrigin::Uri, passfile);
        let (password, origin, passfile) = match (&options.passwords.typed, &address.password) {
            (Some(typed), _) => (Some(typed.clone()), PasswordOrigin::Typed, None),
            (None, Some(password)) => (Some(password.clone()), PasswordOrigin::Uri, None),
            (None, None) => {
                match options
                    .passwords
                    .find(&address.host, address.port, &address.repository, &user)
                {
                    Ok(Some((password, origin))) => (Some(password), origin, None),
                    Ok(None) => nothing(None),
                    Err(ignored) => nothing(Some(ignored.to_string())),
                }
            }
        };
        Secret {
            user,
            password,
            origin,
            passfile,
        }
    }

    /// What a failed start-up means to the one who dialled.
    fn explain(&self, error: LinkError, address: &Address) -> TransportError {
        let place = address.place();
        let who = Address {
            user: Some(self.user.clone()),
            password: None,
            require_auth: RequireAuth::Scram,
            ..address.clone()
        }
        .to_string();
        let not_neon = |found: String| TransportError::NotANeonServer {
            address: place.clone(),
            found,
        };
        match error {
            LinkError::PasswordNeeded => TransportError::PasswordMissing {
                address: who,
                passfile: self.passfile.clone(),
            },
            LinkError::Refused { refusal, ours: true } if refusal.code == sqlstate::INVALID_PASSWORD => {
                TransportError::WrongPassword {
                    address: who,
                    origin: self.origin.clone(),
                }
            }
            LinkError::Refused { refusal, ours: true } => TransportError::Refused(refusal),
            LinkError::Refused { refusal, ours: false } => not_neon(format!(
                "it is a PostgreSQL server (it says: {})",
                refusal.message
            )),
            LinkError::Authentication(what) => {
                not_neon(format!("it is a PostgreSQL server that asks for {what}"))
            }
            LinkError::Unasked => TransportError::Unproven {
                address: place,
                found: "it lets us in without asking for it, as a PostgreSQL server that trusts everybody does, or an impostor".into(),
            },
            LinkError::NotGenuine => TransportError::Unproven {
                address: place,
                found: "its proof is missing or wrong, so it may be an impostor".into(),
            },
            LinkError::Iterations(_) => TransportError::Unproven {
                address: place,
                found: format!("{error}, so it may be an impostor"),
            },
            LinkError::Closed | LinkError::Wire(WireError::Ended | WireError::Io(_) | WireError::Broken) => {
                after_start(error)
            }
            LinkError::Wire(_) | LinkError::Unexpected(_) => {
                not_neon("what it sends is not the PostgreSQL protocol".into())
            }
        }
    }
}

fn after_start(error: LinkError) -> TransportError {
    match error {
        LinkError::Wire(error) => error.into(),
        LinkError::Closed => TransportError::Cut { source: None },
        LinkError::Refused { refusal, .. } => TransportError::Refused(refusal),
        other => TransportError::protocol(other.to_string()),
    }
}

/// So that the service side can treat a refusal by another server as its own error.
impl From<Refusal> for TransportError {
    fn from(refusal: Refusal) -> TransportError {
        TransportError::Refused(refusal)
    }
}
