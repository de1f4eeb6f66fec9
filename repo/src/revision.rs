//! Revisions as people write them: `main`, `main@0/16B3748`, `main~3`, `v1.0`, `tags/v1.0`, `3f9a12`, `cloud/main`, `main@{2 hours ago}`.
//!
//! Parsing is pure; what a name stands for is looked up by [`crate::naming`] and [`crate::resolve`].

use jiff::{Timestamp, Zoned};
use neon_types::Lsn;

use crate::moment::{self, MomentError};

/// A parsed revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// A branch, tag or `origin/branch`, with or without its kind, or an abbreviated commit; `HEAD` for the default branch.
    pub base: String,
    /// What follows it.
    pub step: Step,
    /// What its reader should know: which moment was taken where a clock shows one twice.
    pub note: Option<String>,
}

/// Where to go from the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The base itself.
    Here,
    /// So many first parents back.
    Back(u32),
    /// At an LSN of the base's history.
    At(Lsn),
    /// After the last transaction that had committed at a moment.
    When(Timestamp),
}

/// The text is not a revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// Nothing before `@` or `~`, or a name with characters that no ref has.
    #[error("'{0}' is not a revision")]
    Malformed(String),
    /// After `@` stands neither an LSN nor `{time}`.
    #[error(
        "'{0}' is neither an LSN (0/16B3748) nor a time in braces ({{2026-01-01 12:00:00+00}}, {{2 hours ago}})"
    )]
    NotAPlace(String),
    /// The words in braces are not a time.
    #[error(transparent)]
    NotATime(#[from] MomentError),
}

impl Revision {
    /// Parses a revision. `now` gives relative times their meaning.
    pub fn parse(text: &str, now: &Zoned) -> Result<Revision, RevisionError> {
        let malformed = || RevisionError::Malformed(text.to_owned());
        let mut note = None;
        let (base, step) = if let Some((base, place)) = text.split_once('@') {
            (base, parse_place(place, now, &mut note)?)
        } else if let Some((base, count)) = text.split_once('~') {
            let count = if count.is_empty() {
                1
            } else {
                count.parse().map_err(|_| malformed())?
            };
            (base, Step::Back(count))
        } else {
            (text, Step::Here)
        };
        let base = if base.is_empty() && step != Step::Here {
            "HEAD"
        } else {
            base
        };
        if base != "HEAD" && !neon_types::is_safe_name(base) && base.parse::<neon_types::Prefix>().is_err() {
            return Err(malformed());
        }
        Ok(Revision {
            base: base.to_owned(),
            step,
            note,
        })
    }
}

fn parse_place(place: &str, now: &Zoned, note: &mut Option<String>) -> Result<Step, RevisionError> {
    match place.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(words) => {
            let moment = moment::read(words.trim(), now)?;
            *note = moment.note;
            Ok(Step::When(moment.timestamp))
        }
        None => place
            .parse()
            .map(Step::At)
            .map_err(|_| RevisionError::NotAPlace(place.to_owned())),
    }
}

/// Microseconds between 1970-01-01 and 2000-01-01, where Postgres's `TimestampTz` begins.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Returns a moment as a Postgres `TimestampTz`: microseconds since 2000-01-01 UTC.
pub fn to_timestamptz(timestamp: Timestamp) -> i64 {
    timestamp.as_microsecond().saturating_sub(POSTGRES_EPOCH_MICROS)
}

/// Returns a Postgres `TimestampTz` in RFC 3339, or nothing for zero and what no calendar holds.
pub fn timestamptz_text(value: i64) -> Option<String> {
    if value == 0 {
        return None;
    }
    Timestamp::from_microsecond(value.checked_add(POSTGRES_EPOCH_MICROS)?)
        .ok()
        .map(|t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-21T12:00:00+00:00[UTC]".parse().expect("a fixed moment")
    }

    fn step(text: &str) -> Step {
        Revision::parse(text, &now()).expect(text).step
    }

    fn when(text: &str) -> Step {
        Step::When(text.parse().expect("a timestamp"))
    }

    #[test]
    fn every_form_of_the_manual_is_read() {
        assert_eq!(step("main"), Step::Here);
        assert_eq!(step("main@0/16B3748"), Step::At(Lsn(0x16B_3748)));
        assert_eq!(step("main~3"), Step::Back(3));
        assert_eq!(step("main~"), Step::Back(1));
        assert_eq!(step("cloud/main"), Step::Here);
        assert_eq!(
            step("main@{2026-01-01 12:00:00+00}"),
            when("2026-01-01T12:00:00Z")
        );
        assert_eq!(step("main@{2026-01-01 12:00:00}"), when("2026-01-01T12:00:00Z"));
        assert_eq!(step("main@{2026-01-01}"), when("2026-01-01T00:00:00Z"));
        assert_eq!(step("main@{2 hours ago}"), when("2026-11-21T10:00:00Z"));
        assert_eq!(step("main@{yesterday}"), when("2026-11-20T12:00:00Z"));
        assert_eq!(Revision::parse("@0/1", &now()).expect("HEAD").base, "HEAD");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "main@",
            "main@x",
            "main@{}",
            "main@{soonish}",
            "main~x",
            "../etc",
            "-d",
            "a b",
        ] {
            assert!(Revision::parse(bad, &now()).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn postgres_time_begins_in_2000() {
        let timestamp: Timestamp = "2000-01-01T00:00:01Z".parse().expect("a timestamp");
        assert_eq!(to_timestamptz(timestamp), 1_000_000);
        assert_eq!(
            timestamptz_text(1_000_000).as_deref(),
            Some("2000-01-01T00:00:01Z")
        );
        assert_eq!(timestamptz_text(0), None);
        assert_eq!(timestamptz_text(i64::MAX), None);
    }
}
