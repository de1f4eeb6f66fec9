use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;

fn store() -> (tempfile::TempDir, ObjectStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = ObjectStore::open(dir.path().join("objects")).expect("opened");
    (dir, store)
}

fn hash(bytes: &[u8]) -> ObjectId {
    ObjectId::from_bytes(*blake3::hash(bytes).as_bytes())
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Changes one bit of an object behind the store's back.
fn flip(store: &ObjectStore, id: ObjectId) {
    let path = store.path(id);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("made writable");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 3).expect("read");
    file.write_all_at(&[byte[0] ^ 4], 3).expect("written");
}

#[test]
fn an_object_is_named_by_its_bytes_and_lies_in_its_fan_out_directory() {
    let (dir, store) = store();
    let bytes = noise(3_000_000);
    let mut writer = store.writer().expect("a writer");
    for piece in bytes.chunks(77_777) {
        writer.write_all(piece).expect("written");
    }
    assert_eq!(writer.len(), 3_000_000);
    let id = writer.finish().expect("finished");
    assert_eq!(id, hash(&bytes));
    let hex = id.to_string();
    assert!(
        dir.path()
            .join("objects")
            .join(&hex[..2])
            .join(&hex[2..])
            .is_file()
    );
    assert_eq!(store.read(id, 3_000_000).expect("read"), bytes);
    assert_eq!(store.verify(id).expect("verified"), 3_000_000);
    assert_eq!(store.len(id).expect("there"), 3_000_000);
    assert_eq!(store.peek(id, 5).expect("read"), bytes[..5]);
    assert!(matches!(
        store.read(id, 2_999_999),
        Err(ObjectsError::TooLong { len: 3_000_000, .. })
    ));
    assert_eq!(store.put(b"").expect("put"), hash(b""));
}

#[test]
fn an_unfinished_object_leaves_nothing() {
    let (_dir, store) = store();
    let mut writer = store.writer().expect("a writer");
    writer.write_all(&noise(1 << 20)).expect("written");
    drop(writer);
    assert_eq!(
        fs::read_dir(store.directory()).expect("listed").count(),
        1,
        "incoming/ alone"
    );
    fs::write(store.directory().join(".tmp-99999999-0"), b"left by a crash").expect("written");
    assert_eq!(store.sweep_temporaries().expect("swept"), 1);
    assert_eq!(store.iter().expect("listed").count(), 0);
}

#[test]
fn missing_and_damaged_objects_are_told_apart_and_putting_again_heals() {
    let (_dir, store) = store();
    let id = store.put(b"some bytes").expect("put");
    let other = hash(b"never put");
    assert!(matches!(store.read(other, 10), Err(ObjectsError::Missing(missing)) if missing == other));
    assert!(matches!(store.verify(other), Err(ObjectsError::Missing(_))));
    assert!(!store.remove(other).expect("nothing to remove"));
    flip(&store, id);
    assert!(matches!(store.read(id, 10), Err(ObjectsError::Damaged { id: named, .. }) if named == id));
    assert!(matches!(store.verify(id), Err(ObjectsError::Damaged { .. })));
    assert_eq!(store.put(b"some bytes").expect("put again"), id);
    store.verify(id).expect("whole again");
    assert!(store.remove(id).expect("removed"));
    assert!(!store.contains(id));
}

#[test]
fn ids_are_listed_in_order_and_found_by_prefix() {
    let (_dir, store) = store();
    let mut expected: Vec<ObjectId> = (0..600_u32)
        .map(|number| store.put(&number.to_le_bytes()).expect("put"))
        .collect();
    expected.sort_unstable();
    fs::write(store.directory().join("ab-not-ours"), b"x").expect("written");
    fs::create_dir_all(store.directory().join("ab")).expect("made");
    fs::write(store.directory().join("ab/README"), b"x").expect("written");
    assert_eq!(store.iter().expect("listed").collect::<Vec<_>>(), expected);
    let id = expected[77];
    let prefix: Prefix = id.to_string()[..12].parse().expect("a prefix");
    assert_eq!(store.resolve(prefix).expect("resolved"), [id]);
    let absent: Prefix = hash(b"absent").to_string()[..20].parse().expect("a prefix");
    assert_eq!(store.resolve(absent).expect("resolved"), []);
}

