//! Metadata items: values that are not pages.
//!
//! Each kind of [`Key`](neon_types::Key) that is not a block or an SLRU page has one type here, with a versioned
//! encoding (`docs/format/items.md`). What no longer exists is `Value::Absent`, never an item that says so. The
//! checkpoint item is `neon_postgres::checkpoint::CheckpointState`, which brings its own encoding.

mod codec;
mod database;
mod file;
mod origin;
mod rel_size;
mod slru;

pub use codec::ItemError;
pub use database::{Database, RelMap, Tablespace};
pub use file::{CarriedFile, MAX_FILE_SIZE};
pub use origin::{OriginProgress, TwoPhase};
pub use rel_size::{Copied, Cut, MAX_CUTS, RelSize};
pub use slru::{MAX_RUNS, PAGES_PER_SEGMENT, SlruSegments};

#[cfg(test)]
mod tests {
    use neon_types::{Fork, Lsn, RelTag};

    use super::*;

    /// Returns the next of a fixed sequence of numbers.
    fn next(seed: &mut u64) -> u64 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    /// Decodes with every decoder; what one takes, it must write again as it was.
    fn decode_all(bytes: &[u8]) {
        let same = |item: Option<Vec<u8>>| assert!(item.is_none_or(|again| again == bytes), "{bytes:02x?}");
        same(RelSize::decode(bytes).ok().map(|item| item.encode()));
        same(SlruSegments::decode(bytes).ok().map(|item| item.encode()));
        same(Database::decode(bytes).ok().map(|item| item.encode()));
        same(RelMap::decode(bytes).ok().map(|item| item.encode()));
        same(Tablespace::decode(bytes).ok().map(|item| item.encode()));
        same(TwoPhase::decode(bytes).ok().map(|item| item.encode()));
        same(OriginProgress::decode(bytes).ok().map(|item| item.encode()));
        same(CarriedFile::decode(bytes).ok().map(|item| item.encode()));
        same(
            neon_redo::change::Change::decode(bytes)
                .ok()
                .map(|change| change.encode()),
        );
    }

    #[test]
    fn no_bytes_make_a_decoder_panic_and_one_value_has_one_spelling() {
        let rel = RelTag {
            spc: 1663,
            db: 1,
            rel: 2,
            fork: Fork::Main,
        };
        let mut copied = RelSize::copied(rel, Lsn(9), 7);
        copied.truncate(3, Lsn(10));
        let mut segments = SlruSegments::default();
        for page in [1, 2, 40] {
            segments.insert(page);
        }
        segments.implicit = Some(3);
        let file = CarriedFile {
            path: "a/b.conf".to_owned(),
            mode: 0o600,
            bytes: vec![1, 2, 3],
        };
        let samples = [
            copied.encode(),
            segments.encode(),
            file.encode(),
            vec![1; 40],
            vec![4; 12],
        ];
        let mut seed = 1;
        for round in 0..20_000_usize {
            let mut bytes = samples[round % samples.len()].clone();
            for _ in 0..=next(&mut seed) % 3 {
                let at = next(&mut seed) as usize % bytes.len();
                bytes[at] = next(&mut seed) as u8;
            }
            bytes.truncate(next(&mut seed) as usize % (bytes.len() + 1));
            decode_all(&bytes);
        }
    }
}
