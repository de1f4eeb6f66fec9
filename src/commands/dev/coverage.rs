//! `neon dev coverage`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use neon_repo::oracle::{Counts, Report, kinds};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::session::Session;

const BEGIN: &str = "<!-- counts: begin -->\n";
const END: &str = "<!-- counts: end -->\n";
/// Share of the references with an image, per cent, below which a kind of record is named.
const ENOUGH: f64 = 95.0;

/// Write what the oracle found in many runs into a document
///
/// RESULTS holds the output of 'neon --json dev oracle' for each run, as SERVER-SUITE.json, such as 17.11-regress.json. The text of the
/// document between the comments 'counts: begin' and 'counts: end' is written anew.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of results
    #[arg(value_name = "RESULTS", value_hint = clap::ValueHint::DirPath)]
    pub results: PathBuf,
    /// The document
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub document: PathBuf,
}

/// What the oracle found in one run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    version: u16,
    segments: u64,
    /// The most pages in memory at any time, 8 KiB each.
    most_pages: u64,
    kinds: BTreeMap<String, Cell>,
    mismatches: Vec<String>,
}

/// Numbers of block references, as in [`Counts`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Cell {
    records: u64,
    checked: u64,
    mismatched: u64,
    without_base: u64,
    map_lost: u64,
    without_image: u64,
    restored: u64,
    unsupported: u64,
    lsn_seen: u64,
    lsn_other: u64,
}

impl From<&Counts> for Cell {
    fn from(counts: &Counts) -> Cell {
        Cell {
            records: counts.records,
            checked: counts.checked,
            mismatched: counts.mismatched,
            without_base: counts.without_base,
            map_lost: counts.map_lost,
            without_image: counts.without_image,
            restored: counts.restored,
            unsupported: counts.unsupported,
            lsn_seen: counts.lsn_seen,
            lsn_other: counts.lsn_other,
        }
    }
}

impl Cell {
    fn add(&mut self, other: &Cell) {
        self.records += other.records;
        self.checked += other.checked;
        self.mismatched += other.mismatched;
        self.without_base += other.without_base;
        self.map_lost += other.map_lost;
        self.without_image += other.without_image;
        self.restored += other.restored;
        self.unsupported += other.unsupported;
        self.lsn_seen += other.lsn_seen;
        self.lsn_other += other.lsn_other;
    }

    /// Returns how many of the references that carry an image to compare with were compared, per cent; `None` without any.
    fn share(&self) -> Option<f64> {
        let all = self.checked + self.without_base + self.map_lost + self.unsupported;
        (all > 0).then(|| 100.0 * self.checked as f64 / all as f64)
    }

    /// Returns `checked / mismatched / without base`, or what else there is to say, or nothing.
    fn text(&self) -> String {
        if self.unsupported > 0 {
            format!("{} not supported", self.unsupported)
        } else if self.checked + self.without_base > 0 {
            format!("{} / {} / {}", self.checked, self.mismatched, self.without_base)
        } else if self.restored > 0 {
            format!("{} restored", self.restored)
        } else if self.without_image > 0 {
            format!("{} without image", self.without_image)
        } else {
            String::new()
        }
    }
}

impl Outcome {
    /// Takes over what was found.
    pub fn new(report: &Report, segments: u64) -> Outcome {
        Outcome {
            version: report.version.major(),
            segments,
            most_pages: report.most_pages,
            kinds: report
                .kinds
                .iter()
                .filter(|(_, counts)| counts.references() > 0)
                .map(|(name, counts)| (name.clone(), counts.into()))
                .collect(),
            mismatches: report.mismatches.iter().map(ToString::to_string).collect(),
        }
    }

    fn total(&self) -> Cell {
        let mut total = Cell::default();
        self.kinds.values().for_each(|cell| total.add(cell));
        total
    }
}

/// Carries it out.
pub fn run(args: &Args, session: &Session) -> Result<(), Failure> {
    let results = session.absolute(&args.results)?;
    let path = session.absolute(&args.document)?;
    let failed = |what: &Path| {
        let message = format!("cannot use {}", what.display());
        move |error: io::Error| Failure::local("coverage", message, error)
    };
    let runs = read(&results).map_err(failed(&results))?;
    let document = fs::read_to_string(&path).map_err(failed(&path))?;
    let changed = replace(&document, &tables(&runs))
        .ok_or_else(|| io::Error::other("the comments 'counts: begin' and 'counts: end' are not there"))
        .map_err(failed(&path))?;
    fs::write(&path, changed).map_err(failed(&path))
}

/// Returns the runs by version and by name, such as `17.11 regress`.
fn read(dir: &Path) -> io::Result<BTreeMap<u16, BTreeMap<String, Outcome>>> {
    let mut runs = BTreeMap::<u16, BTreeMap<String, Outcome>>::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(name) = name
        {
            let outcome: Outcome = serde_json::from_slice(&fs::read(&path)?)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
            let of_version = runs.entry(outcome.version).or_default();
            of_version.insert(name.replace('-', " "), outcome);
        }
    }
    Ok(runs)
}

fn replace(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{text}{END}{after}"))
}

