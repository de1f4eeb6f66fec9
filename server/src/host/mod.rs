//! What a server hosts: one repository, or every one below a directory.

mod newborn;
mod quota;
mod root;
mod slot;
mod visit;

use std::path::PathBuf;
use std::sync::Arc;

use neon_remotes::{Command, Options, RemoteError, Served, Sink, serve_push};
use neon_repo::Repository;
use neon_repo::api::ApiError;
use neon_transport::server::{Attempt, Caller, Opening, Service};
use neon_transport::{Channel, Refusal, sqlstate};
use neon_types::on_one_line;

use crate::audit::{Audit, Who};
use newborn::Newborn;
use quota::Quota;
use slot::{Lease, blocking};
use visit::Visit;

pub(crate) use root::Root;
pub(crate) use slot::Slots;

use crate::settings::Space;

/// Longest part of a command or reason that is written down.
const WRITTEN: usize = 400;

/// What a server hosts.
pub(crate) struct Host {
    hosted: Hosted,
    audit: Arc<Audit>,
}

enum Hosted {
    /// One repository, under the name of its directory.
    One(Arc<Repository>, Arc<Quota>),
    /// Every repository below a directory.
    Root(Arc<Slots>),
}

/// Where a command goes.
enum Place {
    /// To a repository, which is open at least as long as the lease lives.
    Made(Arc<Repository>, Arc<Quota>, Option<Lease>),
    /// To one that a push would make.
    Unborn(Arc<Slots>, Lease),
}

impl Place {
    fn quota(&self) -> Arc<Quota> {
        match self {
            Place::Made(_, quota, _) => Arc::clone(quota),
            Place::Unborn(_, lease) => Arc::clone(&lease.slot.quota),
        }
    }

    /// Returns the `.neon/` that what arrives will be in.
    fn neon_dir(&self) -> PathBuf {
        match self {
            Place::Made(repository, ..) => repository.neon_dir().to_owned(),
            Place::Unborn(slots, lease) => slots.root.incoming(&lease.slot.name).join(".neon"),
        }
    }

    /// Leads a conversation to its end.
    async fn converse(
        self,
        command: Command,
        channel: Channel,
        options: Options,
    ) -> Result<Served, RemoteError> {
        match (self, command) {
            (Place::Made(repository, _, _lease), command) => {
                repository.converse(command, channel, options).await
            }
            (Place::Unborn(slots, lease), Command::Push { branch, timeline }) => {
                let newborn = Arc::new(Newborn::new(slots, Arc::clone(&lease.slot)));
                let _gone = newborn.gone().drop_guard();
                let sink = Arc::clone(&newborn) as Arc<dyn Sink>;
                let served = serve_push(channel, sink, branch, timeline, options).await;
                newborn.ended(&served);
                // Closing and removing is work for a thread.
                let _ = blocking(move || drop((newborn, lease))).await;
                served
            }
            (Place::Unborn(..), command) => Err(RemoteError::Command(command.to_string())),
        }
    }
}

impl Host {
    /// Returns a host of one repository.
    pub fn one(repository: Arc<Repository>, space: Space, audit: Audit) -> Host {
        let quota = Quota::new(&name_of(&repository), space);
        Host {
            hosted: Hosted::One(repository, quota),
            audit: Arc::new(audit),
        }
    }

    /// Returns a host of all repositories below a root.
    pub fn root(slots: Arc<Slots>, audit: Audit) -> Host {
        Host {
            hosted: Hosted::Root(slots),
            audit: Arc::new(audit),
        }
    }

    /// Returns the place of that name; one that is not there yet only for a push.
    async fn place(&self, name: &str, push: bool) -> Result<Place, Refusal> {
        match &self.hosted {
            Hosted::One(repository, quota) => {
                let own = name_of(repository);
                if own == name {
                    return Ok(Place::Made(Arc::clone(repository), Arc::clone(quota), None));
                }
                Err(no_repository(
                    name,
                    format!("this server has one repository: '{own}'"),
                ))
            }
            Hosted::Root(slots) => {
                let lease = slots.lease(name).await?;
                match &lease.repository {
                    Some(repository) => {
                        let (repository, quota) = (Arc::clone(repository), Arc::clone(&lease.slot.quota));
                        Ok(Place::Made(repository, quota, Some(lease)))
                    }
                    None if push => {
                        check_room(slots, name).await?;
                        Ok(Place::Unborn(Arc::clone(slots), lease))
                    }
                    None => Err(no_repository(name, "the first push makes it".to_owned())),
                }
            }
        }
    }

