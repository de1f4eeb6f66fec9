//! Time zones as people write them: offsets, abbreviations with a fixed meaning, names of the tz database.

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};

/// Abbreviations and the minutes that they are ahead of UTC: those of Postgres's default list that people use, whatever the season.
const ABBREVIATIONS: [(&str, i32); 34] = [
    ("utc", 0),
    ("gmt", 0),
    ("z", 0),
    ("zulu", 0),
    ("wet", 0),
    ("west", 60),
    ("bst", 60),
    ("cet", 60),
    ("cest", 120),
    ("met", 60),
    ("mest", 120),
    ("eet", 120),
    ("eest", 180),
    ("sast", 120),
    ("msk", 180),
    ("pkt", 300),
    ("jst", 540),
    ("kst", 540),
    ("awst", 480),
    ("acst", 570),
    ("acdt", 630),
    ("aest", 600),
    ("aedt", 660),
    ("nzst", 720),
    ("nzdt", 780),
    ("est", -300),
    ("edt", -240),
    ("cst", -360),
    ("cdt", -300),
    ("mst", -420),
    ("mdt", -360),
    ("pst", -480),
    ("pdt", -420),
    ("hst", -600),
];

/// What a text says of its zone.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The offset that holds.
    offset: Option<Offset>,
    /// A name, perhaps beside the offset.
    named: Option<TimeZone>,
}

impl Said {
    /// Returns the zone in which the rest is to be read; none when nothing was said.
    pub(super) fn zone(&self) -> Option<TimeZone> {
        match self.offset {
            Some(offset) => Some(TimeZone::fixed(offset)),
            None => self.named.clone(),
        }
    }

    /// Returns true when an offset was said that the named zone does not have at that moment.
    pub(super) fn contradicts(&self, moment: Timestamp) -> bool {
        match (&self.offset, &self.named) {
            (Some(offset), Some(named)) => named.to_offset(moment) != *offset,
            _ => false,
        }
    }
}

/// Takes the words, and the ends of words, that say a zone.
pub(super) fn take(words: &mut Vec<String>) -> Said {
    let mut said = Said::default();
    let mut left = Vec::with_capacity(words.len());
    for (index, word) in words.iter().enumerate() {
        if let Some(offset) = offset(word) {
            said.offset.get_or_insert(offset);
        } else if let Some(zone) = named(word) {
            said.named.get_or_insert(zone);
        } else if let Some((time, offset)) = at_the_end(word, index == 0) {
            said.offset.get_or_insert(offset);
            left.push(time.to_owned());
        } else {
            left.push(word.clone());
        }
    }
    *words = left;
    said
}

/// Returns the zone that the variable `TZ` names by `value`: empty is UTC, a leading colon means nothing, then a name, a file or a POSIX rule.
pub fn of_variable(value: &str) -> Option<TimeZone> {
    let name = value.strip_prefix(':').unwrap_or(value);
    if name.is_empty() {
        return Some(TimeZone::UTC);
    }
    if let Ok(zone) = TimeZone::get(name) {
        return Some(zone);
    }
    if name.starts_with('/') {
        if let Some((_, inside)) = name.split_once("zoneinfo/")
            && let Ok(zone) = TimeZone::get(inside)
        {
            return Some(zone);
        }
        return TimeZone::tzif(name, &std::fs::read(name).ok()?).ok();
    }
    TimeZone::posix(name).ok()
}

/// Returns what to call a zone.
pub(super) fn name(zone: &TimeZone) -> String {
    zone.iana_name().map_or_else(
        || match zone.to_fixed_offset() {
            Ok(offset) => offset.to_string(),
            Err(_) => "the time zone of TZ".to_owned(),
        },
        str::to_owned,
    )
}

/// Returns true for a word that can only be meant as the name of a zone.
pub(super) fn may_be_a_name(word: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '-' | '+');
    word.contains('/') && word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(letters)
}

/// Reads `+02`, `-0530`, `+05:30`, `utc+2`.
fn offset(word: &str) -> Option<Offset> {
    let signed = ["utc", "gmt"]
        .iter()
        .find_map(|prefix| word.strip_prefix(prefix))
        .unwrap_or(word);
    let (sign, digits) = signed.split_at_checked(1)?;
    if !matches!(sign, "+" | "-") || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let padded = if digits.len() == 1 || digits.find(':') == Some(1) {
        format!("{sign}0{digits}")
    } else {
        signed.to_owned()
    };
    ["%z", "%:z", "%:::z"].iter().find_map(|form| {
        let parsed = BrokenDownTime::parse(form, &padded).ok()?;
        parsed.offset()
    })
}

fn named(word: &str) -> Option<TimeZone> {
    let known = ABBREVIATIONS.iter().find(|(name, _)| *name == word);
    if let Some((_, minutes)) = known {
        return Some(TimeZone::fixed(Offset::from_seconds(minutes * 60).ok()?));
    }
    let is_name = word.len() > 2 && word.starts_with(|c: char| c.is_ascii_alphabetic());
    is_name.then(|| TimeZone::get(word).ok()).flatten()
}

/// Takes an offset apart from the time before it: `12:00:00+02`, `12:00z`. A time without colons is never the first word.
fn at_the_end(word: &str, is_first: bool) -> Option<(&str, Offset)> {
    let is_time = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
            && (text.contains(':') || !is_first)
    };
    if let Some(time) = word.strip_suffix('z') {
        return is_time(time).then_some((time, Offset::UTC));
    }
    let at = word.find(['+', '-'])?;
    let (time, rest) = word.split_at_checked(at)?;
    is_time(time).then(|| Some((time, offset(rest)?))).flatten()
}
