//! Whether an existing data directory may be used again (law 9): a pure decision.

use neon_postgres::control::DbState;
use neon_types::{Lsn, Position};

use crate::stamp::Stamp;

/// What is known when an endpoint is to start on a branch. No process of the directory runs.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The stamp; `None` when there is none or it is damaged.
    pub stamp: Option<&'a Stamp>,
    /// The boot id that the repository remembers for this directory.
    pub boot_id: &'a str,
    /// The state in its `pg_control`; `None` when that cannot be read.
    pub state: Option<DbState>,
    /// Where the endpoint is to start: the branch's durable end.
    pub wanted: Position,
    /// The durable end of the wanted position's timeline: the last whole record that the repository holds of it.
    pub timeline_end: Lsn,
}

/// What to do with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Start in it as it is.
    AsIs,
    /// Start in it and let Postgres recover from its own WAL; everything that the repository holds came from there.
    RecoverInPlace,
    /// Put it aside and build a new one.
    Rebuild(RebuildReason),
}

/// Why a directory is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildReason {
    /// Nothing vouches for what it holds.
    #[error("it has no stamp")]
    NoStamp,
    /// Its stamp is not from the last boot that the repository knows of: a copy, or restored from a backup.
    #[error("its stamp is of another boot")]
    OtherBoot,
    /// It holds another timeline than the one wanted.
    #[error("it holds another timeline")]
    OtherTimeline,
    /// The branch was moved to another position than where the directory is.
    #[error("the branch has moved")]
    Moved,
    /// Stamp and `pg_control` contradict each other, or there is no readable `pg_control`.
    #[error("its pg_control does not agree with its stamp")]
    Contradiction,
}

/// Returns what to do with the directory that `evidence` is about.
///
/// A clean one is used only at exactly the position of its stamp. One that was not stopped properly is recovered in place only
/// while the branch still stands at the end of the timeline that the directory alone writes, and that end is not below where the
/// directory began. This is sound because Postgres runs with `fsync` and `full_page_writes` on, and only WAL that it had flushed was sent to us.
pub fn decide(evidence: &Evidence<'_>) -> Reuse {
    let Some(stamp) = evidence.stamp else {
        return Reuse::Rebuild(RebuildReason::NoStamp);
    };
    if stamp.boot_id != evidence.boot_id {
        return Reuse::Rebuild(RebuildReason::OtherBoot);
    }
    if stamp.timeline != evidence.wanted.timeline {
        return Reuse::Rebuild(RebuildReason::OtherTimeline);
    }
    if evidence.wanted.lsn != evidence.timeline_end {
        return Reuse::Rebuild(RebuildReason::Moved);
    }
    match (stamp.clean, evidence.state) {
        (_, None) => Reuse::Rebuild(RebuildReason::Contradiction),
        (true, Some(DbState::ShutDowned)) if stamp.end == evidence.wanted.lsn => Reuse::AsIs,
        (true, Some(DbState::ShutDowned)) => Reuse::Rebuild(RebuildReason::Moved),
        (true, Some(_)) => Reuse::Rebuild(RebuildReason::Contradiction),
        (false, Some(_)) if stamp.end <= evidence.timeline_end => Reuse::RecoverInPlace,
        (false, Some(_)) => Reuse::Rebuild(RebuildReason::Moved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neon_types::TimelineId;

    const OURS: TimelineId = TimelineId([1; 16]);

    fn stamp(end: u64, clean: bool) -> Stamp {
        Stamp {
            timeline: OURS,
            end: Lsn(end),
            boot_id: "b".to_owned(),
            clean,
        }
    }

    fn decision(
        stamp: Option<&Stamp>,
        state: Option<DbState>,
        timeline: TimelineId,
        lsn: u64,
        end: u64,
    ) -> Reuse {
        decide(&Evidence {
            stamp,
            boot_id: "b",
            state,
            wanted: Position {
                timeline,
                lsn: Lsn(lsn),
            },
            timeline_end: Lsn(end),
        })
    }

    #[test]
    fn a_clean_directory_is_used_only_where_it_stands() {
        let stopped = Some(DbState::ShutDowned);
        assert_eq!(
            decision(Some(&stamp(100, true)), stopped, OURS, 100, 100),
            Reuse::AsIs
        );
        let moved = Reuse::Rebuild(RebuildReason::Moved);
        assert_eq!(decision(Some(&stamp(100, true)), stopped, OURS, 96, 96), moved);
        assert_eq!(decision(Some(&stamp(100, true)), stopped, OURS, 104, 104), moved);
        assert_eq!(decision(Some(&stamp(100, true)), stopped, OURS, 100, 200), moved);
        assert_eq!(
            decision(
                Some(&stamp(100, true)),
                Some(DbState::InProduction),
                OURS,
                100,
                100
            ),
            Reuse::Rebuild(RebuildReason::Contradiction)
        );
    }

    #[test]
    fn an_unclean_directory_is_recovered_only_while_its_branch_has_not_moved() {
        let running = Some(DbState::InProduction);
        assert_eq!(
            decision(Some(&stamp(100, false)), running, OURS, 250, 250),
            Reuse::RecoverInPlace
        );
        assert_eq!(
            decision(Some(&stamp(100, false)), running, OURS, 100, 100),
            Reuse::RecoverInPlace
        );
        // Killed between build and the first sign of life.
        assert_eq!(
            decision(
                Some(&stamp(100, false)),
                Some(DbState::ShutDowned),
                OURS,
                100,
                100
            ),
            Reuse::RecoverInPlace
        );
        let moved = Reuse::Rebuild(RebuildReason::Moved);
        assert_eq!(decision(Some(&stamp(100, false)), running, OURS, 200, 250), moved);
        assert_eq!(decision(Some(&stamp(100, false)), running, OURS, 50, 50), moved);
    }

    #[test]
    fn strangers_are_rebuilt() {
        let stopped = Some(DbState::ShutDowned);
        assert_eq!(
            decision(None, stopped, OURS, 1, 1),
            Reuse::Rebuild(RebuildReason::NoStamp)
        );
        assert_eq!(
            decision(Some(&stamp(100, true)), stopped, TimelineId([2; 16]), 100, 100),
            Reuse::Rebuild(RebuildReason::OtherTimeline)
        );
        let mut copied = stamp(100, true);
        copied.boot_id = "a".to_owned();
        assert_eq!(
            decision(Some(&copied), stopped, OURS, 100, 100),
            Reuse::Rebuild(RebuildReason::OtherBoot)
        );
        assert_eq!(
            decision(Some(&stamp(100, false)), None, OURS, 100, 100),
            Reuse::Rebuild(RebuildReason::Contradiction)
        );
    }
}
