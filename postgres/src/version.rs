//! The major versions that we read, and the numbers by which their files tell themselves apart.

use serde::{Deserialize, Serialize};

/// A major version of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum PgVersion {
    /// PostgreSQL 14
    V14,
    /// PostgreSQL 15
    V15,
    /// PostgreSQL 16
    V16,
    /// PostgreSQL 17
    V17,
    /// PostgreSQL 18
    V18,
}

impl PgVersion {
    /// Every version, oldest first.
    pub const ALL: [PgVersion; 5] = [
        PgVersion::V14,
        PgVersion::V15,
        PgVersion::V16,
        PgVersion::V17,
        PgVersion::V18,
    ];

    /// Returns the version of that major number, 14 to 18.
    pub fn from_major(major: u16) -> Option<PgVersion> {
        PgVersion::ALL
            .into_iter()
            .find(|version| version.major() == major)
    }

    /// Returns the major number, 14 to 18.
    pub fn major(self) -> u16 {
        match self {
            PgVersion::V14 => 14,
            PgVersion::V15 => 15,
            PgVersion::V16 => 16,
            PgVersion::V17 => 17,
            PgVersion::V18 => 18,
        }
    }

    /// Returns the magic number of a WAL page (`XLOG_PAGE_MAGIC`).
    pub fn page_magic(self) -> u16 {
        match self {
            PgVersion::V14 => 0xD10D,
            PgVersion::V15 => 0xD110,
            PgVersion::V16 => 0xD113,
            PgVersion::V17 => 0xD116,
            PgVersion::V18 => 0xD118,
        }
    }

    /// Returns the version whose WAL pages have that magic number.
    pub fn from_page_magic(magic: u16) -> Option<PgVersion> {
        PgVersion::ALL
            .into_iter()
            .find(|version| version.page_magic() == magic)
    }

    /// Returns the version of the control file's layout (`PG_CONTROL_VERSION`).
    pub fn control_version(self) -> u32 {
        match self {
            PgVersion::V14 | PgVersion::V15 | PgVersion::V16 => 1300,
            PgVersion::V17 => 1700,
            PgVersion::V18 => 1800,
        }
    }

    /// Returns the version of the system catalogs (`CATALOG_VERSION_NO`), which is also part of tablespace paths.
    pub fn catalog_version(self) -> u32 {
        match self {
            PgVersion::V14 => 202_107_181,
            PgVersion::V15 => 202_209_061,
            PgVersion::V16 => 202_307_071,
            PgVersion::V17 => 202_406_281,
            PgVersion::V18 => 202_506_291,
        }
    }

    /// Returns the version that writes that catalog version.
    pub fn from_catalog_version(catalog: u32) -> Option<PgVersion> {
        PgVersion::ALL
            .into_iter()
            .find(|version| version.catalog_version() == catalog)
    }

    /// Returns the file name in `pg_twophase` of the prepared transaction with that full transaction id: 8 hex digits of
    /// its low half up to 16, all 16 from 17 on.
    pub fn two_phase_name(self, full_xid: u64) -> String {
        if self >= PgVersion::V17 {
            format!("{full_xid:016X}")
        } else {
            format!("{:08X}", full_xid & 0xffff_ffff)
        }
    }
}

/// The number is not a major version that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL {0} is not supported (14 to 18 are)")]
pub struct UnsupportedVersion(pub u16);

impl TryFrom<u16> for PgVersion {
    type Error = UnsupportedVersion;
    fn try_from(major: u16) -> Result<PgVersion, UnsupportedVersion> {
        PgVersion::from_major(major).ok_or(UnsupportedVersion(major))
    }
}

impl From<PgVersion> for u16 {
    fn from(version: PgVersion) -> u16 {
        version.major()
    }
}

impl std::fmt::Display for PgVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.major())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back_to_its_version() {
        for version in PgVersion::ALL {
            assert_eq!(PgVersion::from_major(version.major()), Some(version));
            assert_eq!(PgVersion::from_page_magic(version.page_magic()), Some(version));
            assert_eq!(
                PgVersion::from_catalog_version(version.catalog_version()),
                Some(version)
            );
        }
        assert_eq!(PgVersion::from_major(13), None);
    }

    #[test]
    fn two_phase_files_are_named_as_the_version_does() {
        assert_eq!(PgVersion::V16.two_phase_name(0x1_0000_02E6), "000002E6");
        assert_eq!(PgVersion::V17.two_phase_name(0x1_0000_02E6), "00000001000002E6");
    }
}
