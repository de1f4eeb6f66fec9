//! What a command has at hand: where it was given, by whom, and how to show things.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use neon_repo::api::{Request, Response, Secret};
use neon_server::client;
use neon_server::context::Context;

use crate::cli::Global;
use crate::defaults;
use crate::failure::Failure;
use crate::interrupt;
use crate::ui::progress::Bars;
use crate::ui::{self, Ui};

/// One run of the program.
pub struct Session {
    /// Where and by whom the command was given.
    pub context: Context,
    /// How results are shown.
    pub ui: Ui,
}

impl Session {
    /// Reads the user's defaults.
    pub fn new(global: Global) -> Result<Session, Failure> {
        Ok(Session {
            ui: Ui::new(global.json),
            context: Context::new(global.chdir.as_deref(), defaults::load()?)?,
        })
    }

    /// Carries out a request on the repository, with progress on stderr.
    pub fn call(&self, request: Request) -> Result<Response, Failure> {
        Ok(client::call(&self.context, request, &mut self.progress())?)
    }

    /// Returns where progress of long work is shown. From here on the user may interrupt it.
    pub fn progress(&self) -> Bars {
        interrupt::listen();
        Bars::new(self.ui)
    }

    /// Returns `path` as seen from the directory that the command was given in (`-C`), absolute.
    pub fn absolute(&self, path: &Path) -> Result<PathBuf, Failure> {
        std::path::absolute(self.context.caller.directory().join(path))
            .map_err(|error| Failure::local("path", format!("'{}' is no path", path.display()), error))
    }

    /// Carries out `work`; when the other side wants a password, or another one, and somebody sits at the terminal, asks and tries
    /// once more.
    pub fn with_password<T>(
        &self,
        mut work: impl FnMut(Option<Secret>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match work(None) {
            Err(Failure::Api(error))
                if matches!(error.code.as_str(), "wrong_password" | "password_required")
                    && std::io::stdin().is_terminal()
                    && std::io::stderr().is_terminal() =>
            {
                eprintln!("{}", error.message);
                work(Some(Secret::new(ui::password::ask("Password")?)))
            }
            other => other,
        }
    }
}
