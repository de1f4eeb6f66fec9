//! The settings that are ours, pinned on the postmaster's command line (law 12): a pure function of what the cluster asks for.

use std::path::{Path, PathBuf};

use neon_postgres::PgVersion;
use serde::{Deserialize, Serialize};

use crate::conf::{Conf, Why, is_setting_name, list};
use crate::directory::{Purpose, origins};
use crate::error::{ComputeError, Result};
use crate::{hba, socket};

/// Libraries that may be preloaded without being asked for: they look at queries and reach nothing outside.
pub const PRELOAD_ALLOWED: [&str; 4] = [
    "pg_stat_statements",
    "auto_explain",
    "pg_prewarm",
    "pg_stat_kcache",
];

/// What one endpoint's Postgres shall be started with.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// `cluster_name`, shown in process titles.
    pub name: String,
    /// TCP port, and number of the Unix socket.
    pub port: u16,
    /// Directory of the Unix socket, mode 0700.
    pub socket_dir: PathBuf,
    /// Whether to listen on 127.0.0.1 beside the socket.
    pub tcp: bool,
    /// Whether autovacuum runs; off until the first transaction of a user where law 3 says so.
    pub autovacuum: bool,
    /// The directory was built for reading: Postgres is a standby that is fed by nobody.
    pub read_only: bool,
    /// It may do what its original does: archive, apply subscriptions, wait for standbys.
    pub act_as_primary: bool,
    /// Preload libraries that are allowed beside [`PRELOAD_ALLOWED`].
    pub preload_allowed: Vec<String>,
    /// Further settings of the user for this endpoint. None of those that are pinned.
    pub extra: Vec<(String, String)>,
}

/// Lower limits that the state itself sets: what it holds must fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minimums {
    /// `max_connections` when the WAL was written; below it a standby refuses to start.
    pub max_connections: i64,
    /// The same of `max_worker_processes`.
    pub max_worker_processes: i64,
    /// The same of `max_wal_senders`.
    pub max_wal_senders: i64,
    /// The same of `max_prepared_transactions`, and never below the number of prepared transactions.
    pub max_prepared_transactions: i64,
    /// The same of `max_locks_per_transaction`.
    pub max_locks_per_transaction: i64,
    /// Prepared transactions that exist.
    pub prepared: i64,
    /// Replication origins that have progress.
    pub origins: i64,
}

impl Minimums {
    /// Returns the limits of a data directory, from its `pg_control`, state files and origin progress.
    pub fn of_directory(pgdata: &Path) -> Result<Minimums> {
        let control = crate::directory::read_control(pgdata)?;
        let count = |name: &str| {
            let path = pgdata.join(name);
            let entries = std::fs::read_dir(&path).map_err(ComputeError::io("list", &path))?;
            Ok::<i64, ComputeError>(i64::try_from(entries.count()).unwrap_or(i64::MAX))
        };
        let origins =
            std::fs::metadata(pgdata.join(origins::PATH)).map_or(0, |file| file.len() / origins::ENTRY);
        let written_with = control.parameters();
        Ok(Minimums {
            max_connections: i64::from(written_with.max_connections),
            max_worker_processes: i64::from(written_with.max_worker_processes),
            max_wal_senders: i64::from(written_with.max_wal_senders),
            max_prepared_transactions: i64::from(written_with.max_prepared_xacts),
            max_locks_per_transaction: i64::from(written_with.max_locks_per_xact),
            prepared: count("pg_twophase")?,
            origins: i64::try_from(origins).unwrap_or(i64::MAX),
        })
    }
}

/// Something that the cluster's configuration asks for and that does not happen here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchedOff {
    /// The setting.
    pub name: String,
    /// What the cluster's configuration says.
    pub configured: String,
    /// What holds here; empty: what Postgres does without the setting.
    pub pinned: String,
    /// Why.
    pub why: Why,
}

impl SwitchedOff {
    /// Returns that `name`, configured so, is `pinned` here.
    pub fn new(name: &str, configured: &str, pinned: &str, why: Why) -> SwitchedOff {
        SwitchedOff {
            name: name.to_owned(),
            configured: configured.to_owned(),
            pinned: pinned.to_owned(),
            why,
        }
    }
}

/// The result of [`pin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Names and values for the command line, in order.
    pub settings: Vec<(String, String)>,
    /// What was switched off.
    pub switched_off: Vec<SwitchedOff>,
}

/// What a primary does and its copy does not unless it is asked to, with the value that switches it off. First version, last version.
const PRIMARY: [(&str, &str, u16, u16); 6] = [
    ("archive_mode", "off", 14, 99),
    ("archive_library", "", 15, 99),
    ("archive_command", "", 14, 99),
    ("max_logical_replication_workers", "0", 14, 99),
    ("synchronous_standby_names", "", 14, 99),
    ("synchronized_standby_slots", "", 17, 99),
];

