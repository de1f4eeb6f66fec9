//! Files that WAL does not describe and that are carried along as they were at import.

use neon_types::Key;

use super::ItemError;
use super::codec::{Reader, Writer};

const ITEM: &str = "file";
/// Longest path of a carried file.
const MAX_PATH: usize = 1024;
/// Longest carried file.
pub const MAX_FILE_SIZE: usize = 16 << 20;

/// The item of [`Key::File`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CarriedFile {
    /// Path relative to the data directory, parts joined by `/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Contents.
    pub bytes: Vec<u8>,
}

impl CarriedFile {
    /// Returns the key of the file at that path relative to the data directory.
    pub fn key(path: &str) -> Key {
        let hash = blake3::hash(path.as_bytes());
        let first = hash.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        Key::File {
            path_hash: u64::from_be_bytes(first),
        }
    }

    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let path = self.path.as_bytes();
        Writer::new()
            .u32(self.mode)
            .u16(u16::try_from(path.len()).unwrap_or(u16::MAX))
            .bytes(path)
            .bytes(&self.bytes)
            .done()
    }

    /// Returns the item that these bytes encode. Its path stays below the data directory.
    pub fn decode(bytes: &[u8]) -> Result<CarriedFile, ItemError> {
        let mut fields = Reader::new(ITEM, bytes)?;
        let mode = fields.u32()?;
        if mode & !0o777 != 0 {
            return Err(fields.bad("mode"));
        }
        let length = usize::from(fields.u16()?);
        let path = fields.bytes(length)?;
        let path = str::from_utf8(path).map_err(|_| fields.bad("path"))?;
        if !is_inside(path) {
            return Err(fields.bad("path"));
        }
        let too_long = fields.length();
        let bytes = fields.rest();
        if bytes.len() > MAX_FILE_SIZE {
            return Err(too_long);
        }
        Ok(CarriedFile {
            path: path.to_owned(),
            mode,
            bytes: bytes.to_vec(),
        })
    }
}

/// Returns true for a relative path that cannot leave the directory it is taken below.
fn is_inside(path: &str) -> bool {
    path.len() <= MAX_PATH
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> CarriedFile {
        CarriedFile {
            path: path.to_owned(),
            mode: 0o600,
            bytes: b"port = 1\n".to_vec(),
        }
    }

    #[test]
    fn items_round_trip() {
        for path in ["postgresql.conf", "conf.d/ä.conf"] {
            assert_eq!(CarriedFile::decode(&file(path).encode()), Ok(file(path)));
        }
    }

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            &"a".repeat(1025),
        ] {
            assert!(
                CarriedFile::decode(&file(path).encode()).is_err(),
                "{path:?} was taken"
            );
        }
        let mut setuid = file("a");
        setuid.mode = 0o4755;
        assert!(CarriedFile::decode(&setuid.encode()).is_err());
    }

    #[test]
    fn the_key_is_the_hash_of_the_path() {
        assert_eq!(
            CarriedFile::key("postgresql.conf"),
            CarriedFile::key("postgresql.conf")
        );
        assert_ne!(
            CarriedFile::key("postgresql.conf"),
            CarriedFile::key("pg_hba.conf")
        );
    }
}
