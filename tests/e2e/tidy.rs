//! The rooms of the house are as `docs/architecture.md` says: what each crate may use, and nothing above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use toml_edit::{DocumentMut, Value};

/// One row of the table.
struct Room {
    level: u32,
    may_use: BTreeSet<String>,
}

/// Reads the table of rooms: level, folder, what it holds, what it may use.
fn rooms(text: &str) -> BTreeMap<String, Room> {
    let mut rooms: BTreeMap<String, Room> = BTreeMap::new();
    let table = text.split("## Rooms").nth(1).expect("a table of rooms");
    for line in table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [level, folder, _, uses] = cells.as_slice() else {
            panic!("a row of four cells: {line}");
        };
        let folder = folder.trim_matches('`').trim_end_matches('/').to_owned();
        // Above all others, and nobody's to use.
        let level = if *level == "dev" {
            Some(u32::MAX)
        } else {
            level.parse().ok()
        };
        let Some(level) = level else { continue };
        let below = || {
            rooms
                .iter()
                .filter(|(_, room)| room.level < level)
                .map(|(name, _)| name.clone())
        };
        let may_use = match *uses {
            "-" => BTreeSet::new(),
            "all above" => below().collect(),
            "repo and below" => {
                let repo = rooms.get("repo").expect("named before").level;
                rooms
                    .iter()
                    .filter(|(_, room)| room.level <= repo)
                    .map(|(name, _)| name.clone())
                    .collect()
            }
            listed => listed.split(',').map(|name| name.trim().to_owned()).collect(),
        };
        rooms.insert(folder, Room { level, may_use });
    }
    rooms
}

/// Returns for each folder of the workspace the folders that its crate uses, outside of tests.
fn uses(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let manifest = |folder: &str| -> DocumentMut {
        let text = fs::read_to_string(root.join(folder).join("Cargo.toml")).expect("a manifest");
        text.parse().expect("TOML")
    };
    let workspace = manifest("");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let folders = std::iter::once("").chain(members.iter().filter_map(Value::as_str));
    let manifests: Vec<(&str, DocumentMut)> = folders.map(|folder| (folder, manifest(folder))).collect();
    let room = |folder: &str| {
        if folder.is_empty() {
            "src".to_owned()
        } else {
            folder.to_owned()
        }
    };
    let names: BTreeMap<&str, String> = manifests
        .iter()
        .map(|(folder, manifest)| {
            (
                manifest["package"]["name"].as_str().expect("a name"),
                room(folder),
            )
        })
        .collect();
    manifests
        .iter()
        .map(|(folder, manifest)| {
            let tables = ["dependencies", "build-dependencies"]
                .into_iter()
                .filter_map(|table| manifest.get(table));
            let used = tables.flat_map(|table| table.as_table_like().expect("a table").iter());
            let ours = used.filter_map(|(name, _)| names.get(name).cloned());
            (room(folder), ours.collect())
        })
        .collect()
}

#[test]
fn crates_use_only_what_is_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/architecture.md")).expect("it is there");
    let rooms = rooms(&text);
    let uses = uses(root);
    let (documented, built): (Vec<&String>, Vec<&String>) = (rooms.keys().collect(), uses.keys().collect());
    assert_eq!(
        documented, built,
        "rooms in docs/architecture.md, crates of the workspace"
    );
    for (folder, used) in &uses {
        let room = &rooms[folder];
        for other in used {
            assert!(
                room.may_use.contains(other),
                "{folder}/ uses {other}/, which docs/architecture.md does not allow"
            );
        }
        for allowed in &room.may_use {
            let other = rooms
                .get(allowed)
                .unwrap_or_else(|| panic!("{folder}/ may use '{allowed}', which is no room"));
            assert!(
                other.level < room.level,
                "{folder}/ may use {allowed}/, which is not below it"
            );
        }
    }
}

#[test]
fn a_use_that_is_not_allowed_is_seen() {
    let rooms = rooms(
        "## Rooms\n\n| level | folder | holds | may use (ours) |\n|---|---|---|---|\n| 0 | `a/` | x | - |\n| 1 | `b/` | y | a |\n\
         | 2 | `c/` | z | all above |\n\nMore.\n",
    );
    assert_eq!(rooms.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(
        rooms["c"].may_use.contains("b")
            && rooms["b"].may_use.contains("a")
            && !rooms["a"].may_use.contains("b")
    );
    assert_eq!((rooms["a"].level, rooms["c"].level), (0, 2));
}
