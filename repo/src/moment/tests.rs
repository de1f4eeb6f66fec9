use super::*;

/// Saturday noon in UTC.
fn now() -> Zoned {
    "2026-11-21T12:00:00+00:00[UTC]".parse().expect("a fixed moment")
}

fn berlin() -> Zoned {
    now().with_time_zone(TimeZone::get("Europe/Berlin").expect("a zone"))
}

#[track_caller]
fn is(text: &str, now: &Zoned, expected: &str) {
    let moment = read(text, now).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(moment.timestamp.to_string(), expected, "{text}");
    assert_eq!(moment.note, None, "{text}");
}

#[test]
fn what_programs_print_is_read_in_any_case() {
    for text in [
        "2026-01-01 11:00:00+00",
        "2026-01-01 12:00:00+01",
        "2026-01-01 12:00:00.000+0100",
        "2026-01-01T11:00:00Z",
        "2026-01-01t11:00z",
        "2026-01-01T11:00:00.000000Z",
        "2026-01-01T12:00:00+01:00[Europe/Berlin]",
        "2026-01-01 12:00 Europe/Berlin",
        "2026-01-01 12:00 EUROPE/BERLIN",
        "2026-01-01 11:00 UTC",
        "2026-01-01 11:00 utc",
        "2026-01-01 12:00 CET",
        "2026-01-01 06:00 EST",
        "2026-01-01 13:00:00 +02",
        "2026-01-01 13:00:00 +2",
        "2026-01-01 11:00 Z",
        "2026-01-01 16:30:00.000+0530",
        "2026-01-01 16:30 +05:30",
        "2026-01-01 13:00 UTC+2",
        "2026-01-01 12:00:00 +0100 CET",
        "2026-01-01 12:00:00,000 CET",
        "2026/01/01 11:00",
        "20260101T110000Z",
        "20260101 120000+0100",
        "20260101110000",
        "2026-W01-4 11:00",
        "2026-001 11:00",
        // git, and date in two locales
        "Thu Jan 1 12:00:00 2026 +0100",
        "Thu Jan  1 12:00:00 CET 2026",
        "Thu 01 Jan 2026 12:00:00 PM CET",
        "Thu Jan  1 12:00:00 PM CET 2026",
        "thu 1 jan 11:00:00 2026",
        // mail, Postgres's other styles, systemd, nginx, JavaScript
        "Thu, 01 Jan 2026 12:00:00 +0100",
        "Thursday, 1 January 2026 11:00",
        "Thu Jan 01 11:00:00 2026 UTC",
        "01.01.2026 12:00:00 CET",
        "Thu 2026-01-01 12:00:00 CET",
        "01/Jan/2026:12:00:00 +0100",
        "01-Jan-2026 11:00",
        "Thu Jan 01 2026 12:00:00 GMT+0100 (Central European Standard Time)",
        "1 Jan 2026 11:00",
        "January 1, 2026 at 11:00 am",
        "Jan 1 11:00:00",
        "1 jan 11:00",
        // since 1970
        "@1767265200",
        "epoch 1767265200",
        "1767265200",
        "1767265200.000",
        "1767265200000",
        "1767265200000000",
    ] {
        is(text, &now(), "2026-01-01T11:00:00Z");
    }
    is("2026-01-01 12:00:00.123+0530", &now(), "2026-01-01T06:30:00.123Z");
    is("@1767265200.5", &now(), "2026-01-01T11:00:00.5Z");
    is("2026-01-01", &now(), "2026-01-01T00:00:00Z");
    is("1 Jan 2026", &berlin(), "2025-12-31T23:00:00Z");
}

#[test]
fn a_time_without_a_zone_is_the_callers() {
    is("2026-01-01 12:00", &berlin(), "2026-01-01T11:00:00Z");
    is("2026-07-01 12:00", &berlin(), "2026-07-01T10:00:00Z");
    // An abbreviation is an offset, whatever the season.
    is("2026-07-01 12:00 CET", &berlin(), "2026-07-01T11:00:00Z");
    is("12:00", &berlin(), "2026-11-21T11:00:00Z");
    is("9:05", &berlin(), "2026-11-21T08:05:00Z");
    is("9:05 pm", &berlin(), "2026-11-21T20:05:00Z");
    is("5pm", &berlin(), "2026-11-21T16:00:00Z");
    is("noon", &berlin(), "2026-11-21T11:00:00Z");
    is("Midnight", &berlin(), "2026-11-20T23:00:00Z");
    is("today", &berlin(), "2026-11-20T23:00:00Z");
    is("yesterday 12:00", &berlin(), "2026-11-20T11:00:00Z");
    is("yesterday at noon", &berlin(), "2026-11-20T11:00:00Z");
    // Of another zone it is that zone's day: there it is already the 22nd.
    is("00:30 Pacific/Kiritimati", &now(), "2026-11-21T10:30:00Z");
}