#[test]
fn a_cut_transfer_goes_on_where_it_was() {
    let (_dir, store) = store();
    let bytes = noise(100_000);
    let id = hash(&bytes);
    let mut staging = store.staging(id).expect("begun");
    staging.append(&bytes[..40_000]).expect("appended");
    drop(staging);
    assert_eq!(store.incoming().expect("listed"), [Incoming { id, len: 40_000 }]);
    assert_eq!(store.staged(id).expect("looked at"), 40_000);
    assert!(!store.contains(id));
    let mut staging = store.staging(id).expect("resumed").limited(100_000);
    assert_eq!(staging.len(), 40_000);
    staging.append(&bytes[40_000..]).expect("appended");
    assert!(matches!(staging.append(b"x"), Err(ObjectsError::TooLong { .. })));
    assert_eq!(staging.finish().expect("verified"), id);
    assert_eq!(store.read(id, 100_000).expect("read"), bytes);
    assert_eq!(store.incoming().expect("listed"), []);
    // What is in the store already cannot be written through a new transfer of the same name.
    let mut again = store.staging(id).expect("begun");
    again.append(b"garbage").expect("appended");
    assert!(matches!(again.finish(), Err(ObjectsError::Damaged { .. })));
    store.verify(id).expect("untouched");
}

#[test]
fn two_transfers_of_one_object_do_not_wait_for_each_other() {
    let (_dir, store) = store();
    let bytes = noise(10_000);
    let id = hash(&bytes);
    let mut slow = store.staging(id).expect("begun");
    slow.append(&bytes[..4_000]).expect("appended");
    assert_eq!(
        store.staged(id).expect("looked at"),
        0,
        "somebody else goes on there"
    );
    let mut cut = store.staging(id).expect("begun beside it");
    cut.append(&bytes[..100]).expect("appended");
    drop(cut);
    let mut quick = store.staging(id).expect("begun beside it");
    assert!(quick.is_empty());
    quick.append(&bytes).expect("appended");
    assert_eq!(quick.finish().expect("verified"), id);
    assert_eq!(store.read(id, 10_000).expect("read"), bytes);
    slow.append(&bytes[4_000..]).expect("appended");
    assert_eq!(slow.finish().expect("verified"), id, "the same object again");
    store.verify(id).expect("whole");
    assert_eq!(store.incoming().expect("listed"), []);
    assert_eq!(
        store.sweep_temporaries().expect("swept"),
        0,
        "nothing stays behind"
    );
}

#[test]
fn bytes_that_do_not_match_their_promised_name_are_thrown_away() {
    let (_dir, store) = store();
    let id = hash(b"promised");
    let mut staging = store.staging(id).expect("begun");
    staging.append(b"something else").expect("appended");
    assert!(matches!(staging.finish(), Err(ObjectsError::Damaged { .. })));
    assert!(!store.contains(id));
    let mut staging = store.staging(id).expect("begun again");
    assert!(staging.is_empty());
    staging.append(b"prom").expect("appended");
    staging.restart().expect("from the beginning");
    staging.append(b"promised").expect("appended");
    staging.finish().expect("verified");
}

#[test]
fn commits_are_told_from_other_objects() {
    let (_dir, store) = store();
    let commit = crate::commit::sample();
    let id = store.write_commit(&commit).expect("written");
    assert_eq!(id, commit.id());
    assert_eq!(store.read_commit(id).expect("read"), commit);
    let prefix: Prefix = id.to_string()[..8].parse().expect("a prefix");
    assert_eq!(store.resolve_commit(prefix).expect("resolved"), [id]);
    let other = store.put(b"not a commit").expect("put");
    assert!(matches!(
        store.read_commit(CommitId(other)),
        Err(ObjectsError::NotACommit(_))
    ));
    flip(&store, id.0);
    assert!(matches!(store.read_commit(id), Err(ObjectsError::Damaged { .. })));
    let mut impossible = commit;
    impossible.path.clear();
    assert!(matches!(
        store.write_commit(&impossible),
        Err(ObjectsError::BadCommit(_))
    ));
}

