//! A repository that is being made. It has another name until it is whole, so that no command finds half of one.
//!
//! `.neon-unfinished` holds what will be `.neon`, and besides the file `making`, written first, which says by which command. Whoever makes it has its
//! lock. What a dead process left is cleared by the next `init`, and gone on with by the next `clone` from the same place.

use std::fs;
use std::path::{Path, PathBuf};

use neon_objects::{Config, Refs, RepoLock, durable};
use neon_types::RepoId;

use crate::error::{RepoError, Result};
use crate::hold::Hold;
use crate::repository::{OpenOptions, Repository, check_ours};
use crate::world::{self, World};

/// Branch that a repository begins with.
pub(crate) const FIRST_BRANCH: &str = "main";
/// Where initdb makes a cluster that is about to be taken in.
const INITDB: &str = "tmp-initdb";
const NAME: &str = ".neon-unfinished";
const MARKER: &str = "making";

/// By which command a repository is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Making {
    /// Of a cluster, or empty for a push: begun again when it was cut.
    Anew,
    /// Of what is at that URI, which has no password in it: gone on with.
    CopyOf(String),
}

impl Making {
    fn to_text(&self) -> String {
        match self {
            Making::Anew => "init\n".to_owned(),
            Making::CopyOf(uri) => format!("clone {uri}\n"),
        }
    }

    fn of_text(text: &str) -> Option<Making> {
        match text.trim_end_matches('\n') {
            "init" => Some(Making::Anew),
            other => other
                .strip_prefix("clone ")
                .map(|uri| Making::CopyOf(uri.to_owned())),
        }
    }
}

/// What becomes of a repository that is not finished when nobody works on it any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Remove,
    Leave,
}

/// A repository that is being made; removed again unless it is finished, or left for later.
pub(crate) struct Unfinished {
    directory: PathBuf,
    inside: PathBuf,
    lock: Option<RepoLock>,
    /// Directories that were made for it, deepest first.
    made: Vec<PathBuf>,
    fate: Fate,
    resumed: bool,
}

impl Unfinished {
    /// Begins a repository in `directory`, or goes on with one. Nothing is made when it is refused.
    pub(crate) fn begin(directory: &Path, making: &Making, options: &OpenOptions) -> Result<Unfinished> {
        let id = world::new_repo_id(&*options.world);
        Unfinished::begin_with(directory, id, making, options)
    }

    /// The same with an id that was drawn already.
    pub(crate) fn begin_with(
        directory: &Path,
        id: RepoId,
        making: &Making,
        options: &OpenOptions,
    ) -> Result<Unfinished> {
        if directory.join(".neon").exists() {
            return Err(RepoError::AlreadyARepository(directory.to_owned()));
        }
        let of_another = |above: &&Path| above.ends_with(".neon") && above.join("config.toml").is_file();
        if let Some(neon_dir) = directory.ancestors().find(of_another) {
            return Err(RepoError::refused(
                format!(
                    "{} is inside the repository {}",
                    directory.display(),
                    neon_dir.display()
                ),
                "name a directory that is not in .neon/",
            ));
        }
        let inside = directory.join(NAME);
        let missing = directory.ancestors().take_while(|above| !above.exists());
        let mut unfinished = Unfinished {
            directory: directory.to_owned(),
            made: missing.map(Path::to_owned).collect(),
            lock: None,
            fate: Fate::Leave,
            resumed: false,
            inside,
        };
        if unfinished.inside.exists() {
            unfinished.take_over(making, options)?;
        }
        if !unfinished.resumed {
            unfinished.fate = Fate::Remove;
            unfinished.make(id, making, options)?;
        }
        Ok(unfinished)
    }

    /// Returns true when it was begun before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Returns where initdb may make a cluster.
    pub(crate) fn initdb(&self) -> PathBuf {
        self.inside.join(INITDB)
    }

