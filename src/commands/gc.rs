//! `neon gc`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use neon_repo::api::{Collected, Garbage, Gc, Request};
use neon_repo::span;

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::size;

/// Delete what no branch, tag, fetched branch or endpoint leads to
///
/// What is garbage is condemned first, and deleted by a later run when it has been garbage for the grace: gc.grace, 24h unless
/// configured. Commits that a branch or tag which still exists named in the last gc.reflog (90d) stay; those of a deleted branch do
/// not. So this gives back the disk of a deleted branch at once:
///
///   neon branch -D try && neon gc --grace 0s
///
/// History that is older than 'neon retention' says is dropped first, so that its layers become garbage.
///
/// A running daemon does this once an hour (gc.interval), unless gc.auto is off. Reads, running endpoints, push and pull go on meanwhile, and nothing
/// that they use is deleted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// How long garbage is kept after it was found, as 0s, 12h or 7d [default: gc.grace]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub grace: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    span::parse_duration(text)
        .ok_or_else(|| "expected a length of time, as 0s, 15m, 36h, 7d or 2w".to_owned())
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let request = Request::Gc(Gc {
        dry_run: args.dry_run,
        grace_seconds: args.grace.map(|grace| grace.as_secs()),
    });
    let collected = answer!(session, request, Collected);
    session.ui.notes(collected.suspended.as_slice());
    session.ui.show(&collected, print)
}

fn print(collected: &Collected, out: &mut dyn Write) -> io::Result<()> {
    let (condemned, deleted) = match collected.dry_run {
        true => ("would condemn", "would delete"),
        false => ("condemned", "deleted"),
    };
    let waits: Vec<Garbage> = collected.waiting.clone();
    if !collected.dropped.is_empty() {
        let layers: u64 = collected.dropped.iter().map(|dropped| dropped.layers).sum();
        let bytes = collected.dropped.iter().map(|dropped| dropped.bytes).sum();
        let dropped = if collected.dry_run {
            "would drop"
        } else {
            "dropped"
        };
        let noun = if layers == 1 { "layer" } else { "layers" };
        writeln!(out, "{dropped} history: {layers} {noun} ({})", size::bytes(bytes))?;
        let shrunk: u64 = collected.dropped.iter().map(|dropped| dropped.shrunk).sum();
        let left: u64 = collected.dropped.iter().map(|dropped| dropped.left).sum();
        match (shrunk, collected.dry_run) {
            (0, _) => {}
            (_, true) => writeln!(out, "would write the rest of {} anew", size::bytes(shrunk))?,
            (_, false) => writeln!(out, "wrote {} anew as {}", size::bytes(shrunk), size::bytes(left))?,
        }
    }
    if collected.deleted.is_empty() && collected.waiting.is_empty() {
        return writeln!(out, "there is no garbage");
    }
    if !collected.condemned.is_empty() {
        writeln!(out, "{condemned} {}", summary(&collected.condemned))?;
    }
    if !collected.deleted.is_empty() {
        writeln!(out, "{deleted} {}", summary(&collected.deleted))?;
    }
    if !waits.is_empty() {
        let grace = span::duration_text(Duration::from_secs(collected.grace_seconds));
        writeln!(
            out,
            "{} {} until {grace} after it was condemned",
            summary(&waits),
            wait(waits.len())
        )?;
    }
    if collected.interrupted {
        writeln!(out, "interrupted: the next run goes on")?;
    }
    Ok(())
}

fn wait(count: usize) -> &'static str {
    if count == 1 { "waits" } else { "wait" }
}

/// Returns counts by kind, and bytes: `2 commits, 1 timeline, 12 layers (34.0 MiB)`.
fn summary(garbage: &[Garbage]) -> String {
    const KINDS: [(&str, &str); 6] = [
        ("commit", "commits"),
        ("timeline", "timelines"),
        ("layer", "layers"),
        ("map", "layer maps"),
        ("incoming", "unfinished parts"),
        ("object", "other objects"),
    ];
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in garbage {
        *counts.entry(one.kind.as_str()).or_default() += 1;
    }
    let named = KINDS.iter().filter_map(|(kind, plural)| match counts.get(kind)? {
        1 => Some(format!("1 {}", plural.trim_end_matches('s'))),
        count => Some(format!("{count} {plural}")),
    });
    let bytes = garbage.iter().map(|one| one.bytes).sum();
    format!(
        "{} ({})",
        named.collect::<Vec<_>>().join(", "),
        size::bytes(bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn garbage(kind: &str, bytes: u64) -> Garbage {
        Garbage {
            kind: kind.to_owned(),
            id: "ab".repeat(32),
            bytes,
            since: "2026-01-01T12:00:00Z".to_owned(),
        }
    }

    fn printed(collected: &Collected) -> String {
        let mut text = anstream::StripStream::new(Vec::new());
        print(collected, &mut text).expect("written to memory");
        String::from_utf8(text.into_inner()).expect("text")
    }

    #[test]
    fn kinds_are_counted_and_phases_told_apart() {
        let collected = Collected {
            grace_seconds: 86_400,
            condemned: vec![garbage("timeline", 512)],
            deleted: vec![
                garbage("layer", 3 << 20),
                garbage("layer", 1 << 20),
                garbage("map", 0),
                garbage("commit", 0),
            ],
            waiting: vec![garbage("timeline", 512)],
            ..Collected::default()
        };
        assert_eq!(
            printed(&collected),
            "condemned 1 timeline (512 B)\n\
             deleted 1 commit, 2 layers, 1 layer map (4.0 MiB)\n\
             1 timeline (512 B) waits until 1d after it was condemned\n"
        );
        let planned = Collected {
            dry_run: true,
            ..collected
        };
        assert!(printed(&planned).starts_with("would condemn 1 timeline (512 B)\nwould delete 1 commit"));
        assert_eq!(printed(&Collected::default()), "there is no garbage\n");
    }
}
