//! Dates and times of a clock, in the forms that programs print: ISO, Postgres, git, `date`, mail, logs.

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::{ToSpan, Zoned};

/// A time of day.
const TIMES: [&str; 6] = [
    "%H:%M:%S%.f",
    "%H:%M",
    "%I:%M:%S%.f %p",
    "%I:%M %p",
    "%I %p",
    "%H:%M %p",
];
/// The same without colons, which only a date before it tells from a year.
const COMPACT_TIMES: [&str; 2] = ["%H%M%S%.f", "%H%M"];
/// A date.
const DATES: [&str; 13] = [
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
    "%d.%m.%Y",
    "%G-w%V-%u",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d %Y",
    "%B %d %Y",
    "%d-%b-%Y",
    "%d/%b/%Y",
    "%Y-%j",
];
/// A date in two parts, with the time between them, as `date` and git print it.
const SPLIT_DATES: [(&str, &str); 2] = [("%b %d", "%Y"), ("%d %b", "%Y")];
/// A date of the year before now.
const DAYS: [&str; 4] = ["%b %d", "%d %b", "%B %d", "%d %B"];
/// A date with its time where no space is between them.
const JOINED: [&str; 2] = ["%Y%m%d%H%M%S", "%d/%b/%Y:%H:%M:%S%.f"];
/// No history that we keep is older.
const FIRST_YEAR: i16 = 1970;
/// What may stand before any of them.
const WEEKDAYS: [&str; 3] = ["", "%a ", "%A "];

/// Reads a date and a time, a date alone (its beginning) or a time alone (today). `here` is now, in the zone of the text.
pub(super) fn read(text: &str, here: &Zoned) -> Option<DateTime> {
    let text = with_words_spelled_out(text, here.date());
    if let Some(time) = TIMES.iter().find_map(|form| time(form, &text)) {
        return Some(here.date().to_datetime(time));
    }
    let joined = JOINED
        .iter()
        .find_map(|form| BrokenDownTime::parse(form, &text).ok()?.to_datetime().ok());
    // Whatever has a year far from ours was cut apart at the wrong places.
    let is_meant = |time: &DateTime| time.year() >= FIRST_YEAR;
    joined.filter(is_meant).or_else(|| {
        WEEKDAYS.iter().find_map(|weekday| {
            let dated = dated(weekday, &text).filter(is_meant);
            dated.or_else(|| of_the_year_before(weekday, &text, here))
        })
    })
}

/// Replaces words for days and times by what they mean.
fn with_words_spelled_out(text: &str, today: Date) -> String {
    let day = |days: i64| today.checked_add(days.days()).unwrap_or(today).to_string();
    let words: Vec<String> = text
        .split(' ')
        .map(|word| match word {
            "today" => day(0),
            "yesterday" => day(-1),
            "tomorrow" => day(1),
            "noon" => "12:00".to_owned(),
            "midnight" => "00:00".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    words.join(" ")
}

fn time(form: &str, text: &str) -> Option<Time> {
    BrokenDownTime::parse(form, text).ok()?.to_time().ok()
}

fn dated(weekday: &str, text: &str) -> Option<DateTime> {
    let parse = |form: &str| BrokenDownTime::parse(form, text).ok();
    for date in DATES {
        if let Some(found) = parse(&format!("{weekday}{date}")) {
            return Some(found.to_date().ok()?.to_datetime(Time::midnight()));
        }
        for time in TIMES.iter().chain(&COMPACT_TIMES) {
            if let Some(found) = parse(&format!("{weekday}{date} {time}")) {
                return found.to_datetime().ok();
            }
        }
    }
    for (day, year) in SPLIT_DATES {
        for time in TIMES {
            if let Some(found) = parse(&format!("{weekday}{day} {time} {year}")) {
                return found.to_datetime().ok();
            }
        }
    }
    None
}

/// Reads a date without a year, as in a log: the last such day.
fn of_the_year_before(weekday: &str, text: &str, here: &Zoned) -> Option<DateTime> {
    let times = TIMES.iter().map(|time| format!(" {time}"));
    let ends: Vec<String> = std::iter::once(String::new()).chain(times).collect();
    for day in DAYS {
        for time in &ends {
            let Ok(mut found) = BrokenDownTime::parse(format!("{weekday}{day}{time}"), text) else {
                continue;
            };
            let clock = found.to_time().unwrap_or(Time::midnight());
            return (0..=8).find_map(|years| {
                found.set_year(Some(here.year() - years)).ok()?;
                let time = found.to_date().ok()?.to_datetime(clock);
                (time <= here.datetime()).then_some(time)
            });
        }
    }
    None
}
