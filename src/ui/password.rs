//! Passwords: typed without echo, or read from stdin for scripts.

use std::io::{self, IsTerminal, Read};

use dialoguer::Password;

use crate::failure::Failure;
use crate::interrupt;

/// Longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 1024;

/// Asks on the terminal, without echo.
pub fn ask(prompt: &str) -> Result<String, Failure> {
    interrupt::at_once(|| Password::new().with_prompt(prompt).interact()).map_err(failed)
}

/// Asks on the terminal twice, for a password that is new.
pub fn ask_new(prompt: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask for a password",
            "give it on stdin: --password-stdin",
        ));
    }
    let asking = Password::new()
        .with_prompt(prompt)
        .with_confirmation("Again", "The two differ.");
    interrupt::at_once(|| asking.interact()).map_err(failed)
}

/// Reads the password from stdin: all of it, without the newline at its end.
pub fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .take(MAX_PASSWORD + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::local("stdin", "cannot read the password from stdin", error))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || text.len() as u64 > MAX_PASSWORD {
        return Err(Failure::refused(
            "bad_password",
            format!("the password on stdin is empty or longer than {MAX_PASSWORD} bytes"),
            "write it into the pipe, as in: neon user add ada --password-stdin < file",
        ));
    }
    Ok(password.to_owned())
}

fn failed(error: dialoguer::Error) -> Failure {
    Failure::local("terminal", "cannot ask for the password", error)
}