/// What no copy of a cluster does.
const QUIET: [(&str, &str, u16, u16); 14] = [
    ("sync_replication_slots", "off", 17, 99),
    ("primary_conninfo", "", 14, 99),
    ("primary_slot_name", "", 14, 99),
    ("restore_command", "", 14, 99),
    ("archive_cleanup_command", "", 14, 99),
    ("recovery_end_command", "", 14, 99),
    ("recovery_target", "", 14, 99),
    ("recovery_target_lsn", "", 14, 99),
    ("recovery_target_name", "", 14, 99),
    ("recovery_target_time", "", 14, 99),
    ("recovery_target_xid", "", 14, 99),
    ("promote_trigger_file", "", 14, 15),
    ("external_pid_file", "", 14, 99),
    ("bonjour", "off", 14, 99),
];

/// Returns the settings of [`PRIMARY`] and [`QUIET`] that a version has.
pub(crate) fn quiet(version: PgVersion) -> impl Iterator<Item = (&'static str, &'static str)> {
    of_version(version, PRIMARY.into_iter().chain(QUIET))
}

/// Returns those of them that an endpoint does not follow.
fn switched(
    version: PgVersion,
    wanted: &EndpointSettings,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let primary: &[_] = if wanted.act_as_primary { &[] } else { &PRIMARY };
    of_version(version, primary.iter().copied().chain(QUIET))
}

fn of_version(
    version: PgVersion,
    settings: impl Iterator<Item = (&'static str, &'static str, u16, u16)>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    settings
        .filter(move |(_, _, first, last)| (*first..=*last).contains(&version.major()))
        .map(|(name, value, _, _)| (name, value))
}

/// Returns those of `conf`'s settings that make a cluster act on the world around it, with the values that switch them off; and
/// the preload libraries outside the allow-list.
fn acts_on_the_world(version: PgVersion, conf: &Conf, wanted: &EndpointSettings) -> Vec<SwitchedOff> {
    let mut found = Vec::new();
    for (name, off) in switched(version, wanted) {
        if let Some(configured) = conf.get(name)
            && !same_value(configured, off)
        {
            found.push(SwitchedOff::new(name, configured, off, Why::Original));
        }
    }
    if let Some(configured) = conf.get("shared_preload_libraries") {
        let all = list(configured);
        let allowed: Vec<String> = all
            .iter()
            .filter(|library| may_preload(library, &wanted.preload_allowed))
            .cloned()
            .collect();
        if allowed.len() < all.len() {
            let pinned = allowed.join(",");
            found.push(SwitchedOff::new(
                "shared_preload_libraries",
                configured,
                &pinned,
                Why::Library,
            ));
        }
    }
    found
}

pub(crate) fn may_preload(library: &str, more: &[String]) -> bool {
    let name = library.strip_prefix("$libdir/").unwrap_or(library);
    PRELOAD_ALLOWED.contains(&name) || more.iter().any(|allowed| allowed == name)
}

pub(crate) fn same_value(configured: &str, pinned: &str) -> bool {
    let off = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "off" | "false" | "no" | "0");
    configured == pinned || (off(configured) && off(pinned))
}

/// Returns the settings for the command line of a postmaster on the directory `pgdata`, from what lies there: see [`pin`].
pub fn pin_directory(version: PgVersion, pgdata: &Path, wanted: &EndpointSettings) -> Result<Pinned> {
    let mut conf = Conf::default();
    conf.add_directory(pgdata)?;
    let tablespaces = pgdata.join("pg_tblspc");
    let mut pinned = pin(version, pgdata, &conf, &Minimums::of_directory(pgdata)?, wanted)?;
    // Tablespaces of ours lie in the directory itself.
    if std::fs::read_dir(&tablespaces)
        .map_err(ComputeError::io("list", &tablespaces))?
        .next()
        .is_some()
    {
        pinned
            .settings
            .push(("allow_in_place_tablespaces".to_owned(), "on".to_owned()));
    }
    Ok(pinned)
}