fn tables(runs: &BTreeMap<u16, BTreeMap<String, Outcome>>) -> String {
    let mut text = String::new();
    let all = runs.values().flat_map(BTreeMap::values);
    let mut total = Cell::default();
    all.clone().for_each(|outcome| total.add(&outcome.total()));
    push(
        &mut text,
        format_args!(
            "\n{} of {} references differ, in {} runs over {} segments of 16 MiB; at most {} MiB of pages in memory.\n",
            total.mismatched,
            total.checked,
            all.clone().count(),
            all.clone().map(|outcome| outcome.segments).sum::<u64>(),
            all.map(|outcome| outcome.most_pages).max().unwrap_or_default() / 128,
        ),
    );
    push(&mut text, format_args!("{}", shares(runs)));
    for (major, runs) in runs {
        push(
            &mut text,
            format_args!("\n### PostgreSQL {major}\n\n{}", of_version(*major, runs)),
        );
    }
    text.push('\n');
    text
}

/// Returns the table of the share checked: a row for each kind, a column for each version, all runs together.
fn shares(runs: &BTreeMap<u16, BTreeMap<String, Outcome>>) -> String {
    let sums: Vec<BTreeMap<String, Cell>> = runs.iter().map(|(major, runs)| sum(*major, runs)).collect();
    let names: BTreeSet<&String> = sums.iter().flat_map(BTreeMap::keys).collect();
    let heads: Vec<String> = runs.keys().map(u16::to_string).collect();
    let mut text = format!(
        "\n### Share checked\n\n| record | {} |\n|---|{}\n",
        heads.join(" | "),
        "--:|".repeat(heads.len())
    );
    let mut low = Vec::new();
    for name in names {
        let cells: Vec<String> = sums
            .iter()
            .zip(&heads)
            .map(|(sum, head)| match sum.get(name) {
                None => "n/a".to_owned(),
                Some(cell) => match cell.share() {
                    Some(share) => {
                        if share < ENOUGH {
                            low.push(format!("{name} of {head} ({share:.1} %)"));
                        }
                        format!("{share:.2} %")
                    }
                    None => cell.text(),
                },
            })
            .collect();
        push(&mut text, format_args!("| {name} | {} |\n", cells.join(" | ")));
    }
    let low = if low.is_empty() {
        "none".to_owned()
    } else {
        low.join(", ")
    };
    push(&mut text, format_args!("\nBelow {ENOUGH} %: {low}.\n"));
    text
}

/// Returns the sum over the runs of a version, with every kind that there is.
fn sum(major: u16, runs: &BTreeMap<String, Outcome>) -> BTreeMap<String, Cell> {
    let mut sum = BTreeMap::<String, Cell>::new();
    for name in kinds(major) {
        sum.insert(name, Cell::default());
    }
    for (name, cell) in runs.values().flat_map(|outcome| &outcome.kinds) {
        sum.entry(name.clone()).or_default().add(cell);
    }
    sum
}

fn of_version(major: u16, runs: &BTreeMap<String, Outcome>) -> String {
    let heads: Vec<&str> = runs.keys().map(String::as_str).collect();
    let mut text = format!(
        "| record | {} |\n|---|{}\n",
        heads.join(" | "),
        "--:|".repeat(heads.len())
    );
    for name in sum(major, runs).keys() {
        let cells = runs
            .values()
            .map(|outcome| outcome.kinds.get(name).map_or_else(String::new, Cell::text));
        push(
            &mut text,
            format_args!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | ")),
        );
    }
    let totals: Vec<Cell> = runs.values().map(Outcome::total).collect();
    let row = |cell: &dyn Fn(&Cell) -> String| totals.iter().map(cell).collect::<Vec<_>>().join(" | ");
    let all = row(&|cell| {
        format!(
            "**{} / {} / {}**",
            cell.checked, cell.mismatched, cell.without_base
        )
    });
    let share = row(&|cell| {
        cell.share()
            .map_or_else(String::new, |share| format!("{share:.3} %"))
    });
    let lsns = row(&|cell| format!("{} / {}", cell.lsn_seen, cell.lsn_other));
    push(
        &mut text,
        format_args!("| **all** | {all} |\n| share checked | {share} |\n| LSNs seen / other | {lsns} |\n"),
    );
    text
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: &str, checked: u64, without_base: u64) -> Outcome {
        let cell = Cell {
            checked,
            without_base,
            ..Cell::default()
        };
        Outcome {
            version: 17,
            segments: 2,
            most_pages: 1280,
            kinds: BTreeMap::from([(kind.to_owned(), cell)]),
            mismatches: Vec::new(),
        }
    }

    #[test]
    fn the_text_between_the_comments_is_written_anew() {
        let document = format!("above\n{BEGIN}old\n{END}below\n");
        let expected = format!("above\n{BEGIN}new\n{END}below\n");
        assert_eq!(replace(&document, "new\n"), Some(expected));
        assert_eq!(replace("above\nbelow\n", "new\n"), None);
    }

    #[test]
    fn empty_cells_and_low_shares_are_seen() {
        let of_17 = BTreeMap::from([
            ("17.11 rare".to_owned(), run("Heap/INSERT", 90, 10)),
            ("17.11 regress".to_owned(), run("Gist/DELETE", 5, 0)),
        ]);
        let text = tables(&BTreeMap::from([(17, of_17)]));
        for line in [
            "0 of 95 references differ, in 2 runs over 4 segments of 16 MiB; at most 10 MiB of pages in memory.",
            "| record | 17.11 rare | 17.11 regress |",
            "| Heap/INSERT | 90 / 0 / 10 |  |",
            "| Gist/DELETE |  | 5 / 0 / 0 |",
            "| Heap/LOCK |  |  |",
            "| Heap/INSERT | 90.00 % |",
            "| **all** | **90 / 0 / 10** | **5 / 0 / 0** |",
            "Below 95 %: Heap/INSERT of 17 (90.0 %).",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no line {line:?} in\n{text}"
            );
        }
    }
}
