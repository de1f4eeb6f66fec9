//! What time it is, as far as that may decide about deleting (law 13): our own clock, and only since it last jumped.
//!
//! `.neon/clock` remembers what the clock said, and how long the machine had been up. A later look that differs by more than a day from
//! what must have passed is a jump: times before it are not believed any more, what happened then counts as having happened at
//! the jump. Within one boot of the machine the time that passed is known; over a boot it is not, so that there a gap of more than a
//! day is taken for a jump too.

use std::path::Path;

use neon_objects::durable;
use neon_types::{checked_text, with_causes, with_checksum};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::world::{Boot, World};

const FILE: &str = "clock";
const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 60 * 60 * SECOND;
/// A look that is no older is not written down again by commands that delete nothing.
const FRESH: i64 = 10 * 60 * SECOND;

/// `.neon/clock`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// What the clock said, in microseconds since 1970.
    seen: i64,
    /// From when on times are believed: when the repository was made, or the last jump was seen.
    since: i64,
    /// How long the machine had been up then; missing where that cannot be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<Boot>,
}

/// One look at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Microseconds since 1970.
    pub now: i64,
    /// From when on times are believed.
    pub since: i64,
}

impl Clock {
    /// Looks at the clock, and remembers what it said.
    pub(crate) fn look(neon_dir: &Path, world: &dyn World) -> Result<Clock> {
        look(neon_dir, world, 0)
    }

    /// Looks at the clock; remembers what it said unless that was done a few minutes ago.
    pub(crate) fn glance(neon_dir: &Path, world: &dyn World) -> Result<Clock> {
        look(neon_dir, world, FRESH)
    }

    /// Returns how long ago something happened, in microseconds. What happened before the last jump, or will have happened, counts
    /// from the jump.
    pub(crate) fn age(&self, time: i64) -> i64 {
        let believed = if (self.since..=self.now).contains(&time) {
            time
        } else {
            self.since
        };
        self.now.saturating_sub(believed)
    }

    /// Returns how long ago it happened if the clock never jumped.
    pub(crate) fn apparent_age(&self, time: i64) -> i64 {
        self.now.saturating_sub(time)
    }
}

fn look(neon_dir: &Path, world: &dyn World, fresh: i64) -> Result<Clock> {
    let path = neon_dir.join(FILE);
    // A file that is missing or cannot be understood vouches for nothing: times count from now.
    let before = std::fs::read(&path).ok().and_then(|bytes| read(&bytes));
    let seen = after(before.as_ref(), world.now(), world.boot());
    let known = before.is_some_and(|before| {
        before.since == seen.since && (0..fresh).contains(&seen.seen.saturating_sub(before.seen))
    });
    if !known {
        let text = toml_edit::ser::to_string(&seen).unwrap_or_default();
        if let Err(error) = durable::replace(&path, with_checksum(&text).as_bytes(), 0o600) {
            // A full disk, say. What was remembered before still tells a jump.
            tracing::warn!(
                error = with_causes(&error),
                "what the clock says cannot be remembered"
            );
        }
    }
    Ok(Clock {
        now: seen.seen,
        since: seen.since,
    })
}

fn read(bytes: &[u8]) -> Option<Seen> {
    toml_edit::de::from_str(checked_text(bytes).ok()?).ok()
}

/// Returns true when the file is there and cannot be understood.
pub(crate) fn is_damaged(neon_dir: &Path) -> bool {
    std::fs::read(neon_dir.join(FILE)).is_ok_and(|bytes| read(&bytes).is_none())
}

/// Returns what is to be remembered of a look at `now`.
fn after(before: Option<&Seen>, now: i64, boot: Option<Boot>) -> Seen {
    let since = match before {
        None => now,
        Some(before) => {
            let passed = match (&before.boot, &boot) {
                (Some(then), Some(now)) if then.id == now.id => now.uptime.saturating_sub(then.uptime),
                _ => 0,
            };
            let differs = now.saturating_sub(before.seen).saturating_sub(passed);
            if (-DAY..=DAY).contains(&differs) {
                before.since
            } else {
                now
            }
        }
    };
    Seen {
        seen: now,
        since,
        boot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(id: &str, days: i64) -> Option<Boot> {
        Some(Boot {
            id: id.to_owned(),
            uptime: days * DAY,
        })
    }

    fn seen(day: i64, boot: Option<Boot>) -> Seen {
        Seen {
            seen: day * DAY,
            since: 5 * DAY,
            boot,
        }
    }

    #[test]
    fn only_what_cannot_have_passed_is_a_jump() {
        let since = |before: Seen, now: i64, boot| after(Some(&before), now * DAY, boot).since / DAY;
        assert_eq!(after(None, 7 * DAY, None).since, 7 * DAY);
        assert_eq!(
            since(seen(10, boot("a", 1)), 40, boot("a", 31)),
            5,
            "up all the time"
        );
        assert_eq!(since(seen(10, boot("a", 1)), 40, boot("a", 2)), 40, "forward");
        assert_eq!(since(seen(10, boot("a", 1)), 8, boot("a", 2)), 8, "back");
        assert_eq!(
            since(seen(10, boot("a", 1)), 11, boot("b", 0)),
            5,
            "a boot in between"
        );
        assert_eq!(
            since(seen(10, boot("a", 1)), 12, boot("b", 0)),
            12,
            "off, or a jump: nobody knows"
        );
        assert_eq!(since(seen(10, None), 11, None), 5);
    }

    #[test]
    fn what_was_before_a_jump_counts_from_it() {
        let clock = Clock {
            now: 100 * DAY,
            since: 90 * DAY,
        };
        assert_eq!(clock.age(95 * DAY), 5 * DAY);
        assert_eq!(clock.age(3 * DAY), 10 * DAY);
        assert_eq!(
            clock.age(200 * DAY),
            10 * DAY,
            "by the clock before it was set back"
        );
        assert_eq!(clock.apparent_age(3 * DAY), 97 * DAY);
    }
}
