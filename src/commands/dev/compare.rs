//! `neon dev compare`

use std::io::{self, Write};
use std::path::PathBuf;

use neon_repo::api::{Compared, Request, Tally};

use crate::commands::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::table;

/// Compare every file of a data directory with a revision
///
/// The directory is that of a server that stopped at the very position, or of a stock recovery to it (recovery_target_lsn, not
/// inclusive, promoted and stopped). Exit status 1 at any difference; docs/file-oracle.md says what may differ.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Revision
    #[arg(value_name = "REV")]
    pub rev: String,
    /// Data directory
    #[arg(value_name = "PGDATA", value_hint = clap::ValueHint::DirPath)]
    pub pgdata: PathBuf,
}

/// Carries it out; differences are a failure.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let pgdata = session.absolute(&args.pgdata)?;
    let compared = answer!(
        session,
        Request::Compare {
            rev: args.rev,
            pgdata
        },
        Compared
    );
    session.ui.notes(&compared.notes);
    session.ui.show(&compared, print)?;
    if compared.total.differences == 0 && compared.not_replayed == 0 {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn print(compared: &Compared, out: &mut dyn Write) -> io::Result<()> {
    let row = |name: &str, tally: &Tally| {
        vec![
            name.into(),
            tally.files.to_string().into(),
            tally.pages.to_string().into(),
            tally.differences.to_string().into(),
        ]
    };
    let mut rows: Vec<Vec<table::Cell>> = compared
        .classes
        .iter()
        .map(|class| row(&class.name, &class.tally))
        .collect();
    rows.push(row("total", &compared.total));
    for difference in &compared.differences {
        writeln!(out, "{difference}")?;
    }
    let left = compared.total.differences - compared.differences.len() as u64;
    if left > 0 {
        writeln!(out, "and {left} more")?;
    }
    for (count, what) in [
        (
            compared.allowed.unlogged_blocks,
            "empty blocks were added without WAL",
        ),
        (
            compared.allowed.maps_behind,
            "map pages of copied databases have bits that are not in the WAL",
        ),
        (
            compared.allowed.lsns_behind,
            "all-visible pages have another LSN, which Postgres did not write",
        ),
        (compared.allowed.sequences_ahead, "sequences are ahead in the WAL"),
        (
            compared.not_replayed,
            "pages need a record that this release cannot replay",
        ),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    table::write(out, &["class", "files", "pages", "differences"], &rows)
}

#[cfg(test)]
mod tests {
    use neon_repo::api::{Allowed, ComparedClass, Difference};
    use neon_types::Lsn;

    use super::*;

    #[test]
    fn the_last_line_is_the_sum() {
        let tally = Tally {
            files: 0,
            pages: 12,
            differences: 1,
        };
        let compared = Compared {
            pgdata: "/data".into(),
            lsn: Lsn(0x100),
            recovered: true,
            classes: vec![ComparedClass {
                name: "heap".to_owned(),
                tally,
            }],
            total: tally,
            differences: vec![Difference {
                place: "1663/5/16384".to_owned(),
                block: Some(3),
                offset: Some(8160),
                ours: "00ff".to_owned(),
                theirs: "01ff".to_owned(),
            }],
            allowed: Allowed {
                unlogged_blocks: 2,
                ..Allowed::default()
            },
            not_replayed: 0,
            notes: Vec::new(),
        };
        let mut text = anstream::StripStream::new(Vec::new());
        print(&compared, &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            "1663/5/16384 block 3 byte 8160: 00ff, in the directory 01ff\n\
             2 empty blocks were added without WAL\n\
             class  files  pages  differences\n\
             heap   0      12     1\n\
             total  0      12     1\n"
        );
    }
}
