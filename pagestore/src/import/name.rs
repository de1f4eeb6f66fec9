//! What a file of a data directory is, by its name alone.

use neon_postgres::PgVersion;
use neon_postgres::layout::{self, DEFAULT_TABLESPACE, GLOBAL_TABLESPACE};
use neon_types::{Fork, RelTag, SlruKind};

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A segment of a relation fork.
    Relation {
        /// Which fork.
        rel: RelTag,
        /// Segment number, from 0.
        segment: u32,
    },
    /// A segment of an SLRU.
    Slru {
        /// Which SLRU.
        kind: SlruKind,
        /// Segment number.
        segment: u64,
    },
    /// `PG_VERSION` of a database.
    DatabaseVersion {
        /// Tablespace oid.
        spc: u32,
        /// Its oid.
        db: u32,
    },
    /// `pg_filenode.map`
    RelMap {
        /// Tablespace oid.
        spc: u32,
        /// Database oid; 0 for the shared one.
        db: u32,
    },
    /// State of a prepared transaction: the number that its name is, and how many digits it has.
    TwoPhase {
        /// Transaction id, with its epoch when there are 16 digits.
        xid: u64,
        /// Digits of the name.
        digits: usize,
    },
    /// Progress of replication origins.
    OriginProgress,
    /// Carried along as it is.
    Carried,
    /// A replication slot, left behind.
    Slot(String),
    /// Statistics, left behind.
    Statistics,
    /// A tablespace: a link, or the directory itself.
    Tablespace {
        /// Its oid.
        spc: u32,
    },
    /// Rebuilt, temporary or without meaning in a stopped directory.
    Ignored,
    /// None of the above.
    Unknown,
}

/// Directories whose files mean nothing once the server is stopped, or that hold the WAL before the checkpoint.
const IGNORED_DIRECTORIES: [&str; 13] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "base/pgsql_tmp",
    "log",
    "pg_log",
    "lost+found",
];

/// Files of the top directory that mean nothing in a stopped directory.
const IGNORED_FILES: [&str; 13] = [
    "postmaster.opts",
    "postmaster.pid",
    "current_logfiles",
    "backup_manifest",
    "backup_label.old",
    "tablespace_map.old",
    "recovery.done",
    "logfile",
    "global/pg_control",
    // Those that neon puts into a directory of an endpoint.
    "neon.hba.conf",
    "neon.ident.conf",
    "neon.committed.conf",
    "neon.seen.conf",
];