/// Returns the settings for the command line of a postmaster on the directory `pgdata`, whose configuration files say `conf`.
///
/// # Errors
/// [`ComputeError::PinnedSetting`] when `extra` names one of them, [`ComputeError::SocketPath`] when the socket's path is too long.
pub fn pin(
    version: PgVersion,
    pgdata: &Path,
    conf: &Conf,
    minimums: &Minimums,
    wanted: &EndpointSettings,
) -> Result<Pinned> {
    let sockets = named_from(pgdata, &wanted.socket_dir);
    if !socket::fits(&sockets) {
        return Err(ComputeError::SocketPath(sockets));
    }
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
    let wal_level = match conf.get("wal_level") {
        Some("logical") => "logical",
        _ => "replica",
    };
    let listen = if wanted.tcp { "127.0.0.1" } else { "" };
    let mut settings: Vec<(&str, String)> = vec![
        ("data_directory", path(pgdata)),
        ("hba_file", path(&pgdata.join(hba::NAME))),
        ("ident_file", path(&pgdata.join(hba::IDENT_NAME))),
        ("cluster_name", ascii(&wanted.name)),
        ("port", wanted.port.to_string()),
        ("listen_addresses", listen.to_owned()),
        ("unix_socket_directories", format!("\"{}\"", path(&sockets))),
        ("unix_socket_permissions", "0700".to_owned()),
        ("unix_socket_group", String::new()),
        ("ssl", "off".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("fsync", "on".to_owned()),
        ("full_page_writes", "on".to_owned()),
        ("wal_level", wal_level.to_owned()),
        ("max_slot_wal_keep_size", "-1".to_owned()),
        ("hot_standby", "on".to_owned()),
        ("recovery_target_timeline", "current".to_owned()),
        ("autovacuum", on_off(wanted.autovacuum)),
    ];
    if version == PgVersion::V14 {
        settings.push(("stats_temp_directory", "pg_stat_tmp".to_owned()));
    }
    if version >= PgVersion::V18 {
        settings.push(("idle_replication_slot_timeout", "0".to_owned()));
    }
    // An empty external_pid_file is a name too, and is complained about.
    let needed = |name: &str| name != "external_pid_file" || conf.get(name).is_some();
    settings.extend(
        switched(version, wanted)
            .filter(|(name, _)| needed(name))
            .map(|(name, value)| (name, value.to_owned())),
    );
    let switched_off = acts_on_the_world(version, conf, wanted);
    let preload = conf.get("shared_preload_libraries").map(list).unwrap_or_default();
    let preload: Vec<String> = preload
        .into_iter()
        .filter(|library| may_preload(library, &wanted.preload_allowed))
        .collect();
    settings.push(("shared_preload_libraries", preload.join(",")));
    let purpose = if wanted.read_only {
        Purpose::ReadOnly
    } else {
        Purpose::ReadWrite
    };
    settings.extend(raised(version, conf, minimums, purpose, &wanted.extra));
    let mut settings: Vec<(String, String)> = settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for (name, value) in &wanted.extra {
        let name = name.to_ascii_lowercase();
        if settings.iter().any(|(pinned, _)| *pinned == name) || !is_setting_name(&name) {
            return Err(ComputeError::PinnedSetting(name));
        }
        settings.push((name, value.clone()));
    }
    Ok(Pinned {
        settings,
        switched_off,
    })
}

/// Checks that a setting of the user may be given to every endpoint, whatever its directory holds.
///
/// # Errors
/// [`ComputeError::PinnedSetting`] when it is one of ours.
pub fn check_extra(version: PgVersion, name: &str, value: &str) -> Result<()> {
    let wanted = EndpointSettings {
        name: String::new(),
        port: 0,
        socket_dir: PathBuf::new(),
        tcp: true,
        autovacuum: true,
        read_only: false,
        act_as_primary: false,
        preload_allowed: Vec::new(),
        extra: vec![(name.to_owned(), value.to_owned())],
    };
    pin(
        version,
        Path::new(""),
        &Conf::default(),
        &Minimums::default(),
        &wanted,
    )
    .map(|_| ())
}

/// Returns the path by which a server in `pgdata` names a directory: one beside it from there, so that it may be of any length, and both may move.
fn named_from(pgdata: &Path, directory: &Path) -> PathBuf {
    match (pgdata.parent(), directory.parent(), directory.file_name()) {
        (Some(ours), Some(theirs), Some(name)) if ours == theirs => Path::new("..").join(name),
        _ => directory.to_owned(),
    }
}

/// Returns the limits that are configured too low for what the state holds, or for us. The others are left to the user, who could not
/// change them any more if they were pinned.
pub(crate) fn raised(
    version: PgVersion,
    conf: &Conf,
    minimums: &Minimums,
    purpose: Purpose,
    extra: &[(String, String)],
) -> Vec<(&'static str, String)> {
    // A standby must not be smaller than what its WAL was written with; a primary only has to hold what there is.
    let standby = |minimum: i64| if purpose == Purpose::ReadOnly { minimum } else { 0 };
    // We connect to endpoints, not to what left us.
    let ours = |minimum: i64| if purpose == Purpose::Export { 0 } else { minimum };
    let slots = minimums.origins.saturating_add(ours(2)).max(ours(10));
    let prepared = minimums.prepared.max(standby(minimums.max_prepared_transactions));
    let mut limits = vec![
        ("max_connections", 100, standby(minimums.max_connections)),
        ("max_worker_processes", 8, standby(minimums.max_worker_processes)),
        (
            "max_wal_senders",
            10,
            standby(minimums.max_wal_senders).max(ours(5)),
        ),
        ("max_replication_slots", 10, slots),
        ("max_prepared_transactions", 0, prepared),
        (
            "max_locks_per_transaction",
            64,
            standby(minimums.max_locks_per_transaction),
        ),
    ];
    if version >= PgVersion::V18 {
        limits.push(("max_active_replication_origins", 10, minimums.origins));
    }
    let mut raised = Vec::new();
    for (name, default, minimum) in limits {
        let given = extra
            .iter()
            .rev()
            .find(|(extra, _)| extra.eq_ignore_ascii_case(name));
        let configured = match given {
            Some((_, value)) => value.parse().ok(),
            None => conf.number(name),
        };
        if configured.unwrap_or(default) < minimum {
            raised.push((name, minimum.to_string()));
        }
    }
    raised
}

/// `cluster_name` takes printable ASCII of at most 63 bytes.
fn ascii(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .take(63)
        .collect()
}

#[cfg(test)]
mod tests;
