use std::sync::Barrier;
use std::thread;

use neon_types::ObjectId;

use super::*;

const WHO: &str = "Ada <ada@example.org>";

fn refs() -> (tempfile::TempDir, Refs) {
    let dir = tempfile::tempdir().expect("a directory");
    let refs = Refs::open(dir.path()).expect("opened");
    (dir, refs)
}

fn commit(number: u8) -> CommitId {
    CommitId(ObjectId::from_bytes([number; 32]))
}

fn branch(name: &str) -> RefName {
    RefName::branch(name).expect("a name")
}

fn to(name: RefName, expect: Expect, new: u8) -> RefEdit {
    RefEdit {
        name,
        expect,
        new: Some(commit(new)),
    }
}

fn delete(name: RefName) -> RefEdit {
    RefEdit {
        name,
        expect: Expect::Any,
        new: None,
    }
}

#[test]
fn refs_are_made_moved_and_deleted_with_a_log() {
    let (dir, refs) = refs();
    let main = branch("main");
    refs.edit(&[to(main.clone(), Expect::Absent, 1)], WHO, "init", 10)
        .expect("made");
    refs.edit(
        &[to(main.clone(), Expect::Exactly(commit(1)), 2)],
        WHO,
        "commit",
        20,
    )
    .expect("moved");
    assert_eq!(refs.get(&main).expect("read"), Some(commit(2)));
    assert_eq!(
        fs::read_to_string(dir.path().join("refs/heads/main")).expect("read"),
        format!("{}\n", commit(2))
    );
    refs.edit(&[to(main.clone(), Expect::Any, 2)], WHO, "nothing", 25)
        .expect("stays");
    refs.edit(&[delete(main.clone())], WHO, "branch -d", 30)
        .expect("deleted");
    assert_eq!(refs.get(&main).expect("read"), None);
    let log: Vec<_> = refs
        .read_reflog(&main)
        .expect("read")
        .into_iter()
        .map(|entry| (entry.old, entry.new, entry.time, entry.why))
        .collect();
    assert_eq!(
        log,
        [
            (None, Some(commit(1)), 10, "init".to_owned()),
            (Some(commit(1)), Some(commit(2)), 20, "commit".to_owned()),
            (Some(commit(2)), None, 30, "branch -d".to_owned()),
        ]
    );
    assert!(!dir.path().join(PENDING).exists());
}

