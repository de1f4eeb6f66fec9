//! Checks replay against the WAL of a stock server that ran with `wal_consistency_checking`.
//!
//! ```text
//! oracle WALDIR [--fixtures FILE] [--per-shape N] [--rate] [--no-hints] [--max-pages N]
//! ```
//! Prints a table of what was checked; exits with 1 when a page came out wrong. `--fixtures` writes N (2) checked references
//! of each shape to a file that the tests replay. `--rate` measures replay of up to N (200) references of each shape.
//! `--no-hints`: the cluster had neither data checksums nor `wal_log_hints`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use neon_postgres::wal::rmgr;
use neon_redo::oracle::fixture::{self, Fixture};
use neon_redo::oracle::{Options, Sampler, run};

struct Args {
    dir: PathBuf,
    fixtures: Option<PathBuf>,
    per_shape: Option<usize>,
    rate: bool,
    options: Options,
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut args = Args {
        dir: PathBuf::new(),
        fixtures: None,
        per_shape: None,
        rate: false,
        options: Options::default(),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--fixtures" => args.fixtures = Some(value()?.into()),
            "--per-shape" => args.per_shape = Some(value()?.parse()?),
            "--max-pages" => args.options.max_pages = value()?.parse()?,
            "--rate" => args.rate = true,
            "--no-hints" => args.options.hints_logged = false,
            _ => args.dir = word.into(),
        }
    }
    if args.dir.as_os_str().is_empty() {
        return Err("which directory of WAL segments?".into());
    }
    Ok(args)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = parse()?;
    let default = if args.rate { 200 } else { 2 };
    let wanted = if args.rate || args.fixtures.is_some() {
        args.per_shape.unwrap_or(default)
    } else {
        0
    };
    let mut sampler = Sampler::new(wanted);
    let begun = Instant::now();
    let mut segments = 0u64;
    let report = run(&args.dir, args.options, &mut sampler, &mut |end| {
        segments += 1;
        if segments.is_multiple_of(64) {
            eprintln!("{segments} segments, up to {end}, {:.0?}", begun.elapsed());
        }
    })?;
    for mismatch in &report.mismatches {
        eprintln!("{mismatch}");
    }
    println!("PostgreSQL {}, {segments} segments\n", report.version);
    println!("{}", report.to_markdown());
    println!(
        "{} pages forgotten for want of room, {:.1?}",
        report.evicted,
        begun.elapsed()
    );
    let fixtures = sampler.into_fixtures();
    if let Some(path) = args.fixtures {
        fixture::write(&fixtures, File::create(&path)?)?;
        println!("{} references written to {}", fixtures.len(), path.display());
    }
    if args.rate {
        measure(&fixtures)?;
    }
    Ok(if report.total().mismatched == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints replays per second of each resource manager, base pages being copied included.
fn measure(fixtures: &[Fixture]) -> Result<(), Box<dyn Error>> {
    let mut by_rmgr = BTreeMap::<u8, Vec<&Fixture>>::new();
    for fixture in fixtures {
        by_rmgr.entry(fixture.record.rmid).or_default().push(fixture);
    }
    for (rmid, fixtures) in by_rmgr {
        let rounds = 200_000 / fixtures.len() + 1;
        let begun = Instant::now();
        for _ in 0..rounds {
            for fixture in &fixtures {
                std::hint::black_box(fixture.replay()?);
            }
        }
        let replays = (rounds * fixtures.len()) as f64;
        println!(
            "{:10} {:>9.0} replays/s",
            rmgr::name(rmid),
            replays / begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
