//! Resource managers: who understands a record. Names are those of `pg_waldump`.

use super::Record;
use crate::PgVersion;

/// Checkpoints, full-page images, parameters: the WAL's own records.
pub const XLOG: u8 = 0;
/// Transactions.
pub const XACT: u8 = 1;
/// Creation and truncation of relation files.
pub const SMGR: u8 = 2;
/// Commit log.
pub const CLOG: u8 = 3;
/// Databases.
pub const DBASE: u8 = 4;
/// Tablespaces.
pub const TBLSPC: u8 = 5;
/// Multixacts.
pub const MULTIXACT: u8 = 6;
/// Relation maps.
pub const RELMAP: u8 = 7;
/// What a standby must know: locks, running transactions, invalidations.
pub const STANDBY: u8 = 8;
/// More heap records.
pub const HEAP2: u8 = 9;
/// Heap.
pub const HEAP: u8 = 10;
/// B-tree.
pub const BTREE: u8 = 11;
/// Hash index.
pub const HASH: u8 = 12;
/// GIN.
pub const GIN: u8 = 13;
/// GiST.
pub const GIST: u8 = 14;
/// Sequences.
pub const SEQ: u8 = 15;
/// SP-GiST.
pub const SPGIST: u8 = 16;
/// BRIN.
pub const BRIN: u8 = 17;
/// Commit timestamps.
pub const COMMIT_TS: u8 = 18;
/// Progress of logical replication.
pub const REPLORIGIN: u8 = 19;
/// Generic changes of pages, by extensions.
pub const GENERIC: u8 = 20;
/// Messages to logical decoding.
pub const LOGICALMSG: u8 = 21;
/// Last built-in resource manager.
pub const MAX_BUILTIN: u8 = LOGICALMSG;
/// First id of the resource managers of extensions, known since 15.
pub const MIN_CUSTOM: u8 = 128;

/// Opcode of the XLOG record after which the rest of the segment is unused.
pub const XLOG_SWITCH: u8 = 0x40;
/// Opcode of the XLOG record that names a record abandoned in a crash.
pub const XLOG_OVERWRITE_CONTRECORD: u8 = 0xD0;

/// Returns true for the id of a resource manager that `version` may have.
pub fn is_valid(version: PgVersion, rmid: u8) -> bool {
    rmid <= MAX_BUILTIN || (rmid >= MIN_CUSTOM && version >= PgVersion::V15)
}

/// Returns the name of a resource manager: `Heap`, `Transaction`; `custom131` for those of extensions.
pub fn name(rmid: u8) -> String {
    const NAMES: [&str; 22] = [
        "XLOG",
        "Transaction",
        "Storage",
        "CLOG",
        "Database",
        "Tablespace",
        "MultiXact",
        "RelMap",
        "Standby",
        "Heap2",
        "Heap",
        "Btree",
        "Hash",
        "Gin",
        "Gist",
        "Sequence",
        "SPGist",
        "BRIN",
        "CommitTs",
        "ReplicationOrigin",
        "Generic",
        "LogicalMessage",
    ];
    NAMES
        .get(usize::from(rmid))
        .map_or_else(|| format!("custom{rmid:03}"), |name| (*name).to_owned())
}

/// Returns the kind of a record: `Heap/INSERT+INIT`, `Transaction/COMMIT`, `XLOG/UNKNOWN (C0)`.
pub fn describe(record: &Record) -> String {
    describe_kind(record.version(), record.rmid, record.info)
}

/// Returns the kind of a record with that resource manager and info.
pub fn describe_kind(version: PgVersion, rmid: u8, info: u8) -> String {
    match operation(version, rmid, info) {
        Some(operation) => format!("{}/{operation}", name(rmid)),
        None => format!("{}/UNKNOWN ({:X})", name(rmid), info & 0xF0),
    }
}

