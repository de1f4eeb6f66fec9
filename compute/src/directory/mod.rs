//! Building a data directory in which stock Postgres starts at a position, without replay.

mod carried;
mod contents;
mod local_settings;
pub(crate) mod origins;
mod prepared;
mod relations;
mod segment_file;
mod skeleton;
mod slot;
mod slru;
mod unfinished;
mod wal;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use neon_postgres::control::ControlFile;
use neon_postgres::timeline_history::TimelineHistory;
use neon_types::Lsn;

use crate::conf::Settings;
use crate::durable;
use crate::error::{ComputeError, Result};
use crate::settings::SwitchedOff;
use crate::source::PageSource;
use contents::Contents;

pub use carried::carry_configuration;
pub use local_settings::LocalSettings;
pub use prepared::Prepared;

/// What a directory is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An endpoint that writes: its WAL goes on at the position.
    ReadWrite,
    /// An endpoint for looking: a standby that is fed by nobody, refuses writes and makes no WAL.
    ReadOnly,
    /// A plain directory that stock Postgres starts without us.
    Export,
}

/// How a directory shall begin.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The TLI that its WAL carries: that of the timeline it goes on with, or one of its own (law 5).
    pub tli: u32,
    /// The TLIs before, oldest first, each with the position where it was left; empty for the first.
    pub history: TimelineHistory,
    /// What it is for.
    pub purpose: Purpose,
    /// Name of a physical replication slot that keeps the WAL from the position on, for whoever receives it.
    pub slot: Option<String>,
    /// The settings of the position, its `postgresql.auto.conf`; none: those that were carried along.
    pub settings: Option<Settings>,
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Where its WAL begins: the position.
    pub wal_start: Lsn,
    /// The end of the boot record.
    pub boot_end: Lsn,
    /// Bytes of relations and SLRUs.
    pub bytes: u64,
    /// Prepared transactions that wait to be finished. A read-only endpoint does not list them in `pg_prepared_xacts`.
    pub prepared: Vec<Prepared>,
    /// Unlogged relations: they are empty.
    pub unlogged: u64,
    /// What the configuration files ask for and the directory does not do.
    pub switched_off: Vec<SwitchedOff>,
    /// What else of the configuration was left out, one line each.
    pub left_out: Vec<String>,
}

/// Called with bytes done and bytes in all while a directory is built, from any of its threads. Returning false ends the work:
/// [`ComputeError::Interrupted`], and nothing is left of it.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) -> bool + Sync);

/// A data directory of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDirectory {
    path: PathBuf,
}

impl DataDirectory {
    /// Builds the directory `path` from the state that `source` shows. When this returns, everything is on disk.
    ///
    /// `path` must be absent or empty. It appears whole: the work is done beside it, in `PATH.building`, which a later call
    /// clears away if this one is cut.
    ///
    /// # Errors
    /// [`ComputeError::Unbuildable`] before anything is written, when relations need redo that does not exist here.
    pub fn build(source: &dyn PageSource, path: &Path, boot: &Boot, progress: Progress<'_>) -> Result<Built> {
        let unbuildable = source.unbuildable()?;
        if !unbuildable.is_empty() {
            return Err(ComputeError::Unbuildable(unbuildable));
        }
        refuse_used(path)?;
        let building = beside(path, ".building");
        remove_tree(&building)?;
        let result = fill(source, &building, boot, progress).and_then(|built| {
            go_on(progress, built.bytes, built.bytes)?;
            durable::sync_tree(&building)?;
            match fs::remove_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ComputeError::io("replace", path)(error));
                }
                _ => {}
            }
            fs::rename(&building, path).map_err(ComputeError::io("rename", &building))?;
            durable::sync_directory_of(path)?;
            Ok(built)
        });
        if result.is_err() {
            // The first error is the one to tell.
            let _ = remove_tree(&building);
        }
        result
    }

    /// Makes what [`DataDirectory::build`] would make, but for pages of relations and SLRUs, in `scratch`, and takes it away again: a state
    /// that cannot be started is found before anybody relies on it.
    pub fn rehearse(source: &dyn PageSource, scratch: &Path, boot: &Boot) -> Result<()> {
        refuse_used(scratch)?;
        let result =
            Contents::collect(source).and_then(|contents| fill_files(source, scratch, boot, &contents));
        remove_tree(scratch)?;
        result.map(drop)
    }

    /// Returns the directory at `path`, taken for what it is.
    pub fn at(path: &Path) -> DataDirectory {
        DataDirectory {
            path: path.to_owned(),
        }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its `pg_control`.
    pub fn control(&self) -> Result<ControlFile> {
        read_control(&self.path)
    }

    /// Removes it. Nothing may run in it.
    pub fn remove(self) -> Result<()> {
        remove_tree(&self.path)
    }
}

/// Returns the `pg_control` of a data directory.
pub fn read_control(pgdata: &Path) -> Result<ControlFile> {
    const LIMIT: u64 = 64 << 10;
    let path = pgdata.join("global/pg_control");
    let bytes = crate::salvage::read_limited(&path, LIMIT)?;
    ControlFile::parse(&bytes).map_err(|error| ComputeError::Damaged(format!("{}: {error}", path.display())))
}

fn fill(source: &dyn PageSource, root: &Path, boot: &Boot, progress: Progress<'_>) -> Result<Built> {
    let contents = Contents::collect(source)?;
    let checksums = control_file(source)?.checksums();
    go_on(progress, 0, 0)?;
    let mut built = fill_files(source, root, boot, &contents)?;
    built.bytes = relations::write(source, root, &contents, checksums, progress)?;
    go_on(progress, built.bytes, built.bytes)?;
    slru::write(source, root, &contents)?;
    Ok(built)
}

/// Makes everything but pages.
fn fill_files(source: &dyn PageSource, root: &Path, boot: &Boot, contents: &Contents) -> Result<Built> {
    let subject = source.subject();
    let state = source.checkpoint_state()?;
    skeleton::make(root, subject.version, contents)?;
    let configuration = carried::write(root, subject.version, contents, boot)?;
    let prepared = prepared::write(root, subject.version, contents)?;
    origins::write(root, contents)?;
    if let Some(name) = &boot.slot {
        slot::write(root, subject.version, name, subject.lsn)?;
    }
    let boot_end = wal::write(root, &subject, &state, boot)?;
    Ok(Built {
        wal_start: subject.lsn,
        boot_end,
        bytes: 0,
        prepared,
        unlogged: contents.unlogged_count(),
        switched_off: configuration.switched_off,
        left_out: configuration.left_out,
    })
}

fn control_file(source: &dyn PageSource) -> Result<ControlFile> {
    let state = source.checkpoint_state()?;
    state
        .control_file()
        .map_err(|error| ComputeError::Damaged(format!("control parameters: {error}")))
}

/// Tells how far the work is, and whether it is to end.
fn go_on(progress: Progress<'_>, done: u64, total: u64) -> Result<()> {
    match progress(done, total) {
        true => Ok(()),
        false => Err(ComputeError::Interrupted),
    }
}

fn refuse_used(path: &Path) -> Result<()> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(ComputeError::NotEmpty(path.to_owned())),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ComputeError::io("list", path)(error)),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a directory with all that is in it; its absence is as good.
fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ComputeError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
