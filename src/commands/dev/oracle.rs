//! `neon dev oracle`

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use neon_repo::oracle::{self, Options, OracleError, Report, Sampler, Segments, fixture};
use neon_types::with_causes;

use super::coverage::Outcome;
use crate::failure::Failure;
use crate::session::Session;

/// Check redo against the page images in WAL that was written with wal_consistency_checking
///
/// Replays every block reference onto the page before it, and compares with the image of the page after it. Prints the numbers
/// for each kind of record, the totals last; each page that came out wrong is named on stderr with its first wrong byte.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of WAL segments, or '-': their paths come on stdin, one a line, in the order of the log
    #[arg(value_name = "WAL", value_hint = clap::ValueHint::DirPath)]
    pub wal: PathBuf,
    /// Delete each segment named on stdin once it has been read
    #[arg(long)]
    pub delete: bool,
    /// The cluster had neither data checksums nor wal_log_hints
    #[arg(long)]
    pub no_hints_logged: bool,
    /// Most pages to keep in memory, 8 KiB each
    #[arg(long, value_name = "N", default_value_t = Options::default().max_pages)]
    pub max_pages: usize,
    /// Write references that came out right here, for the tests to replay
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,
    /// How many references of each shape --samples keeps
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub per_shape: usize,
    /// Write the references that came out wrong here, the first hundred
    #[arg(long, value_name = "FILE")]
    pub failures: Option<PathBuf>,
}

/// Carries it out; mismatches are a failure.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let options = Options {
        hints_logged: !args.no_hints_logged,
        max_pages: args.max_pages,
        ..Options::default()
    };
    let mut sampler = Sampler::new(if args.samples.is_some() { args.per_shape } else { 0 });
    let mut screen = Screen::new();
    let report = check(&args, session, options, &mut sampler, &mut screen)?;
    screen.finish(&report);
    if let Some(path) = &args.samples {
        write_fixtures(&session.absolute(path)?, &sampler.into_fixtures())?;
    }
    if let Some(path) = &args.failures {
        write_fixtures(&session.absolute(path)?, &report.failures)?;
    }
    let outcome = Outcome::new(&report, screen.segments);
    session
        .ui
        .show(&outcome, |_, out| write!(out, "{}", report.to_markdown()))?;
    if report.total().mismatched == 0 {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn check(
    args: &Args,
    session: &Session,
    options: Options,
    sampler: &mut Sampler,
    screen: &mut Screen,
) -> Result<Report, Failure> {
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |error: OracleError| {
            Failure::local("oracle", format!("cannot check {what}"), with_causes(&error))
        }
    };
    let mut show = |report: &Report, end| screen.show(report, end);
    if args.wal.as_os_str() == "-" {
        let failed = failed(Path::new("the segments named on stdin"));
        let segments = Segments::listed(io::stdin().lock(), args.delete).map_err(&failed)?;
        let segments = segments.ok_or_else(|| {
            Failure::refused(
                "oracle",
                "stdin names no WAL segment",
                "write the path of each segment on a line of its own",
            )
        })?;
        return oracle::run(segments, options, sampler, &mut show).map_err(&failed);
    }
    if args.delete {
        return Err(Failure::usage(
            "--delete is for segments named on stdin",
            "leave it out, or give '-' for WAL",
        ));
    }
    let wal = session.absolute(&args.wal)?;
    let failed = failed(&wal);
    let segments = Segments::open(&wal).map_err(&failed)?;
    oracle::run(segments, options, sampler, &mut show).map_err(&failed)
}

fn write_fixtures(path: &Path, fixtures: &[fixture::Fixture]) -> Result<(), Failure> {
    let written = File::create(path).and_then(|file| fixture::write(fixtures, file));
    written.map_err(|error| Failure::local("oracle", format!("cannot write {}", path.display()), error))
}

/// What is said on stderr while it runs: mismatches as they are found, and how far it is where somebody looks.
struct Screen {
    segments: u64,
    described: usize,
    begun: Instant,
    is_terminal: bool,
}

impl Screen {
    fn new() -> Screen {
        Screen {
            segments: 0,
            described: 0,
            begun: Instant::now(),
            is_terminal: io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, report: &Report, end: impl std::fmt::Display) {
        self.segments += 1;
        let mut err = anstream::stderr().lock();
        // Nobody to tell when stderr is gone.
        let _ = self.describe(report, &mut err);
        if self.is_terminal {
            let total = report.total();
            let _ = write!(
                err,
                "\r{} segments, up to {end}: {} checked, {} mismatched, {} MiB of pages\x1b[K",
                self.segments,
                total.checked,
                total.mismatched,
                report.pages / 128,
            );
            let _ = err.flush();
        }
    }

    fn describe(&mut self, report: &Report, err: &mut impl Write) -> io::Result<()> {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        for mismatch in report.mismatches.iter().skip(self.described) {
            writeln!(err, "{clear}{mismatch}")?;
        }
        self.described = report.mismatches.len();
        Ok(())
    }

    fn finish(&mut self, report: &Report) {
        let mut err = anstream::stderr().lock();
        let _ = self.describe(report, &mut err);
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(
            err,
            "{clear}{} segments in {:.0?}; at most {} MiB of pages in memory, {} pages forgotten for want of room",
            self.segments,
            self.begun.elapsed(),
            report.most_pages / 128,
            report.evicted,
        );
    }
}
