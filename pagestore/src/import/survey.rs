//! Everything that a data directory holds, found by walking it once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use neon_types::{Fork, RelTag, SlruKind};

use super::ImportError;
use super::name::{Kind, classify};

/// Deepest directory that Postgres makes below a data directory (`pg_replslot/NAME/…`), and one to spare.
const MAX_DEPTH: usize = 5;

/// What a data directory holds; paths are relative to it.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Length in bytes of each segment of each relation fork, FSM left out.
    pub(super) relations: BTreeMap<RelTag, BTreeMap<u32, u64>>,
    /// Length in bytes of each segment of each SLRU.
    pub(super) slrus: BTreeMap<SlruKind, BTreeMap<u64, u64>>,
    /// Databases that have a `PG_VERSION`, by oid.
    pub(super) databases: Vec<u32>,
    /// Relation maps, by tablespace and database.
    pub(super) rel_maps: Vec<(u32, u32)>,
    /// State files of prepared transactions: the number that the name is, its digits, its path.
    pub(super) two_phase: Vec<(u64, usize, String)>,
    /// There is progress of replication origins.
    pub(super) origins: bool,
    /// Files that are carried along.
    pub(super) carried: Vec<String>,
    /// Replication slots and statistics, for the report.
    pub(super) left_behind: Vec<String>,
    /// Links of tablespaces: oid and location.
    pub(super) tablespaces: Vec<String>,
    /// Files that are not known.
    pub(super) unknown: Vec<String>,
}

impl Survey {
    /// Walks `pgdata`.
    pub(super) fn of(pgdata: &Path) -> Result<Survey, ImportError> {
        let mut survey = Survey::default();
        survey.walk(pgdata, "", 0)?;
        survey.drop_unlogged();
        for list in [
            &mut survey.left_behind,
            &mut survey.tablespaces,
            &mut survey.unknown,
            &mut survey.carried,
        ] {
            list.sort_unstable();
            list.dedup();
        }
        survey.databases.sort_unstable();
        let rootless: Vec<String> = survey
            .relations
            .keys()
            .filter(|rel| rel.db != 0 && survey.databases.binary_search(&rel.db).is_err())
            .map(|rel| format!("base/{} (a database without PG_VERSION)", rel.db))
            .collect();
        survey.unknown.extend(rootless);
        survey.unknown.dedup();
        Ok(survey)
    }

    fn walk(&mut self, directory: &Path, prefix: &str, depth: usize) -> Result<(), ImportError> {
        for entry in fs::read_dir(directory).map_err(ImportError::io(directory))? {
            let entry = entry.map_err(ImportError::io(directory))?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                self.unknown.push(format!("{prefix}{}", name.to_string_lossy()));
                continue;
            };
            let relative = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(ImportError::io(&path))?;
            if kind.is_dir() {
                // Its files are of no interest, and it often belongs to root.
                if relative == "lost+found" {
                    continue;
                }
                if classify(&format!("{relative}/1")) == Kind::Tablespace || depth >= MAX_DEPTH {
                    self.add_directory_of_links(&path, &relative)?;
                } else {
                    self.walk(&path, &format!("{relative}/"), depth + 1)?;
                }
            } else if kind.is_symlink() {
                self.add_link(&path, relative);
            } else {
                let length = entry.metadata().map_err(ImportError::io(&path))?.len();
                self.add(relative, length);
            }
        }
        Ok(())
    }

    /// `pg_tblspc`: every entry is a tablespace, a link or (in place) a directory.
    fn add_directory_of_links(&mut self, directory: &Path, relative: &str) -> Result<(), ImportError> {
        for entry in fs::read_dir(directory).map_err(ImportError::io(directory))? {
            let entry = entry.map_err(ImportError::io(directory))?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if relative != "pg_tblspc" {
                self.unknown.push(format!("{relative}/{name}"));
                continue;
            }
            let location =
                fs::read_link(&path).map_or_else(|_| "in place".to_owned(), |to| to.display().to_string());
            self.tablespaces.push(format!("{name} ({location})"));
        }
        Ok(())
    }

    /// A link may stand for the WAL directory and for configuration files, nothing else.
    fn add_link(&mut self, path: &Path, relative: String) {
        let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        match classify(&relative) {
            Kind::Carried | Kind::Ignored if is_file => self.add(relative, 0),
            _ if relative == "pg_wal" => (),
            _ => self.unknown.push(relative),
        }
    }

    fn add(&mut self, path: String, length: u64) {
        match classify(&path) {
            Kind::Relation { rel, .. } if rel.fork == Fork::FreeSpaceMap => (),
            Kind::Relation { rel, segment } => {
                self.relations.entry(rel).or_default().insert(segment, length);
            }
            Kind::Slru { kind, segment } => {
                self.slrus.entry(kind).or_default().insert(segment, length);
            }
            Kind::DatabaseVersion { db } => self.databases.push(db),
            Kind::RelMap { spc, db } => self.rel_maps.push((spc, db)),
            Kind::TwoPhase { xid, digits } => self.two_phase.push((xid, digits, path)),
            Kind::OriginProgress => self.origins = true,
            Kind::Carried => self.carried.push(path),
            Kind::Slot(name) => self.left_behind.push(format!("replication slot {name}")),
            Kind::Statistics => self.left_behind.push(format!("statistics {path}")),
            Kind::Tablespace => self.tablespaces.push(path),
            Kind::Ignored => (),
            Kind::Unknown => self.unknown.push(path),
        }
    }

    /// An unlogged relation is empty after a start from here: only its init fork counts.
    fn drop_unlogged(&mut self) {
        let unlogged: Vec<RelTag> = self
            .relations
            .keys()
            .filter(|rel| rel.fork == Fork::Init)
            .copied()
            .collect();
        for rel in unlogged {
            for fork in [Fork::Main, Fork::VisibilityMap] {
                self.relations.remove(&rel.with_fork(fork));
            }
        }
    }
}

