//! `neon dev oracle`

use std::io::{self, Write};
use std::path::PathBuf;

use neon_repo::oracle::{self, Options, Report, Sampler};

use crate::failure::Failure;
use crate::session::Session;

/// Check redo against the page images in WAL that was written with wal_consistency_checking
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of WAL segments
    #[arg(value_name = "WAL", value_hint = clap::ValueHint::DirPath)]
    pub wal: PathBuf,
    /// The cluster had neither data checksums nor wal_log_hints
    #[arg(long)]
    pub no_hints_logged: bool,
    /// Most pages to keep in memory, 8 KiB each
    #[arg(long, value_name = "N", default_value_t = Options::default().max_pages)]
    pub max_pages: usize,
}

/// Carries it out; mismatches are a failure.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let options = Options {
        hints_logged: !args.no_hints_logged,
        max_pages: args.max_pages,
        ..Options::default()
    };
    let wal = session.absolute(&args.wal)?;
    let report = oracle::run(&wal, options, &mut Sampler::new(0), &mut |_| {})
        .map_err(|error| Failure::local("oracle", format!("cannot check {}", wal.display()), error))?;
    print(&report, &mut anstream::stdout().lock())?;
    if report.total().mismatched == 0 {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}", report.to_markdown())?;
    for mismatch in &report.mismatches {
        writeln!(out, "{mismatch}")?;
    }
    Ok(())
}
