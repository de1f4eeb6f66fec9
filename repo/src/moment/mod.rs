//! Moments as people write and paste them: `2026-01-01 12:00 Europe/Berlin`, `2 hours ago`, `Thu Jan  1 12:00:00 2026 +0100`, `@1767225600`.
//!
//! A text is tidied into words. Words that say a zone are taken out wherever they stand; what is left is a length of time before now, or a
//! date and a time of one of the forms that [`civil`] lists. In any case, and a zone that nobody says is the caller's.

mod civil;
mod zone;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan, Zoned};

pub use zone::of_variable;

/// A moment that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The moment.
    pub timestamp: Timestamp,
    /// Which one of two was taken, where a local time exists twice or not at all.
    pub note: Option<String>,
}

/// The text is not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// No form of it is known.
    #[error("'{0}' is not a time that we can read")]
    Unreadable(String),
    /// It names a zone, and the machine's data has none of that name.
    #[error("there is no time zone '{0}' here")]
    NoZone(String),
    /// It says two zones that differ at that time.
    #[error("'{0}' says two time zones that contradict each other")]
    TwoZones(String),
}

impl From<Timestamp> for Moment {
    fn from(timestamp: Timestamp) -> Moment {
        Moment {
            timestamp,
            note: None,
        }
    }
}

/// Reads a moment. `now` gives relative times their meaning, and its zone those that say none.
pub fn read(text: &str, now: &Zoned) -> Result<Moment, MomentError> {
    let unreadable = || MomentError::Unreadable(text.to_owned());
    let mut words = tidy(text);
    if let Some(timestamp) = epoch(&words).or_else(|| relative(&words, now)) {
        return Ok(timestamp.into());
    }
    let said = zone::take(&mut words);
    let zone = said.zone().unwrap_or_else(|| now.time_zone().clone());
    let here = now.with_time_zone(zone);
    let words = words.join(" ");
    let Some(time) = civil::read(&words, &here) else {
        // `Europe/Berln` is what is left over.
        let name = words.split(' ').find(|word| zone::may_be_a_name(word));
        return Err(name.map_or_else(unreadable, |name| MomentError::NoZone(name.to_owned())));
    };
    let moment = place(time, here.time_zone()).ok_or_else(unreadable)?;
    if said.contradicts(moment.timestamp) {
        return Err(MomentError::TwoZones(text.to_owned()));
    }
    Ok(moment)
}

/// Returns the words of a text: in lower case, without what only separates or explains.
fn tidy(text: &str) -> Vec<String> {
    let mut plain = String::with_capacity(text.len());
    let mut depth = 0u32;
    for c in text.to_lowercase().chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            '[' | ']' => plain.push(' '),
            c => plain.push(c),
        }
    }
    let mut words = Vec::new();
    for word in plain.split_whitespace() {
        // Of a time, a comma begins the fraction: 12:00:00,123.
        let word = if word.contains(':') {
            word.trim_end_matches(',').replace(',', ".")
        } else {
            word.replace(',', " ")
        };
        let word = without_separator(&word);
        let parts = word.split_whitespace().filter(|part| *part != "at");
        words.extend(parts.map(str::to_owned));
    }
    words
}

/// Makes a space of the `t` between date and time.
fn without_separator(word: &str) -> String {
    match word.split_once('t') {
        Some((date, time))
            if date.ends_with(|c: char| c.is_ascii_digit())
                && time.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            format!("{date} {time}")
        }
        _ => word.to_owned(),
    }
}

/// Reads seconds since 1970, as `@1767225600.5`, `epoch 1767225600` or ten digits alone; 13, 16 and 19 digits are the thousandths of each other.
fn epoch(words: &[String]) -> Option<Timestamp> {
    let (number, marked) = match words {
        [word] => match word.strip_prefix('@') {
            Some(number) => (number, true),
            None => (word.as_str(), false),
        },
        [word, number] if word == "epoch" => (number.as_str(), true),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let unit: i128 = match (marked, whole.len()) {
        (true, _) | (false, 10) => 1_000_000_000,
        (false, 13) => 1_000_000,
        (false, 16) => 1_000,
        (false, 19) => 1,
        _ => return None,
    };
    let below = format!("{fraction:0<9}").get(..9)?.parse::<i128>().ok()?;
    let nanoseconds = whole.parse::<i128>().ok()?.checked_mul(unit)? + below * unit / 1_000_000_000;
    Timestamp::from_nanosecond(nanoseconds).ok()
}

/// Reads what counts from now: `now`, `yesterday`, `2 hours ago`, `-2h`.
fn relative(words: &[String], now: &Zoned) -> Option<Timestamp> {
    let text = words.join(" ");
    match text.as_str() {
        "now" => return Some(now.timestamp()),
        "yesterday" => return Some(now.checked_sub(1.day()).ok()?.timestamp()),
        "tomorrow" => return Some(now.checked_add(1.day()).ok()?.timestamp()),
        _ => {}
    }
    let text = match text.split_once(' ') {
        Some(("a" | "an" | "one", rest)) => format!("1 {rest}"),
        _ => text,
    };
    if !text.ends_with("ago") && !text.starts_with('-') {
        return None;
    }
    // jiff reads "2 hours ago" as a negative span.
    let span: jiff::Span = text.parse().ok()?;
    Some(now.checked_add(span).ok()?.timestamp())
}

/// Returns the moment that a clock in `zone` shows as `time`; of a time that it shows twice the first, of one that it leaves out the one after as
/// much as is left out.
fn place(time: DateTime, zone: &TimeZone) -> Option<Moment> {
    let ambiguous = zone.to_ambiguous_zoned(time);
    let how = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } => Some("does not exist"),
        AmbiguousOffset::Fold { .. } => Some("exists twice"),
    };
    let taken = ambiguous.compatible().ok()?;
    Some(Moment {
        timestamp: taken.timestamp(),
        note: how.map(|how| format!("{time} {how} in {}: {taken} is taken", zone::name(zone))),
    })
}

#[cfg(test)]
mod tests;
