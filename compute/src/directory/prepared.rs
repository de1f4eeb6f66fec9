//! State files of prepared transactions.

use std::path::Path;

use neon_postgres::PgVersion;
use neon_postgres::records::xact::Prepare;
use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::skeleton;
use crate::error::{ComputeError, Result};

/// A prepared transaction that is neither committed nor rolled back at the position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Its full transaction id.
    pub xid: u64,
    /// The name that it was prepared with.
    pub gid: String,
    /// Oid of its database.
    pub database: u32,
}

/// Writes the state files and returns what they are about.
pub(super) fn write(root: &Path, version: PgVersion, contents: &Contents) -> Result<Vec<Prepared>> {
    let mut prepared = Vec::with_capacity(contents.two_phase.len());
    for (xid, bytes) in &contents.two_phase {
        let parsed = parse(version, *xid, bytes).ok_or_else(|| {
            ComputeError::Damaged(format!("the state of prepared transaction {xid} is damaged"))
        })?;
        let path = root.join("pg_twophase").join(version.two_phase_name(*xid));
        skeleton::file(&path, bytes, 0o600)?;
        prepared.push(parsed);
    }
    Ok(prepared)
}

/// Reads a state file, its CRC included.
fn parse(version: PgVersion, xid: u64, file: &[u8]) -> Option<Prepared> {
    let (body, crc) = file.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let prepare = Prepare::decode(version, file).ok()?;
    if u64::from(prepare.xid) != xid & 0xffff_ffff {
        return None;
    }
    Some(Prepared {
        xid,
        gid: String::from_utf8_lossy(&prepare.gid)
            .trim_end_matches('\0')
            .to_owned(),
        database: prepare.db,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: u32 = 0x57F9_4534;

    fn file(version: PgVersion, gid: &str) -> Vec<u8> {
        let (at, header) = if version >= PgVersion::V15 {
            (54, 72)
        } else {
            (46, 64)
        };
        let mut body = vec![0; header];
        body[..4].copy_from_slice(&MAGIC.to_le_bytes());
        body[8..12].copy_from_slice(&742_u32.to_le_bytes());
        body[12..16].copy_from_slice(&5_u32.to_le_bytes());
        body[at..at + 2].copy_from_slice(&u16::try_from(gid.len() + 1).expect("short").to_le_bytes());
        body.extend_from_slice(gid.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(8) + 8, 0);
        let total = u32::try_from(body.len() + 4).expect("short");
        body[4..8].copy_from_slice(&total.to_le_bytes());
        let crc = crc32c::crc32c(&body);
        body.extend_from_slice(&crc.to_le_bytes());
        body
    }

    #[test]
    fn names_of_prepared_transactions_are_found() {
        for version in [PgVersion::V14, PgVersion::V15, PgVersion::V18] {
            let good = file(version, "my transaction");
            let xid = 1 << 32 | 742;
            let expected = Prepared {
                xid,
                gid: "my transaction".to_owned(),
                database: 5,
            };
            assert_eq!(parse(version, xid, &good), Some(expected));
            assert_eq!(parse(version, 743, &good), None);
            for cut in 0..good.len() {
                assert_eq!(parse(version, xid, &good[..cut]), None, "cut at {cut}");
            }
        }
    }
}
