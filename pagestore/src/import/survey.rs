//! Everything that a data directory holds, found by walking it once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use neon_postgres::PgVersion;
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
    /// Databases that have a `PG_VERSION`, by tablespace and oid.
    pub(super) databases: Vec<(u32, u32)>,
    /// Tablespaces whose files are in the directory itself, by oid.
    pub(super) in_place: Vec<u32>,
    /// Relation maps, by tablespace and database.
    pub(super) rel_maps: Vec<(u32, u32)>,
    /// State files of prepared transactions: the number that the name is, its digits, its path.
    pub(super) two_phase: Vec<(u64, usize, String)>,
    /// There is progress of replication origins.
    pub(super) origins: bool,
    /// Files that are carried along.
    pub(super) carried: Vec<String>,
    /// Replication slots, by name.
    slots: Vec<String>,
    /// Statistics files.
    statistics: Vec<String>,
    /// Files that Postgres did not make.
    strays: Vec<String>,
    /// Relations whose contents a start drops.
    unlogged: usize,
    /// Tablespaces elsewhere: oid and location.
    pub(super) tablespaces: Vec<String>,
    /// What stands where data should be.
    pub(super) unknown: Vec<String>,
}

impl Survey {
    /// Walks `pgdata`.
    pub(super) fn of(pgdata: &Path, version: PgVersion) -> Result<Survey, ImportError> {
        let mut survey = Survey::default();
        survey.walk(version, pgdata, "", 0)?;
        survey.drop_unlogged();
        for list in [
            &mut survey.slots,
            &mut survey.statistics,
            &mut survey.strays,
            &mut survey.tablespaces,
            &mut survey.unknown,
            &mut survey.carried,
        ] {
            list.sort_unstable();
            list.dedup();
        }
        survey.databases.sort_unstable();
        survey.in_place.sort_unstable();
        let rootless: Vec<String> = survey
            .relations
            .keys()
            .filter(|rel| rel.db != 0 && survey.databases.iter().all(|(_, db)| *db != rel.db))
            .map(|rel| format!("base/{} (a database without PG_VERSION)", rel.db))
            .collect();
        survey.unknown.extend(rootless);
        survey.unknown.dedup();
        Ok(survey)
    }

    fn walk(
        &mut self,
        version: PgVersion,
        directory: &Path,
        prefix: &str,
        depth: usize,
    ) -> Result<(), ImportError> {
        for entry in fs::read_dir(directory).map_err(ImportError::io(directory))? {
            let entry = entry.map_err(ImportError::io(directory))?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                self.strays.push(format!("{prefix}{}", name.to_string_lossy()));
                continue;
            };
            let relative = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(ImportError::io(&path))?;
            if kind.is_dir() {
                // Its files are of no interest, and it often belongs to root.
                if relative == "lost+found" {
                    continue;
                }
                // So are those of a directory that Postgres did not make, which may be anybody's.
                if depth >= MAX_DEPTH || (depth == 0 && !is_of_postgres(&relative)) {
                    self.strays.push(format!("{relative}/"));
                    continue;
                }
                if let Kind::Tablespace { spc } = classify(version, &relative) {
                    self.in_place.push(spc);
                }
                self.walk(version, &path, &format!("{relative}/"), depth + 1)?;
            } else if kind.is_symlink() {
                self.add_link(version, &path, relative);
            } else {
                let length = entry.metadata().map_err(ImportError::io(&path))?.len();
                self.add(classify(version, &relative), relative, length);
            }
        }
        Ok(())
    }

    /// A link may stand for the WAL directory, for configuration files, and for a tablespace elsewhere. In the place of anything else that
    /// Postgres makes, it leads to data that would be missing.
    fn add_link(&mut self, version: PgVersion, path: &Path, relative: String) {
        let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        match classify(version, &relative) {
            kind @ (Kind::Carried | Kind::Ignored | Kind::Unknown) if is_file => self.add(kind, relative, 0),
            Kind::Tablespace { spc } => {
                let location = fs::read_link(path).unwrap_or_default();
                self.tablespaces.push(format!("{spc} ({})", location.display()));
            }
            _ if relative == "pg_wal" => (),
            _ => self.unknown.push(relative),
        }
    }

    fn add(&mut self, kind: Kind, path: String, length: u64) {
        match kind {
            Kind::Relation { rel, .. } if rel.fork == Fork::FreeSpaceMap => (),
            Kind::Relation { rel, segment } => {
                self.relations.entry(rel).or_default().insert(segment, length);
            }
            Kind::Slru { kind, segment } => {
                self.slrus.entry(kind).or_default().insert(segment, length);
            }
            Kind::DatabaseVersion { spc, db } => self.databases.push((spc, db)),
            Kind::RelMap { spc, db } => self.rel_maps.push((spc, db)),
            Kind::TwoPhase { xid, digits } => self.two_phase.push((xid, digits, path)),
            Kind::OriginProgress => self.origins = true,
            Kind::Carried => self.carried.push(path),
            Kind::Slot(name) => self.slots.push(name),
            Kind::Statistics => self.statistics.push(path),
            Kind::Ignored => (),
            Kind::Tablespace { .. } | Kind::Unknown => self.strays.push(path),
        }
    }

    /// Returns what is not taken along, one line for each, with the way to have it.
    pub(super) fn left_behind(&self) -> Vec<String> {
        const SHOWN: usize = 20;
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.slots.iter().map(|slot| {
            format!(
                "replication slot {slot} does not come along: make it where the cluster runs on, with pg_create_logical_replication_slot or \
                 pg_create_physical_replication_slot"
            )
        }));
        if !self.statistics.is_empty() {
            lines.push("statistics do not come along: Postgres gathers them anew".to_owned());
        }
        if self.unlogged > 0 {
            lines.push(format!(
                "{} unlogged relations come out empty: ALTER TABLE ... SET LOGGED, before the import, keeps a table",
                self.unlogged
            ));
        }
        let shown = self.strays.iter().take(SHOWN);
        lines.extend(shown.map(|path| format!("{path} is left where it is: Postgres did not make it")));
        let more = self.strays.len().saturating_sub(SHOWN);
        if more > 0 {
            lines.push(format!("and {more} more files that Postgres did not make"));
        }
        lines
    }

    /// An unlogged relation is empty after a start from here: only its init fork counts.
    fn drop_unlogged(&mut self) {
        let unlogged: Vec<RelTag> = self
            .relations
            .keys()
            .filter(|rel| rel.fork == Fork::Init)
            .copied()
            .collect();
        self.unlogged = unlogged.len();
        for rel in unlogged {
            for fork in [Fork::Main, Fork::VisibilityMap] {
                self.relations.remove(&rel.with_fork(fork));
            }
        }
    }
}

