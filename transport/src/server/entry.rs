//! The way in: from a connection in the lobby to a session, with the waits and refusals on it.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::authenticate::{Claim, Name, StartError, WrongProof, claim, spoken, welcome};
use super::guard::Verdict;
use super::network::Network;
use super::room::{NoSeat, Seat};
use super::seats::Hold;
use super::session::{Connection, IDLE};
use super::{Attempt, Caller, Service, Shared, Users};
use crate::{Refusal, sqlstate};

/// How long the last word of a login may take to be written.
const WELCOME: Duration = Duration::from_secs(5);

/// Somebody who is in.
pub(super) struct Entered {
    pub caller: Caller,
    pub seat: Seat<String>,
    /// What is stored of the user, and what must still stand.
    pub stored: String,
}

/// Why somebody is not.
pub(super) enum NoEntry {
    /// Without a word: the client went, said nothing in time, or is of no use.
    Silent,
    /// With a fatal error.
    Refused(Refusal),
}

impl From<Refusal> for NoEntry {
    fn from(refusal: Refusal) -> NoEntry {
        NoEntry::Refused(refusal)
    }
}

/// A name, once it was said.
type Said = Mutex<Option<Name>>;

/// Leads a connection in. Whoever keeps a record of logins is told how it went, before the client is.
pub(super) async fn enter<S: Service, U: Users>(
    connection: &mut Connection,
    peer: SocketAddr,
    place: Seat<Network>,
    shared: &Shared<S, U>,
) -> Result<Entered, NoEntry> {
    let said = Said::default();
    let led = lead(connection, peer, place, shared, &said).await;
    let (session, refusal) = match &led {
        Ok((entered, _)) => (Some(entered.caller.session), None),
        Err(NoEntry::Refused(refusal)) => (None, Some(refusal)),
        Err(NoEntry::Silent) => return Err(NoEntry::Silent),
    };
    let name = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    shared.service.attempted(Attempt {
        peer,
        user: name.as_ref().map(|name| name.user.as_str()),
        database: name.as_ref().map(|name| name.database.as_str()),
        session,
        refusal,
    });
    let (entered, server_final) = led?;
    match timeout(WELCOME, welcome(&mut connection.writer, &server_final)).await {
        Ok(Ok(())) => Ok(entered),
        _ => Err(NoEntry::Silent),
    }
}

/// Returns who came in, and how the server proves itself to him.
async fn lead<S: Service, U: Users>(
    connection: &mut Connection,
    peer: SocketAddr,
    place: Seat<Network>,
    shared: &Shared<S, U>,
    said: &Said,
) -> Result<(Entered, String), NoEntry> {
    let network = Network::of(peer.ip());
    let claim = hear(connection, &place, shared, said).await?;
    let place = wait(connection, place, network, &claim.name.user, shared).await?;
    let server_final = judge(&claim, network, shared)?;
    drop(place);
    let Claim { mut name, stored, .. } = claim;
    let neon = spoken(&mut name)?;
    let seat = shared.places.sessions.enter(name.user.clone(), IDLE);
    let seat = seat.map_err(|none| no_seat(none, &name.user))?;
    let caller = Caller {
        user: name.user,
        database: name.database,
        peer,
        session: shared.number(),
        neon,
        parameters: name.parameters,
    };
    let stored = stored.unwrap_or_default();
    Ok((Entered { caller, seat, stored }, server_final))
}

/// Hears somebody's claim, in time and as long as nobody else gets the place.
async fn hear<S: Service, U: Users>(
    connection: &mut Connection,
    place: &Seat<Network>,
    shared: &Shared<S, U>,
    said: &Said,
) -> Result<Claim, NoEntry> {
    let progress = |hold: Hold, name: Option<&Name>| {
        place.hold(hold);
        if let Some(name) = name {
            *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.clone());
        }
    };
    let claim = claim(
        &mut connection.reader,
        &mut connection.writer,
        shared.users.as_ref(),
        &shared.secret,
        progress,
    );
    tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => Err(NoEntry::Silent),
        claimed = timeout(shared.options.login, claim) => match claimed {
            Ok(Ok(claim)) => Ok(claim),
            Ok(Err(StartError::Refused(refusal))) => Err(refusal.into()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no session");
                Err(NoEntry::Silent)
            }
            Err(_) => {
                tracing::debug!("the login took too long");
                Err(NoEntry::Silent)
            }
        },
        () = place.given_away() => {
            let refusal = Refusal::new(
                sqlstate::INSUFFICIENT_RESOURCES,
                "too many clients are logging in to this server",
            );
            Err(refusal.with_hint("try again").into())
        }
    }
}

/// Waits until somebody's password may be looked at: on the bench, so that nobody else waits for it. Returns the place that he has then.
async fn wait<S, U>(
    connection: &mut Connection,
    place: Seat<Network>,
    network: Network,
    user: &str,
    shared: &Shared<S, U>,
) -> Result<Seat<Network>, NoEntry> {
    let verdict = shared.guard().ask(network, user, Instant::now().into_std());
    let wait = match verdict {
        Verdict::After(Duration::ZERO) => return Ok(place),
        Verdict::After(wait) => wait,
        Verdict::Refused(wait) => return Err(come_again(wait).into()),
    };
    let bench = shared.places.bench.enter(network, Hold::Stays);
    let bench = bench.map_err(|_| come_again(wait))?;
    drop(place);
    tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => Err(NoEntry::Silent),
        () = tokio::time::sleep(wait) => Ok(bench),
        // There is nothing to say meanwhile, so it is the end.
        _ = connection.reader.next(|_| None) => Err(NoEntry::Silent),
    }
}

/// Looks at the proof, and remembers how that went.
fn judge<S, U>(claim: &Claim, network: Network, shared: &Shared<S, U>) -> Result<String, Refusal> {
    let checked = claim.check();
    let now = Instant::now().into_std();
    let user = &claim.name.user;
    match checked {
        Ok(server_final) => {
            shared.guard().passed(network, user, now);
            Ok(server_final)
        }
        Err(WrongProof::Password(refusal)) => {
            shared.guard().failed(network, user, now);
            Err(refusal)
        }
        Err(WrongProof::Message(refusal)) => Err(refusal),
    }
}

fn come_again(wait: Duration) -> Refusal {
    let seconds = wait.as_secs() + 1;
    Refusal::new(
        sqlstate::CANNOT_CONNECT_NOW,
        "too many logins failed: the password was not looked at",
    )
    .with_hint(format!("try again in {seconds} seconds"))
}

fn no_seat(none: NoSeat, user: &str) -> Refusal {
    let message = match none {
        NoSeat::Full => "too many connections to this server".to_owned(),
        NoSeat::TooManyOfOne => format!("user '{user}' has as many sessions here as one may have"),
    };
    Refusal::new(sqlstate::TOO_MANY_CONNECTIONS, message).with_hint("try again when some have ended")
}
