//! Where a relation is in a data directory.
//!
//! ```text
//! global/REL[_FORK][.N]                               shared relations, tablespace 1664, database 0
//! base/DB/REL[_FORK][.N]                              tablespace 1663
//! pg_tblspc/SPC/PG_15_202209061/DB/REL[_FORK][.N]     any other; FORK is fsm, vm or init; N counts from 1
//! ```

use neon_types::{Fork, RelTag};

use crate::PgVersion;

/// Oid of `pg_default`.
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// Oid of `pg_global`.
pub const GLOBAL_TABLESPACE: u32 = 1664;

/// Returns the directory that a version makes in a tablespace: `PG_15_202209061`.
pub fn version_directory(version: PgVersion) -> String {
    format!("PG_{}_{}", version.major(), version.catalog_version())
}

/// Returns the directory of a database in a tablespace, relative to the data directory; that of shared relations is
/// `global`, whatever `db` says.
pub fn database_directory(version: PgVersion, spc: u32, db: u32) -> String {
    match spc {
        GLOBAL_TABLESPACE => "global".to_owned(),
        DEFAULT_TABLESPACE => format!("base/{db}"),
        _ => format!("pg_tblspc/{spc}/{}/{db}", version_directory(version)),
    }
}

/// Returns the path of segment `number` of a relation fork, relative to the data directory.
pub fn relation_path(version: PgVersion, rel: RelTag, number: u32) -> String {
    let directory = database_directory(version, rel.spc, rel.db);
    let suffix = rel.fork.suffix();
    match number {
        0 => format!("{directory}/{}{suffix}", rel.rel),
        _ => format!("{directory}/{}{suffix}.{number}", rel.rel),
    }
}

/// Returns the relation fork and segment number that a path relative to the data directory stands for. `None` for anything
/// else: maps, versions, temporary relations, directories of other versions, spellings that Postgres does not use.
pub fn parse_relation_path(version: PgVersion, path: &str) -> Option<(RelTag, u32)> {
    let (directory, file) = path.rsplit_once('/')?;
    let (spc, db) = parse_database_directory(version, directory)?;
    let (name, number) = match file.split_once('.') {
        Some((name, number)) => (name, parse_number(number).filter(|number| *number > 0)?),
        None => (file, 0),
    };
    let (rel, fork) = match name.split_once('_') {
        Some((rel, "fsm")) => (rel, Fork::FreeSpaceMap),
        Some((rel, "vm")) => (rel, Fork::VisibilityMap),
        Some((rel, "init")) => (rel, Fork::Init),
        Some(_) => return None,
        None => (name, Fork::Main),
    };
    let rel = parse_number(rel).filter(|rel| *rel > 0)?;
    Some((RelTag { spc, db, rel, fork }, number))
}

/// Returns the tablespace and database of a directory relative to the data directory.
pub fn parse_database_directory(version: PgVersion, directory: &str) -> Option<(u32, u32)> {
    if directory == "global" {
        return Some((GLOBAL_TABLESPACE, 0));
    }
    if let Some(db) = directory.strip_prefix("base/") {
        return Some((DEFAULT_TABLESPACE, parse_number(db).filter(|db| *db > 0)?));
    }
    let (spc, rest) = directory.strip_prefix("pg_tblspc/")?.split_once('/')?;
    let (version_name, db) = rest.split_once('/')?;
    let spc = parse_number(spc).filter(|spc| ![0, DEFAULT_TABLESPACE, GLOBAL_TABLESPACE].contains(spc))?;
    (version_name == version_directory(version)).then_some(())?;
    Some((spc, parse_number(db).filter(|db| *db > 0)?))
}

/// Returns the path of the `pg_filenode.map` of a database, or with tablespace 1664 of the shared one.
pub fn relation_map_path(version: PgVersion, spc: u32, db: u32) -> String {
    format!("{}/pg_filenode.map", database_directory(version, spc, db))
}

/// Reads decimal digits in the one spelling that Postgres uses: no sign, no zero in front.
fn parse_number(text: &str) -> Option<u32> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use PgVersion::*;

    fn rel(spc: u32, db: u32, rel: u32, fork: Fork) -> RelTag {
        RelTag { spc, db, rel, fork }
    }

    #[test]
    fn paths_round_trip() {
        for (tag, number, path) in [
            (rel(1664, 0, 1262, Fork::Main), 0, "global/1262"),
            (rel(1663, 5, 16384, Fork::Main), 2, "base/5/16384.2"),
            (rel(1663, 5, 16384, Fork::VisibilityMap), 1, "base/5/16384_vm.1"),
            (
                rel(17000, 5, 16384, Fork::Init),
                0,
                "pg_tblspc/17000/PG_15_202209061/5/16384_init",
            ),
        ] {
            assert_eq!(relation_path(V15, tag, number), path);
            assert_eq!(parse_relation_path(V15, path), Some((tag, number)));
        }
    }

    #[test]
    fn other_files_are_no_relations() {
        for path in [
            "global/pg_control",
            "global/pg_filenode.map",
            "base/5/PG_VERSION",
            "base/5/t3_16384",
            "base/5/016384",
            "base/5/16384.0",
            "base/5/16384.01",
            "base/5/16384_xx",
            "base/5/16384_vm_vm",
            "base/0/16384",
            "base/5/0",
            "base/5/4294967296",
            "base/../5/16384",
            "base/5/6/16384",
            "pg_tblspc/17000/PG_14_202107181/5/16384",
            "pg_tblspc/1663/PG_15_202209061/5/16384",
            "16384",
            "",
        ] {
            assert_eq!(parse_relation_path(V15, path), None, "{path}");
        }
    }

    #[test]
    fn maps_lie_in_the_directory_of_their_database() {
        assert_eq!(relation_map_path(V15, 1664, 0), "global/pg_filenode.map");
        assert_eq!(relation_map_path(V15, 1663, 5), "base/5/pg_filenode.map");
    }
}
