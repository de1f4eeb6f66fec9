//! One command of a session: who gave it, what it may take, and what is written down of it.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use neon_remotes::{BranchMove, Gate, LocalError, Options, Refusal, Volume};
use neon_transport::server::Caller;

use super::quota::Quota;
use crate::audit::{Audit, Event, Who};

/// A command that is carried out for somebody.
pub(super) struct Visit {
    pub audit: Arc<Audit>,
    pub who: Who,
    pub repository: String,
    pub command: String,
    pub quota: Arc<Quota>,
    /// Where what arrives will be.
    pub neon_dir: PathBuf,
}

impl Who {
    /// Returns who gave a command.
    pub fn of(caller: &Caller) -> Who {
        Who {
            session: Some(caller.session),
            user: Some(caller.user.clone()),
            address: caller.peer.to_string(),
        }
    }
}

/// Returns a caller as an author: the user and the address.
fn author(caller: &Caller) -> String {
    let ip = caller.peer.ip();
    let host = if ip.is_ipv6() {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    format!("{user} <{user}@{host}>", user = caller.user)
}

impl Visit {
    /// Returns how its conversation is led.
    pub fn options(self: &Arc<Self>, caller: &Caller) -> Options {
        Options {
            who: Some(author(caller).into()),
            gate: Some(Arc::clone(self) as Arc<dyn Gate>),
            ..Options::default()
        }
    }
}

impl Gate for Visit {
    fn admit(&self, bytes: u64) -> Result<Box<dyn Any + Send>, Refusal> {
        self.quota.reserve(&self.neon_dir, bytes)
    }

    fn moves(&self, step: &BranchMove, arrived: &Volume) -> Result<(), LocalError> {
        let event = Event::Move {
            repository: self.repository.clone(),
            command: self.command.clone(),
            name: format!("refs/heads/{}", step.branch),
            old: step.expect.map(|commit| commit.to_string()),
            new: step.new.to_string(),
            why: step.why().to_owned(),
            bytes: arrived.bytes,
        };
        self.audit.moves(&self.who, &event).map_err(|error| {
            tracing::error!(%error, who = ?self.who, ?event, "a branch does not move, because the audit cannot be written");
            LocalError::other("the server cannot write its audit, so no branch moves")
        })
    }
}
