//! Starting, finding again, and what is told when a start fails.

use std::net::TcpListener;

use neon_compute::{
    Adoption, ComputeError, InitOptions, Installation, Postmaster, ServerEnvironment, Stopped, find_client,
    initdb,
};

use crate::cluster::{PATIENCE, Place, installations, search};

#[test]
fn a_server_outlives_its_handle_and_is_found_again() {
    let installation = &installations()[0];
    let place = Place::with_cluster(installation);
    let settings = place.settings();
    let server = place.start(&settings);
    let pid = server.postmaster.pid();
    let error = place.try_start(&settings).expect_err("it runs already");
    assert!(
        matches!(error, ComputeError::Running { pid: other, .. } if other == pid),
        "{error}"
    );
    drop(server);
    let adopted = Postmaster::adopt(&place.pgdata(), &place.log()).expect("readable");
    let Adoption::Adopted(mut postmaster) = adopted else {
        panic!("{adopted:?}")
    };
    assert_eq!((postmaster.pid(), postmaster.port()), (pid, settings.port));
    assert_eq!(postmaster.socket_dir(), settings.socket_dir);
    postmaster.wait_ready(PATIENCE).expect("ready");
    assert!(postmaster.is_running());
    assert_eq!(postmaster.stop(PATIENCE).expect("stop"), Stopped::Fast);
    let adopted = Postmaster::adopt(&place.pgdata(), &place.log()).expect("readable");
    assert!(matches!(adopted, Adoption::Gone), "{adopted:?}");
}

#[test]
fn a_child_of_a_server_is_not_taken_for_it() {
    let installation = &installations()[0];
    let place = Place::with_cluster(installation);
    let server = place.start(&place.settings());
    let child = server.query("select pid from pg_stat_activity where backend_type = 'checkpointer'");
    let file = place.pgdata().join("postmaster.pid");
    let text = std::fs::read_to_string(&file).expect("read");
    std::fs::write(
        &file,
        text.replacen(&server.postmaster.pid().to_string(), &child, 1),
    )
    .expect("write");
    let adopted = Postmaster::adopt(&place.pgdata(), &place.log()).expect("readable");
    assert!(
        matches!(
            adopted,
            Adoption::Stranger {
                why: "it is a child of a server",
                ..
            }
        ),
        "{adopted:?}"
    );
    std::fs::write(&file, text).expect("write");
    server.stop();
}

#[test]
fn a_clock_that_was_set_makes_no_stranger_of_a_server() {
    let installation = &installations()[0];
    let place = Place::with_cluster(installation);
    let server = place.start(&place.settings());
    let file = place.pgdata().join("postmaster.pid");
    let text = std::fs::read_to_string(&file).expect("read");
    // What the file says when the clock was wrong at the start and was set since; Postgres itself reads only the first line again.
    let started = text.lines().nth(2).expect("start time");
    std::fs::write(&file, text.replacen(started, "1000000000", 1)).expect("write");
    let adopted = Postmaster::adopt(&place.pgdata(), &place.log()).expect("readable");
    assert!(
        matches!(&adopted, Adoption::Adopted(found) if found.pid() == server.postmaster.pid()),
        "{adopted:?}"
    );
    std::fs::write(&file, text).expect("write");
    server.stop();
}

#[test]
fn logins_over_tcp_need_the_password() {
    let installation = &installations()[0];
    let place = Place::with_cluster(installation);
    let mut settings = place.settings();
    settings.tcp = true;
    // A port that nobody else is about to choose.
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("some port");
    settings.port = listener.local_addr().expect("address").port();
    drop(listener);
    let server = place.start(&settings);
    let login = |password: &str| {
        std::process::Command::new(find_client("psql", Some(installation), &search()).expect("psql"))
            .args([
                "-X",
                "-A",
                "-t",
                "-w",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-c",
                "select 1",
                "-p",
            ])
            .arg(settings.port.to_string())
            .env("PGPASSWORD", password)
            .output()
            .expect("psql runs")
            .status
            .success()
    };
    assert!(login("secret"));
    assert!(!login("wrong"));
    server.stop();
}

#[test]
fn failed_starts_say_why() {
    let installation = &installations()[0];
    let place = Place::with_cluster(installation);
    let mut settings = place.settings();
    settings.tcp = true;
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("some port");
    settings.port = listener.local_addr().expect("address").port();
    let error = place.try_start(&settings).expect_err("the port is taken");
    assert!(
        matches!(error, ComputeError::PortTaken(port) if port == settings.port),
        "{error}"
    );

    let mut settings = place.settings();
    settings.extra.push(("work_mem".to_owned(), "lots".to_owned()));
    let error = place.try_start(&settings).expect_err("a bad setting");
    assert!(
        matches!(&error, ComputeError::Refused { log, .. } if log.contains("work_mem")),
        "{error}"
    );

    std::fs::remove_file(place.pgdata().join("global/pg_control")).expect("remove");
    let pinned =
        neon_compute::settings::pin_directory(installation.version(), &place.pgdata(), &place.settings());
    assert!(matches!(pinned, Err(ComputeError::Io { .. })));
}

#[test]
fn initdb_tells_what_it_does_not_like() {
    let installation = &installations()[0];
    let place = Place::new(installation);
    let options = InitOptions {
        locale: "xx_YY.nonsense".to_owned(),
        ..InitOptions::default()
    };
    let error = initdb(installation, &place.pgdata(), &options).expect_err("no such locale");
    assert!(
        matches!(&error, ComputeError::Program { output, .. } if output.contains("locale")),
        "{error}"
    );
}

#[test]
fn the_environment_of_an_installation_is_known() {
    for installation in installations() {
        let environment = ServerEnvironment::detect(&installation);
        assert_eq!(
            environment.pg_version_num / 10_000,
            u32::from(installation.version().major())
        );
        assert_eq!(environment.architecture, std::env::consts::ARCH);
        assert!(environment.libc.contains(' '), "{environment:?}");
        assert_eq!(
            Installation::at(installation.bin()).expect("it is there"),
            installation
        );
    }
}
