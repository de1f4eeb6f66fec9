//! Checks replay against the WAL of a stock server that ran with `wal_consistency_checking`.
//!
//! ```text
//! oracle WALDIR [--fixtures FILE] [--only MANAGER] [--per-shape N] [--rate] [--no-hints] [--max-pages N]
//! ```
//! Prints a table of what was checked; exits with 1 when a page came out wrong. `--fixtures` writes N (2) checked references
//! of each shape, of one resource manager with `--only`, to a file that the tests replay. `--rate` measures replay of up to N (200) references of each shape.
//! `--no-hints`: the cluster had neither data checksums nor `wal_log_hints`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use neon_postgres::wal::rmgr;
use neon_redo::oracle::fixture::{self, Fixture};
use neon_redo::oracle::{Options, Report, Sampler, Segments, run};

struct Args {
    dir: PathBuf,
    fixtures: Option<PathBuf>,
    only: Option<String>,
    per_shape: Option<usize>,
    rate: bool,
    options: Options,
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut args = Args {
        dir: PathBuf::new(),
        fixtures: None,
        only: None,
        per_shape: None,
        rate: false,
        options: Options::default(),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--fixtures" => args.fixtures = Some(value()?.into()),
            "--only" => args.only = Some(value()?),
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
    let report = run(
        Segments::open(&args.dir)?,
        args.options,
        &mut sampler,
        &mut |_, end| {
            segments += 1;
            if segments.is_multiple_of(64) {
                eprintln!("{segments} segments, up to {end}, {:.0?}", begun.elapsed());
            }
        },
    )?;
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
    let mut fixtures = sampler.into_fixtures();
    if let Some(only) = args.only {
        fixtures.retain(|fixture| rmgr::describe(&fixture.record).split('/').next() == Some(&only));
    }
    if let Some(path) = args.fixtures {
        fixture::write(&fixtures, File::create(&path)?)?;
        println!("{} references written to {}", fixtures.len(), path.display());
    }
    if args.rate {
        measure(&fixtures, &report)?;
    }
    Ok(if report.total().mismatched == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints replays per second of each kind of record, the copy of the base page included, and of each resource manager with
/// its kinds in the proportions of the log.
fn measure(fixtures: &[Fixture], report: &Report) -> Result<(), Box<dyn Error>> {
    let mut by_kind = BTreeMap::<String, Vec<&Fixture>>::new();
    for fixture in fixtures {
        by_kind
            .entry(rmgr::describe(&fixture.record))
            .or_default()
            .push(fixture);
    }
    let mut mixed = BTreeMap::<String, (f64, f64)>::new();
    for (kind, fixtures) in by_kind {
        let rounds = 50_000 / fixtures.len() + 1;
        let begun = Instant::now();
        for _ in 0..rounds {
            for fixture in &fixtures {
                std::hint::black_box(fixture.replay()?);
            }
        }
        let seconds = begun.elapsed().as_secs_f64() / (rounds * fixtures.len()) as f64;
        println!("{kind:30} {:>9.0} replays/s", 1.0 / seconds);
        let manager = kind.split('/').next().unwrap_or_default().to_owned();
        let checked = report.kinds.get(&kind).map_or(0, |counts| counts.checked) as f64;
        let (replays, total) = mixed.entry(manager).or_default();
        *replays += checked;
        *total += checked * seconds;
    }
    for (manager, (replays, seconds)) in mixed {
        println!(
            "{manager:30} {:>9.0} replays/s, as mixed in this log",
            replays / seconds
        );
    }
    Ok(())
}
