use super::*;

fn wanted() -> EndpointSettings {
    EndpointSettings {
        name: "main".to_owned(),
        port: 55432,
        socket_dir: "/run/neon".into(),
        tcp: true,
        autovacuum: true,
        read_only: false,
        act_as_primary: false,
        preload_allowed: Vec::new(),
        extra: Vec::new(),
    }
}

fn conf(text: &str) -> Conf {
    let mut conf = Conf::default();
    conf.add(text);
    conf
}

fn pinned(version: PgVersion, text: &str, minimums: Minimums, wanted: &EndpointSettings) -> Pinned {
    pin(version, Path::new("/data"), &conf(text), &minimums, wanted).expect("pinned")
}

fn value<'a>(pinned: &'a Pinned, name: &str) -> Option<&'a str> {
    pinned
        .settings
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn every_setting_is_pinned_once() {
    for version in [PgVersion::V14, PgVersion::V15, PgVersion::V17, PgVersion::V18] {
        let pinned = pinned(version, "", Minimums::default(), &wanted());
        let mut names: Vec<&str> = pinned.settings.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(pinned.switched_off.is_empty());
        assert_eq!(
            value(&pinned, "archive_library").is_some(),
            version >= PgVersion::V15
        );
    }
}

#[test]
fn a_copy_of_production_does_not_act_as_production() {
    let production = "archive_mode = on\narchive_command = 'scp %p backup:'\nsynchronous_standby_names = '*'\n\
                      shared_preload_libraries = 'pg_cron, pg_stat_statements, \"$libdir/auto_explain\"'\n\
                      wal_level = logical\nfsync = off\n";
    let result = pinned(PgVersion::V17, production, Minimums::default(), &wanted());
    assert_eq!(value(&result, "archive_mode"), Some("off"));
    assert_eq!(
        value(&result, "shared_preload_libraries"),
        Some("pg_stat_statements,$libdir/auto_explain")
    );
    assert_eq!(value(&result, "wal_level"), Some("logical"));
    assert_eq!(value(&result, "fsync"), Some("on"));
    let off: Vec<&str> = result.switched_off.iter().map(|off| off.name.as_str()).collect();
    assert_eq!(
        off,
        [
            "archive_mode",
            "archive_command",
            "synchronous_standby_names",
            "shared_preload_libraries"
        ]
    );
    let mut asked = wanted();
    asked.preload_allowed = vec!["pg_cron".to_owned()];
    let result = pinned(PgVersion::V17, production, Minimums::default(), &asked);
    assert!(
        value(&result, "shared_preload_libraries").is_some_and(|libraries| libraries.starts_with("pg_cron,"))
    );
}

#[test]
fn who_is_asked_to_acts_as_a_primary() {
    let configured = "archive_mode = on\narchive_command = 'true'\nmax_logical_replication_workers = 7\nrestore_command = 'x'\n";
    let mut asked = wanted();
    asked.act_as_primary = true;
    let result = pinned(PgVersion::V17, configured, Minimums::default(), &asked);
    for name in [
        "archive_mode",
        "archive_command",
        "max_logical_replication_workers",
        "synchronous_standby_names",
    ] {
        assert_eq!(value(&result, name), None, "{name} is as it is configured");
    }
    assert_eq!(value(&result, "restore_command"), Some(""), "it recovers nothing");
    assert_eq!(value(&result, "fsync"), Some("on"));
    let off: Vec<&str> = result.switched_off.iter().map(|off| off.name.as_str()).collect();
    assert_eq!(off, ["restore_command"]);
}

#[test]
fn limits_are_raised_only_where_the_state_needs_it() {
    let minimums = Minimums {
        max_connections: 200,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_transactions: 20,
        max_locks_per_transaction: 64,
        prepared: 3,
        origins: 0,
    };
    let primary = pinned(
        PgVersion::V15,
        "max_prepared_transactions = 2\n",
        minimums,
        &wanted(),
    );
    assert_eq!(value(&primary, "max_connections"), None);
    assert_eq!(value(&primary, "max_prepared_transactions"), Some("3"));
    let roomy = pinned(
        PgVersion::V15,
        "max_prepared_transactions = 7\n",
        minimums,
        &wanted(),
    );
    assert_eq!(value(&roomy, "max_prepared_transactions"), None);
    let mut reading = wanted();
    reading.read_only = true;
    let standby = pinned(PgVersion::V15, "max_connections = 50\n", minimums, &reading);
    assert_eq!(value(&standby, "max_connections"), Some("200"));
    assert_eq!(value(&standby, "max_prepared_transactions"), Some("20"));
    assert_eq!(value(&standby, "max_worker_processes"), None);
}

#[test]
fn what_is_pinned_cannot_be_given() {
    let mut bad = wanted();
    bad.extra = vec![("FSYNC".to_owned(), "off".to_owned())];
    let error = pin(
        PgVersion::V15,
        Path::new("/data"),
        &Conf::default(),
        &Minimums::default(),
        &bad,
    );
    assert!(matches!(error, Err(ComputeError::PinnedSetting(name)) if name == "fsync"));
    bad.extra = vec![("work_mem".to_owned(), "64MB".to_owned())];
    let fine = pinned(PgVersion::V15, "", Minimums::default(), &bad);
    assert_eq!(value(&fine, "work_mem"), Some("64MB"));
    let mut deep = wanted();
    deep.socket_dir = format!("/{}", "x".repeat(120)).into();
    let error = pin(
        PgVersion::V15,
        Path::new("/data"),
        &Conf::default(),
        &Minimums::default(),
        &deep,
    );
    assert!(matches!(error, Err(ComputeError::SocketPath(_))));
    // Beside the data directory it has a short name, however deep that lies.
    let pgdata = deep.socket_dir.join("pgdata");
    deep.socket_dir = deep.socket_dir.join("socket");
    let pinned = pin(
        PgVersion::V15,
        &pgdata,
        &Conf::default(),
        &Minimums::default(),
        &deep,
    )
    .expect("pinned");
    assert_eq!(value(&pinned, "unix_socket_directories"), Some("\"../socket\""));
}

#[test]
fn a_setting_that_is_ours_is_known_before_a_start() {
    let check = |name: &str, value: &str| check_extra(PgVersion::V17, name, value);
    for (name, value) in [
        ("fsync", "off"),
        ("Port", "1"),
        ("archive_command", "x"),
        ("max_wal_senders", "0"),
        ("no name", "x"),
    ] {
        assert!(
            matches!(check(name, value), Err(ComputeError::PinnedSetting(_))),
            "{name}"
        );
    }
    for (name, value) in [("work_mem", "64MB"), ("max_wal_senders", "20"), ("a.b", "x")] {
        assert!(check(name, value).is_ok(), "{name}");
    }
}
