//! Lengths of time and amounts of bytes as people write them: `7d`, `90m`, `50GB`.

use std::time::Duration;

const TIMES: [(&str, u64); 5] = [
    ("s", 1),
    ("m", 60),
    ("h", 60 * 60),
    ("d", 24 * 60 * 60),
    ("w", 7 * 24 * 60 * 60),
];
/// As Postgres means them: 1024.
const BYTES: [(&str, u64); 5] = [
    ("B", 1),
    ("kB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("TB", 1 << 40),
];
/// What a duration may be at most, in seconds: a thousand years.
const MAX_SECONDS: u64 = 1000 * 366 * 24 * 60 * 60;

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn plain(value: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().rev().find(|(_, scale)| value.is_multiple_of(*scale));
    let (unit, scale) = fitting
        .filter(|_| value > 0)
        .copied()
        .unwrap_or_else(|| units.first().copied().unwrap_or(("", 1)));
    format!("{}{unit}", value / scale)
}

/// Returns the length of time that a number with `s`, `m`, `h`, `d` or `w` behind it is.
pub fn parse_duration(text: &str) -> Option<Duration> {
    scaled(text, &TIMES)
        .filter(|seconds| *seconds <= MAX_SECONDS)
        .map(Duration::from_secs)
}

/// Returns whole seconds in the largest unit up to days that fits: `2w` is `14d`.
pub fn duration_text(duration: Duration) -> String {
    let (_, up_to_days) = TIMES.split_last().unwrap_or((&("", 1), &[]));
    plain(duration.as_secs(), up_to_days)
}

/// Returns the number of bytes that a number with `B`, `kB`, `MB`, `GB` or `TB` behind it is; a kilobyte has 1024 bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    scaled(text, &BYTES)
}

/// Returns bytes in the largest unit that fits.
pub fn bytes_text(bytes: u64) -> String {
    plain(bytes, &BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("36h", 129_600),
            ("8d", 691_200),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
            assert_eq!(duration_text(Duration::from_secs(seconds)), text);
        }
        assert_eq!(parse_duration("2w"), parse_duration("14d"));
        assert_eq!(duration_text(Duration::from_secs(1_209_600)), "14d");
        for (text, bytes) in [
            ("0B", 0),
            ("100B", 100),
            ("64kB", 65_536),
            ("50GB", 50 << 30),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
            assert_eq!(bytes_text(bytes), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "7",
            "d",
            "-1d",
            "1.5h",
            "7 d",
            "7D",
            "99999999999999999999d",
            "18446744073709551615w",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["", "5", "GB", "5gb", "1.5GB", "99999999999TB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
