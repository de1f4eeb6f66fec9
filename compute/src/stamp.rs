//! The stamp of a data directory: what it holds, written only after that is on disk (law 9).

use std::fs;
use std::io;
use std::path::Path;

use neon_types::{Lsn, Position, TimelineId, checked_text, with_checksum};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{ComputeError, Result};

/// The only format there is.
const FORMAT: u32 = 1;
/// Longest file that is read.
const LIMIT: u64 = 4 << 10;

/// What a data directory holds. Kept beside it as a small TOML file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The timeline whose WAL it writes.
    pub timeline: TimelineId,
    /// Clean: the end of its WAL. Not clean: where it was when it was started or built.
    pub end: Lsn,
    /// Names this boot of the endpoint; drawn by the repository at each start and remembered there too, so that the stamp of a copied or
    /// restored directory is not taken for that of the last boot.
    pub boot_id: String,
    /// True when Postgres ended properly and everything was synced after that.
    pub clean: bool,
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    format: u32,
    #[serde(flatten)]
    stamp: Stamp,
}

impl Stamp {
    /// Returns the position that the stamp names.
    pub fn position(&self) -> Position {
        Position {
            timeline: self.timeline,
            lsn: self.end,
        }
    }

    /// Returns the stamp in `path`, `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Stamp>> {
        let bad = |why: String| ComputeError::Stamp {
            path: path.to_owned(),
            why,
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > LIMIT => return Err(bad("too long".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let bytes = fs::read(path).map_err(ComputeError::io("read", path))?;
        let text = checked_text(&bytes).map_err(|error| bad(error.to_string()))?;
        let versioned: Versioned =
            toml_edit::de::from_str(text).map_err(|error| bad(error.message().to_owned()))?;
        if versioned.format != FORMAT {
            return Err(bad(format!("format {} is not known", versioned.format)));
        }
        Ok(Some(versioned.stamp))
    }

    /// Replaces the stamp in `path`. The caller has synced everything that it vouches for.
    pub fn write(&self, path: &Path) -> Result<()> {
        let versioned = Versioned {
            format: FORMAT,
            stamp: self.clone(),
        };
        let text = toml_edit::ser::to_string(&versioned).map_err(|error| ComputeError::Stamp {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        durable::replace(path, with_checksum(&text).as_bytes(), 0o600)
    }

    /// Removes the stamp in `path`, so that the directory will be rebuilt.
    pub fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ComputeError::io("remove", path)(error)),
            Ok(()) => durable::sync_directory_of(path),
        }
    }
}

/// Makes everything below `pgdata` durable: what comes before a stamp.
pub fn sync(pgdata: &Path) -> Result<()> {
    durable::sync_tree(pgdata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            timeline: TimelineId([7; 16]),
            end: Lsn(0x16_B374_D848),
            boot_id: "c0ffee".to_owned(),
            clean: true,
        }
    }

    #[test]
    fn a_stamp_comes_back_as_it_was_written() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("stamp");
        assert_eq!(Stamp::read(&path).expect("no file"), None);
        stamp().write(&path).expect("write");
        assert_eq!(Stamp::read(&path).expect("read"), Some(stamp()));
        let text = fs::read_to_string(&path).expect("text");
        assert_eq!(
            checked_text(text.as_bytes()),
            Ok(
                "format = 1\ntimeline = \"07070707070707070707070707070707\"\nend = \"16/B374D848\"\n\
             boot_id = \"c0ffee\"\nclean = true\n"
            )
        );
        Stamp::remove(&path).expect("remove");
        Stamp::remove(&path).expect("remove again");
        assert_eq!(Stamp::read(&path).expect("no file"), None);
    }

    #[test]
    fn what_is_no_stamp_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("stamp");
        stamp().write(&path).expect("write");
        let file = fs::read_to_string(&path).expect("text");
        let good = checked_text(file.as_bytes()).expect("as it was written");
        for bad in [
            String::new(),
            "\0".repeat(100),
            file.replace("true", "frue"),
            good.to_owned(),
            with_checksum(&good.replace("format = 1", "format = 2")),
            with_checksum(&good.replace("16/B374D848", "16")),
            with_checksum(&good.replace("clean = true\n", "")),
            "x".repeat(5000),
        ] {
            fs::write(&path, &bad).expect("write");
            assert!(
                matches!(Stamp::read(&path), Err(ComputeError::Stamp { .. })),
                "{bad:?} was taken"
            );
        }
    }
}
