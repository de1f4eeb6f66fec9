//! Why a session ends though its client did not end it, and who notices.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::room::Seat;
use super::socket::Socket;
use super::{Caller, Users};
use crate::{Refusal, sqlstate};

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// What let the user in does not stand any more: the user was removed, or has another password.
    Withdrawn,
    /// Somebody else needs the seat, and nothing was going on.
    GivenAway,
    /// The client is gone.
    Gone,
}

impl Why {
    /// Returns what the client is told; nothing when nobody is there.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Why::Withdrawn => Some(
                Refusal::new(
                    sqlstate::ADMIN_SHUTDOWN,
                    "the user or the password of this session is not valid any more",
                )
                .with_hint("'neon user list' on the server shows who may connect"),
            ),
            Why::GivenAway => Some(
                Refusal::new(
                    sqlstate::IDLE_SESSION_TIMEOUT,
                    "the session was idle and others need its place",
                )
                .with_hint("connect again"),
            ),
            Why::Gone => None,
        }
    }
}

/// Whether a session is to end, and why.
#[derive(Default)]
pub(super) struct Ending {
    token: CancellationToken,
    why: OnceLock<Why>,
}

impl Ending {
    /// Returns once the session is to end.
    pub async fn ended(&self) -> Why {
        self.token.cancelled().await;
        self.why.get().copied().unwrap_or(Why::Gone)
    }

    /// Returns why the session is to end, if it is.
    pub fn why(&self) -> Option<Why> {
        self.why.get().copied()
    }

    fn end(&self, why: Why) {
        // The first reason is the one that is told.
        let _ = self.why.set(why);
        self.token.cancel();
    }

    /// Watches a session for as long as it lasts: every `tick` whether its user still may be here and whether its client still is.
    pub async fn watch<U: Users>(
        &self,
        users: &U,
        caller: &Caller,
        stored: &str,
        socket: &Socket,
        seat: &Seat<String>,
        tick: Duration,
    ) -> Infallible {
        let mut hung_up = 0;
        loop {
            tokio::select! {
                () = seat.given_away(), if !self.token.is_cancelled() => self.end(Why::GivenAway),
                () = tokio::time::sleep(tick) => {
                    if !users.stands(&caller.user, &caller.database, stored) {
                        self.end(Why::Withdrawn);
                    }
                    // Twice: an end that is properly said is read in between.
                    hung_up = if socket.is_hung_up().await { hung_up + 1 } else { 0 };
                    if hung_up > 1 {
                        self.end(Why::Gone);
                    }
                }
            }
        }
    }
}
