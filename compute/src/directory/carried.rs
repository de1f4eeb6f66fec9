//! Configuration files: what the cluster brought along, and what it needs beside that.
//!
//! They were written by whoever made the history. So nothing of their text is used as it is: settings are read and written anew, those that
//! name something of the machine are left out, and includes become the lines that they stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use neon_pagestore::items::{CarriedFile, MAX_FILE_SIZE};
use neon_postgres::PgVersion;
use neon_postgres::timeline_history::{self, TimelineHistory};

use super::contents::Contents;
use super::{Boot, LocalSettings, Purpose, skeleton};
use crate::conf::{Conf, Settings, access, quoted, rewrite};
use crate::error::{ComputeError, Result};
use crate::salvage::read_limited;
use crate::settings::{Minimums, SwitchedOff, raised};
use crate::{durable, hba};

const MAIN: &str = "postgresql.conf";
pub(super) const AUTO: &str = "postgresql.auto.conf";
const HBA: &str = "pg_hba.conf";
const IDENT: &str = "pg_ident.conf";

/// For a cluster whose configuration lay outside its data directory, as Debian's do.
const DEFAULT_CONF: &str = "\
# Written by neon: this cluster came without a postgresql.conf.
max_connections = 100
shared_buffers = 128MB
dynamic_shared_memory_type = posix
timezone = 'UTC'
log_timezone = 'UTC'
";

/// What of the configuration does not hold here.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub switched_off: Vec<SwitchedOff>,
    pub left_out: Vec<String>,
}

/// Returns true for the files that a cluster may bring along. Any other could change what the rest of the directory means.
fn may_be_carried(path: &str) -> bool {
    let plain = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    match path.split_once('/') {
        None => path == "PG_VERSION" || (path.ends_with(".conf") && plain(path)),
        Some(("conf.d", name)) => name.ends_with(".conf") && plain(name),
        Some(("pg_wal", name)) => name.ends_with(".history") && plain(name),
        Some(_) => false,
    }
}

/// Writes the configuration below `root`; returns what it asks for and does not get.
pub(super) fn write(root: &Path, version: PgVersion, contents: &Contents, boot: &Boot) -> Result<Written> {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for CarriedFile { path, bytes, .. } in &contents.files {
        if !may_be_carried(path) {
            return Err(ComputeError::Damaged(format!(
                "the file {path:?} cannot be carried along"
            )));
        }
        files.insert(path, String::from_utf8_lossy(bytes).into_owned());
    }
    files.remove("PG_VERSION");
    let carried = files.remove(AUTO);
    let settings = match &boot.settings {
        Some(settings) => settings.clone(),
        None => Settings::read(&carried.unwrap_or_default()),
    };
    let mut written = Written::default();
    histories(root, &mut files)?;
    access_files(root, &mut files, boot.purpose, &mut written)?;
    let main = main_file(root, version, &files, &mut written)?;
    automatic(
        root,
        version,
        contents,
        boot.purpose,
        &settings,
        &main,
        &mut written,
    )?;
    Ok(written)
}

/// Writes the history files of Postgres timelines.
fn histories(root: &Path, files: &mut BTreeMap<&str, String>) -> Result<()> {
    for (path, text) in files.extract_if(.., |path, _| path.starts_with("pg_wal/")) {
        let name = path.strip_prefix("pg_wal/").unwrap_or(path);
        if timeline_history::parse_file_name(name).is_some()
            && let Ok(history) = TimelineHistory::parse(&text)
        {
            skeleton::file(&root.join(path), history.format().as_bytes(), 0o600)?;
        }
    }
    Ok(())
}

/// Writes who may connect. Endpoints use rules of ours instead.
fn access_files(
    root: &Path,
    files: &mut BTreeMap<&str, String>,
    purpose: Purpose,
    written: &mut Written,
) -> Result<()> {
    let carried = |text: Option<String>, default: &str, kept: fn(&str) -> (String, Vec<String>)| match text {
        Some(text) => kept(&text),
        None => (default.to_owned(), Vec::new()),
    };
    for (name, default, kept) in [
        (
            HBA,
            hba::DEFAULT,
            access::hba as fn(&str) -> (String, Vec<String>),
        ),
        (IDENT, "", access::ident),
    ] {
        let (text, left) = carried(files.remove(name), default, kept);
        skeleton::file(&root.join(name), text.as_bytes(), 0o600)?;
        if purpose == Purpose::Export {
            written
                .left_out
                .extend(left.iter().map(|line| format!("{name}: {line}")));
        }
    }
    if purpose != Purpose::Export {
        skeleton::file(&root.join(hba::NAME), hba::TEXT.as_bytes(), 0o600)?;
        skeleton::file(&root.join(hba::IDENT_NAME), hba::IDENT_TEXT.as_bytes(), 0o600)?;
    }
    Ok(())
}