#[test]
fn one_failed_expectation_leaves_everything_as_it_was() {
    let (_dir, refs) = refs();
    refs.edit(
        &[
            to(branch("a"), Expect::Absent, 1),
            to(branch("b"), Expect::Absent, 2),
        ],
        WHO,
        "",
        0,
    )
    .expect("made");
    let refused = refs.edit(
        &[
            to(branch("a"), Expect::Exactly(commit(1)), 3),
            to(branch("b"), Expect::Exactly(commit(9)), 4),
        ],
        WHO,
        "",
        1,
    );
    match refused {
        Err(ObjectsError::RefMoved {
            name,
            expected,
            found,
        }) => {
            assert_eq!(
                (name, expected, found),
                (branch("b"), Some(commit(9)), Some(commit(2)))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(refs.get(&branch("a")).expect("read"), Some(commit(1)));
    assert_eq!(refs.read_reflog(&branch("a")).expect("read").len(), 1);
    assert!(matches!(
        refs.edit(&[to(branch("a"), Expect::Absent, 5)], WHO, "", 2),
        Err(ObjectsError::RefMoved { .. })
    ));
    assert!(matches!(
        refs.edit(
            &[delete(branch("a")), to(branch("a"), Expect::Any, 5)],
            WHO,
            "",
            2
        ),
        Err(ObjectsError::EditedTwice(_))
    ));
}

#[test]
fn a_name_cannot_be_the_directory_of_another() {
    let (_dir, refs) = refs();
    refs.edit(&[to(branch("a"), Expect::Absent, 1)], WHO, "", 0)
        .expect("made");
    assert!(matches!(
        refs.edit(&[to(branch("a/b"), Expect::Absent, 2)], WHO, "", 1),
        Err(ObjectsError::NamesCollide { .. })
    ));
    assert!(matches!(
        refs.edit(
            &[
                to(branch("x/y"), Expect::Absent, 2),
                to(branch("x"), Expect::Absent, 2)
            ],
            WHO,
            "",
            1
        ),
        Err(ObjectsError::NamesCollide { .. })
    ));
    assert_eq!(refs.get(&branch("a/b")).expect("absent, not an error"), None);
    // A rename may pass from one side to the other, and back.
    refs.edit(
        &[delete(branch("a")), to(branch("a/b/c"), Expect::Absent, 1)],
        WHO,
        "rename",
        2,
    )
    .expect("moved below");
    assert_eq!(refs.get(&branch("a")).expect("absent, not an error"), None);
    refs.edit(
        &[to(branch("a"), Expect::Absent, 1), delete(branch("a/b/c"))],
        WHO,
        "rename",
        3,
    )
    .expect("moved above");
    assert_eq!(refs.list("").expect("listed").len(), 1);
    // Branches, tags and what origins have do not collide with each other.
    refs.edit(
        &[
            to(RefName::tag("a/b").expect("a name"), Expect::Absent, 1),
            to(RefName::origin("a", "b").expect("a name"), Expect::Absent, 1),
        ],
        WHO,
        "",
        4,
    )
    .expect("other namespaces");
    assert_eq!(refs.list("refs/origins/a/").expect("listed").len(), 1);
    assert_eq!(refs.read_reflog(&branch("a/b/c")).expect("kept").len(), 2);
}

#[test]
fn an_interrupted_edit_is_carried_out_from_wherever_it_stopped() {
    let edits = [
        delete(branch("old")),
        to(branch("old/new"), Expect::Absent, 1),
        to(RefName::tag("t").expect("a name"), Expect::Absent, 2),
    ];
    // What a crash after so many steps leaves: 0 = only refs.pending, then log lines, deletion, new values.
    for done in 0..=5 {
        let (dir, refs) = refs();
        refs.edit(&[to(branch("old"), Expect::Absent, 1)], WHO, "", 0)
            .expect("made");
        let mut pending = String::new();
        let mut entries = Vec::new();
        for edit in &edits {
            let entry = ReflogEntry {
                old: refs.get(&edit.name).expect("read"),
                new: edit.new,
                time: 7,
                who: WHO.to_owned(),
                why: "rename".to_owned(),
            };
            pending.push_str(&format!("{} {}", edit.name, entry.to_line()));
            entries.push((edit.name.clone(), entry));
        }
        for (name, entry) in entries.iter().take(done) {
            reflog::append(dir.path(), name, &entry.to_line()).expect("appended");
        }
        if done >= 4 {
            refs.delete(&branch("old")).expect("deleted");
        }
        if done >= 5 {
            refs.write(&branch("old/new"), commit(1)).expect("written");
        }
        fs::write(dir.path().join(PENDING), pending).expect("written");

        let expected: Vec<RefName> = edits[1..].iter().map(|edit| edit.name.clone()).collect();
        let reopened = Refs::open(dir.path()).expect("recovered");
        assert_eq!(
            reopened.list("").expect("listed").into_keys().collect::<Vec<_>>(),
            expected,
            "{done} steps done"
        );
        assert!(!dir.path().join(PENDING).exists());
        for (name, entry) in &entries {
            let log = reopened.read_reflog(name).expect("read");
            assert_eq!(log.iter().filter(|other| *other == entry).count(), 1, "{name}");
        }
    }
}

/// The log is written before the ref: what a crash between the two leaves must not be in the way.
#[test]
fn an_interrupted_edit_of_one_ref_was_not_made_and_can_be_made_again() {
    let (dir, refs) = refs();
    let main = branch("main");
    refs.edit(&[to(main.clone(), Expect::Absent, 1)], WHO, "init", 1)
        .expect("made");
    let entry = ReflogEntry {
        old: Some(commit(1)),
        new: Some(commit(2)),
        time: 2,
        who: WHO.to_owned(),
        why: "commit".to_owned(),
    };
    reflog::append(dir.path(), &main, &entry.to_line()).expect("appended");
    let reopened = Refs::open(dir.path()).expect("opened");
    assert_eq!(reopened.get(&main).expect("read"), Some(commit(1)));
    reopened
        .edit(
            &[to(main.clone(), Expect::Exactly(commit(1)), 3)],
            WHO,
            "commit",
            3,
        )
        .expect("moved");
    let news: Vec<_> = reopened
        .read_reflog(&main)
        .expect("read")
        .iter()
        .map(|entry| entry.new)
        .collect();
    assert_eq!(news, [Some(commit(1)), Some(commit(2)), Some(commit(3))]);
}

#[test]
fn a_reader_that_was_open_sees_an_interrupted_edit_done() {
    let (dir, refs) = refs();
    let entry = ReflogEntry {
        old: None,
        new: Some(commit(1)),
        time: 7,
        who: WHO.to_owned(),
        why: "push".to_owned(),
    };
    fs::write(
        dir.path().join(PENDING),
        format!("refs/heads/main {}", entry.to_line()),
    )
    .expect("written");
    assert_eq!(refs.get(&branch("main")).expect("read"), Some(commit(1)));
}

#[test]
fn of_many_who_swap_the_same_ref_one_wins_each_round() {
    let (_dir, refs) = refs();
    let main = branch("main");
    refs.edit(&[to(main.clone(), Expect::Absent, 0xFF)], WHO, "", 0)
        .expect("made");
    let mut present = commit(0xFF);
    for round in 0..5_u8 {
        let barrier = Barrier::new(4);
        let winners: Vec<u8> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u8)
                .map(|racer| {
                    let (refs, main, barrier) = (&refs, &main, &barrier);
                    scope.spawn(move || {
                        let new = round * 4 + racer + 1;
                        barrier.wait();
                        refs.edit(&[to(main.clone(), Expect::Exactly(present), new)], WHO, "", 1)
                            .is_ok()
                            .then_some(new)
                    })
                })
                .collect();
            threads
                .into_iter()
                .filter_map(|racer| racer.join().expect("ended well"))
                .collect()
        });
        assert_eq!(winners.len(), 1, "{winners:?}");
        present = commit(winners[0]);
        assert_eq!(refs.get(&main).expect("read"), Some(present));
    }
    assert_eq!(refs.read_reflog(&main).expect("read").len(), 6);
}

