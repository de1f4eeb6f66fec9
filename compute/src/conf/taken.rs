//! Which settings of a configuration that others wrote hold in a data directory that is made here.
//!
//! Who pushes a database says what stands in its configuration. A setting that names a program, a file, a library or an address of the machine
//! is not taken over unless its value is known to be harmless; nor is one that makes a copy act as its original. What is not known is left.

use std::fmt;

use neon_postgres::PgVersion;
use serde::{Deserialize, Serialize};

use super::known::is_known;
use super::{is_setting_name, list};
use crate::settings::{may_preload, quiet, same_value};

/// What becomes of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Taken,
    /// It holds in part.
    Without {
        /// The part.
        value: String,
        /// Why not all of it.
        why: Why,
    },
    /// It does not hold.
    Left(Why),
}

/// Why a setting does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A copy does not act as its original.
    Original,
    /// It names a program, a file or an address of another machine.
    Machine,
    /// It loads libraries that are not on the list.
    Library,
    /// This version has no such setting.
    Unknown,
    /// It includes a file that was not carried along.
    Include,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Original => "a copy does not act as its original",
            Why::Machine => "it names something of another machine",
            Why::Library => "it loads libraries that are not on the list",
            Why::Unknown => "it is not known here",
            Why::Include => "the file was not carried along",
        })
    }
}

/// Settings that name something of the machine, with the values that do not.
const MACHINE: [(&str, &[&str]); 18] = [
    ("bonjour_name", &[""]),
    ("data_directory", &[]),
    ("dynamic_library_path", &["$libdir"]),
    ("event_source", &["PostgreSQL"]),
    ("extension_control_path", &["$system"]),
    ("extension_destdir", &[""]),
    ("hba_file", &[]),
    ("ident_file", &[]),
    ("jit_provider", &["llvmjit"]),
    ("krb_server_keyfile", &[""]),
    ("listen_addresses", &["", "localhost", "127.0.0.1", "::1"]),
    ("log_destination", &["stderr", "csvlog", "jsonlog"]),
    ("log_directory", &["log", "pg_log"]),
    ("oauth_validator_libraries", &[""]),
    ("ssl", &["off"]),
    ("stats_temp_directory", &["pg_stat_tmp"]),
    ("unix_socket_directories", &[""]),
    ("unix_socket_group", &[""]),
];

/// Settings that load libraries, in every session or at the start.
const LIBRARIES: [&str; 3] = [
    "shared_preload_libraries",
    "session_preload_libraries",
    "local_preload_libraries",
];

/// Returns what becomes of a setting, its name in lower case. Those of extensions are taken: what they do, the extension's library does.
pub fn judge(version: PgVersion, name: &str, value: &str) -> Verdict {
    if name.contains('.') && is_setting_name(name) {
        return Verdict::Taken;
    }
    if !is_known(version, name) {
        return Verdict::Left(Why::Unknown);
    }
    if LIBRARIES.contains(&name) {
        return libraries(value);
    }
    if quiet(version).any(|(quiet, off)| quiet == name && !same_value(value, off)) {
        return Verdict::Left(Why::Original);
    }
    match MACHINE.iter().find(|(machine, _)| *machine == name) {
        Some((_, harmless)) if harmless.iter().any(|one| same_value(value, one)) => Verdict::Taken,
        Some(_) => Verdict::Left(Why::Machine),
        None if name.starts_with("ssl_") => Verdict::Left(Why::Machine),
        None if name == "log_filename" && value.contains('/') => Verdict::Left(Why::Machine),
        None => Verdict::Taken,
    }
}

