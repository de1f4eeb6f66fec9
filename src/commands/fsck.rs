//! `neon fsck`

use std::io::{self, Write};

use neon_repo::api::{Checked, Request};

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::{size, style};

/// Check the whole repository
///
/// Hashes every object again, and follows every ref, commit and layer map. Exit status 1 when something is wrong.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Carries it out.
pub fn run(_: Args, session: &mut Session) -> Result<(), Failure> {
    let checked = answer!(session, Request::Fsck, Checked);
    session.ui.show(&checked, print)?;
    if checked.findings.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn print(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    for finding in &checked.findings {
        write!(out, "{}bad:{:#} ", style::BAD, style::BAD)?;
        if let Some(object) = finding.object {
            write!(out, "object {object}: ")?;
        }
        writeln!(out, "{}", finding.message)?;
    }
    writeln!(
        out,
        "checked {} objects ({}), {} refs, {} commits, {} layer maps: {}",
        checked.objects,
        size::bytes(checked.bytes),
        checked.refs,
        checked.commits,
        checked.layer_maps,
        match checked.findings.len() {
            0 => "all is well".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            wrong => format!("{wrong} things are wrong"),
        }
    )
}

#[cfg(test)]
mod tests {
    use neon_repo::api::Finding;
    use neon_types::ObjectId;

    use super::*;

    #[test]
    fn findings_come_before_the_sum() {
        let checked = Checked {
            objects: 12,
            bytes: 5 << 20,
            refs: 2,
            commits: 3,
            layer_maps: 1,
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
                "bad: object {}: its bytes hash to something else\n\
                 checked 12 objects (5.0 MiB), 2 refs, 3 commits, 1 layer maps: 1 thing is wrong\n",
                "ab".repeat(32)
            )
        );
    }
}
