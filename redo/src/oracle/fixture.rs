//! References that were checked once, kept to be checked again.
//!
//! A fixture file is one zstd frame of:
//! ```text
//! 8 bytes "NEONRDF1", then for each fixture:
//! u16 major version | u8 hints logged | u8 1 if there is a base | u32 record length | u64 end | u32 index of the reference
//! record, without what replay of the reference does not need | base page, 8192 bytes, if any | image of the page after, 8192
//! ```
//! All numbers are little-endian.

use std::io::{self, Read, Write};

use neon_postgres::wal::Record;
use neon_postgres::{BLCKSZ, Cursor, Page, PgVersion};
use neon_types::Lsn;

use super::compare::{Difference, compare};
use crate::{Cluster, Damage, RedoError, redo};

const MAGIC: &[u8; 8] = b"NEONRDF1";
/// Most bytes of an unpacked fixture file.
const MAX_FILE: u64 = 1 << 30;

/// A block reference of a record, the page before and the page after.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Where the record was written.
    pub cluster: Cluster,
    /// End of the record.
    pub end: Lsn,
    /// Index of the reference.
    pub index: usize,
    /// The record, cut down to that reference.
    pub record: Record,
    /// The page before, where replay needs it.
    pub base: Option<Page>,
    /// The image of the page after.
    pub after: Page,
}

impl Fixture {
    /// Replays the record onto the base and returns the page after it as we make it.
    ///
    /// # Errors
    /// Those of [`redo`].
    pub fn replay(&self) -> Result<Page, RedoError> {
        let mut page = self.base.clone().unwrap_or_else(Page::zeroed);
        redo(&self.cluster, &self.record, self.end, self.index, &mut page)?;
        Ok(page)
    }

    /// Compares `page` with the image; `None` when they are equal where they must be.
    ///
    /// # Errors
    /// One of the pages cannot be masked.
    pub fn difference(&self, page: &Page) -> Result<Option<Difference>, Damage> {
        compare(&self.record, self.index, page, &self.after)
    }
}

/// Writes a fixture file.
pub fn write(fixtures: &[Fixture], to: impl Write) -> io::Result<()> {
    let mut out = zstd::Encoder::new(to, 19)?;
    out.long_distance_matching(true)?;
    out.write_all(MAGIC)?;
    for fixture in fixtures {
        let record = fixture.record.bytes();
        let too_long = |_| io::Error::other("a record or index is too large for a fixture");
        out.write_all(&fixture.cluster.version.major().to_le_bytes())?;
        out.write_all(&[fixture.cluster.hints_logged.into(), fixture.base.is_some().into()])?;
        out.write_all(&u32::try_from(record.len()).map_err(too_long)?.to_le_bytes())?;
        out.write_all(&fixture.end.0.to_le_bytes())?;
        out.write_all(&u32::try_from(fixture.index).map_err(too_long)?.to_le_bytes())?;
        out.write_all(record)?;
        if let Some(base) = &fixture.base {
            out.write_all(base.as_bytes())?;
        }
        out.write_all(fixture.after.as_bytes())?;
    }
    out.finish()?.flush()
}

/// Reads a fixture file.
///
/// # Errors
/// It is not one, or it is cut short, or larger than 1 GiB unpacked.
pub fn read(from: impl Read) -> io::Result<Vec<Fixture>> {
    let mut bytes = Vec::new();
    zstd::Decoder::new(from)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    let mut cursor = Cursor::new(&bytes);
    let mut fixtures = Vec::new();
    if cursor.take(MAGIC.len()).map_err(invalid)? != MAGIC {
        return Err(invalid("not a fixture file"));
    }
    while cursor.remaining() > 0 {
        fixtures.push(read_one(&mut cursor).map_err(invalid)?);
    }
    Ok(fixtures)
}

fn read_one(cursor: &mut Cursor<'_>) -> Result<Fixture, Box<dyn std::error::Error + Send + Sync>> {
    let major = cursor.u16()?;
    let version = PgVersion::from_major(major).ok_or("unknown version")?;
    let (hints_logged, has_base) = (cursor.bool()?, cursor.bool()?);
    let length = cursor.u32()?;
    let (end, index) = (Lsn(cursor.u64()?), cursor.u32()?);
    let record = Record::decode(version, cursor.take(length as usize)?.to_vec())?;
    let mut page = || Ok::<_, neon_postgres::Truncated>(Page::from_bytes(cursor.take(BLCKSZ)?));
    let base = if has_base { page()? } else { None };
    let after = page()?.ok_or("no page after")?;
    Ok(Fixture {
        cluster: Cluster {
            version,
            hints_logged,
        },
        end,
        index: index as usize,
        record,
        base,
        after,
    })
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
