//! Making a new cluster.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{ComputeError, Result};
use crate::installation::{Installation, refuse_root};

/// What a new cluster shall be. Superuser and first database are `postgres`, page checksums are on.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Locale of the template databases.
    pub locale: String,
    /// Encoding of the template databases.
    pub encoding: String,
    /// Password of the superuser for logins over TCP, or a verifier of it.
    pub password: Option<String>,
}

impl Default for InitOptions {
    fn default() -> InitOptions {
        InitOptions {
            locale: "C.UTF-8".to_owned(),
            encoding: "UTF8".to_owned(),
            password: None,
        }
    }
}

/// Runs `initdb` into `pgdata`, which must be absent or empty.
///
/// Nothing is synced: the directory is imported at once, and what the import writes is synced.
///
/// # Errors
/// [`ComputeError::Program`] with the end of initdb's words, such as an unknown locale; what it had made is removed by initdb.
pub fn initdb(installation: &Installation, pgdata: &Path, options: &InitOptions) -> Result<()> {
    refuse_root()?;
    let mut password_path = pgdata.as_os_str().to_owned();
    password_path.push(".password");
    let password_file = Path::new(&password_path);
    let mut command = Command::new(installation.program("initdb"));
    command
        .arg("--pgdata")
        .arg(pgdata)
        .args([
            "--username=postgres",
            "--data-checksums",
            "--no-sync",
            "--no-instructions",
        ])
        .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
        .arg(format!("--encoding={}", options.encoding))
        .arg(format!("--locale={}", options.locale))
        .stdin(Stdio::null());
    without_postgres_variables(&mut command);
    if let Some(password) = &options.password {
        let _ = fs::remove_file(password_file);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(password_file)
            .and_then(|mut file| file.write_all(password.as_bytes()))
            .map_err(ComputeError::io("write", password_file))?;
        command.arg("--pwfile").arg(password_file);
    }
    let result = run("initdb", command);
    if options.password.is_some() {
        fs::remove_file(password_file).map_err(ComputeError::io("remove", password_file))?;
    }
    result.map(|_| ())
}

/// Keeps variables such as `PGPORT` and `PGDATA` from reaching a program of Postgres.
pub(crate) fn without_postgres_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
}

/// Keeps our own locale from reaching a program.
pub(crate) fn without_locale(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| matches!(name, "LANG" | "LANGUAGE") || name.starts_with("LC_"))
        {
            command.env_remove(name);
        }
    }
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(program: &'static str, mut command: Command) -> Result<String> {
    let output = command.output().map_err(|source| ComputeError::Spawn {
        program: command.get_program().into(),
        source,
    })?;
    if !output.status.success() {
        let said = if output.stderr.is_empty() {
            &output.stdout
        } else {
            &output.stderr
        };
        let text = String::from_utf8_lossy(said);
        let lines: Vec<&str> = text.lines().collect();
        return Err(ComputeError::Program {
            program,
            status: output.status.to_string(),
            output: lines
                .get(lines.len().saturating_sub(10)..)
                .unwrap_or_default()
                .join("\n"),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
