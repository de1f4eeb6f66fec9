//! The state that an import begins with: whether it is the one that its timeline is named after.

use neon_types::{Key, KeyRange, Lsn, ObjectId, PackedKey};

use super::Timeline;
use super::read::Found;
use super::scan::Merge;
use crate::import::ValuesDigest;
use crate::trial::Going;
use crate::{PageStoreError, Result};

/// Values between two looks at whether the work goes on.
const LOOK: u64 = 1024;

impl Timeline {
    /// Reads everything that an import held and compares it with the digest that its id was made of.
    pub(crate) fn check_import(&self, going: Going<'_>) -> Result<()> {
        let refused = |reason: String| PageStoreError::Refused {
            timeline: self.id,
            reason,
        };
        let import = self
            .state()
            .import
            .ok_or_else(|| refused("it is no import".to_owned()))?;
        let mut digest = ValuesDigest::default();
        let mut merge = Merge::new(self, KeyRange::ALL, self.start);
        let mut found: Vec<Found> = Vec::new();
        let mut values = 0_u64;
        while let Some(packed) = merge.next(&|_| Lsn::INVALID, &mut found)? {
            values += 1;
            if values.is_multiple_of(LOOK) && !going(0, 0) {
                return Err(PageStoreError::Interrupted);
            }
            if let Some(value) = found
                .first()
                .map(|found| &found.value)
                .filter(|_| counts(&packed))
            {
                digest.add(&packed, value.stored(true).1);
            }
        }
        if import.digest.parse::<ObjectId>().ok() != Some(ObjectId::from_bytes(digest.finish())) {
            return Err(refused(
                "its pages are not those that its id was made of".to_owned(),
            ));
        }
        Ok(())
    }
}

/// The record that the import ends with was put beside the values that were read.
fn counts(packed: &PackedKey) -> bool {
    !matches!(Key::unpack(packed), Ok(Key::Boundaries { .. }))
}
