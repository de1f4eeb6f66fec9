//! Whose fault an error is, while something is taken in that somebody else made.

use neon_objects::ObjectsError;
use neon_types::ObjectId;

use crate::PageStoreError;

/// What an error speaks against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This machine: a disk, a limit.
    Machine,
    /// What is stored here already.
    Store,
    /// An object: whose fault it is depends on who brought it.
    Object(ObjectId),
    /// What was brought, or what was said of it.
    Claim,
    /// Nobody waits for the work any more.
    Nobody,
}

impl PageStoreError {
    /// Returns whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            PageStoreError::Interrupted | PageStoreError::Stopped(_) => Blame::Nobody,
            PageStoreError::Io { .. } | PageStoreError::Poisoned(_) => Blame::Machine,
            PageStoreError::Objects(ObjectsError::Damaged { id, .. } | ObjectsError::Missing(id)) => {
                Blame::Object(*id)
            }
            PageStoreError::Objects(error) if error.is_of_this_machine() => Blame::Machine,
            PageStoreError::Objects(_) => Blame::Claim,
            PageStoreError::DamagedLayer { layer, .. } => Blame::Object(layer.0),
            PageStoreError::DamagedMap { map, .. } => Blame::Object(map.0),
            PageStoreError::DamagedState { .. }
            | PageStoreError::NoSuchTimeline(_)
            | PageStoreError::TimelineExists(_)
            | PageStoreError::TimelineNeeded { .. }
            | PageStoreError::Dropped { .. }
            | PageStoreError::WalGone { .. } => Blame::Store,
            PageStoreError::Damaged { .. }
            | PageStoreError::NotReadable { .. }
            | PageStoreError::NoRecord(_)
            | PageStoreError::NoRelation { .. }
            | PageStoreError::NoBlock { .. }
            | PageStoreError::Unsupported { .. }
            | PageStoreError::Redo { .. }
            | PageStoreError::WrongKind { .. }
            | PageStoreError::NotContiguous { .. }
            | PageStoreError::BrokenWal { .. }
            | PageStoreError::Refused { .. }
            | PageStoreError::TooLarge { .. }
            | PageStoreError::Import(_)
            | PageStoreError::Unexplained { .. } => Blame::Claim,
        }
    }

    /// Returns true when something that is stored here is damaged or missing, for whoever reads what nobody brings just now: other things need
    /// not be.
    pub fn is_damage(&self) -> bool {
        match self {
            PageStoreError::Objects(error) => error.is_damage(),
            PageStoreError::DamagedLayer { .. }
            | PageStoreError::DamagedMap { .. }
            | PageStoreError::DamagedState { .. }
            | PageStoreError::Damaged { .. }
            | PageStoreError::NoSuchTimeline(_)
            | PageStoreError::NotReadable { .. }
            | PageStoreError::NoRecord(_) => true,
            PageStoreError::Io { .. }
            | PageStoreError::Interrupted
            | PageStoreError::TimelineExists(_)
            | PageStoreError::TimelineNeeded { .. }
            | PageStoreError::Dropped { .. }
            | PageStoreError::NoRelation { .. }
            | PageStoreError::NoBlock { .. }
            | PageStoreError::Unsupported { .. }
            | PageStoreError::Redo { .. }
            | PageStoreError::WrongKind { .. }
            | PageStoreError::NotContiguous { .. }
            | PageStoreError::BrokenWal { .. }
            | PageStoreError::WalGone { .. }
            | PageStoreError::Poisoned(_)
            | PageStoreError::Refused { .. }
            | PageStoreError::TooLarge { .. }
            | PageStoreError::Import(_)
            | PageStoreError::Unexplained { .. }
            | PageStoreError::Stopped(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use neon_types::{LayerId, Lsn, TimelineId};

    use super::*;

    #[test]
    fn a_damaged_object_is_whose_it_is() {
        let id = ObjectId::from_bytes([7; 32]);
        let damaged = PageStoreError::DamagedLayer {
            layer: LayerId(id),
            reason: "a bit".to_owned(),
        };
        assert_eq!(damaged.blame(), Blame::Object(id));
        assert!(damaged.is_damage());
        let missing = PageStoreError::from(ObjectsError::Missing(id));
        assert_eq!(missing.blame(), Blame::Object(id));
    }

    #[test]
    fn what_was_dropped_here_is_nobody_elses_fault() {
        let timeline = TimelineId([1; 16]);
        let dropped = PageStoreError::Dropped {
            timeline,
            lsn: Lsn(1),
            from: None,
        };
        let gone = PageStoreError::WalGone {
            timeline,
            at: Lsn(1),
            start: Lsn(2),
        };
        for error in [dropped, gone] {
            assert_eq!(error.blame(), Blame::Store, "{error}");
            assert!(!error.is_damage(), "{error}");
        }
    }

    #[test]
    fn records_that_do_not_fit_are_a_claim_and_a_disk_is_none() {
        let full = PageStoreError::io("write", "x")(std::io::ErrorKind::StorageFull.into());
        assert_eq!(full.blame(), Blame::Machine);
        assert_eq!(PageStoreError::Interrupted.blame(), Blame::Nobody);
        let broken = PageStoreError::BrokenWal {
            timeline: TimelineId([1; 16]),
            lsn: Lsn(1),
            reason: "a length".to_owned(),
        };
        assert_eq!(broken.blame(), Blame::Claim);
    }
}
