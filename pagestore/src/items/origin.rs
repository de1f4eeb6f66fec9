//! Prepared transactions and progress of replication origins.

use neon_types::Lsn;

use super::ItemError;
use super::codec::{Reader, Writer};

/// The item of [`Key::TwoPhase`](neon_types::Key::TwoPhase).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TwoPhase {
    /// Bytes of the state file in `pg_twophase`, its CRC included.
    pub file: Vec<u8>,
}

impl TwoPhase {
    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().bytes(&self.file).done()
    }

    /// Returns the item that these bytes encode.
    pub fn decode(bytes: &[u8]) -> Result<TwoPhase, ItemError> {
        let file = Reader::new("two-phase", bytes)?.rest().to_vec();
        Ok(TwoPhase { file })
    }
}

/// The item of [`Key::ReplicationOrigin`](neon_types::Key::ReplicationOrigin).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginProgress {
    /// How far the other side was replayed, in the other side's WAL.
    pub remote: Lsn,
    /// End of our record that did it.
    pub local: Lsn,
}

impl OriginProgress {
    /// Returns the item's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().u64(self.remote.0).u64(self.local.0).done()
    }

    /// Returns the item that these bytes encode.
    pub fn decode(bytes: &[u8]) -> Result<OriginProgress, ItemError> {
        let mut fields = Reader::new("replication origin", bytes)?;
        let (remote, local) = (Lsn(fields.u64()?), Lsn(fields.u64()?));
        fields.end()?;
        Ok(OriginProgress { remote, local })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_round_trip() {
        let progress = OriginProgress {
            remote: Lsn(1),
            local: Lsn(u64::MAX),
        };
        assert_eq!(OriginProgress::decode(&progress.encode()), Ok(progress));
        assert!(OriginProgress::decode(&[1, 2, 3]).is_err());
        let file = TwoPhase {
            file: b"123456789".to_vec(),
        };
        assert_eq!(TwoPhase::decode(&file.encode()), Ok(file));
    }
}