/// Writes `postgresql.conf` with the lines of what it includes; returns its text.
fn main_file(
    root: &Path,
    version: PgVersion,
    files: &BTreeMap<&str, String>,
    written: &mut Written,
) -> Result<String> {
    if !files.contains_key(MAIN) {
        skeleton::file(&root.join(MAIN), DEFAULT_CONF.as_bytes(), 0o600)?;
        return Ok(DEFAULT_CONF.to_owned());
    }
    let rewritten = rewrite(version, files, MAIN);
    skeleton::file(&root.join(MAIN), rewritten.text.as_bytes(), 0o600)?;
    let included: BTreeSet<&str> = rewritten.included.iter().map(String::as_str).collect();
    let unread = files
        .keys()
        .filter(|path| **path != MAIN && !included.contains(**path));
    let unread = unread.map(|path| format!("{}: nothing includes it", neon_types::on_one_line(path)));
    written.left_out.extend(unread);
    written.switched_off.extend(rewritten.switched_off);
    Ok(rewritten.text)
}

/// Writes `postgresql.auto.conf`, which Postgres reads last.
fn automatic(
    root: &Path,
    version: PgVersion,
    contents: &Contents,
    purpose: Purpose,
    settings: &Settings,
    main: &str,
    written: &mut Written,
) -> Result<()> {
    let (mut taken, off) = settings.taken(version);
    written.switched_off.extend(off);
    if purpose != Purpose::Export {
        return LocalSettings::begin(root, settings, &taken);
    }
    let mut conf = Conf::default();
    conf.add(main);
    conf.add(&taken.text());
    // Its subscriptions would take the changes that are meant for the cluster itself.
    taken.set("max_logical_replication_workers", "0");
    if !contents.tablespaces.is_empty() {
        taken.set("allow_in_place_tablespaces", "on");
    }
    let minimums = Minimums {
        prepared: i64::try_from(contents.two_phase.len()).unwrap_or(i64::MAX),
        origins: i64::try_from(contents.origins.len()).unwrap_or(i64::MAX),
        ..Minimums::default()
    };
    for (name, value) in raised(version, &conf, &minimums, purpose, &[]) {
        taken.set(name, &value);
    }
    let text = taken.text() + &as_comments(&written.switched_off);
    skeleton::file(&root.join(AUTO), text.as_bytes(), 0o600)
}

fn as_comments(switched_off: &[SwitchedOff]) -> String {
    let mut text = String::from(
        "# Written by neon: an export does not act as the cluster that it was taken from. What it shall do, give it with ALTER SYSTEM.\n",
    );
    for off in switched_off {
        text.push_str(&format!(
            "#{} = {} # {}\n",
            off.name,
            quoted(&off.configured),
            off.why
        ));
    }
    text
}

