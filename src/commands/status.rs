//! `neon status`

use std::io::{self, Write};

use neon_repo::api::{EndpointStatus, Request, Status};

use super::{answer, branch};
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::table::{self, Cell};
use crate::ui::{size, style};

/// Show what runs, and where the branches are
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Carries it out.
pub fn run(_: Args, session: &mut Session) -> Result<(), Failure> {
    let status = answer!(session, Request::Status, Status);
    session.ui.show(&status, print)
}

fn print(status: &Status, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "repository {} (Postgres {}, id {}, {})",
        status.directory.display(),
        status.pg_version,
        status.repository.short(),
        size::bytes(status.size)
    )?;
    match status.daemon {
        Some(pid) => writeln!(out, "daemon     process {pid}")?,
        None => writeln!(out, "daemon     not running")?,
    }
    let head = status.branches.iter().find(|branch| branch.head);
    match head {
        Some(branch) => {
            let upstream = branch.upstream.as_deref().map(|upstream| {
                let tracking = branch.tracking.as_deref().unwrap_or("not fetched yet");
                match tracking {
                    "ahead" => format!(", ahead of {upstream}"),
                    "diverged" => format!(", diverged from {upstream}"),
                    "equal" => format!(", equal to {upstream}"),
                    "behind" => format!(", behind {upstream}"),
                    other => format!(", {other}: {upstream}"),
                }
            });
            writeln!(
                out,
                "HEAD       {} at {} ({}){}",
                status.head,
                branch.lsn,
                branch.commit.short(),
                upstream.unwrap_or_default()
            )?;
        }
        None => writeln!(out, "HEAD       {}, which has no history yet", status.head)?,
    }
    for kept in &status.aside {
        writeln!(
            out,
            "aside      {} (a data directory that was put away; remove it when you do not need it)",
            kept.display()
        )?;
    }
    branch::print_damage(&status.branches, out)?;
    if status.endpoints.is_empty() {
        return writeln!(out, "no endpoints");
    }
    writeln!(out)?;
    let rows: Vec<Vec<Cell>> = status.endpoints.iter().map(row).collect();
    table::write(
        out,
        &["ENDPOINT", "STATE", "PORT", "PROCESS", "ACCESS", "RECEIVED"],
        &rows,
    )?;
    for endpoint in &status.endpoints {
        if let Some(trouble) = &endpoint.trouble {
            writeln!(out, "\n{}: {trouble}", endpoint.name)?;
        }
    }
    Ok(())
}

fn row(endpoint: &EndpointStatus) -> Vec<Cell> {
    vec![
        endpoint.name.as_str().into(),
        state(&endpoint.state),
        match endpoint.port {
            0 => Cell::default(),
            port => port.to_string().into(),
        },
        endpoint.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
        if endpoint.read_only {
            "read-only"
        } else {
            "read-write"
        }
        .into(),
        endpoint
            .received
            .map(|lsn| lsn.to_string())
            .unwrap_or_default()
            .into(),
    ]
}

/// Returns the state of an endpoint in its color.
pub(super) fn state(state: &str) -> Cell {
    match state {
        "running" => Cell::styled(state, style::GOOD),
        "crashed" | "damaged" => Cell::styled(state, style::BAD),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use neon_types::{Lsn, RepoId};

    use super::*;
    use crate::commands::branch::tests::branch;

    #[test]
    fn the_repository_at_a_glance() {
        let status = Status {
            directory: "/srv/shop".into(),
            repository: RepoId([0x5A; 16]),
            head: "main".to_owned(),
            pg_version: 17,
            daemon: Some(4711),
            endpoints: vec![EndpointStatus {
                name: "main".to_owned(),
                state: "running".to_owned(),
                port: 55432,
                pid: Some(4712),
                read_only: false,
                received: Some(Lsn(0x16B_3748)),
                trouble: Some(
                    "its WAL is not received: cannot write 000000010000000000000002: No space left on device"
                        .to_owned(),
                ),
            }],
            branches: vec![neon_repo::api::Branch {
                head: true,
                upstream: Some("cloud/main".to_owned()),
                tracking: Some("ahead".to_owned()),
                ..branch("main")
            }],
            aside: Vec::new(),
            size: 48 << 20,
        };
        let mut text = anstream::StripStream::new(Vec::new());
        print(&status, &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            "repository /srv/shop (Postgres 17, id 5a5a5a5a, 48.0 MiB)\n\
             daemon     process 4711\n\
             HEAD       main at 0/16B3748 (111111111111), ahead of cloud/main\n\
             \n\
             ENDPOINT  STATE    PORT   PROCESS  ACCESS      RECEIVED\n\
             main      running  55432  4712     read-write  0/16B3748\n\
             \n\
             main: its WAL is not received: cannot write 000000010000000000000002: No space left on device\n"
        );
    }
}
