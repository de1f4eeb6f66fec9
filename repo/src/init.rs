//! Making a repository: from initdb, or from a cleanly stopped data directory.

use std::fs;
use std::path::Path;

use neon_compute::conf::Settings;
use neon_compute::{InitOptions, Installation, ServerEnvironment};
use neon_objects::owned::{self, Access, Owner};
use neon_objects::{Environment, Expect, RefEdit, durable};
use neon_pagestore::import;
use neon_postgres::PgVersion;

use crate::api::{ApiError, Init, Made, Progress, ProgressSink};
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::repository::{OpenOptions, Repository, branch_ref};
use crate::unfinished::{FIRST_BRANCH, Making, Unfinished, password};

/// Longest password that is read, bytes.
const MAX_PASSWORD: u64 = 4096;

/// Makes a repository in `request.directory`. What was begun is removed when it fails.
pub fn init(
    request: Init,
    options: OpenOptions,
    runtime: &tokio::runtime::Handle,
    progress: &mut dyn ProgressSink,
) -> std::result::Result<Made, ApiError> {
    init_or_fail(&request, &options, runtime, progress).map_err(ApiError::from)
}

fn init_or_fail(
    request: &Init,
    options: &OpenOptions,
    runtime: &tokio::runtime::Handle,
    progress: &mut dyn ProgressSink,
) -> Result<Made> {
    neon_compute::refuse_root()?;
    // Everything that can be refused is, before anything is made.
    if let Some(pgdata) = request
        .directory
        .ancestors()
        .find(|above| is_data_directory(above))
    {
        return Err(RepoError::InsideADataDirectory(pgdata.to_owned()));
    }
    let source = match &request.from {
        Some(pgdata) => {
            let pgdata = fs::canonicalize(pgdata).map_err(RepoError::io("enter", pgdata))?;
            Some(import::inspect(&pgdata)?)
        }
        None => None,
    };
    let wanted = match &source {
        Some(source) => Some(source.version),
        None => request
            .pg_version
            .map(|major| {
                PgVersion::from_major(major).ok_or_else(|| {
                    RepoError::refused(
                        format!("Postgres {major} is not supported"),
                        "versions 14 to 18 are",
                    )
                })
            })
            .transpose()?,
    };
    let installation = crate::directory::find_installation(&options.caller, wanted)?;
    let mut unfinished = Unfinished::begin(&request.directory, &Making::Anew, options)?;
    let repository = unfinished.open(options, runtime)?;
    let source = match source {
        Some(source) => source,
        None => {
            progress.note(&format!(
                "running initdb of Postgres {}",
                installation.version().major()
            ));
            let pgdata = unfinished.initdb();
            let defaults = InitOptions::default();
            neon_compute::initdb(
                &installation,
                &pgdata,
                &InitOptions {
                    locale: request.locale.clone().unwrap_or(defaults.locale),
                    encoding: request.encoding.clone().unwrap_or(defaults.encoding),
                    password: Some(repository.verifier()?),
                },
            )?;
            if progress.cancelled() {
                return Err(RepoError::Interrupted);
            }
            import::inspect(&pgdata)?
        }
    };
    let timeline = repository.pages.import(&source, &mut |done, total| {
        progress.report(&Progress {
            label: "importing".into(),
            done,
            total,
            unit: "bytes".into(),
        });
        !progress.cancelled()
    })?;
    let environment = environment(&installation, &timeline.state());
    let settings = Settings::read_file(&source.pgdata.join("postgresql.auto.conf"))?;
    let settings = settings.unwrap_or_default().text();
    if request.from.is_none() {
        fs::remove_dir_all(&source.pgdata).map_err(RepoError::io("remove", &source.pgdata))?;
    }
    let place = Place {
        path: repository.path_of(&timeline)?,
        lsn: timeline.end(),
    };
    let message = match &request.from {
        Some(pgdata) => format!("import of {}", pgdata.display()),
        None => format!("initdb of Postgres {}", installation.version().major()),
    };
    let author = repository.author(None)?;
    let commit = repository.make_commit(&place, None, environment, settings, author, message)?;
    repository.move_refs(
        &[RefEdit {
            name: branch_ref(FIRST_BRANCH)?,
            expect: Expect::Absent,
            new: Some(commit),
        }],
        "init",
    )?;
    let made = Made {
        directory: request.directory.clone(),
        repository: repository.config()?.repository(),
        branch: FIRST_BRANCH.to_owned(),
        commit: Some(commit),
        lsn: Some(place.lsn),
        pg_version: timeline.state().version.major(),
        notes: if request.from.is_some() {
            source.left_behind.clone()
        } else {
            Vec::new()
        },
    };
    unfinished.finish()?;
    // The lock is held up to here: who dies before the name is durable is known to have died.
    drop(repository);
    Ok(made)
}

/// Returns true for a directory that Postgres made to keep a cluster in.
pub fn is_data_directory(directory: &Path) -> bool {
    directory.join("PG_VERSION").is_file() && directory.join("global/pg_control").is_file()
}

/// Returns what a commit says of where its pages were made.
fn environment(installation: &Installation, state: &neon_pagestore::TimelineState) -> Environment {
    let server = ServerEnvironment::detect(installation);
    Environment {
        pg_version_num: installation.version_num(),
        architecture: server.architecture,
        char_signed: server.char_signed,
        libc: server.libc,
        icu: server.icu,
        segment_size: state.segment_size,
        preload: Vec::new(),
        checksums: state.hints_logged,
    }
}

impl Repository {
    /// Returns the password of the superuser of this repository's endpoints.
    pub(crate) fn password(&self) -> Result<String> {
        let path = self.neon_dir.join("password");
        match owned::read(&path, Owner::Us, Access::Secret, MAX_PASSWORD)? {
            Some(text) => Ok(text.trim_end().to_owned()),
            None => {
                let password = password(self.world());
                durable::replace(&path, format!("{password}\n").as_bytes(), 0o600)?;
                Ok(password)
            }
        }
    }
}