    /// Carries a command out; what is refused before a channel is open is the answer.
    async fn carry_out(&self, caller: &Caller, text: &str, opening: Opening) -> Result<(), Refusal> {
        let command: Command = text.parse().map_err(|error| bad_command(&error))?;
        let is_push = matches!(command, Command::Push { .. });
        let place = self.place(&caller.database, is_push).await?;
        let visit = Arc::new(Visit {
            audit: Arc::clone(&self.audit),
            who: Who::of(caller),
            repository: caller.database.clone(),
            command: written(text),
            quota: place.quota(),
            neon_dir: place.neon_dir(),
        });
        let channel = opening.accept().await?;
        tracing::info!(user = ?caller.user, repository = ?caller.database, command = ?text, session = caller.session, "serving");
        let served = place.converse(command, channel, visit.options(caller)).await;
        self.tell(caller, &visit, served);
        Ok(())
    }

    /// Writes down how a conversation ended. The other side knows.
    fn tell(&self, caller: &Caller, visit: &Visit, served: Result<Served, RemoteError>) {
        match served {
            Ok(served) => {
                tracing::info!(user = ?caller.user, repository = ?visit.repository, session = caller.session, motion = ?served.motion, bytes = served.volume.bytes, "served");
            }
            Err(error) => {
                let reason = neon_types::with_causes(&error);
                tracing::warn!(user = ?caller.user, repository = ?visit.repository, session = caller.session, ?reason, "the conversation failed");
                self.audit
                    .refused(&visit.who, &visit.repository, &visit.command, written(&reason));
            }
        }
    }
}

impl Service for Host {
    async fn open(&self, caller: &Caller, command: &str, opening: Opening) -> Result<(), Refusal> {
        let result = self.carry_out(caller, command, opening).await;
        if let Err(refusal) = &result {
            let reason = written(&format!("{} {refusal}", refusal.code));
            self.audit
                .refused(&Who::of(caller), &caller.database, &written(command), reason);
        }
        result
    }

    fn attempted(&self, attempt: Attempt<'_>) {
        let who = Who {
            session: attempt.session,
            user: attempt.user.map(str::to_owned),
            address: attempt.peer.to_string(),
        };
        match attempt.refusal {
            None => self.audit.login(&who, attempt.database.unwrap_or_default()),
            Some(refusal) => {
                let database = attempt.database.map(written);
                let reason = written(&format!("{} {refusal}", refusal.code));
                if self
                    .audit
                    .login_refused(&who, database.as_deref(), reason.clone())
                {
                    tracing::info!(?who, ?reason, "login refused");
                }
            }
        }
    }
}

/// Refuses a push that would make one repository more than there may be.
async fn check_room(slots: &Arc<Slots>, name: &str) -> Result<(), Refusal> {
    let limit = slots.limits.repositories;
    let (slots, name) = (Arc::clone(slots), name.to_owned());
    match blocking(move || slots.root.has_room(&name, limit)).await? {
        Ok(true) => Ok(()),
        Ok(false) => Err(
            Refusal::new(sqlstate::TOO_MANY_REPOSITORIES, newborn::too_many(limit))
                .with_hint("push to one that is there, or ask for more"),
        ),
        Err(error) => Err(Refusal::new(sqlstate::INTERNAL_ERROR, error.to_string())),
    }
}

/// Returns the name under which one repository is served.
fn name_of(repository: &Repository) -> String {
    let directory = repository.directory();
    let name = directory
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    name.unwrap_or_default()
}

fn no_repository(name: &str, hint: String) -> Refusal {
    let shown = on_one_line(name);
    Refusal::new(
        sqlstate::UNKNOWN_DATABASE,
        format!("there is no repository '{shown}' here"),
    )
    .with_hint(hint)
}

fn bad_command(error: &RemoteError) -> Refusal {
    match error {
        RemoteError::Name(_) => {
            Refusal::new(sqlstate::INVALID_NAME, error.to_string()).with_hint(error.hint())
        }
        RemoteError::Command(text) => Refusal::new(
            sqlstate::SYNTAX_ERROR,
            format!("'{text}' is not a command of neon"),
        )
        .with_hint(
            "this is a neon server, not Postgres; use neon clone, fetch, pull or push with this address",
        ),
        other => Refusal::new(sqlstate::SYNTAX_ERROR, other.to_string()),
    }
}

/// Says an error of ours to a client.
fn refusal(error: &ApiError) -> Refusal {
    let refusal = Refusal::new(sqlstate::INTERNAL_ERROR, error.message.clone());
    match &error.hint {
        Some(hint) => refusal.with_hint(hint.clone()),
        None => refusal,
    }
}

/// The beginning of a text that somebody sent.
fn written(text: &str) -> String {
    text.chars().take(WRITTEN).collect()
}
