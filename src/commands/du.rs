//! `neon du`

use std::io::{self, Write};

use neon_repo::api::{RelationUsage, Request, RevisionUsage, Usage};

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::size::bytes;
use crate::ui::style;
use crate::ui::table::{self, Cell};

/// How many relations are listed unless all are asked for.
const SOME: usize = 20;

/// Show what branches cost on disk, or what a revision's bytes are for
///
/// Without a revision: for each branch, tag and fetched branch the layers and WAL that nothing else here needs, and those that it shares. With
/// one: the layers that it is read from, by database and relation; names are those at the revision. A relation's history stays after it was
/// dropped.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Revision
    #[arg(value_name = "REV")]
    pub rev: Option<String>,
    /// List every relation, not only the largest
    #[arg(short, long, requires = "rev")]
    pub all: bool,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    match args.rev {
        None => {
            let usage = answer!(session, Request::Usage, Usage);
            session.ui.show(&usage, print_refs)
        }
        Some(rev) => {
            let usage = answer!(session, Request::UsageOf { rev }, UsageOf);
            session.ui.notes(&usage.notes);
            let most = if args.all { usize::MAX } else { SOME };
            session
                .ui
                .show(&usage, |usage, out| print_revision(usage, most, out))
        }
    }
}

fn print_refs(usage: &Usage, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<Cell>> = usage
        .refs
        .iter()
        .map(|of| {
            vec![
                of.name.as_str().into(),
                bytes(of.alone).into(),
                bytes(of.shared).into(),
                bytes(of.wal).into(),
                some(of.endpoint),
                if of.damaged { "damaged" } else { "" }.into(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        table::write(out, &["REF", "ALONE", "SHARED", "INCL. WAL", "ENDPOINT"], &rows)?;
        writeln!(out)?;
    }
    writeln!(
        out,
        "in all: objects {}, WAL {}, endpoints {}",
        bytes(usage.objects),
        bytes(usage.timelines),
        bytes(usage.endpoints)
    )
}

fn some(size: u64) -> Cell {
    match size {
        0 => Cell::default(),
        size => bytes(size).into(),
    }
}

fn print_revision(usage: &RevisionUsage, most: usize, out: &mut dyn Write) -> io::Result<()> {
    let database = |oid: u32| {
        let known = usage.databases.iter().find(|database| database.oid == oid);
        match (oid, known.and_then(|database| database.name.clone())) {
            (0, _) => "(shared)".to_owned(),
            (_, Some(name)) => name,
            (oid, None) => format!("({oid})"),
        }
    };
    let mut databases: Vec<_> = usage.databases.iter().collect();
    databases.sort_by_key(|database| std::cmp::Reverse(database.stored));
    let mut rows: Vec<Vec<Cell>> = databases
        .iter()
        .map(|of| {
            vec![
                database(of.oid).into(),
                bytes(of.size).into(),
                bytes(of.stored).into(),
            ]
        })
        .collect();
    rows.push(vec![
        Cell::styled("(other)", style::DIM),
        Cell::default(),
        bytes(usage.other).into(),
    ]);
    if usage.unsealed > 0 {
        rows.push(vec![
            Cell::styled("(WAL, not in layers yet)", style::DIM),
            Cell::default(),
            bytes(usage.unsealed).into(),
        ]);
    }
    table::write(out, &["DATABASE", "SIZE", "STORED"], &rows)?;
    writeln!(out)?;
    let mut relations: Vec<&RelationUsage> = usage.relations.iter().collect();
    relations.sort_by_key(|of| (std::cmp::Reverse(of.stored), of.database, of.file));
    let rows: Vec<Vec<Cell>> = relations
        .iter()
        .take(most)
        .map(|of| {
            vec![
                database(of.database).into(),
                relation(of),
                if of.dropped {
                    Cell::default()
                } else {
                    bytes(of.size).into()
                },
                bytes(of.stored).into(),
            ]
        })
        .collect();
    table::write(out, &["DATABASE", "RELATION", "SIZE", "STORED"], &rows)?;
    match relations.get(most..) {
        Some(more) if !more.is_empty() => writeln!(
            out,
            "{} more with {}: --all",
            more.len(),
            bytes(more.iter().map(|of| of.stored).sum())
        ),
        _ => Ok(()),
    }
}

fn relation(of: &RelationUsage) -> Cell {
    match (&of.schema, &of.name) {
        (Some(schema), Some(name)) => format!("{schema}.{name}").into(),
        _ if of.dropped => Cell::styled(format!("{} (dropped)", of.file), style::DIM),
        _ => of.file.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use neon_repo::api::{DatabaseUsage, RefUsage};
    use neon_types::Lsn;

    use super::*;

    fn text(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut text = anstream::StripStream::new(Vec::new());
        print(&mut text).expect("written to memory");
        String::from_utf8(text.into_inner()).expect("text")
    }

    #[test]
    fn refs_say_what_they_cost_alone() {
        let of = |name: &str, alone, endpoint| RefUsage {
            name: name.to_owned(),
            alone,
            shared: 80 << 20,
            wal: 1 << 20,
            endpoint,
            damaged: false,
        };
        let usage = Usage {
            refs: vec![of("main", 3 << 20, 90 << 20), of("tags/v1", 0, 0)],
            objects: 100 << 20,
            timelines: 16 << 20,
            endpoints: 90 << 20,
        };
        assert_eq!(
            text(|out| print_refs(&usage, out)),
            "REF      ALONE    SHARED    INCL. WAL  ENDPOINT\n\
             main     3.0 MiB  80.0 MiB  1.0 MiB    90.0 MiB\n\
             tags/v1  0 B      80.0 MiB  1.0 MiB\n\n\
             in all: objects 100.0 MiB, WAL 16.0 MiB, endpoints 90.0 MiB\n"
        );
    }

    #[test]
    fn the_largest_relations_come_first() {
        let relation = |file, name: Option<&str>, stored| RelationUsage {
            database: 5,
            tablespace: 1663,
            file,
            schema: name.map(|_| "public".to_owned()),
            name: name.map(str::to_owned),
            dropped: name.is_none(),
            size: 8192,
            stored,
        };
        let usage = RevisionUsage {
            lsn: Lsn(1),
            databases: vec![DatabaseUsage {
                oid: 5,
                name: Some("postgres".to_owned()),
                size: 16384,
                stored: 6144,
            }],
            relations: vec![
                relation(16384, Some("small"), 1024),
                relation(16390, None, 2048),
                relation(16400, Some("large"), 3072),
            ],
            other: 512,
            unsealed: 0,
            notes: Vec::new(),
        };
        assert_eq!(
            text(|out| print_revision(&usage, 2, out)),
            "DATABASE  SIZE      STORED\n\
             postgres  16.0 KiB  6.0 KiB\n\
             (other)             512 B\n\n\
             DATABASE  RELATION         SIZE     STORED\n\
             postgres  public.large     8.0 KiB  3.0 KiB\n\
             postgres  16390 (dropped)           2.0 KiB\n\
             1 more with 1.0 KiB: --all\n"
        );
    }
}
