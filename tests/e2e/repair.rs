//! `neon fsck --repair`: objects that are damaged, cut or lost come back from where they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use neon_tests_kit::{Output, Serve, TestEnvironment, TestPostgres, TestRepo};

/// How an object is damaged.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Cut,
    Lose,
}

const ALL: [Damage; 3] = [Damage::Flip, Damage::Cut, Damage::Lose];

fn damage(repo: &TestRepo<'_>, id: &str, how: Damage) {
    let path = repo.object(id);
    let mut bytes = fs::read(&path).expect("read");
    fs::remove_file(&path).expect("removed");
    let middle = bytes.len() / 2;
    match how {
        Damage::Flip => bytes[middle] ^= 0x10,
        Damage::Cut => bytes.truncate(middle),
        Damage::Lose => return,
    }
    fs::write(&path, bytes).expect("written");
}

fn objects(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for fan in fs::read_dir(directory.join(".neon/objects")).expect("objects") {
        let fan = fan.expect("an entry");
        let name = fan.file_name().into_string().expect("text");
        for object in fs::read_dir(fan.path())
            .into_iter()
            .flatten()
            .filter(|_| name.len() == 2)
        {
            let rest = object.expect("an entry").file_name().into_string().expect("text");
            found.insert(format!("{name}{rest}"));
        }
    }
    found
}

fn largest(repo: &TestRepo<'_>, among: &BTreeSet<String>) -> String {
    let len = |id: &&String| fs::metadata(repo.object(id)).map_or(0, |file| file.len());
    among.iter().max_by_key(len).expect("an object").clone()
}

/// A repository with some history, stopped.
fn shop<'e>(environment: &'e TestEnvironment, postgres: &TestPostgres) -> TestRepo<'e> {
    let shop = environment.init("shop", postgres);
    shop.sql_on(
        "main",
        "create table t as select i, md5(i::text) x from generate_series(1, 5000) i",
    );
    shop.ok(&["stop"]);
    shop.quit();
    shop
}

/// Damages an object of a repository, one way after the other, and has it repaired.
fn comes_back(repo: &TestRepo<'_>, id: &str, from: &str) {
    for how in ALL {
        let good = fs::read(repo.object(id)).expect("read");
        damage(repo, id, how);
        let plain = repo.neon(&["fsck"]);
        assert_eq!(plain.code(), Some(1), "{how:?}: {}", plain.describe());
        let repaired = repo.neon(&["fsck", "--repair", "--origin", from]);
        assert!(repaired.status.success(), "{how:?}: {}", repaired.describe());
        let line = format!("repaired: object {id} from origin '{from}'");
        assert!(repaired.stdout.contains(&line), "{}", repaired.describe());
        assert!(repaired.stdout.contains("all is well"), "{}", repaired.describe());
        assert_eq!(fs::read(repo.object(id)).expect("read"), good);
    }
}

#[test]
fn layers_chunks_and_commits_come_back_over_a_path_and_over_the_network() {
    let postgres = TestPostgres::find(15);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = shop(&environment, &postgres);
    let serve = Serve::start(&environment, "srv");
    shop.ok(&["origin", "add", "cloud", &serve.uri("shop")]);
    shop.ok(&["push", "main", "cloud"]);
    shop.quit();
    let copy = environment.clone(&serve.uri("shop"), "copy");
    copy.ok(&["origin", "add", "disk", shop.directory().to_str().expect("text")]);
    let chunk = copy.list_more_layers().to_string();
    assert_eq!(shop.list_more_layers().to_string(), chunk);
    copy.fsck();

    let shared = |there: &Path| -> BTreeSet<String> {
        let theirs = objects(there);
        objects(copy.directory()).intersection(&theirs).cloned().collect()
    };
    let commit = copy.place("main").commit;
    for (origin, there) in [
        ("disk", shop.directory().to_owned()),
        ("origin", serve.root().join("shop")),
    ] {
        let shared = shared(&there);
        assert!(shared.contains(&commit));
        comes_back(&copy, &largest(&copy, &shared), origin);
        comes_back(&copy, &commit, origin);
    }
    comes_back(&copy, &chunk, "disk");
    // All at once, the commit that hides nothing and the chunk that hides layers.
    let layer = largest(&copy, &shared(shop.directory()));
    for (id, how) in [
        (&layer, Damage::Flip),
        (&commit, Damage::Lose),
        (&chunk, Damage::Cut),
    ] {
        damage(&copy, id, how);
    }
    let checked = copy.json(&["fsck", "--repair"]);
    assert_eq!(checked["findings"], serde_json::json!([]), "{checked}");
    let repaired = checked["repair"]["repaired"].as_array().expect("a list");
    let ids: BTreeSet<&str> = repaired.iter().filter_map(|one| one["object"].as_str()).collect();
    assert_eq!(ids, BTreeSet::from([&layer[..], &commit, &chunk]), "{checked}");
    assert_eq!(copy.sql_on("main", "select count(*) from t"), "5000");
    copy.ok(&["stop"]);
    // Nothing to do is said as it is.
    assert_eq!(
        copy.json(&["fsck", "--repair"])["repair"]["repaired"],
        serde_json::json!([])
    );
    assert!(copy.json(&["fsck"])["repair"].is_null());
}

