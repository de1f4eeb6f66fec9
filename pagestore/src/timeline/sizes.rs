//! Sizes of relations while versions above the layers are gone through.

use neon_types::{Key, Lsn, RelTag};

use super::Timeline;
use super::open::OpenLayer;
use crate::items::RelSize;
use crate::value::Value;
use crate::{PageStoreError, Result};

/// Sizes by versions that are in no layer, or else by what is below all of them.
pub(super) struct Sizes<'a> {
    timeline: &'a Timeline,
    open: &'a OpenLayer,
    /// Size below of the relation that was asked for last.
    below: Option<(RelTag, Option<RelSize>)>,
}

impl<'a> Sizes<'a> {
    /// Begins with nothing looked up.
    pub(super) fn new(timeline: &'a Timeline, open: &'a OpenLayer) -> Sizes<'a> {
        Sizes {
            timeline,
            open,
            below: None,
        }
    }

    /// Returns the size of a relation at `lsn`, which is not below where these versions begin; `below` tells the size there.
    pub(super) fn at(
        &mut self,
        rel: RelTag,
        lsn: Lsn,
        below: impl FnOnce() -> Result<Option<RelSize>>,
    ) -> Result<Option<RelSize>> {
        let mut newest = None;
        let key = Key::RelSize(rel).pack();
        self.open.newest_first(&key, lsn, Lsn::INVALID, |version| {
            newest = Some(version.clone());
            false
        });
        if let Some(version) = newest {
            return match self.timeline.resolve(version)?.value {
                Value::Item(bytes) => RelSize::decode(&bytes)
                    .map(Some)
                    .map_err(|error| PageStoreError::damaged(format!("the size of relation {rel}"), error)),
                _ => Ok(None),
            };
        }
        match &self.below {
            Some((known, size)) if *known == rel => Ok(size.clone()),
            _ => {
                let size = below()?;
                self.below = Some((rel, size.clone()));
                Ok(size)
            }
        }
    }
}
