//! How much of a run would go, told without reading it.

use neon_types::{Key, PackedKey, RelTag};

use super::Shrink;
use crate::Result;
use crate::layer::Layer;

/// Of this many versions at least one must be expected to go.
const WORTH: u64 = 4;

/// The same while history of the run goes with time: it is written anew again.
const WORTH_MEANWHILE: u64 = 2;

/// How many versions a layer has, and about how many of them would stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub versions: u64,
    pub stay: u64,
}

impl Contents {
    /// Returns those of a layer of a run; `exists` says which relations do at any position that reads it. Told by the footer, the
    /// block index, and the LSNs that can be read, as if versions were spread evenly over them.
    pub(crate) fn of(
        layer: &Layer,
        shrink: &Shrink,
        exists: &mut dyn FnMut(RelTag) -> Result<bool>,
    ) -> Result<Contents> {
        let footer = layer.footer();
        let living = footer.entries.saturating_sub(gone(layer, exists)?);
        let of_living = |number: u64, of: u64| {
            let share = u128::from(number) * u128::from(living) / u128::from(of.max(1));
            u64::try_from(share).unwrap_or(living)
        };
        let keys = of_living(footer.distinct_keys, footer.entries);
        let (every, lasts) = shrink.readable();
        let every = of_living(every, shrink.run.lsns.end.bytes_since(shrink.run.lsns.start));
        let last = keys.saturating_mul(lasts).min(living.saturating_sub(every));
        Ok(Contents {
            versions: footer.entries,
            stay: every + last,
        })
    }

    /// Returns both together.
    pub(crate) fn and(self, other: Contents) -> Contents {
        Contents {
            versions: self.versions + other.versions,
            stay: self.stay + other.stay,
        }
    }

    /// Returns true when enough goes to be worth writing the rest anew.
    pub(crate) fn is_worth_it(self, shrink: &Shrink) -> bool {
        let (every, _) = shrink.readable();
        let worth = if every > 0 { WORTH_MEANWHILE } else { WORTH };
        self.versions.saturating_sub(self.stay) * worth >= self.versions.max(1)
    }
}

/// Returns at least how many versions are of relations that do not exist.
fn gone(layer: &Layer, exists: &mut dyn FnMut(RelTag) -> Result<bool>) -> Result<u64> {
    let relation = |key: &PackedKey| match Key::unpack(key) {
        Ok(Key::Block(rel, _)) => Some(rel),
        _ => None,
    };
    let index = layer.index();
    let mut gone = 0_u64;
    let mut last: Option<(RelTag, bool)> = None;
    for (block, next) in index.iter().zip(index.iter().skip(1)) {
        let Some(rel) = relation(&block.key).filter(|rel| relation(&next.key) == Some(*rel)) else {
            continue;
        };
        let lives = match last {
            Some((known, lives)) if known == rel => lives,
            _ => exists(rel)?,
        };
        last = Some((rel, lives));
        if !lives {
            gone += u64::from(block.entries);
        }
    }
    Ok(gone)
}