fn libraries(value: &str) -> Verdict {
    let all = list(value);
    let allowed: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|library| may_preload(library, &[]))
        .collect();
    let why = Why::Library;
    match allowed.len() {
        count if count == all.len() => Verdict::Taken,
        0 => Verdict::Left(why),
        _ => Verdict::Without {
            value: allowed.join(","),
            why,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_something_of_the_machine_is_left() {
        for (name, value) in [
            ("data_directory", "/var/lib/postgresql/15/main"),
            ("hba_file", "/etc/passwd"),
            ("ident_file", ""),
            ("dynamic_library_path", "/tmp"),
            ("jit_provider", "/tmp/x"),
            ("log_directory", "/home/me"),
            ("log_filename", "../../.bashrc"),
            ("log_destination", "syslog"),
            ("unix_socket_directories", "/tmp"),
            ("listen_addresses", "*"),
            ("listen_addresses", "localhost,0.0.0.0"),
            ("ssl", "on"),
            ("ssl_key_file", "/etc/ssl/key"),
            ("ssl_passphrase_command", "touch /tmp/x"),
            ("krb_server_keyfile", "FILE:/x"),
            ("unix_socket_group", "wheel"),
            ("stats_temp_directory", "/tmp"),
        ] {
            assert_eq!(
                judge(PgVersion::V14, name, value),
                Verdict::Left(Why::Machine),
                "{name}"
            );
        }
        for name in ["extension_control_path", "oauth_validator_libraries"] {
            assert_eq!(
                judge(PgVersion::V18, name, "/tmp/x"),
                Verdict::Left(Why::Machine),
                "{name}"
            );
        }
        assert_eq!(
            judge(PgVersion::V15, "extension_destdir", "/tmp"),
            Verdict::Left(Why::Machine)
        );
        for (name, value) in [
            ("ssl", "off"),
            ("ssl", "false"),
            ("log_directory", "log"),
            ("log_filename", "a-%d.log"),
        ] {
            assert_eq!(
                judge(PgVersion::V15, name, value),
                Verdict::Taken,
                "{name} = {value}"
            );
        }
    }

    #[test]
    fn what_acts_as_the_original_is_left() {
        for (name, value) in [
            ("archive_mode", "on"),
            ("archive_command", "cp %p /x"),
            ("restore_command", "cp /x %p"),
            ("recovery_end_command", "touch /x"),
            ("primary_conninfo", "host=prod"),
            ("external_pid_file", "/x"),
            ("max_logical_replication_workers", "4"),
            ("bonjour", "on"),
        ] {
            assert_eq!(
                judge(PgVersion::V17, name, value),
                Verdict::Left(Why::Original),
                "{name}"
            );
        }
        assert_eq!(judge(PgVersion::V17, "archive_mode", "off"), Verdict::Taken);
    }

    #[test]
    fn libraries_are_those_of_the_list() {
        for name in LIBRARIES {
            assert_eq!(judge(PgVersion::V17, name, "evil"), Verdict::Left(Why::Library));
            assert_eq!(
                judge(PgVersion::V17, name, "/tmp/auto_explain"),
                Verdict::Left(Why::Library)
            );
            assert_eq!(judge(PgVersion::V17, name, "auto_explain"), Verdict::Taken);
            assert_eq!(
                judge(PgVersion::V17, name, "pg_cron, auto_explain"),
                Verdict::Without {
                    value: "auto_explain".to_owned(),
                    why: Why::Library
                }
            );
        }
    }

    #[test]
    fn every_rule_is_about_a_setting_that_some_version_has() {
        let versions = [14, 15, 16, 17, 18].map(|major| PgVersion::from_major(major).expect("a version"));
        let names = MACHINE.iter().map(|(name, _)| *name).chain(LIBRARIES);
        let quiet = versions
            .iter()
            .flat_map(|version| quiet(*version))
            .map(|(name, _)| name);
        for name in names.chain(quiet) {
            assert!(versions.iter().any(|version| is_known(*version, name)), "{name}");
        }
    }

    #[test]
    fn extensions_have_settings_of_their_own() {
        assert_eq!(
            judge(PgVersion::V15, "pg_stat_statements.track", "all"),
            Verdict::Taken
        );
        assert_eq!(judge(PgVersion::V15, "no_such", "1"), Verdict::Left(Why::Unknown));
        assert_eq!(judge(PgVersion::V15, "a.b.c", "1"), Verdict::Left(Why::Unknown));
    }
}