/// Returns true for the name of a directory that Postgres, or whoever configures it, makes in a data directory.
fn is_of_postgres(name: &str) -> bool {
    matches!(name, "base" | "global" | "conf.d" | "log") || name.starts_with("pg_")
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
            "pg_tblspc/16501/PG_17_202406281/5/16400",
            "pg_tblspc/16501/PG_16_202307071/5/16401",
            "pg_xact/0000",
            "pg_replslot/a/state",
            "pg_replslot/a/snap",
            "pg_stat/pgstat.stat",
            "notes.txt",
            "pg_hba.conf.bak",
            "log/x/y",
        ] {
            put(root, path, b"x");
        }
        std::os::unix::fs::symlink("/srv/fast", root.join("pg_tblspc/16500")).expect("symlink");
        let link = |to: &str, path: &str| std::os::unix::fs::symlink(to, root.join(path)).expect("symlink");
        link("/etc/passwd", "base/5/17000");
        link("/etc", "pg_xact/0001");
        link("/etc/passwd", "notes.txt.link");
        let survey = Survey::of(root, PgVersion::V17).expect("survey");
        let relations: Vec<String> = survey.relations.keys().map(|rel| rel.to_string()).collect();
        assert_eq!(
            relations,
            [
                "1663/5/16384",
                "1663/5/16390_init",
                "1663/6/16384",
                "16501/5/16400"
            ]
        );
        assert_eq!(survey.databases, [(1663, 5)]);
        assert_eq!(survey.in_place, [16501]);
        assert_eq!(survey.carried, ["PG_VERSION", "postgresql.conf"]);
        assert_eq!((&survey.slots[..], survey.unlogged), (&["a".to_owned()][..], 1));
        assert_eq!(survey.left_behind().len(), 7, "{:?}", survey.left_behind());
        assert_eq!(survey.tablespaces, ["16500 (/srv/fast)"]);
        assert_eq!(
            survey.unknown,
            [
                "base/5/17000",
                "pg_xact/0001",
                "base/6 (a database without PG_VERSION)"
            ]
        );
        assert_eq!(
            survey.strays,
            [
                "notes.txt",
                "notes.txt.link",
                "pg_hba.conf.bak",
                "pg_tblspc/16501/PG_16_202307071/5/16401"
            ]
        );
    }
}