/// Copies the configuration of the dead directory `from` into the newly built `to`: WAL does not hold what ALTER SYSTEM or an
/// editor changed there (law 11). Returns the names of the files that differed.
pub fn carry_configuration(from: &Path, to: &Path) -> Result<Vec<String>> {
    let mut carried = Vec::new();
    for name in [MAIN, HBA, IDENT] {
        let (source, target) = (from.join(name), to.join(name));
        match fs::symlink_metadata(&source) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ComputeError::io("inspect", &source)(error)),
        }
        let bytes = read_limited(&source, MAX_FILE_SIZE as u64)?;
        if fs::read(&target).is_ok_and(|there| there == bytes) {
            continue;
        }
        durable::replace(&target, &bytes, 0o600)?;
        carried.push(name.to_owned());
    }
    if LocalSettings::carry(from, to)? {
        carried.push(AUTO.to_owned());
    }
    Ok(carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> CarriedFile {
        CarriedFile {
            path: path.to_owned(),
            mode: 0o644,
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn boot(purpose: Purpose, settings: Option<&str>) -> Boot {
        Boot {
            tli: 1,
            history: TimelineHistory::default(),
            purpose,
            slot: None,
            settings: settings.map(Settings::read),
        }
    }

    fn written(files: Vec<CarriedFile>, boot: &Boot) -> (tempfile::TempDir, Result<Written>) {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(root.path().join("pg_wal")).expect("mkdir");
        let contents = Contents {
            files,
            two_phase: BTreeMap::from([(700, Vec::new()), (701, Vec::new())]),
            ..Contents::default()
        };
        let result = write(root.path(), PgVersion::V15, &contents, boot);
        (root, result)
    }

    fn text(root: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(root.path().join(name)).expect("read")
    }

    #[test]
    fn only_configuration_may_be_carried() {
        for good in [
            "postgresql.conf",
            "conf.d/x.conf",
            "pg_wal/00000002.history",
            "PG_VERSION",
        ] {
            assert!(may_be_carried(good), "{good:?}");
        }
        for bad in [
            "standby.signal",
            "global/pg_control",
            "pg_wal/000000010000000000000001",
            "base/5/1259",
            ".conf",
        ] {
            assert!(!may_be_carried(bad), "{bad:?}");
            assert!(
                written(vec![file(bad, "")], &boot(Purpose::ReadWrite, None))
                    .1
                    .is_err()
            );
        }
    }

    #[test]
    fn an_export_has_its_settings_and_goes_quiet() {
        let files = vec![
            file(MAIN, "work_mem = 5MB\ninclude 'gone.conf'\narchive_mode = on\n"),
            file(AUTO, "work_mem = 6MB"),
        ];
        let settings = "work_mem = '7MB'\narchive_command = 'x'\nmax_prepared_transactions = 1\n";
        let (root, made) = written(files, &boot(Purpose::Export, Some(settings)));
        let names: Vec<String> = made
            .expect("written")
            .switched_off
            .into_iter()
            .map(|off| off.name)
            .collect();
        assert_eq!(names, ["include", "archive_mode", "archive_command"]);
        let mut conf = Conf::default();
        conf.add_directory(root.path()).expect("read");
        assert_eq!(
            conf.get("work_mem"),
            Some("7MB"),
            "of the position, not of the import"
        );
        assert_eq!(
            (conf.get("archive_mode"), conf.get("archive_command")),
            (None, None)
        );
        assert_eq!(
            conf.number("max_prepared_transactions"),
            Some(2),
            "as many as there are"
        );
        assert!(text(&root, AUTO).contains("#archive_command = 'x' #"));
        assert!(root.path().join(HBA).exists() && !root.path().join(hba::NAME).exists());
    }

    #[test]
    fn nothing_that_others_wrote_is_read_by_postgres_as_it_was() {
        let hostile = "include '/etc/passwd'\nhba_file = '/etc/passwd'\n\u{1b}[2J\n";
        let files = vec![
            file(MAIN, hostile),
            file("conf.d/1.conf", hostile),
            file(HBA, "include /etc/passwd\nlocal @/etc/passwd all trust\n"),
            file(IDENT, "include /etc/passwd\n"),
            file("pg_wal/00000002.history", "x"),
        ];
        for purpose in [Purpose::ReadWrite, Purpose::ReadOnly, Purpose::Export] {
            let (root, made) = written(files.clone(), &boot(purpose, Some(hostile)));
            made.expect("written");
            for name in [MAIN, AUTO, HBA, IDENT] {
                let text = text(&root, name);
                let active = text.lines().filter(|line| !line.starts_with('#'));
                assert_eq!(active.filter(|line| line.contains("passwd")).count(), 0, "{text}");
                assert!(!text.contains('\u{1b}'));
            }
            assert!(!root.path().join("conf.d").exists());
            assert!(!root.path().join("pg_wal/00000002.history").exists());
        }
    }

    #[test]
    fn changed_configuration_is_taken_over_into_a_new_directory() {
        let files = || vec![file(MAIN, "work_mem = 5MB\n")];
        let (old, _) = written(files(), &boot(Purpose::ReadWrite, Some("a.b = 1\nc.d = 1\n")));
        let (new, _) = written(files(), &boot(Purpose::ReadWrite, Some("a.b = 2\nc.d = 2\n")));
        let carry = || carry_configuration(old.path(), new.path()).expect("carry");
        assert_eq!(carry(), Vec::<String>::new());
        fs::write(old.path().join(AUTO), "a.b = 1\nc.d = 3\n").expect("write");
        assert_eq!(carry(), [AUTO]);
        assert_eq!(
            Settings::read(&text(&new, AUTO)),
            Settings::read("a.b = 2\nc.d = 3\n")
        );
        fs::write(old.path().join(MAIN), "work_mem = 6MB\n").expect("write");
        assert_eq!(carry(), [MAIN, AUTO]);
    }
}
