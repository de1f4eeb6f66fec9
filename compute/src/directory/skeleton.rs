//! The directories of a data directory, and the small files that belong to databases.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use neon_postgres::PgVersion;
use neon_postgres::layout::{self, GLOBAL_TABLESPACE};

use super::contents::Contents;
use crate::error::{ComputeError, Result};

/// What initdb makes. Some may be missing for a while without harm, none for ever.
const DIRECTORIES: [&str; 20] = [
    "global",
    "base",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_xact",
];

/// Makes the directories, `PG_VERSION` files and relation maps below `root`.
pub(super) fn make(root: &Path, version: PgVersion, contents: &Contents) -> Result<()> {
    directory(root)?;
    for name in DIRECTORIES {
        directory(&root.join(name))?;
    }
    directory(&root.join("pg_wal"))?;
    directory(&root.join("pg_wal/archive_status"))?;
    if version >= PgVersion::V17 {
        directory(&root.join("pg_wal/summaries"))?;
    }
    for spc in &contents.tablespaces {
        // It lies in the directory itself: what its link named belongs to the machine where it was made.
        directory(
            &root
                .join(format!("pg_tblspc/{spc}"))
                .join(layout::version_directory(version)),
        )?;
    }
    let mut places: BTreeSet<(u32, u32)> = contents.databases.keys().copied().collect();
    places.extend(contents.rel_maps.keys());
    places.extend(contents.relations.keys().map(|rel| (rel.spc, rel.db)));
    for (spc, db) in places {
        if spc != GLOBAL_TABLESPACE {
            directory(&root.join(layout::database_directory(version, spc, db)))?;
        }
    }
    file(
        &root.join("PG_VERSION"),
        format!("{}\n", version.major()).as_bytes(),
        0o600,
    )?;
    for ((spc, db), bytes) in &contents.databases {
        file(
            &root
                .join(layout::database_directory(version, *spc, *db))
                .join("PG_VERSION"),
            bytes,
            0o600,
        )?;
    }
    for ((spc, db), bytes) in &contents.rel_maps {
        file(
            &root.join(layout::relation_map_path(version, *spc, *db)),
            bytes,
            0o600,
        )?;
    }
    Ok(())
}

/// Makes a directory that only its owner may enter, with those above it.
pub(super) fn directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ComputeError::io("create", path))
}

/// Writes a file, replacing one that is there. It is synced with the whole directory later.
pub(super) fn file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(ComputeError::io("write", path))
}
