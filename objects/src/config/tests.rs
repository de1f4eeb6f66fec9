use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn repository() -> RepoId {
    RepoId([0x11; 16])
}

fn load_text(text: &str) -> Result<Config> {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("config.toml"), text).expect("written");
    Config::load(dir.path())
}

const WITH_COMMENTS: &str = "\
# mine, do not touch
format = 1   # the format

[repository]
id = \"11111111111111111111111111111111\"

[user]
author = \"Ada <ada@example.org>\" # also at work

# where the nightly copy goes
[origins.cloud]
uri = \"postgresql://me:secret@example.org/db\" # rent is due in May

[branches.main]
origin = \"cloud\"
branch = \"trunk\"
";

#[test]
fn a_new_configuration_is_private_and_reads_back() {
    let dir = tempfile::tempdir().expect("a directory");
    Config::create(dir.path(), repository()).expect("created");
    let config = Config::load(dir.path()).expect("loaded");
    assert_eq!(config.repository(), repository());
    assert!(config.origins().expect("read").is_empty());
    let mode = fs::metadata(config.path())
        .expect("metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn edits_keep_comments_and_order() {
    let mut config = load_text(WITH_COMMENTS).expect("loaded");
    config
        .set("user.author", Some("Eve <eve@example.org>"))
        .expect("set");
    config
        .set_origin_uri("cloud", "postgresql://elsewhere/db")
        .expect("set");
    config.add_origin("backup", "file:///mnt/b").expect("added");
    config
        .set("endpoint.settings.work_mem", Some("64MB"))
        .expect("set");
    let text = config.document.to_string();
    for kept in [
        "# mine, do not touch",
        "# the format",
        "author = \"Eve <eve@example.org>\" # also at work",
        "# where the nightly copy goes",
        "[origins.backup]\nuri = \"file:///mnt/b\"",
        "[endpoint.settings]\nwork_mem = \"64MB\"",
    ] {
        assert!(text.contains(kept), "{kept:?} is not in\n{text}");
    }
    assert!(!text.contains("[origins]\n"), "{text}");
    let again = load_text(&text).expect("what we write we read");
    assert_eq!(again.origins().expect("read").len(), 2);
    assert_eq!(
        again.postgres_settings().expect("read"),
        [("work_mem".to_owned(), "64MB".to_owned())]
    );
}

#[test]
fn branches_follow_their_origin() {
    let mut config = load_text(WITH_COMMENTS).expect("loaded");
    config.rename_origin("cloud", "sky").expect("renamed");
    let upstream = config.upstream("main").expect("read").expect("still there");
    assert_eq!(
        (upstream.origin.as_str(), upstream.branch.as_str()),
        ("sky", "trunk")
    );
    config.set_upstream("feature/one", Some(&upstream)).expect("set");
    config
        .rename_branch("feature/one", "feature.two")
        .expect("renamed");
    assert_eq!(config.upstream("feature.two").expect("read"), Some(upstream));
    let again = load_text(&config.document.to_string()).expect("names with dots and slashes are quoted");
    assert_eq!(
        again
            .get("branches.\"feature.two\".origin")
            .expect("known")
            .as_deref(),
        Some("sky")
    );
    config.remove_origin("sky").expect("removed");
    assert!(config.upstreams().expect("read").is_empty() && config.origins().expect("read").is_empty());
    let text = config.document.to_string();
    assert!(!text.contains("branches") && !text.contains("origins"), "{text}");
}

#[test]
fn origins_are_added_once_under_sound_names() {
    let mut config = load_text(WITH_COMMENTS).expect("loaded");
    assert!(matches!(
        config.add_origin("cloud", "x"),
        Err(ObjectsError::OriginExists(_))
    ));
    for bad in ["a/b", "-x", "", "..", "heads", "tags", "HEAD"] {
        assert!(
            matches!(config.add_origin(bad, "x"), Err(ObjectsError::Name(_))),
            "{bad:?}"
        );
    }
    assert!(matches!(
        config.remove_origin("no"),
        Err(ObjectsError::NoOrigin(_))
    ));
    assert!(matches!(
        config.rename_origin("no", "x"),
        Err(ObjectsError::NoOrigin(_))
    ));
    assert!(matches!(
        config.rename_origin("cloud", "refs"),
        Err(ObjectsError::Name(_))
    ));
}

#[test]
fn settings_are_checked_and_have_defaults() {
    let mut config = load_text(WITH_COMMENTS).expect("loaded");
    let port = |config: &Config| config.get("endpoint.first_port").expect("known");
    assert_eq!(port(&config).as_deref(), Some("55432"));
    config.set("endpoint.first_port", Some("6000")).expect("set");
    assert_eq!(port(&config).as_deref(), Some("6000"));
    assert_eq!(
        config.get_number("endpoint.first_port").expect("a number"),
        Some(6000)
    );
    let author = |config: &Config| config.get("user.author").expect("known");
    assert_eq!(author(&config).as_deref(), Some("Ada <ada@example.org>"));
    config.set("user.author", None).expect("reset");
    assert_eq!(author(&config), None);
    config
        .set("user.author", Some("Eve <eve@example.org>"))
        .expect("set");
    assert_eq!(author(&config).as_deref(), Some("Eve <eve@example.org>"));
    for (key, value) in [
        ("endpoint.first_port", "80"),
        ("endpoint.first_port", "many"),
        ("user.author", "Ada"),
        ("user.author", " <ada@example.org>"),
        ("user.author", "Ada <ada@example.org>>"),
        ("endpoint.settings.work_mem", "a\nb"),
    ] {
        assert!(
            matches!(config.set(key, Some(value)), Err(ObjectsError::BadSetting { .. })),
            "{key} = {value}"
        );
    }
    for key in [
        "format",
        "repository.id",
        "origins.cloud.uri",
        "branches.main.origin",
    ] {
        assert!(
            matches!(config.set(key, Some("1")), Err(ObjectsError::FixedSetting { .. })),
            "{key}"
        );
    }
    assert!(config.get("origins.cloud.uri").is_err(), "it may hold a password");
    match config.get("user.name") {
        Err(ObjectsError::UnknownSetting { known, .. }) => {
            assert!(known.contains(&"user.author".to_owned()));
        }
        other => panic!("{other:?}"),
    }
    for key in ["", "a..b", "endpoint.settings.drop table", "nothing"] {
        assert!(
            matches!(config.get(key), Err(ObjectsError::UnknownSetting { .. })),
            "{key:?}"
        );
    }
}

#[test]
fn defaults_are_values_that_may_be_set() {
    let mut config = load_text(WITH_COMMENTS).expect("loaded");
    for spec in SETTINGS.iter().filter(|spec| !spec.default.is_empty()) {
        config.set(spec.key, Some(spec.default)).expect(spec.key);
        assert_eq!(
            config.get(spec.key).expect("known").as_deref(),
            Some(spec.default)
        );
    }
}

#[test]
fn a_broken_or_newer_file_says_so() {
    assert!(matches!(
        load_text("format = 2\n"),
        Err(ObjectsError::Format { found: 2, known: 1 })
    ));
    for broken in [
        "",
        "format = ",
        "format = 1\n",
        "format = 1\n[repository]\nid = \"zz\"\n",
        "format = 1\n[repository]\nid = \"11111111111111111111111111111111\"\n[origins]\ncloud = 3\n",
        "format = 1\n[repository]\nid = \"11111111111111111111111111111111\"\n[origins.cloud]\n",
    ] {
        assert!(
            matches!(load_text(broken), Err(ObjectsError::BadConfig { .. })),
            "{broken:?}"
        );
    }
}
