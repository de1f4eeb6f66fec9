//! Making a repository: from initdb, or from a cleanly stopped data directory.

use std::fs;
use std::path::{Path, PathBuf};

use neon_compute::{InitOptions, Installation, ServerEnvironment};
use neon_objects::owned::{self, Access, Owner};
use neon_objects::{Config, Environment, Expect, RefEdit, RepoLock, durable};
use neon_pagestore::import;
use neon_postgres::PgVersion;
use neon_types::RepoId;

use crate::api::{ApiError, Init, Made, Progress, ProgressSink};
use crate::endpoint::pgdata_of;
use crate::error::{RepoError, Result};
use crate::history::Place;
use crate::repository::{OpenOptions, Repository, branch_ref, check_ours};
use crate::world;

/// Branch that `init` makes.
const FIRST_BRANCH: &str = "main";
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
    let installation = crate::directory::find_installation(&*options.world, wanted)?;
    let skeleton = Skeleton::make(&request.directory, options)?;
    let repository = skeleton.open(options, runtime)?;
    let source = match source {
        Some(source) => source,
        None => {
            progress.note(&format!(
                "running initdb of Postgres {}",
                installation.version().major()
            ));
            let pgdata = skeleton.neon_dir.join("tmp-initdb");
            let password = repository.password()?;
            let defaults = InitOptions::default();
            neon_compute::initdb(
                &installation,
                &pgdata,
                &InitOptions {
                    locale: request.locale.clone().unwrap_or(defaults.locale),
                    encoding: request.encoding.clone().unwrap_or(defaults.encoding),
                    password: Some(password),
                },
            )?;
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
    })?;
    let environment = environment(&installation, &timeline.state());
    let settings = fs::read_to_string(source.pgdata.join("postgresql.auto.conf")).unwrap_or_default();
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
    let author = repository.author(request.author.as_deref())?;
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
        directory: repository.directory(),
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
    skeleton.keep();
    Ok(made)
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

/// A `.neon/` without history; removed again unless it is kept.
pub(crate) struct Skeleton {
    pub(crate) neon_dir: PathBuf,
    made_directory: Option<PathBuf>,
    kept: bool,
}

impl Skeleton {
    /// Makes the directories, an id, a configuration and HEAD in `directory`.
    pub(crate) fn make(directory: &Path, options: &OpenOptions) -> Result<Skeleton> {
        Skeleton::make_with(directory, world::new_repo_id(&*options.world), options)
    }

    /// The same with an id that was drawn already.
    pub(crate) fn make_with(directory: &Path, id: RepoId, options: &OpenOptions) -> Result<Skeleton> {
        let neon_dir = directory.join(".neon");
        if neon_dir.exists() {
            return Err(RepoError::AlreadyARepository(directory.to_owned()));
        }
        let made_directory = (!directory.exists()).then(|| directory.to_owned());
        make_durably(&neon_dir)?;
        let skeleton = Skeleton {
            neon_dir,
            made_directory,
            kept: false,
        };
        check_ours(&skeleton.neon_dir)?;
        for inner in [
            "objects",
            "refs/heads",
            "refs/tags",
            "refs/origins",
            "timelines",
            "endpoints",
            "log",
        ] {
            make_durably(&skeleton.neon_dir.join(inner))?;
        }
        let password = password(&*options.world);
        durable::replace(
            &skeleton.neon_dir.join("password"),
            format!("{password}\n").as_bytes(),
            0o600,
        )?;
        neon_objects::Refs::open(&skeleton.neon_dir)?.set_head(FIRST_BRANCH)?;
        // The configuration is what makes the directory a repository: it comes last.
        Config::create(&skeleton.neon_dir, id)?;
        Ok(skeleton)
    }

    /// Opens what was made.
    pub(crate) fn open(&self, options: &OpenOptions, runtime: &tokio::runtime::Handle) -> Result<Repository> {
        let lock = RepoLock::acquire_within(&self.neon_dir, &options.purpose, options.lock_wait)?;
        Repository::open_locked(&self.neon_dir, lock, options.world.clone(), runtime)
    }

    /// Keeps it: the work is done.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Skeleton {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let _ = neon_compute::kill_everything(&pgdata_of(&self.neon_dir, FIRST_BRANCH));
        let _ = fs::remove_dir_all(&self.neon_dir);
        if let Some(directory) = &self.made_directory {
            // Only when nothing else came in meanwhile.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Makes a directory, and those above it, that nobody else can enter; their names survive a power cut.
fn make_durably(directory: &Path) -> Result<()> {
    let directory = std::path::absolute(directory).map_err(RepoError::io("create", directory))?;
    durable::create_directories(Path::new("/"), &directory)?;
    Ok(())
}

/// Returns a password that needs no quoting anywhere: 32 hex digits, 128 random bits.
fn password(world: &dyn world::World) -> String {
    RepoId(world.random()).to_string()
}

impl Repository {
    /// Returns the password of the superuser of this repository's endpoints.
    pub(crate) fn password(&self) -> Result<String> {
        let path = self.neon_dir.join("password");
        match owned::read(&path, Owner::Us, Access::Secret, MAX_PASSWORD)? {
            Some(text) => Ok(text.trim_end().to_owned()),
            None => {
                let password = password(&*self.world);
                durable::replace(&path, format!("{password}\n").as_bytes(), 0o600)?;
                Ok(password)
            }
        }
    }
}
