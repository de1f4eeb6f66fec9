//! `clone`: a repository that begins as another's.

use std::path::Path;
use std::sync::Arc;

use neon_objects::{Expect, RefEdit, Upstream};
use neon_types::{RefName, RepoId};

use crate::api::{ApiError, Clone, Made, ProgressSink};
use crate::error::{RepoError, Result};
use crate::init::Skeleton;
use crate::repository::{OpenOptions, Repository, branch_ref, new_branch_ref};
use crate::transfer::{absolute, tell_skipped};

/// Name of the origin that a clone comes from.
const ORIGIN: &str = "origin";
/// Marks a clone that is not finished; holds the URI that it comes from.
const UNFINISHED: &str = "clone-unfinished";

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
        let skeleton = Skeleton::make_with(directory, id, options)?;
        let repository = skeleton.open(options, runtime)?;
        skeleton.keep();
        Ok(repository)
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
    let here = std::env::current_dir().map_err(RepoError::io("enter", "."))?;
    let uri = absolute(&request.uri, &here);
    let neon_dir = request.directory.join(".neon");
    let marker = neon_dir.join(UNFINISHED);
    let repository = if marker.is_file() {
        let begun = std::fs::read_to_string(&marker).map_err(RepoError::io("read", &marker))?;
        if begun.trim_end() != crate::origins::hide_password(&uri) {
            return Err(RepoError::refused(
                format!(
                    "{} holds an unfinished clone of {}",
                    request.directory.display(),
                    begun.trim_end()
                ),
                "clone from there again to finish it, or remove the directory",
            ));
        }
        progress.note("resuming the clone that was cut");
        Repository::open(&neon_dir, options.clone(), runtime)?
    } else {
        if request
            .directory
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
        {
            return Err(RepoError::NotEmpty(request.directory.clone()));
        }
        let skeleton = Skeleton::make(&request.directory, options)?;
        let repository = skeleton.open(options, runtime)?;
        // Before anything is fetched: a wrong address or password leaves nothing behind.
        let mut config = repository.config()?;
        config.add_origin(ORIGIN, &uri)?;
        config.save()?;
        neon_objects::durable::replace(
            &marker,
            format!("{}\n", crate::origins::hide_password(&uri)).as_bytes(),
            0o600,
        )?;
        let repository = Arc::new(repository);
        let fetched = fetch(&repository, &uri, request, progress);
        return match fetched {
            Ok(made) => {
                skeleton.keep();
                finish(&marker)?;
                Ok(made)
            }
            Err(error) => {
                if repository.objects.incoming()?.is_empty() && repository.objects.iter()?.next().is_none() {
                    return Err(error);
                }
                skeleton.keep();
                Err(error)
            }
        };
    };
    let made = fetch(&Arc::new(repository), &uri, request, progress)?;
    finish(&marker)?;
    Ok(made)
}

fn finish(marker: &Path) -> Result<()> {
    neon_objects::durable::remove(marker)?;
    Ok(())
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
        request.password.as_deref(),
        progress,
    )?;
    let head = outcome
        .default_branch(request.branch.as_deref())
        .map_err(neon_remotes::RemoteError::from)?;
    tell_skipped(&outcome.skipped, ORIGIN, progress);
    let mut edits = Vec::new();
    for fetched in &outcome.branches {
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
        notes: Vec::new(),
    })
}