#[test]
fn damage_is_named_and_strange_files_are_not_refs() {
    let (dir, refs) = refs();
    refs.edit(&[to(branch("main"), Expect::Absent, 1)], WHO, "", 0)
        .expect("made");
    fs::write(dir.path().join("refs/heads/.tmp-1-1"), b"x").expect("written");
    fs::write(dir.path().join("refs/heads/main.lock"), b"x").expect("written");
    assert_eq!(refs.list("refs/heads/").expect("listed").len(), 1);
    for damage in ["", "zz", &"ab".repeat(32)[..63], &"00".repeat(33)] {
        fs::write(dir.path().join("refs/heads/main"), damage).expect("written");
        assert!(
            matches!(refs.get(&branch("main")), Err(ObjectsError::DamagedRef { .. })),
            "{damage:?}"
        );
        let others = refs.edit(&[to(branch("other"), Expect::Any, 2)], WHO, "", 0);
        others.expect("another ref is made and moved");
        let (found, damaged) = refs.survey("refs/heads/").expect("listed");
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [branch("other")]);
        assert_eq!(damaged.into_iter().collect::<Vec<_>>(), [branch("main")]);
    }
    let exactly = refs.edit(&[to(branch("main"), Expect::Exactly(commit(1)), 2)], WHO, "", 0);
    assert!(matches!(exactly, Err(ObjectsError::DamagedRef { .. })));
    refs.edit(&[delete(branch("main"))], WHO, "", 0).expect("deleted");
    assert_eq!(refs.get(&branch("main")).expect("read"), None);
    let log = refs.read_reflog(&branch("main")).expect("a log");
    assert_eq!(log.last().map(|entry| entry.new), Some(None));
}

#[test]
fn head_names_a_branch() {
    let (dir, refs) = refs();
    assert!(refs.head().is_err());
    refs.set_head("feature/one").expect("set");
    assert_eq!(refs.head().expect("read"), "feature/one");
    assert_eq!(
        fs::read_to_string(dir.path().join("HEAD")).expect("read"),
        "ref: refs/heads/feature/one\n"
    );
    assert!(refs.set_head("../x").is_err());
    fs::write(dir.path().join("HEAD"), "ref: refs/heads/../x\n").expect("written");
    assert!(matches!(refs.head(), Err(ObjectsError::DamagedHead(_))));
}

#[test]
fn a_name_that_means_another_ref_is_not_made_and_one_that_is_there_can_go() {
    let (dir, refs) = refs();
    let edit = |edits: &[RefEdit]| refs.edit(edits, WHO, "test", 1);
    let named = [
        branch("heads/x"),
        branch("refs/heads/x"),
        RefName::tag("tags/x").expect("safe"),
        RefName::origin("heads", "x").expect("safe"),
        RefName::origin("cloud", "tags/x").expect("safe"),
    ];
    for name in named {
        let refused = edit(&[
            to(branch("good"), Expect::Any, 1),
            to(name.clone(), Expect::Any, 1),
        ]);
        assert!(
            matches!(refused, Err(ObjectsError::Name(_))),
            "{name}: {refused:?}"
        );
        assert_eq!(refs.get(&branch("good")).expect("read"), None, "all or nothing");
        assert!(!dir.path().join("log").exists());
        // As programs did that reserved fewer names.
        let path = dir.path().join(name.to_string());
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&path, format!("{}\n", commit(2))).expect("written");
        assert_eq!(refs.list("").expect("listed").keys().collect::<Vec<_>>(), [&name]);
        edit(&[to(name.clone(), Expect::Exactly(commit(2)), 3)]).expect("moved");
        edit(&[delete(name.clone())]).expect("deleted");
        assert!(refs.list("").expect("listed").is_empty());
        fs::remove_dir_all(dir.path().join("log")).expect("removed");
    }
}