#[test]
fn relative_times_count_from_now() {
    for text in [
        "2 hours ago",
        "2h ago",
        "2 Hours Ago",
        "120 min ago",
        "-2h",
        "-2 hours",
    ] {
        is(text, &now(), "2026-11-21T10:00:00Z");
    }
    is("an hour ago", &now(), "2026-11-21T11:00:00Z");
    is("1h30m ago", &now(), "2026-11-21T10:30:00Z");
    is("yesterday", &now(), "2026-11-20T12:00:00Z");
    is("now", &now(), "2026-11-21T12:00:00Z");
    is("NOW", &now(), "2026-11-21T12:00:00Z");
    // A day of which the year is not said is the last such day.
    is("Dec 24 18:00", &now(), "2025-12-24T18:00:00Z");
    is("29 Feb", &now(), "2024-02-29T00:00:00Z");
}

#[test]
fn what_a_clock_shows_twice_or_never_is_told() {
    let noted = |text: &str| {
        let moment = read(text, &berlin()).expect(text);
        (moment.timestamp.to_string(), moment.note.expect("a note"))
    };
    assert_eq!(
        noted("2026-10-25 02:30"),
        (
            "2026-10-25T00:30:00Z".to_owned(),
            "2026-10-25T02:30:00 exists twice in Europe/Berlin: 2026-10-25T02:30:00+02:00[Europe/Berlin] is taken"
                .to_owned()
        )
    );
    assert_eq!(
        noted("2026-03-29 02:30"),
        (
            "2026-03-29T01:30:00Z".to_owned(),
            "2026-03-29T02:30:00 does not exist in Europe/Berlin: 2026-03-29T03:30:00+02:00[Europe/Berlin] is taken"
                .to_owned()
        )
    );
    is("2026-10-25 02:30 CET", &berlin(), "2026-10-25T01:30:00Z");
}

#[test]
fn what_cannot_be_meant_is_refused_and_named() {
    for text in [
        "",
        "soonish",
        "2 hours",
        "25:00",
        "12",
        "2026",
        "2026-13-01",
        "2026-02-30",
        "01/02/2026",
        "Fri Jan 1 12:00:00 2026",
        "12:00 +99",
        "@x",
        "@",
        "epoch",
        "12345",
        "@99999999999999999999",
    ] {
        assert_eq!(
            read(text, &now()),
            Err(MomentError::Unreadable(text.to_owned())),
            "{text}"
        );
    }
    assert_eq!(
        read("12:00 Europe/Berln", &now()),
        Err(MomentError::NoZone("europe/berln".to_owned()))
    );
    let both = "2026-01-01T12:00:00+02:00[Europe/Berlin]";
    assert_eq!(read(both, &now()), Err(MomentError::TwoZones(both.to_owned())));
}

#[test]
fn the_variable_tz_is_read_as_the_system_reads_it() {
    let offset = |value: &str| {
        let summer: Timestamp = "2026-07-01T00:00:00Z".parse().expect("a moment");
        of_variable(value).map(|zone| zone.to_offset(summer).seconds() / 60)
    };
    assert_eq!(offset(""), Some(0));
    assert_eq!(offset("UTC"), Some(0));
    assert_eq!(offset("Europe/Berlin"), Some(120));
    assert_eq!(offset(":Europe/Berlin"), Some(120));
    assert_eq!(offset("/usr/share/zoneinfo/Europe/Berlin"), Some(120));
    assert_eq!(offset("<+03>-3"), Some(180));
    assert_eq!(offset("CET-1CEST,M3.5.0,M10.5.0/3"), Some(120));
    assert_eq!(offset("nonsense zone"), None);
}
