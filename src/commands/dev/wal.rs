//! `neon dev wal`

use std::io::{self, Write};
use std::path::Path;

use neon_repo::api::{Request, WalRecord};
use neon_repo::wal;

use crate::commands::answer;
use crate::failure::Failure;
use crate::session::Session;

/// Print WAL record by record
///
/// One line each: where it begins, its length, its transaction, where the record before begins, its kind, the blocks that it names, and what
/// else it says. With --json one object a line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Two revisions, or a directory of WAL segments
    #[arg(value_name = "FROM..TO|DIR")]
    pub what: String,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    let json = session.ui.is_json();
    if args.what.contains("..") && !Path::new(&args.what).is_dir() {
        let mut after = None;
        loop {
            let request = Request::Wal {
                range: args.what.clone(),
                after,
            };
            let page = answer!(session, request, Wal);
            if after.is_none() {
                session.ui.notes(&page.notes);
            }
            for record in &page.records {
                print(record, json, &mut out)?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    } else {
        let directory = session.absolute(Path::new(&args.what))?;
        let mut written = Ok(());
        wal::of_segments(&directory, &mut |record| {
            written = print(&record, json, &mut out);
            written.is_ok()
        })
        .map_err(neon_repo::api::ApiError::from)?;
        written?;
    }
    out.flush()?;
    Ok(())
}

fn print(record: &WalRecord, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, record).map_err(io::Error::from)?;
        return writeln!(out);
    }
    write!(
        out,
        "{} {} xid {} prev {} {}",
        record.lsn, record.length, record.xid, record.prev, record.kind
    )?;
    for block in &record.blocks {
        write!(
            out,
            " #{} {}/{}/{} {} {}",
            block.id, block.tablespace, block.database, block.relation, block.fork, block.block
        )?;
        if let Some(image) = &block.image {
            write!(
                out,
                " {}(hole {}+{}{})",
                if image.apply { "FPW" } else { "image" },
                image.hole_offset,
                image.hole_length,
                match &image.compression {
                    Some(method) => format!(", {method}"),
                    None => String::new(),
                }
            )?;
        }
    }
    if !record.summary.is_empty() {
        write!(out, " [{}]", record.summary)?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use neon_repo::api::{WalBlock, WalImage};
    use neon_types::Lsn;

    use super::*;

    #[test]
    fn a_record_is_a_line() {
        let block = WalBlock {
            id: 0,
            tablespace: 1663,
            database: 5,
            relation: 16384,
            fork: "main".to_owned(),
            block: 7,
            image: Some(WalImage {
                apply: true,
                hole_offset: 196,
                hole_length: 4400,
                compression: Some("lz4".to_owned()),
            }),
        };
        let record = WalRecord {
            lsn: Lsn(0x100),
            end: Lsn(0x200),
            length: 250,
            xid: 700,
            prev: Lsn(0x80),
            kind: "Heap/INSERT".to_owned(),
            blocks: vec![
                block.clone(),
                WalBlock {
                    id: 1,
                    fork: "vm".to_owned(),
                    image: None,
                    ..block
                },
            ],
            summary: "3, flags 0x01".to_owned(),
        };
        let mut text = Vec::new();
        print(&record, false, &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text).expect("text"),
            "0/100 250 xid 700 prev 0/80 Heap/INSERT #0 1663/5/16384 main 7 FPW(hole 196+4400, lz4) #1 1663/5/16384 vm 7 [3, flags 0x01]\n"
        );
    }
}
