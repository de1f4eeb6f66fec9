//! Postgres refuses to run as root, so what needs it refuses before anything is made, and says what to type instead.

use std::env;
use std::fs;

use crate::failure::Failure;

/// Refuses to go on as root; `command` is the name of the command.
pub fn refuse(command: &str) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let arguments: Vec<String> = env::args().collect();
    let user = env::var("SUDO_USER").ok().filter(|user| user != "root");
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    Err(Failure::refused(
        "root",
        format!("'neon {command}' does not run as root, because Postgres does not"),
        format!("run: {}", instead(&arguments, user.as_deref(), &passwd)),
    ))
}

/// Returns the line to run instead, with a user who exists, or is made by it.
fn instead(arguments: &[String], sudo_user: Option<&str>, passwd: &str) -> String {
    let has = |user: &str| passwd.lines().any(|line| line.split(':').next() == Some(user));
    let line: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    let line = line.join(" ");
    match sudo_user {
        Some(user) if has(user) => format!("runuser -u {} -- {line}", quoted(user)),
        _ if has("postgres") => format!("runuser -u postgres -- {line}"),
        _ if has("neon") => format!("runuser -u neon -- {line}"),
        _ => format!("useradd --create-home neon && runuser -u neon -- {line}"),
    }
}

/// Returns the word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,~".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) && !word.starts_with('~') {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str], sudo_user: Option<&str>, passwd: &str) -> String {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        instead(&arguments, sudo_user, passwd)
    }

    #[test]
    fn the_line_can_be_pasted() {
        const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        let init = &["neon", "init", "my db"];
        assert_eq!(
            line(init, Some("ada"), PASSWD),
            "runuser -u ada -- neon init 'my db'"
        );
        assert_eq!(
            line(init, None, PASSWD),
            "useradd --create-home neon && runuser -u neon -- neon init 'my db'"
        );
        let with_postgres = format!("{PASSWD}postgres:x:101:101::/var/lib/postgresql:/bin/sh\n");
        assert_eq!(
            line(&["./neon", "start", "it's"], Some("gone"), &with_postgres),
            "runuser -u postgres -- ./neon start 'it'\\''s'"
        );
    }
}