/// Returns the path of a segment of a relation fork, relative to the data directory.
pub(super) fn relation_path(rel: RelTag, segment: u32) -> PathBuf {
    let mut name = format!("{}{}", rel.rel, rel.fork.suffix());
    if segment > 0 {
        name.push_str(&format!(".{segment}"));
    }
    match rel.db {
        0 => PathBuf::from("global").join(name),
        db => Path::new("base").join(db.to_string()).join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, bytes).expect("write");
    }

    #[test]
    fn a_directory_is_sorted_into_its_parts() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path();
        for path in [
            "PG_VERSION",
            "postgresql.conf",
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/5/16384",
            "base/5/16384.1",
            "base/5/16384_fsm",
            "base/5/16390",
            "base/5/16390_init",
            "base/5/16390_vm",
            "base/6/16384",
            "pg_xact/0000",
            "pg_replslot/a/state",
            "pg_replslot/a/snap",
            "pg_stat/pgstat.stat",
            "notes.txt",
            "log/x/y",
        ] {
            put(root, path, b"x");
        }
        fs::create_dir_all(root.join("pg_tblspc")).expect("mkdir");
        std::os::unix::fs::symlink("/srv/fast", root.join("pg_tblspc/16500")).expect("symlink");
        std::os::unix::fs::symlink("/etc/passwd", root.join("base/5/17000")).expect("symlink");
        let survey = Survey::of(root).expect("survey");
        let relations: Vec<String> = survey.relations.keys().map(|rel| rel.to_string()).collect();
        assert_eq!(relations, ["1663/5/16384", "1663/5/16390_init", "1663/6/16384"]);
        assert_eq!(survey.databases, [5]);
        assert_eq!(survey.carried, ["PG_VERSION", "postgresql.conf"]);
        assert_eq!(
            survey.left_behind,
            ["replication slot a", "statistics pg_stat/pgstat.stat"]
        );
        assert_eq!(survey.tablespaces, ["16500 (/srv/fast)"]);
        assert_eq!(
            survey.unknown,
            [
                "base/5/17000",
                "notes.txt",
                "base/6 (a database without PG_VERSION)"
            ]
        );
    }

    #[test]
    fn paths_are_those_of_postgres() {
        let rel = RelTag {
            spc: 1663,
            db: 5,
            rel: 16384,
            fork: Fork::VisibilityMap,
        };
        assert_eq!(relation_path(rel, 0), Path::new("base/5/16384_vm"));
        assert_eq!(
            relation_path(
                RelTag {
                    db: 0,
                    spc: 1664,
                    ..rel
                },
                2
            ),
            Path::new("global/16384_vm.2")
        );
    }
}
