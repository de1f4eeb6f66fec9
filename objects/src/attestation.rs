//! Who wrote a timeline: a key that only its repository holds, and what is signed with it.
//!
//! A writer's id is made of its public key, so that whoever shows the key for an id cannot have chosen another. The writer signs what its
//! WAL holds; a receiver lets a timeline grow only as far as its writer signed.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use neon_types::{LsnRange, RepoId, TimelineId};

/// What every signed text begins with.
const PURPOSE: &[u8] = b"neon attestation 1";
/// What the id of a writer is derived under.
const ID_CONTEXT: &str = "neon 2026-11-30 id of a writer";

/// The key of one repository directory, of which nobody else has a copy. `Debug` hides it.
#[derive(Clone)]
pub struct WriterKey(SigningKey);

impl WriterKey {
    /// Returns the key of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> WriterKey {
        WriterKey(SigningKey::from_bytes(seed))
    }

    /// Returns the bytes that [`WriterKey::from_seed`] takes.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Returns the writer's id: the first 16 bytes of the BLAKE3 of its public key.
    pub fn id(&self) -> RepoId {
        id_of(&self.0.verifying_key().to_bytes())
    }

    /// Signs that the WAL `range` of a timeline has this BLAKE3.
    pub fn attest(&self, timeline: TimelineId, range: LsnRange, blake3: [u8; 32]) -> Attestation {
        Attestation {
            range,
            blake3,
            key: self.0.verifying_key().to_bytes(),
            signature: self.0.sign(&signed_text(timeline, range, &blake3)).to_bytes(),
        }
    }
}

impl fmt::Debug for WriterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterKey({})", self.id())
    }
}

/// What the writer of a timeline says of its WAL, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Bytes of one segment: from its start, or the timeline's where that is inside, to its end or the end of a record.
    pub range: LsnRange,
    /// BLAKE3 of those bytes.
    pub blake3: [u8; 32],
    /// The writer's public key, Ed25519.
    pub key: [u8; 32],
    /// Its signature.
    pub signature: [u8; 64],
}

impl Attestation {
    /// Returns true when the writer of that id signed this of that timeline.
    pub fn is_by(&self, writer: RepoId, timeline: TimelineId) -> bool {
        let text = signed_text(timeline, self.range, &self.blake3);
        id_of(&self.key) == writer
            && VerifyingKey::from_bytes(&self.key).is_ok_and(|key| {
                key.verify_strict(&text, &Signature::from_bytes(&self.signature))
                    .is_ok()
            })
    }
}

fn id_of(key: &[u8; 32]) -> RepoId {
    let hash = blake3::derive_key(ID_CONTEXT, key);
    RepoId(hash.first_chunk().copied().unwrap_or_default())
}

fn signed_text(timeline: TimelineId, range: LsnRange, blake3: &[u8; 32]) -> Vec<u8> {
    let mut text = PURPOSE.to_vec();
    text.extend_from_slice(&timeline.0);
    text.extend_from_slice(&range.start.0.to_le_bytes());
    text.extend_from_slice(&range.end.0.to_le_bytes());
    text.extend_from_slice(blake3);
    text
}

#[cfg(test)]
mod tests {
    use neon_types::Lsn;

    use super::*;

    const TIMELINE: TimelineId = TimelineId([3; 16]);

    fn attestation(key: &WriterKey) -> Attestation {
        let range = LsnRange {
            start: Lsn(8),
            end: Lsn(16),
        };
        key.attest(TIMELINE, range, [7; 32])
    }

    #[test]
    fn only_the_holder_of_the_key_can_sign() {
        let (key, other) = (WriterKey::from_seed(&[1; 32]), WriterKey::from_seed(&[2; 32]));
        let signed = attestation(&key);
        assert!(signed.is_by(key.id(), TIMELINE));
        assert!(!signed.is_by(other.id(), TIMELINE), "another writer");
        assert!(!signed.is_by(key.id(), TimelineId([4; 16])), "another timeline");
        let forged = Attestation {
            key: signed.key,
            ..attestation(&other)
        };
        assert!(
            !forged.is_by(key.id(), TIMELINE),
            "another's signature under this key"
        );
        assert!(!attestation(&other).is_by(key.id(), TIMELINE), "another's key");
    }

    #[test]
    fn every_part_is_signed() {
        let key = WriterKey::from_seed(&[1; 32]);
        let signed = attestation(&key);
        let mut changed = [signed; 5];
        changed[0].range.start = Lsn(0);
        changed[1].range.end = Lsn(24);
        changed[2].blake3[31] ^= 1;
        changed[3].signature[0] ^= 1;
        changed[4].key[0] ^= 1;
        for attestation in changed {
            assert!(!attestation.is_by(key.id(), TIMELINE), "{attestation:?}");
        }
    }

    /// The id and the signature may not drift: other repositories know them.
    #[test]
    fn the_golden_key_signs_as_ever() {
        let key = WriterKey::from_seed(&[9; 32]);
        assert_eq!(key.id().to_string(), "0b41891eb53262bd0156bef7931d7dcc");
        let hash = blake3::hash(&attestation(&key).signature).to_hex();
        assert_eq!(hash.get(..16), Some("68c3485c83ac7486"));
        assert_eq!(WriterKey::from_seed(&key.seed()).id(), key.id());
    }
}