#[test]
fn what_an_origin_spoilt_is_asked_of_the_next_and_what_none_has_stays_as_it_was() {
    let postgres = TestPostgres::find(15);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = shop(&environment, &postgres);
    let path = shop.directory().to_str().expect("text").to_owned();
    let copy = environment.clone(&path, "copy");
    let bad = environment.clone(&path, "bad");
    copy.ok(&["origin", "add", "bad", bad.directory().to_str().expect("text")]);
    copy.ok(&[
        "origin",
        "add",
        "gone",
        environment.path("gone").to_str().expect("text"),
    ]);
    let shared: BTreeSet<String> = objects(copy.directory())
        .intersection(&objects(shop.directory()))
        .cloned()
        .collect();
    let layer = largest(&copy, &shared);
    damage(&bad, &layer, Damage::Flip);
    damage(&copy, &layer, Damage::Cut);

    // Alone, the one that is damaged too does not help.
    let before = fs::read(copy.object(&layer)).expect("read");
    let alone = copy.neon(&["fsck", "--repair", "--origin", "bad"]);
    assert_eq!(alone.code(), Some(1), "{}", alone.describe());
    assert!(
        alone.stdout.contains(&format!("not repaired: object {layer}")),
        "{}",
        alone.describe()
    );
    assert!(
        alone
            .stderr
            .contains(&format!("origin 'bad' sent something else for object {layer}")),
        "{}",
        alone.describe()
    );
    assert_eq!(
        fs::read(copy.object(&layer)).expect("read"),
        before,
        "nothing changed"
    );
    let unknown = copy.refused(&["fsck", "--repair", "--origin", "nobody"]);
    assert!(unknown.message.contains("nobody"), "{unknown:?}");

    // "bad" comes first, "gone" cannot be asked, "origin" has it.
    let all = copy.json(&["fsck", "--repair"]);
    assert_eq!(all["repair"]["repaired"][0]["object"], layer.as_str(), "{all}");
    assert_eq!(all["repair"]["repaired"][0]["origin"], "origin", "{all}");
    let notes = all["repair"]["notes"].to_string();
    assert!(
        notes.contains("'bad' sent something else") && notes.contains("origin 'gone'"),
        "{notes}"
    );

    // What no branch of an origin leads to any more is not handed out, though its file is there.
    shop.ok(&["branch", "aside"]);
    shop.ok(&["commit", "aside", "-m", "soon nobody's"]);
    let aside = shop.place("aside").commit;
    shop.quit();
    copy.ok(&["fetch", "aside", "origin"]);
    copy.ok(&["branch", "aside", "origin/aside"]);
    damage(&copy, &aside, Damage::Flip);
    shop.ok(&["branch", "-D", "aside"]);
    shop.quit();
    assert!(shop.object(&aside).is_file());
    let refused = copy.neon(&["fsck", "--repair"]);
    assert!(
        refused.stdout.contains(&format!("not repaired: object {aside}")),
        "{}",
        refused.describe()
    );
    fs::copy(shop.object(&aside), environment.path("kept")).expect("copied");
    fs::remove_file(copy.object(&aside)).expect("removed");
    fs::copy(environment.path("kept"), copy.object(&aside)).expect("copied");

    // What was written here alone is nowhere else.
    let before = objects(copy.directory());
    copy.sql_on(
        "main",
        "create table mine as select i, md5(i::text) x from generate_series(1, 50000) i",
    );
    copy.ok(&["commit", "-m", "mine"]);
    copy.ok(&["stop"]);
    let own: BTreeSet<String> = objects(copy.directory()).difference(&before).cloned().collect();
    let mine = largest(&copy, &own);
    damage(&copy, &mine, Damage::Flip);
    let spoilt = fs::read(copy.object(&mine)).expect("read");
    let left = copy.neon(&["fsck", "--repair"]);
    assert_eq!(left.code(), Some(1), "{}", left.describe());
    assert!(
        left.stdout
            .contains(&format!("not repaired: object {mine}: no origin has it")),
        "{}",
        left.describe()
    );
    assert!(
        left.stdout.contains(&format!("object {mine}: ")),
        "it stays a finding: {}",
        left.describe()
    );
    assert!(
        left.stderr.contains("backup"),
        "what to do next: {}",
        left.describe()
    );
    assert_eq!(fs::read(copy.object(&mine)).expect("read"), spoilt);
    let mut whole = spoilt.clone();
    let middle = whole.len() / 2;
    whole[middle] ^= 0x10;
    fs::remove_file(copy.object(&mine)).expect("removed");
    fs::write(copy.object(&mine), whole).expect("written");
    copy.fsck();
}

#[test]
fn a_death_in_the_middle_leaves_the_store_no_worse() {
    let postgres = TestPostgres::find(15);
    let environment = TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
    let shop = shop(&environment, &postgres);
    let copy = environment.clone(shop.directory().to_str().expect("text"), "copy");
    let shared: BTreeSet<String> = objects(copy.directory())
        .intersection(&objects(shop.directory()))
        .cloned()
        .collect();
    let layer = largest(&copy, &shared);
    let good = fs::read(copy.object(&layer)).expect("read");
    for (step, whole) in [("repair-before-install", false), ("repair-after-install", true)] {
        damage(&copy, &layer, Damage::Flip);
        let spoilt = fs::read(copy.object(&layer)).expect("read");
        let mut command = copy.command(&["fsck", "--repair"]);
        let died = Output::of(command.env("NEON_FAILPOINTS", format!("{step}=kill")));
        assert!(
            !died.status.success() && died.stderr.contains(&format!("failpoint {step}")),
            "{}",
            died.describe()
        );
        let now = fs::read(copy.object(&layer)).expect("read");
        assert_eq!(now, if whole { good.clone() } else { spoilt });
        assert_eq!(copy.neon(&["fsck"]).status.success(), whole);
        let again = copy.neon(&["fsck", "--repair"]);
        assert!(again.status.success(), "{}", again.describe());
        assert_eq!(fs::read(copy.object(&layer)).expect("read"), good);
    }
}
