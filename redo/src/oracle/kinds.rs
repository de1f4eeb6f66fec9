//! Which kinds of records there are to check.

use std::collections::BTreeSet;

use neon_postgres::PgVersion;
use neon_postgres::wal::rmgr;

/// Kinds that name no block, and HOT_UPDATE+INIT: a new page holds no older version of the row.
const WITHOUT_BLOCKS: [&str; 7] = [
    "Btree/REUSE_PAGE",
    "Gist/ASSIGN_LSN",
    "Gist/PAGE_REUSE",
    "Heap/HOT_UPDATE+INIT",
    "Heap/TRUNCATE",
    "Heap2/NEW_CID",
    "Heap2/REWRITE",
];

/// Returns the names of all kinds of records of a major version that name blocks: `Heap/INSERT+INIT`, `XLOG/FPI`. What a version
/// never writes is not among them; none for versions that we do not read.
pub fn kinds(major: u16) -> BTreeSet<String> {
    let Some(version) = PgVersion::from_major(major) else {
        return BTreeSet::new();
    };
    let managers = [
        rmgr::HEAP2,
        rmgr::HEAP,
        rmgr::BTREE,
        rmgr::HASH,
        rmgr::GIN,
        rmgr::GIST,
        rmgr::SEQ,
        rmgr::SPGIST,
        rmgr::BRIN,
        rmgr::GENERIC,
    ];
    let of = |rmid| (0..16).map(move |opcode| rmgr::describe_kind(version, rmid, opcode << 4));
    let names = managers.into_iter().flat_map(of);
    names
        .chain(["XLOG/FPI".to_owned(), "XLOG/FPI_FOR_HINT".to_owned()])
        .filter(|name| !name.contains("UNKNOWN") && !WITHOUT_BLOCKS.contains(&name.as_str()))
        .collect()
}
