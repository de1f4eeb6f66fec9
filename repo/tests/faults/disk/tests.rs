use super::*;

fn text(left: &Leftovers, path: &str) -> Option<String> {
    match left.get(path)? {
        (_, Left::File(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        (_, Left::Directory) => None,
    }
}

fn write_at(file: Node, at: u64, text: &str) -> Change {
    Change::Write {
        file,
        at,
        bytes: text.as_bytes().into(),
    }
}

fn create(name: &str) -> Change {
    Change::Create {
        directory: ROOT,
        name: name.to_owned(),
        mode: 0o600,
    }
}

#[test]
fn what_is_not_synced_is_lost_torn_or_there() {
    let mut disk = Disk::new();
    for change in [
        create("a"),
        write_at(1, 0, "old."),
        Change::Sync(1),
        Change::Sync(ROOT),
    ] {
        disk.apply(&change);
    }
    disk.apply(&write_at(1, 4, "new."));
    disk.apply(&create("b"));
    assert_eq!(text(&disk.after(Cut::Killed), "a").as_deref(), Some("old.new."));
    assert_eq!(text(&disk.after(Cut::Lost), "a").as_deref(), Some("old."));
    assert_eq!(text(&disk.after(Cut::Torn), "a").as_deref(), Some("old.ne"));
    assert_eq!(text(&disk.after(Cut::Lost), "b"), None);
    assert_eq!(text(&disk.after(Cut::NamesFirst), "b").as_deref(), Some(""));
    assert_eq!(
        Disk::of(&disk.after(Cut::Torn)).after(Cut::Lost),
        disk.after(Cut::Torn)
    );
}

#[test]
fn a_rename_without_an_fsync_of_its_directory_was_not() {
    let mut disk = Disk::new();
    for change in [
        create("a"),
        Change::Sync(ROOT),
        create(".tmp"),
        write_at(2, 0, "new"),
    ] {
        disk.apply(&change);
    }
    let from = (ROOT, ".tmp".to_owned());
    let to = (ROOT, "a".to_owned());
    disk.apply(&Change::Rename { from, to });
    assert_eq!(text(&disk.after(Cut::Killed), "a").as_deref(), Some("new"));
    assert_eq!(text(&disk.after(Cut::Lost), "a").as_deref(), Some(""));
    disk.apply(&Change::Sync(ROOT));
    assert_eq!(
        text(&disk.after(Cut::Lost), "a").as_deref(),
        Some(""),
        "its data was never synced"
    );
    disk.apply(&Change::Sync(2));
    assert_eq!(text(&disk.after(Cut::Lost), "a").as_deref(), Some("new"));
}

#[test]
fn an_fsync_after_a_failed_one_writes_only_what_came_since() {
    let mut disk = Disk::new();
    for change in [
        create("a"),
        Change::Sync(ROOT),
        write_at(1, 0, "one "),
        Change::SyncFailed(1),
        write_at(1, 4, "two"),
        Change::Sync(1),
    ] {
        disk.apply(&change);
    }
    assert_eq!(text(&disk.after(Cut::Killed), "a").as_deref(), Some("one two"));
    assert_eq!(text(&disk.after(Cut::Lost), "a").as_deref(), Some("\0\0\0\0two"));
}
