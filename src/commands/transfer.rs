//! What push, pull and fetch share: arguments, and how their results look.

use std::io::{self, Write};

use neon_repo::api::{Request, Response, Transfer, Transferred};

use crate::failure::Failure;
use crate::session::Session;
use crate::ui::{size, style};

/// Which branch goes where.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Branch [default: HEAD's branch]
    #[arg(value_name = "BRANCH")]
    pub branch: Option<String>,
    /// Origin, and the branch there when it has another name; or an address, as 'neon clone' takes it: nothing is remembered of one that
    /// no origin has [default: where the branch went last]
    #[arg(value_name = "ORIGIN[:OTHER]|URI")]
    pub target: Option<String>,
    /// Say what would be moved, and move nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Carries a transfer out and prints what it did.
pub(super) fn run(
    session: &Session,
    transfer: &Transfer,
    request: fn(Transfer) -> Request,
) -> Result<(), Failure> {
    let inward = matches!(request(Transfer::default()), Request::Pull(_));
    let response = session.with_password(|password| {
        session.call(request(Transfer {
            password,
            ..transfer.clone()
        }))
    })?;
    let Response::Transferred(transferred) = response else {
        return Err(Failure::unexpected(&response));
    };
    for one in &transferred {
        session.ui.notes(&one.notes);
    }
    session.ui.show(&transferred, |transferred, out| {
        transferred.iter().try_for_each(|one| print(one, inward, out))
    })?;
    if transferred.iter().any(|one| one.outcome == neon_repo::REFUSED) {
        return Err(Failure::Reported);
    }
    Ok(())
}

/// Writes one line; `inward` when ours was moved to theirs.
fn print(one: &Transferred, inward: bool, out: &mut dyn Write) -> io::Result<()> {
    match &one.branch {
        Some(branch) if inward => write!(out, "{} -> {branch}: {}", one.remote, one.outcome)?,
        Some(branch) => write!(out, "{branch} -> {}: {}", one.remote, one.outcome)?,
        None => write!(out, "{}: {}", one.remote, one.outcome)?,
    }
    let new = one.new.short();
    match one.old {
        Some(old) if old != one.new => write!(
            out,
            ", {}{}..{new}{:#}",
            style::COMMIT,
            old.short(),
            style::COMMIT
        )?,
        _ => write!(out, ", {}{new}{:#}", style::COMMIT, style::COMMIT)?,
    }
    write!(out, " at {}", one.lsn)?;
    if one.objects > 0 {
        let (parts, would) = (
            if one.objects == 1 { "part" } else { "parts" },
            if one.dry_run { " to move" } else { "" },
        );
        write!(
            out,
            " ({} in {} {parts}{would})",
            size::bytes(one.bytes),
            one.objects
        )?;
    }
    if one.dry_run {
        write!(out, " [dry run]")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use neon_types::{CommitId, Lsn, ObjectId};

    use super::*;

    #[test]
    fn a_line_says_what_moved() {
        let id = |byte| CommitId(ObjectId::from_bytes([byte; 32]));
        let pushed = Transferred {
            branch: Some("main".to_owned()),
            remote: "cloud/main".to_owned(),
            outcome: "fast-forward".to_owned(),
            old: Some(id(0xAA)),
            new: id(0xBB),
            lsn: Lsn(0x16B_3748),
            bytes: 3 << 20,
            objects: 2,
            dry_run: false,
            notes: Vec::new(),
        };
        let line = |one: &Transferred, inward: bool| {
            let mut text = anstream::StripStream::new(Vec::new());
            print(one, inward, &mut text).expect("written to memory");
            String::from_utf8(text.into_inner()).expect("text")
        };
        assert_eq!(
            line(&pushed, false),
            "main -> cloud/main: fast-forward, aaaaaaaaaaaa..bbbbbbbbbbbb at 0/16B3748 (3.0 MiB in 2 parts)\n"
        );
        assert!(line(&pushed, true).starts_with("cloud/main -> main: fast-forward, "));
        let nothing = Transferred {
            branch: None,
            outcome: "up to date".to_owned(),
            old: Some(id(0xBB)),
            bytes: 0,
            objects: 0,
            dry_run: true,
            ..pushed
        };
        assert_eq!(
            line(&nothing, false),
            "cloud/main: up to date, bbbbbbbbbbbb at 0/16B3748 [dry run]\n"
        );
    }
}
