//! Exports: a plain data directory that stock Postgres starts without us.

use std::path::Path;

use neon_postgres::timeline_history::TimelineHistory;

use crate::conf::Settings;
use crate::directory::{Boot, Built, DataDirectory, Progress, Purpose};
use crate::error::Result;
use crate::source::PageSource;

/// Builds the directory `path` at exactly the source's position. It is a fork with the TLI `tli` of its own (laws 1 and 5), so that
/// standbys and backup tools cannot mix its history with ours; `history` are the TLIs before.
///
/// Its configuration is the cluster's own with the settings of the position, save what would make it act as that cluster (law 12), and what
/// names something of another machine: that is a comment in its files, and returned. Errors as of [`DataDirectory::build`].
pub fn export(
    source: &dyn PageSource,
    path: &Path,
    tli: u32,
    history: TimelineHistory,
    settings: Option<Settings>,
    progress: Progress<'_>,
) -> Result<Built> {
    let boot = Boot {
        tli,
        history,
        purpose: Purpose::Export,
        slot: None,
        settings,
    };
    DataDirectory::build(source, path, &boot, progress)
}
