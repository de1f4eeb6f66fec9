//! The rooms of the house are as `docs/architecture.md` says: what each crate may use, and nothing above it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

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

/// Returns for each folder the folders that its crate uses, outside of tests.
fn uses(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let folder = |package: &Value| -> String {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let folder = manifest
            .parent()
            .expect("a folder")
            .strip_prefix(root)
            .expect("in the workspace");
        match folder.to_str().expect("text") {
            "" => "src".to_owned(),
            inside => inside.to_owned(),
        }
    };
    let folders: BTreeMap<&str, String> = packages
        .iter()
        .map(|package| (package["name"].as_str().expect("a name"), folder(package)))
        .collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let ours = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| folders.get(dependency["name"].as_str()?).cloned())
                .collect();
            (folder(package), ours)
        })
        .collect()
}

#[test]
fn crates_use_only_what_is_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/architecture.md")).expect("it is there");
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
