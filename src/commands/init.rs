//! `neon init`

use std::path::PathBuf;

use neon_repo::api::Init;
use neon_server::client;

use crate::failure::Failure;
use crate::root;
use crate::session::Session;

/// Make a repository: of a new Postgres cluster, or of a data directory
///
/// Runs initdb (superuser and database `postgres`, data checksums on) and takes its data directory in as the first commit of branch
/// main. With --from, a cleanly stopped data directory becomes the first commit instead; it is only read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory that gets the repository; made when absent
    #[arg(value_name = "DIR", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    pub directory: PathBuf,
    /// Major version of Postgres [default: the newest that is found]
    #[arg(long, value_name = "N", conflicts_with = "from", value_parser = clap::value_parser!(u16).range(14..=18))]
    pub pg_version: Option<u16>,
    /// Locale of the cluster [default: C.UTF-8]
    #[arg(long, value_name = "L", conflicts_with = "from")]
    pub locale: Option<String>,
    /// Encoding of the databases [default: UTF8]
    #[arg(long, value_name = "E", conflicts_with = "from")]
    pub encoding: Option<String>,
    /// Take in this data directory, which must be cleanly stopped
    #[arg(long, value_name = "PGDATA", value_hint = clap::ValueHint::DirPath)]
    pub from: Option<PathBuf>,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    root::refuse("init")?;
    let request = Init {
        directory: session.absolute(&args.directory)?,
        pg_version: args
            .pg_version
            .or(session.context.pg_version.filter(|_| args.from.is_none())),
        locale: args.locale,
        encoding: args.encoding,
        from: args.from.map(|from| session.absolute(&from)).transpose()?,
    };
    let made = client::init(&session.context, request, &mut session.progress())?;
    session.ui.notes(&made.notes);
    session.ui.show(&made, |made, out| {
        let at = made.lsn.map(|lsn| format!(" at {lsn}")).unwrap_or_default();
        writeln!(
            out,
            "made a repository in {} (Postgres {}, branch {}{at})",
            made.directory.join(".neon").display(),
            made.pg_version,
            made.branch
        )
    })
}
