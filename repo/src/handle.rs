//! One request in, one response out.

use std::sync::Arc;

use crate::api::{ApiError, Caller, Done, ProgressSink, Request, Response, Setting};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

impl Repository {
    /// Carries out one command in the world of its caller. Called from blocking threads, several at a time; commands that move refs, timelines or
    /// endpoints wait for each other.
    pub fn handle(
        &self,
        request: Request,
        caller: &Caller,
        progress: &mut dyn ProgressSink,
    ) -> std::result::Result<Response, ApiError> {
        let repository = Arc::new(self.seen_by(caller));
        repository.dispatch(request, progress).map_err(ApiError::from)
    }

    fn dispatch(self: &Arc<Self>, request: Request, progress: &mut dyn ProgressSink) -> Result<Response> {
        if !request.only_reads() {
            self.check_writable()?;
        }
        // A command that failed may have left what can be seen and is not durable.
        neon_objects::durable::settle(&self.neon_dir)?;
        if let Request::Gc(request) = request {
            // It respects what others hold, so it holds nothing itself.
            return self.gc(&request, progress).map(Response::Collected);
        }
        // Objects that are put before anything names them stay until the command is over.
        let _hold = self.objects.hold();
        match request {
            // These read, and may run beside anything.
            Request::Status => return self.status().map(Response::Status),
            Request::BranchList => return self.list_branches().map(Response::Branches),
            Request::TagList => return self.list_tags().map(Response::Tags),
            Request::Log { rev, limit } => return self.log(rev.as_deref(), limit).map(Response::Commits),
            Request::Show { rev } => return self.show(&rev).map(|commit| Response::Commit(Box::new(commit))),
            Request::Compare { rev, pgdata } => {
                return self.compare(&rev, &pgdata, progress).map(Response::Compared);
            }
            Request::Wal { range, after } => return self.wal(&range, after).map(Response::Wal),
            Request::OriginList => return self.list_origins().map(Response::Origins),
            Request::Fsck(request) => return self.fsck(&request, progress).map(Response::Checked),
            Request::Usage => return self.usage().map(Response::Usage),
            Request::UsageOf { rev } => return self.usage_of(&rev, progress).map(Response::UsageOf),
            Request::Layers { rev } => return self.layers(&rev).map(Response::Layers),
            Request::Uri { branch } => return self.uri(branch.as_deref()).map(Response::Endpoint),
            Request::ConfigGet { key } => return self.config_get(&key),
            // These talk to another repository for as long as it takes, and lock only what they move.
            Request::Push(transfer) => return self.push(&transfer, progress).map(Response::Transferred),
            Request::Pull(transfer) => return self.pull(&transfer, progress).map(Response::Transferred),
            Request::Fetch(transfer) => return self.fetch(&transfer, progress).map(Response::Transferred),
            _ => {}
        }
        let _exclusive = self.exclusive_unless_cancelled(progress)?;
        match request {
            Request::Start {
                rev,
                port,
                existing,
                role,
            } => self
                .start(rev.as_deref(), port, existing, role, progress)
                .map(Response::Endpoint),
            Request::Stop { branch, all } => self.stop(branch.as_deref(), all).map(Response::Stopped),
            Request::BranchCreate { name, rev } => {
                self.create_branch(&name, rev.as_deref()).map(Response::Moved)
            }
            Request::BranchDelete { name, force } => self.delete_branch(&name, force).map(Response::Done),
            Request::BranchRename { old, new } => self.rename_branch(&old, &new).map(Response::Done),
            Request::TagCreate { name, rev } => self.create_tag(&name, rev.as_deref()).map(Response::Moved),
            Request::TagDelete { name } => self.delete_tag(&name).map(Response::Done),
            Request::Commit {
                branch,
                message,
                author,
            } => self
                .commit_branch(branch.as_deref(), &message, author.as_deref())
                .map(Response::Moved),
            Request::Switch { branch } => self.switch(&branch).map(Response::Done),
            Request::Export { rev, pgdata } => self.export(&rev, &pgdata, progress).map(Response::Exported),
            Request::Retention(request) => self.retention(&request).map(Response::Retention),
            Request::OriginAdd { name, uri } => self.add_origin(&name, &uri).map(Response::Done),
            Request::OriginRemove { name } => self.remove_origin(&name).map(Response::Done),
            Request::OriginRename { old, new } => self.rename_origin(&old, &new).map(Response::Done),
            Request::OriginSetUrl { name, uri } => self.set_origin_uri(&name, &uri).map(Response::Done),
            Request::ConfigSet { key, value } => self.config_set(&key, value.as_deref()),
            _ => Err(RepoError::refused("this request has no answer", "upgrade neon")),
        }
    }

    fn config_get(&self, key: &str) -> Result<Response> {
        let value = self.config()?.get(key)?.ok_or_else(|| {
            RepoError::refused(
                format!("'{key}' is not set"),
                format!("set it: neon config set {key} VALUE"),
            )
        })?;
        Ok(Response::Setting(Setting {
            key: key.to_owned(),
            value,
        }))
    }

    fn config_set(&self, key: &str, value: Option<&str>) -> Result<Response> {
        let mut config = self.config()?;
        config.set(key, value)?;
        if let Some(value) = value
            && let Some(name) = neon_objects::config::postgres_setting(key)
        {
            self.check_endpoint_setting(&name, value)?;
        }
        config.save()?;
        self.apply_wal_windows(&config)?;
        Ok(Response::Done(Done::default()))
    }
}
