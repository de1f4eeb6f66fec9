//! Seats with the means to reach those who sit there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::seats::{Admission, Hold, SeatId, Seats};

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// A room with so many seats, shared by those who sit there.
pub(super) struct Room<K> {
    seats: Mutex<Seats<K, CancellationToken>>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// All are taken.
    Full,
    /// The holder has as many as one may have.
    TooManyOfOne,
}

/// A seat, free again when this is dropped.
pub(super) struct Seat<K: Ord + Clone> {
    room: Arc<Room<K>>,
    id: SeatId,
    token: CancellationToken,
}

impl<K: Ord + Clone> Room<K> {
    pub fn new(all: usize, each: usize) -> Arc<Room<K>> {
        Arc::new(Room {
            seats: Mutex::new(Seats::new(all, each)),
        })
    }

    /// Takes a seat, if need be that of somebody who gives way and is told so.
    pub fn enter(self: &Arc<Self>, holder: K, hold: Hold) -> Result<Seat<K>, NoSeat> {
        let token = CancellationToken::new();
        let admission = self.seats().admit(holder, hold, token.clone(), now());
        let id = match admission {
            Admission::Seat(id) => id,
            Admission::Instead(id, other) => {
                other.cancel();
                id
            }
            Admission::Full => return Err(NoSeat::Full),
            Admission::TooManyOfOne => return Err(NoSeat::TooManyOfOne),
        };
        Ok(Seat {
            room: Arc::clone(self),
            id,
            token,
        })
    }

    /// Makes the one that gives way most easily leave; false when there is none.
    pub fn give_way(&self) -> bool {
        let token = self.seats().give_way(now());
        token.map(|token| token.cancel()).is_some()
    }

    fn seats(&self) -> MutexGuard<'_, Seats<K, CancellationToken>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone> Seat<K> {
    /// Says that its holder did something, and whether it may be given away now.
    pub fn hold(&self, hold: Hold) {
        self.room.seats().hold(self.id, hold, now());
    }

    /// Returns once somebody else has it.
    pub async fn given_away(&self) {
        self.token.cancelled().await;
    }
}

impl<K: Ord + Clone> Drop for Seat<K> {
    fn drop(&mut self) {
        self.room.seats().leave(self.id);
    }
}