fn operation(version: PgVersion, rmid: u8, info: u8) -> Option<&'static str> {
    let opcode = info & 0xF0;
    // Rows of names by opcode >> 4; an empty name is an opcode that nobody writes.
    let row: &[&'static str] = match rmid {
        XLOG => &[
            "CHECKPOINT_SHUTDOWN",
            "CHECKPOINT_ONLINE",
            "NOOP",
            "NEXTOID",
            "SWITCH",
            "BACKUP_END",
            "PARAMETER_CHANGE",
            "RESTORE_POINT",
            "FPW_CHANGE",
            "END_OF_RECOVERY",
            "FPI_FOR_HINT",
            "FPI",
            "",
            "OVERWRITE_CONTRECORD",
            "CHECKPOINT_REDO",
        ],
        XACT => {
            const ROW: [&str; 7] = [
                "COMMIT",
                "PREPARE",
                "ABORT",
                "COMMIT_PREPARED",
                "ABORT_PREPARED",
                "ASSIGNMENT",
                "INVALIDATION",
            ];
            return ROW.get(usize::from((info & 0x70) >> 4)).copied();
        }
        SMGR => &["", "CREATE", "TRUNCATE"],
        CLOG | COMMIT_TS => &["ZEROPAGE", "TRUNCATE"],
        DBASE if version == PgVersion::V14 => &["CREATE", "DROP"],
        DBASE => &["CREATE_FILE_COPY", "CREATE_WAL_LOG", "DROP"],
        TBLSPC => &["CREATE", "DROP"],
        MULTIXACT => &["ZERO_OFF_PAGE", "ZERO_MEM_PAGE", "CREATE_ID", "TRUNCATE_ID"],
        RELMAP => &["UPDATE"],
        STANDBY => &["LOCK", "RUNNING_XACTS", "INVALIDATIONS"],
        HEAP2 => match opcode {
            0x10..=0x30 if version < PgVersion::V17 => &["", "PRUNE", "VACUUM", "FREEZE_PAGE"],
            0xD0 => return Some("MULTI_INSERT+INIT"),
            _ => &[
                "REWRITE",
                "PRUNE_ON_ACCESS",
                "PRUNE_VACUUM_SCAN",
                "PRUNE_VACUUM_CLEANUP",
                "VISIBLE",
                "MULTI_INSERT",
                "LOCK_UPDATED",
                "NEW_CID",
            ],
        },
        HEAP => match opcode {
            0x80 => return Some("INSERT+INIT"),
            0xA0 => return Some("UPDATE+INIT"),
            0xC0 => return Some("HOT_UPDATE+INIT"),
            _ => &[
                "INSERT",
                "DELETE",
                "UPDATE",
                "TRUNCATE",
                "HOT_UPDATE",
                "HEAP_CONFIRM",
                "LOCK",
                "INPLACE",
            ],
        },
        BTREE => &[
            "INSERT_LEAF",
            "INSERT_UPPER",
            "INSERT_META",
            "SPLIT_L",
            "SPLIT_R",
            "INSERT_POST",
            "DEDUP",
            "DELETE",
            "UNLINK_PAGE",
            "UNLINK_PAGE_META",
            "NEWROOT",
            "MARK_PAGE_HALFDEAD",
            "VACUUM",
            "REUSE_PAGE",
            "META_CLEANUP",
        ],
        HASH => &[
            "INIT_META_PAGE",
            "INIT_BITMAP_PAGE",
            "INSERT",
            "ADD_OVFL_PAGE",
            "SPLIT_ALLOCATE_PAGE",
            "SPLIT_PAGE",
            "SPLIT_COMPLETE",
            "MOVE_PAGE_CONTENTS",
            "SQUEEZE_PAGE",
            "DELETE",
            "SPLIT_CLEANUP",
            "UPDATE_META_PAGE",
            "VACUUM_ONE_PAGE",
        ],
        GIN => &[
            "",
            "CREATE_PTREE",
            "INSERT",
            "SPLIT",
            "VACUUM_PAGE",
            "DELETE_PAGE",
            "UPDATE_META_PAGE",
            "INSERT_LISTPAGE",
            "DELETE_LISTPAGE",
            "VACUUM_DATA_LEAF_PAGE",
        ],
        GIST => &[
            "PAGE_UPDATE",
            "DELETE",
            "PAGE_REUSE",
            "PAGE_SPLIT",
            "",
            "",
            "PAGE_DELETE",
            "ASSIGN_LSN",
        ],
        SEQ => &["LOG"],
        SPGIST => &[
            "",
            "ADD_LEAF",
            "MOVE_LEAFS",
            "ADD_NODE",
            "SPLIT_TUPLE",
            "PICKSPLIT",
            "VACUUM_LEAF",
            "VACUUM_ROOT",
            "VACUUM_REDIRECT",
        ],
        BRIN => match opcode {
            0x90 => return Some("INSERT+INIT"),
            0xA0 => return Some("UPDATE+INIT"),
            _ => &[
                "CREATE_INDEX",
                "INSERT",
                "UPDATE",
                "SAMEPAGE_UPDATE",
                "REVMAP_EXTEND",
                "DESUMMARIZE",
            ],
        },
        REPLORIGIN => &["SET", "DROP"],
        GENERIC => return Some("Generic"),
        LOGICALMSG => &["MESSAGE"],
        _ => &[],
    };
    let name = row.get(usize::from(opcode >> 4)).copied();
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use PgVersion::*;

    #[test]
    fn kinds_have_the_names_of_pg_waldump() {
        for (version, rmid, info, expected) in [
            (V15, HEAP, 0x80, "Heap/INSERT+INIT"),
            (V15, HEAP, 0x02, "Heap/INSERT"),
            (V15, HEAP2, 0x10, "Heap2/PRUNE"),
            (V17, HEAP2, 0x10, "Heap2/PRUNE_ON_ACCESS"),
            (V16, HEAP2, 0xD0, "Heap2/MULTI_INSERT+INIT"),
            (V15, XACT, 0x80, "Transaction/COMMIT"),
            (V15, XACT, 0xB1, "Transaction/COMMIT_PREPARED"),
            (V14, DBASE, 0x10, "Database/DROP"),
            (V15, DBASE, 0x10, "Database/CREATE_WAL_LOG"),
            (V15, XLOG, 0xC0, "XLOG/UNKNOWN (C0)"),
            (V15, BRIN, 0x90, "BRIN/INSERT+INIT"),
            (V15, GENERIC, 0x00, "Generic/Generic"),
            (V15, 131, 0x20, "custom131/UNKNOWN (20)"),
        ] {
            assert_eq!(describe_kind(version, rmid, info), expected);
        }
    }

    #[test]
    fn resource_managers_of_extensions_came_with_15() {
        assert!(!is_valid(V14, 128) && is_valid(V15, 128) && is_valid(V18, 255));
        assert!(is_valid(V14, 21) && !is_valid(V18, 22) && !is_valid(V18, 127));
    }
}
