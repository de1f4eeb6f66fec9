//! `neon clone`

use std::path::{Path, PathBuf};

use neon_repo::api::Clone;
use neon_server::client;

use crate::failure::Failure;
use crate::root;
use crate::session::Session;

/// Copy a repository
///
/// The copy knows its source as origin `origin`; push, pull and fetch go there by default. A clone that was cut goes on when it is
/// run again. Another directory that is not empty is refused.
///
/// A database is a program. Cloning runs nothing of it, but whoever starts it and connects runs what its maker put in: functions, triggers,
/// settings of roles, as the user who started it. Clone only what you would run.
///
/// The password comes from the URI, PGPASSWORD or ~/.pgpass; else it is asked for on a terminal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository: postgresql://USER@HOST:PORT/REPOSITORY, or the path of one on this machine
    #[arg(value_name = "URI", value_hint = clap::ValueHint::Url)]
    pub uri: String,
    /// Directory that gets the copy [default: the last part of the URI]
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
    /// Bring this branch and make it HEAD [default: the source's HEAD]
    #[arg(long, value_name = "B")]
    pub branch: Option<String>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    root::refuse("clone")?;
    let directory = match args.directory {
        Some(directory) => directory,
        None => directory_of(&args.uri).ok_or_else(|| {
            Failure::usage(
                "the address does not say what to call the directory",
                "name one: neon clone URI DIR",
            )
        })?,
    };
    let request = Clone {
        uri: args.uri,
        directory: session.absolute(&directory)?,
        branch: args.branch,
        password: None,
    };
    let made = session.with_password(|password| {
        let request = Clone {
            password,
            ..request.clone()
        };
        Ok(client::clone(&session.context, request, &mut session.progress())?)
    })?;
    session.ui.notes(&made.notes);
    session.ui.show(&made, |made, out| {
        let at = made.lsn.map(|lsn| format!(" at {lsn}")).unwrap_or_default();
        writeln!(
            out,
            "cloned into {} (Postgres {}, branch {}{at})",
            made.directory.display(),
            made.pg_version,
            made.branch
        )
    })
}

/// Returns what to call a copy: as the directory on this machine is called, or the last part of the URI's path, when that is a plain name.
fn directory_of(uri: &str) -> Option<PathBuf> {
    let Some((_, path)) = uri.split_once("://") else {
        return Path::new(uri).file_name().map(PathBuf::from);
    };
    let path = path.split(['?', '#']).next()?.trim_end_matches('/');
    let (_, name) = path.rsplit_once('/')?;
    let plain = !name.is_empty()
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    plain.then(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_called_after_its_source() {
        assert_eq!(directory_of("postgresql://ada@h:6543/shop"), Some("shop".into()));
        assert_eq!(
            directory_of("postgresql://ada:p@h/shop/?a=b/c"),
            Some("shop".into())
        );
        for path in ["shop", "../shop/", "/srv/my/shop", "./shop"] {
            assert_eq!(directory_of(path), Some("shop".into()), "{path}");
        }
        for nameless in [
            "postgresql://h",
            "postgresql://h/",
            "postgresql://h/..",
            "postgresql://h/-x",
            "..",
            "/",
        ] {
            assert_eq!(directory_of(nameless), None, "{nameless}");
        }
    }
}