/// Returns what the file at `path`, relative to the data directory, is.
pub(super) fn classify(version: PgVersion, path: &str) -> Kind {
    if IGNORED_FILES.contains(&path) {
        return Kind::Ignored;
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if IGNORED_DIRECTORIES.iter().any(|ignored| {
        directory == *ignored
            || directory
                .strip_prefix(ignored)
                .is_some_and(|rest| rest.starts_with('/'))
    }) {
        let history = directory == "pg_wal" && is_history(name);
        return if history { Kind::Carried } else { Kind::Ignored };
    }
    if let Some(kind) = SlruKind::ALL
        .into_iter()
        .find(|kind| kind.directory() == directory)
    {
        // One number has one name.
        return match hexadecimal(name, 4..=8) {
            Some(segment) if format!("{segment:04X}") == name => Kind::Slru { kind, segment },
            _ => Kind::Unknown,
        };
    }
    match directory {
        "" if name == "PG_VERSION" || name.ends_with(".conf") => Kind::Carried,
        "" if name.ends_with(".log") => Kind::Ignored,
        "conf.d" if name.ends_with(".conf") => Kind::Carried,
        "global" => in_database(name, GLOBAL_TABLESPACE, 0),
        "pg_twophase" => match hexadecimal(name, 8..=8).or_else(|| hexadecimal(name, 16..=16)) {
            Some(xid) => Kind::TwoPhase {
                xid,
                digits: name.len(),
            },
            None => Kind::Unknown,
        },
        "pg_logical" => match name {
            "replorigin_checkpoint" => Kind::OriginProgress,
            "replorigin_checkpoint.tmp" => Kind::Ignored,
            _ => Kind::Unknown,
        },
        "pg_stat" => Kind::Statistics,
        "pg_tblspc" => match decimal(name) {
            Some(spc) => Kind::Tablespace { spc },
            None => Kind::Unknown,
        },
        _ => match directory.split_once('/') {
            Some(("base", db)) => match decimal(db) {
                Some(db) if db != 0 => in_database(name, DEFAULT_TABLESPACE, db),
                _ => Kind::Unknown,
            },
            Some(("pg_tblspc", _)) if directory.ends_with("/pgsql_tmp") => Kind::Ignored,
            Some(("pg_tblspc", _)) => match layout::parse_database_directory(version, directory) {
                Some((spc, db)) => in_database(name, spc, db),
                None => Kind::Unknown,
            },
            Some(("pg_replslot", slot)) => Kind::Slot(slot.split('/').next().unwrap_or(slot).to_owned()),
            _ => Kind::Unknown,
        },
    }
}

/// Returns what a file of a database's directory is.
fn in_database(name: &str, spc: u32, db: u32) -> Kind {
    match name {
        "PG_VERSION" if db != 0 => Kind::DatabaseVersion { spc, db },
        "pg_filenode.map" => Kind::RelMap { spc, db },
        "pg_filenode.map.tmp" => Kind::Ignored,
        _ if name == "pg_internal.init" || name.starts_with("pg_internal.init.") => Kind::Ignored,
        _ if name.starts_with("pgsql_tmp") => Kind::Ignored,
        _ => match relation(name) {
            Some((rel, fork, segment)) => Kind::Relation {
                rel: RelTag { spc, db, rel, fork },
                segment,
            },
            // t3_16384: a temporary relation of backend 3.
            None => match name.strip_prefix('t').and_then(|rest| rest.split_once('_')) {
                Some((backend, rel)) if decimal(backend).is_some() && relation(rel).is_some() => {
                    Kind::Ignored
                }
                _ => Kind::Unknown,
            },
        },
    }
}

/// Parses `16384`, `16384_vm`, `16384.1`, `16384_fsm.2`.
fn relation(name: &str) -> Option<(u32, Fork, u32)> {
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) => (stem, decimal(segment).filter(|number| *number > 0)?),
        None => (name, 0),
    };
    let (number, fork) = match stem.split_once('_') {
        None => (stem, Fork::Main),
        Some((number, "fsm")) => (number, Fork::FreeSpaceMap),
        Some((number, "vm")) => (number, Fork::VisibilityMap),
        Some((number, "init")) => (number, Fork::Init),
        Some(_) => return None,
    };
    Some((decimal(number).filter(|number| *number > 0)?, fork, segment))
}