    /// Takes what is there, or clears it away. What we did not make is not touched.
    fn take_over(&mut self, making: &Making, options: &OpenOptions) -> Result<()> {
        let marker = self.inside.join(MARKER);
        let found = fs::read_to_string(&marker).ok();
        let found = match found.as_deref().map(Making::of_text) {
            Some(Some(found)) => found,
            // The directory was made, and nothing in it yet.
            None if self.holds_nothing() => Making::Anew,
            _ => {
                return Err(RepoError::refused(
                    format!("{} was not made by neon", self.inside.display()),
                    "move it away, or name another directory",
                ));
            }
        };
        let lock = RepoLock::try_acquire(&self.inside, &options.purpose)?;
        match (&found, making) {
            (Making::CopyOf(found), Making::CopyOf(wanted)) if found == wanted => {
                self.lock = Some(lock);
                // It may have been cut before it was whole enough to be opened.
                self.resumed = self.inside.join("config.toml").is_file();
            }
            (Making::CopyOf(uri), _) => {
                return Err(RepoError::refused(
                    format!("{} holds an unfinished clone of {uri}", self.directory.display()),
                    format!(
                        "clone from there again to finish it, or remove {}",
                        self.inside.display()
                    ),
                ));
            }
            (Making::Anew, _) => {}
        }
        if !self.resumed {
            neon_compute::kill_everything(&self.initdb())?;
            fs::remove_dir_all(&self.inside).map_err(RepoError::io("remove", &self.inside))?;
            self.lock = None;
        }
        Ok(())
    }

    /// Returns true when nothing is there but what a lock leaves.
    fn holds_nothing(&self) -> bool {
        let entries = fs::read_dir(&self.inside);
        entries.is_ok_and(|entries| {
            entries.flatten().all(|entry| {
                matches!(entry.file_name().to_str(), Some("lock")) || is_temporary(&entry.path())
            })
        })
    }

    /// Makes the directories, an id, a configuration and HEAD.
    fn make(&mut self, id: RepoId, making: &Making, options: &OpenOptions) -> Result<()> {
        make_durably(&self.inside)?;
        check_ours(&self.inside)?;
        durable::replace(&self.inside.join(MARKER), making.to_text().as_bytes(), 0o600)?;
        self.lock = Some(RepoLock::try_acquire(&self.inside, &options.purpose)?);
        for inner in [
            "objects",
            "refs/heads",
            "refs/tags",
            "refs/origins",
            "timelines",
            "endpoints",
            "log",
        ] {
            make_durably(&self.inside.join(inner))?;
        }
        let password = password(&*options.world);
        durable::replace(
            &self.inside.join("password"),
            format!("{password}\n").as_bytes(),
            0o600,
        )?;
        Refs::open(&self.inside)?.set_head(FIRST_BRANCH)?;
        // The configuration is what makes the directory a repository: it comes last.
        Config::create(&self.inside, id)?;
        Ok(())
    }

    /// Opens it where it is being made.
    pub(crate) fn open(
        &mut self,
        options: &OpenOptions,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Repository> {
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => RepoLock::try_acquire(&self.inside, &options.purpose)?,
        };
        Repository::open_held(&self.inside, Hold::Writer(lock), options, runtime)
    }

    /// Leaves it for the same command to go on with.
    pub(crate) fn leave(mut self) {
        self.fate = Fate::Leave;
    }

    /// Gives it its name: from here on it is a repository. Whoever has it open keeps it so until this returns.
    pub(crate) fn finish(mut self) -> Result<()> {
        let neon_dir = self.directory.join(".neon");
        durable::settle(&self.inside)?;
        fs::rename(&self.inside, &neon_dir).map_err(RepoError::io("rename", &self.inside))?;
        self.fate = Fate::Leave;
        durable::sync_directory(&self.directory)?;
        durable::remove(&neon_dir.join(MARKER))?;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.fate == Fate::Leave {
            return;
        }
        // Whatever cannot be removed now is cleared by the next one who makes a repository here.
        let _ = neon_compute::kill_everything(&self.initdb());
        let _ = fs::remove_dir_all(&self.inside);
        for directory in &self.made {
            // Only when nothing else came in meanwhile.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Returns true when a directory holds an unfinished copy, or nothing at all.
pub(crate) fn is_free(directory: &Path) -> bool {
    match fs::read_dir(directory) {
        Ok(entries) => entries.flatten().all(|entry| entry.file_name() == NAME),
        Err(_) => true,
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(durable::TEMPORARY_PREFIX))
}

/// Makes a directory, and those above it, that nobody else can enter; their names survive a power cut.
fn make_durably(directory: &Path) -> Result<()> {
    let directory = std::path::absolute(directory).map_err(RepoError::io("create", directory))?;
    durable::create_directories(Path::new("/"), &directory)?;
    Ok(())
}

/// Returns a password that needs no quoting anywhere: 32 hex digits, 128 random bits.
pub(crate) fn password(world: &dyn World) -> String {
    neon_types::RepoId(world.random()).to_string()
}