#[test]
fn a_collector_deletes_the_file_that_it_saw_and_nothing_that_is_used() {
    let (_dir, store) = store();
    let id = store.put(b"one").expect("stored");
    let seen = store.stored_file(id).expect("looked").expect("there");
    let sweep = store.uses().sweep();
    store.put(b"one").expect("stored again");
    assert!(!store.remove_unused(&sweep, id, seen).expect("refused"));
    drop(sweep);
    let sweep = store.uses().sweep();
    assert!(
        !store.remove_unused(&sweep, id, seen).expect("refused"),
        "another file since it was seen"
    );
    let seen = store.stored_file(id).expect("looked").expect("there");
    let hold = store.hold();
    assert!(store.touch(id));
    assert!(!store.remove_unused(&sweep, id, seen).expect("refused"));
    drop((hold, sweep));
    let sweep = store.uses().sweep();
    assert!(store.remove_unused(&sweep, id, seen).expect("removed"));
    store.sync_removals([id]).expect("durable");
    assert!(!store.touch(id), "gone: nobody may rely on it");
    assert!(!store.remove_unused(&sweep, id, seen).expect("nothing to do"));
}

#[test]
fn what_arrives_is_collected_only_while_no_transfer_has_it() {
    let (_dir, store) = store();
    let id = hash(b"hello world");
    let mut staging = store.staging(id).expect("begun");
    staging.append(b"hello ").expect("taken");
    let seen = store.incoming_file(id).expect("looked").expect("there");
    assert!(!store.remove_idle_incoming(id, seen).expect("busy"));
    staging.append(b"world").expect("taken");
    drop(staging);
    assert!(!store.remove_idle_incoming(id, seen).expect("it has grown"));
    let seen = store.incoming_file(id).expect("looked").expect("there");
    assert!(store.remove_idle_incoming(id, seen).expect("removed"));
    assert!(store.incoming().expect("listed").is_empty());
}

#[test]
fn what_nobody_goes_on_with_expires() {
    let (_dir, store) = store();
    let (old, busy) = (hash(b"old"), hash(b"busy"));
    drop(
        store
            .staging(old)
            .map(|mut staging| staging.append(b"ol"))
            .expect("begun"),
    );
    let mut staging = store.staging(busy).expect("begun");
    staging.append(b"bus").expect("taken");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    assert_eq!(store.expire_incoming(long_ago).expect("looked"), 0);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    assert_eq!(store.expire_incoming(later).expect("removed"), 2, "bytes");
    assert_eq!(
        store.incoming().expect("listed").len(),
        1,
        "what a transfer has stays"
    );
}

#[test]
fn what_a_process_left_on_the_point_of_being_an_object_is_gone_on_with() {
    let (_dir, store) = store();
    let id = hash(b"whole");
    let mut staging = store.staging(id).expect("begun");
    staging.append(b"whole").expect("appended");
    drop(staging);
    // Read-only is the last thing that it becomes before it gets its name.
    fs::set_permissions(store.incoming_path(id), Permissions::from_mode(0o400)).expect("set");
    let staging = store.staging(id).expect("gone on with");
    assert_eq!(staging.len(), 5);
    assert_eq!(staging.finish().expect("verified"), id);
}

#[test]
fn a_store_that_is_only_read_stays_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let put = |store: &ObjectStore, bytes: &[u8]| store.put(bytes).expect("put");
    let store = ObjectStore::open(directory.path().join("objects")).expect("opened");
    let old = put(&store, b"old");
    let listing = || {
        let entries = fs::read_dir(directory.path().join("objects")).expect("listed");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    let before = listing();
    let reading = ObjectStore::open_reading(directory.path().join("objects"));
    assert_eq!((store.mode(), reading.mode()), (Mode::Writing, Mode::Reading));
    assert_eq!(put(&reading, b"old"), old);
    let new = put(&reading, b"new");
    assert_eq!(reading.read(new, 100).expect("read"), b"new");
    assert_eq!(reading.read(old, 100).expect("read"), b"old");
    assert_eq!(listing(), before);
    assert!(!store.contains(new));
    let elsewhere = reading.path(new);
    assert!(elsewhere.is_file());
    drop(reading);
    assert!(!elsewhere.exists());
}
