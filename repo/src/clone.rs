//! `clone`: a repository that begins as another's.

use std::path::Path;
use std::sync::Arc;

use neon_objects::{Expect, RefEdit, Upstream};
use neon_types::{RefName, RepoId};

use crate::api::{ApiError, Clone, Made, ProgressSink};
use crate::error::{RepoError, Result};
use crate::repository::{OpenOptions, Repository, branch_ref, new_branch_ref};
use crate::transfer::{absolute, check_reachable, tell_skipped};
use crate::unfinished::{self, Making, Unfinished};

/// Name of the origin that a clone comes from.
const ORIGIN: &str = "origin";

/// Copies a repository. One that was cut is resumed by the same command: what had arrived whole is kept.
pub fn clone(
    request: Clone,
    options: OpenOptions,
    runtime: &tokio::runtime::Handle,
    progress: &mut dyn ProgressSink,
) -> std::result::Result<Made, ApiError> {
    clone_or_fail(&request, &options, runtime, progress).map_err(ApiError::from)
}

/// Makes a repository without history and with that id, for the first push to it.
pub fn create_empty(
    directory: &Path,
    id: RepoId,
    options: &OpenOptions,
    runtime: &tokio::runtime::Handle,
) -> std::result::Result<Repository, ApiError> {
    let make = || -> Result<Repository> {
        Unfinished::begin_with(directory, id, &Making::Anew, options)?.finish()?;
        Repository::open(&directory.join(".neon"), options.clone(), runtime)
    };
    make().map_err(ApiError::from)
}

fn clone_or_fail(
    request: &Clone,
    options: &OpenOptions,
    runtime: &tokio::runtime::Handle,
    progress: &mut dyn ProgressSink,
) -> Result<Made> {
    neon_compute::refuse_root()?;
    if let Some(branch) = &request.branch {
        new_branch_ref(branch)?;
    }
    let uri = absolute(&request.uri, options.caller.directory());
    // A wrong address leaves nothing behind.
    check_reachable(&uri)?;
    if !unfinished::is_free(&request.directory) {
        return Err(RepoError::NotEmpty(request.directory.clone()));
    }
    let making = Making::CopyOf(crate::origins::hide_password(&uri));
    let mut unfinished = Unfinished::begin(&request.directory, &making, options)?;
    if unfinished.is_resumed() {
        progress.note("resuming the clone that was cut");
    }
    let repository = Arc::new(unfinished.open(options, runtime)?);
    let mut config = repository.config()?;
    if !config.origins()?.contains_key(ORIGIN) {
        config.add_origin(ORIGIN, &uri)?;
        config.save()?;
    }
    match fetch(&repository, &uri, request, progress) {
        Ok(made) => {
            unfinished.finish()?;
            // The lock is held up to here: who dies before the name is durable is known to have died.
            drop(repository);
            Ok(made)
        }
        Err(error) => {
            // Neither does a wrong password; what has arrived is kept for the next try.
            if !repository.objects.incoming()?.is_empty() || repository.objects.iter()?.next().is_some() {
                unfinished.leave();
            }
            Err(error)
        }
    }
}

fn fetch(
    repository: &Arc<Repository>,
    uri: &str,
    request: &Clone,
    progress: &mut dyn ProgressSink,
) -> Result<Made> {
    let outcome = repository.fetch_from(
        uri,
        request.branch.as_deref(),
        false,
        request.password.as_ref(),
        progress,
    )?;
    let head = outcome
        .default_branch(request.branch.as_deref())
        .map_err(neon_remotes::RemoteError::from)?;
    if let Some(reason) = &head.refused {
        let reason = neon_remotes::Refusal::Contradiction {
            what: format!("branch '{}': {reason}", head.name),
        };
        return Err(neon_remotes::RemoteError::from(reason).into());
    }
    tell_skipped(&outcome.skipped, ORIGIN, progress);
    let mut edits = Vec::new();
    let mut notes = Vec::new();
    for fetched in &outcome.branches {
        if let Some(reason) = &fetched.refused {
            notes.push(format!("branch '{}' was not fetched: {reason}", fetched.name));
            continue;
        }
        let name = RefName::origin(ORIGIN, &fetched.name)
            .map_err(|error| RepoError::refused(error.to_string(), "its owner should rename that branch"))?;
        edits.push(RefEdit {
            name,
            expect: Expect::Any,
            new: Some(fetched.head),
        });
    }
    edits.push(RefEdit {
        name: branch_ref(&head.name)?,
        expect: Expect::Any,
        new: Some(head.head),
    });
    repository.move_refs(
        &edits,
        &format!("clone: from {}", crate::origins::hide_password(uri)),
    )?;
    repository.refs.set_head(&head.name)?;
    let mut config = repository.config()?;
    config.set_upstream(
        &head.name,
        Some(&Upstream {
            origin: ORIGIN.to_owned(),
            branch: head.name.clone(),
        }),
    )?;
    config.save()?;
    let commit = repository.commit(head.head)?;
    let timeline = repository.timeline(commit.position.timeline)?;
    Ok(Made {
        directory: request.directory.clone(),
        repository: repository.config()?.repository(),
        branch: head.name.clone(),
        commit: Some(head.head),
        lsn: Some(commit.position.lsn),
        pg_version: timeline.state().version.major(),
        notes,
    })
}