/// Parses a number as Postgres prints it: no sign, no leading zero.
fn decimal(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn hexadecimal(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let plain = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    (plain && digits.contains(&text.len()))
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

fn is_history(name: &str) -> bool {
    name.strip_suffix(".history")
        .is_some_and(|tli| hexadecimal(tli, 8..=8).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(path: &str) -> Kind {
        super::classify(PgVersion::V17, path)
    }

    fn rel(spc: u32, db: u32, rel: u32, fork: Fork, segment: u32) -> Kind {
        Kind::Relation {
            rel: RelTag { spc, db, rel, fork },
            segment,
        }
    }

    #[test]
    fn relations_are_told_from_their_look_alikes() {
        assert_eq!(classify("base/5/16384"), rel(1663, 5, 16384, Fork::Main, 0));
        assert_eq!(classify("base/5/16384.12"), rel(1663, 5, 16384, Fork::Main, 12));
        assert_eq!(
            classify("base/1/2619_vm"),
            rel(1663, 1, 2619, Fork::VisibilityMap, 0)
        );
        assert_eq!(
            classify("global/1262_fsm"),
            rel(1664, 0, 1262, Fork::FreeSpaceMap, 0)
        );
        assert_eq!(classify("base/5/16390_init"), rel(1663, 5, 16390, Fork::Init, 0));
        assert_eq!(classify("base/5/t3_16390_vm.1"), Kind::Ignored);
        assert_eq!(classify("base/5/pgsql_tmp_x"), Kind::Ignored);
        assert_eq!(classify("base/pgsql_tmp/pgsql_tmp12.0"), Kind::Ignored);
        for unknown in [
            "base/5/016384",
            "base/5/16384.0",
            "base/5/16384_toast",
            "base/5/99999999999",
            "base/5/16384.x",
            "base/x/16384",
            "base/0/1",
            "base/5/notes.txt",
            "base/16384",
            "base/5/6/7",
            "t3_16384",
            "global/PG_VERSION",
        ] {
            assert_eq!(classify(unknown), Kind::Unknown, "{unknown}");
        }
    }

    #[test]
    fn the_other_files_have_their_places() {
        let slru = |kind, segment| Kind::Slru { kind, segment };
        assert_eq!(classify("pg_xact/0001"), slru(SlruKind::Clog, 1));
        assert_eq!(
            classify("pg_multixact/members/14078"),
            slru(SlruKind::MultixactMembers, 0x14078)
        );
        assert_eq!(classify("pg_xact/1"), Kind::Unknown);
        assert_eq!(
            classify("pg_twophase/000002E9"),
            Kind::TwoPhase { xid: 745, digits: 8 }
        );
        assert_eq!(
            classify("pg_twophase/00000001000002E9"),
            Kind::TwoPhase {
                xid: (1 << 32) | 745,
                digits: 16
            }
        );
        assert_eq!(classify("pg_twophase/2E9"), Kind::Unknown);
        assert_eq!(
            classify("base/5/pg_filenode.map"),
            Kind::RelMap { spc: 1663, db: 5 }
        );
        assert_eq!(
            classify("global/pg_filenode.map"),
            Kind::RelMap { spc: 1664, db: 0 }
        );
        assert_eq!(
            classify("base/5/PG_VERSION"),
            Kind::DatabaseVersion { spc: 1663, db: 5 }
        );
        assert_eq!(classify("pg_tblspc/17000"), Kind::Tablespace { spc: 17000 });
        assert_eq!(
            classify("pg_tblspc/17000/PG_17_202406281/5/PG_VERSION"),
            Kind::DatabaseVersion { spc: 17000, db: 5 }
        );
        assert_eq!(
            classify("pg_tblspc/17000/PG_17_202406281/pgsql_tmp/pgsql_tmp12.0"),
            Kind::Ignored
        );
        assert_eq!(
            classify("pg_tblspc/17000/PG_16_202307071/5/PG_VERSION"),
            Kind::Unknown
        );
        assert_eq!(classify("PG_VERSION"), Kind::Carried);
        assert_eq!(classify("pg_hba.conf"), Kind::Carried);
        assert_eq!(classify("conf.d/10-memory.conf"), Kind::Carried);
        assert_eq!(classify("pg_wal/00000002.history"), Kind::Carried);
        assert_eq!(classify("pg_wal/000000010000000000000001"), Kind::Ignored);
        assert_eq!(
            classify("pg_wal/archive_status/00000002.history.done"),
            Kind::Ignored
        );
        assert_eq!(classify("pg_replslot/main/state"), Kind::Slot("main".to_owned()));
        assert_eq!(classify("pg_stat/pgstat.stat"), Kind::Statistics);
        assert_eq!(classify("server.key"), Kind::Unknown);
        assert_eq!(classify("pg_walx/1"), Kind::Unknown);
    }
}
