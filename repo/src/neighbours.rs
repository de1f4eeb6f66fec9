//! Other repositories of this machine, while a daemon has them open.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use neon_remotes::Command;
use neon_transport::Channel;

use crate::api::{ApiError, Caller};

/// How the daemons of other repositories are reached.
pub trait Neighbours: Send + Sync {
    /// Asks the daemon of the repository in `neon_dir` to end if it is idle: somebody waits for its lock. With `endpoints`, whoever waits goes on
    /// with the endpoints that run there. Blocks until it has answered.
    fn ask_to_yield(&self, neon_dir: &Path, endpoints: bool);

    /// Opens the conversation that `command` names with the daemon of the repository in `neon_dir`. None when no daemon answers, or none that
    /// we understand: the repository can be opened, or will be in a moment.
    fn converse<'a>(
        &'a self,
        neon_dir: &'a Path,
        command: &'a Command,
        caller: &'a Caller,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Channel>, ApiError>> + Send + 'a>>;
}

/// No daemons at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Neighbours for Alone {
    fn ask_to_yield(&self, _: &Path, _: bool) {}

    fn converse<'a>(
        &'a self,
        _: &'a Path,
        _: &'a Command,
        _: &'a Caller,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Channel>, ApiError>> + Send + 'a>> {
        Box::pin(async { Ok(None) })
    }
}
