//! What a command has at hand: where it was given, by whom, and how to show things.

use std::env;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use neon_repo::api::{Request, Response};
use neon_server::client::{self, Context};

use crate::cli::Global;
use crate::defaults;
use crate::failure::Failure;
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
            context: Context {
                directory: global.chdir,
                user: defaults::load()?,
            },
        })
    }

    /// Carries out a request on the repository, with progress on stderr.
    pub fn call(&self, request: Request) -> Result<Response, Failure> {
        let mut bars = ui::progress::Bars::new();
        Ok(client::call(&self.context, request, &mut bars)?)
    }

    /// Returns `path` as seen from the directory that the command was given in (`-C`), absolute.
    pub fn absolute(&self, path: &Path) -> Result<PathBuf, Failure> {
        let base = self.context.directory.as_deref().unwrap_or(Path::new(""));
        std::path::absolute(base.join(path))
            .map_err(|error| Failure::local("cwd", "there is no current directory", error))
    }

    /// Carries out `work` with the password of the caller's environment; when the other side wants another one and somebody sits at
    /// the terminal, asks and tries once more.
    pub fn with_password<T>(
        &self,
        mut work: impl FnMut(Option<String>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let from_environment = env::var("PGPASSWORD")
            .ok()
            .filter(|password| !password.is_empty());
        match work(from_environment) {
            Err(Failure::Api(error))
                if matches!(error.code.as_str(), "wrong_password" | "password_required")
                    && std::io::stdin().is_terminal()
                    && std::io::stderr().is_terminal() =>
            {
                eprintln!("{}", error.message);
                work(Some(ui::password::ask("Password")?))
            }
            other => other,
        }
    }
}
