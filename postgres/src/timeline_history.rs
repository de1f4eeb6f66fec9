//! History files, `0000000A.history`: from which timelines a timeline descends, and where it left them.
//!
//! One line for each ancestor, oldest first: number, tab, the LSN where it was left, tab, why. Lines that begin with `#`
//! are comments.

use neon_types::Lsn;

/// Most ancestors that we read; a server with more could not be started by hand either.
const MAX_ENTRIES: usize = 100_000;

/// The ancestors of a timeline, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimelineHistory {
    /// Their numbers ascend.
    pub entries: Vec<HistoryEntry>,
}

/// An ancestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its number (TLI).
    pub tli: u32,
    /// Where its history ends for the descendant.
    pub end: Lsn,
    /// Why it was left, one line.
    pub reason: String,
}

/// The text is not a history file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of a timeline history: {what}")]
pub struct HistoryError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Returns the name of the history file of timeline `tli`.
pub fn file_name(tli: u32) -> String {
    format!("{tli:08X}.history")
}

/// Returns the timeline whose history file has that name.
pub fn parse_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".history")?;
    let valid = digits.len() == 8 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

impl TimelineHistory {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<TimelineHistory, HistoryError> {
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let bad = |what| HistoryError {
                line: number + 1,
                what,
            };
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(bad("too many timelines"));
            }
            let (tli, rest) = line
                .split_once(char::is_whitespace)
                .ok_or_else(|| bad("no LSN"))?;
            let tli = tli.parse().map_err(|_| bad("no timeline number"))?;
            if entries.last().is_some_and(|before| before.tli >= tli) {
                return Err(bad("timeline numbers do not ascend"));
            }
            let rest = rest.trim_start();
            let (end, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            entries.push(HistoryEntry {
                tli,
                end: end.parse().map_err(|_| bad("no LSN"))?,
                reason: reason.trim().to_owned(),
            });
        }
        Ok(TimelineHistory { entries })
    }

    /// Returns the text of the file. Line breaks in reasons become spaces.
    pub fn format(&self) -> String {
        let line = |entry: &HistoryEntry| {
            let reason = entry.reason.replace(['\n', '\r'], " ");
            format!("{}\t{}\t{reason}\n", entry.tli, entry.end)
        };
        self.entries.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_postgres_is_read_and_written() {
        let text =
            "# comment\n1\t0/3000060\tno recovery target specified\n\n2\t16/B374D848\tbefore 2026-01-01\n";
        let history = TimelineHistory::parse(text).unwrap();
        assert_eq!(history.entries.len(), 2);
        assert_eq!(
            (history.entries[1].tli, history.entries[1].end),
            (2, Lsn(0x16_B374_D848))
        );
        assert_eq!(TimelineHistory::parse(&history.format()), Ok(history));
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, line) in [
            ("x\t0/1", 1),
            ("1", 1),
            ("2\t0/1\n1\t0/2", 2),
            ("1\tzero", 1),
            ("-1\t0/1", 1),
        ] {
            assert_eq!(
                TimelineHistory::parse(text).map_err(|error| error.line),
                Err(line),
                "{text}"
            );
        }
    }

    #[test]
    fn file_names_have_eight_digits() {
        assert_eq!(file_name(0x5A1), "000005A1.history");
        assert_eq!(parse_file_name("000005A1.history"), Some(0x5A1));
        assert_eq!(parse_file_name("5A1.history"), None);
        assert_eq!(parse_file_name("000005a1.history"), None);
    }
}
