//! `neon fsck`

use std::io::{self, Write};

use neon_repo::api::{Checked, FromOrigins, Fsck, Rederived, Request, Response, SkippedHistory};
use neon_types::counted;

use crate::failure::Failure;
use crate::session::Session;
use crate::ui::{size, style};

/// Check the whole repository
///
/// Hashes every object again, reads every layer, and follows every ref, commit and layer map. Exit status 1 when something is wrong. With
/// --deep the layers are derived again from the WAL that is still kept, and compared, version by version. With --boot a throw-away Postgres is
/// started at the head of each branch as well, and amcheck goes through its tables and indexes. A database is a program: functions that it
/// brought along, in expressions of indexes and in orders of its own, are called only with --functions.
///
/// With --repair the origins are asked, one after the other, for each object that is damaged or missing; what comes is verified before it replaces
/// anything, and every repair is listed. What is listed as bad was not repaired. The password comes from the origin's URI, PGPASSWORD or ~/.pgpass.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask Postgres too, branch by branch
    #[arg(long)]
    pub boot: bool,
    /// Call functions of the databases where a check takes that
    #[arg(long, requires = "boot")]
    pub functions: bool,
    /// Derive layers again from the WAL that is kept, and compare
    #[arg(long)]
    pub deep: bool,
    /// Replace what is damaged or missing by what origins have
    #[arg(long)]
    pub repair: bool,
    /// Ask this origin alone
    #[arg(long, value_name = "NAME", requires = "repair")]
    pub origin: Option<String>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let response = session.with_password(|password| {
        let from = FromOrigins {
            origin: args.origin.clone(),
            password,
        };
        session.call(Request::Fsck(Fsck {
            boot: args.boot,
            functions: args.functions,
            deep: args.deep,
            repair: args.repair.then_some(from),
        }))
    })?;
    let Response::Checked(checked) = response else {
        return Err(Failure::unexpected(&response));
    };
    if let Some(repair) = &checked.repair {
        session.ui.notes(&repair.notes);
    }
    for booted in &checked.booted {
        session.ui.notes(&booted.notes);
    }
    session.ui.show(&checked, print)?;
    if checked.findings.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn print(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let repair = checked.repair.as_ref();
    for repaired in repair.iter().flat_map(|repair| &repair.repaired) {
        writeln!(
            out,
            "repaired: object {} from origin '{}' ({})",
            repaired.object,
            repaired.origin,
            size::bytes(repaired.bytes)
        )?;
    }
    for left in repair.iter().flat_map(|repair| &repair.left) {
        writeln!(out, "not repaired: object {left}: no origin has it")?;
    }
    for finding in &checked.findings {
        write!(out, "{}bad:{:#} ", style::BAD, style::BAD)?;
        if let Some(object) = finding.object {
            write!(out, "object {object}: ")?;
        }
        writeln!(out, "{}", finding.message)?;
    }
    if let Some(rederived) = &checked.rederived {
        print_rederived(rederived, out)?;
    }
    for booted in checked.booted.iter().filter(|booted| booted.relations > 0) {
        writeln!(
            out,
            "amcheck of {} at {}: {} tables and indexes",
            booted.branch, booted.lsn, booted.relations
        )?;
    }
    writeln!(
        out,
        "checked {} ({}), {}, {}, {}: {}",
        counted(checked.objects, "object"),
        size::bytes(checked.bytes),
        counted(checked.refs, "ref"),
        counted(checked.commits, "commit"),
        counted(checked.layer_maps, "layer map"),
        match checked.findings.len() {
            0 => "all is well".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            wrong => format!("{wrong} things are wrong"),
        }
    )
}

fn print_rederived(rederived: &Rederived, out: &mut dyn Write) -> io::Result<()> {
    for skipped in &rederived.skipped {
        let SkippedHistory {
            timeline, from, to, ..
        } = skipped;
        let timeline = timeline.short();
        writeln!(
            out,
            "not derived again: timeline {timeline} from {from} to {to}: {}",
            skipped.reason
        )?;
    }
    writeln!(
        out,
        "derived {} of WAL again: compared {} versions, and {} values of image layers",
        size::bytes(rederived.wal_bytes),
        rederived.versions,
        rederived.images
    )
}

#[cfg(test)]
mod tests {
    use neon_repo::api::{Booted, Finding, Repair, Repaired};
    use neon_types::{Lsn, ObjectId, TimelineId};

    use super::*;

    #[test]
    fn findings_come_before_the_sum() {
        let checked = Checked {
            objects: 12,
            bytes: 5 << 20,
            refs: 2,
            commits: 3,
            layer_maps: 1,
            repair: Some(Repair {
                repaired: vec![Repaired {
                    object: ObjectId::from_bytes([0xCD; 32]),
                    origin: "cloud".to_owned(),
                    bytes: 2048,
                }],
                left: vec![ObjectId::from_bytes([0xAB; 32])],
                notes: Vec::new(),
            }),
            rederived: Some(Rederived {
                wal_bytes: 3 << 20,
                versions: 4000,
                images: 17,
                skipped: vec![SkippedHistory {
                    timeline: TimelineId([0x3F; 16]),
                    from: Lsn(0x100_0000),
                    to: Lsn(0x120_0000),
                    reason: "no WAL is kept".to_owned(),
                }],
            }),
            booted: vec![Booted {
                branch: "main".to_owned(),
                lsn: Lsn(0x16B_3748),
                relations: 300,
                notes: Vec::new(),
            }],
            findings: vec![Finding {
                object: Some(ObjectId::from_bytes([0xAB; 32])),
                message: "its bytes hash to something else".to_owned(),
            }],
        };
        let mut text = anstream::StripStream::new(Vec::new());
        print(&checked, &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            format!(
                "repaired: object {} from origin 'cloud' (2.0 KiB)\n\
                 not repaired: object {}: no origin has it\n\
                 bad: object {}: its bytes hash to something else\n\
                 not derived again: timeline 3f3f3f3f from 0/1000000 to 0/1200000: no WAL is kept\n\
                 derived 3.0 MiB of WAL again: compared 4000 versions, and 17 values of image layers\n\
                 amcheck of main at 0/16B3748: 300 tables and indexes\n\
                 checked 12 objects (5.0 MiB), 2 refs, 3 commits, 1 layer map: 1 thing is wrong\n",
                "cd".repeat(32),
                "ab".repeat(32),
                "ab".repeat(32)
            )
        );
    }
}
