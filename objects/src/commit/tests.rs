use proptest::prelude::*;

use super::*;

/// The commit of the golden file.
pub(crate) fn sample() -> Commit {
    let (root, child) = (TimelineId([0x11; 16]), TimelineId([0x22; 16]));
    Commit {
        position: Position {
            timeline: child,
            lsn: Lsn(0x0300_0100),
        },
        prev_record: Lsn(0x0300_00C8),
        path: vec![
            Fork {
                timeline: root,
                tli: 1,
                start: Lsn(0x0100_0028),
            },
            Fork {
                timeline: child,
                tli: 0x222,
                start: Lsn(0x0200_0060),
            },
        ],
        checkpoint: b"checkpoint state".to_vec(),
        digests: vec![
            WalDigest {
                segment: 2,
                start: Lsn(0x0200_0060),
                end: Lsn(0x0300_0000),
                blake3: [0xD1; 32],
            },
            WalDigest {
                segment: 3,
                start: Lsn(0x0300_0000),
                end: Lsn(0x0300_0100),
                blake3: [0xD2; 32],
            },
        ],
        parents: vec![CommitId(ObjectId::from_bytes([0x33; 32]))],
        system_id: 0x1234_5678_9ABC_DEF0,
        environment: Environment {
            pg_version_num: 170_011,
            architecture: "x86_64".to_owned(),
            char_signed: true,
            libc: "glibc 2.36".to_owned(),
            icu: "72.1".to_owned(),
            segment_size: 16 << 20,
            preload: vec!["pg_stat_statements".to_owned()],
            checksums: true,
        },
        settings: "work_mem = '8MB'\n".to_owned(),
        author: "Ada Lovelace <ada@example.org>".to_owned(),
        time: 1_767_225_600_000_000,
        message: "load the census\n\nfirst half".to_owned(),
    }
}

fn refusal(bytes: &[u8]) -> String {
    match Commit::decode(bytes) {
        Err(ObjectsError::BadCommit(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// A change of these bytes breaks every repository: it needs a new version of the format.
#[test]
fn the_golden_commit_reads_and_writes_as_ever() {
    let golden: &[u8] = include_bytes!("../../tests/golden/commit-v1.bin");
    assert_eq!(Commit::decode(golden).expect("read"), sample());
    assert_eq!(sample().encode(), golden);
    assert_eq!(
        sample().id().to_string(),
        include_str!("../../tests/golden/commit-v1.id").trim_end()
    );
}

#[test]
fn every_cut_is_noticed() {
    let bytes = sample().encode();
    for len in 0..bytes.len() {
        assert!(Commit::decode(&bytes[..len]).is_err(), "{len} bytes were enough");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(refusal(&longer), "1 bytes too many");
}

#[test]
fn lengths_are_limited_before_anything_is_allocated() {
    let bytes = sample().encode();
    // Offset of the path's count: magic, version, timeline, lsn, prev, system id, time.
    let path = 8 + 4 + 16 + 4 * 8;
    let with = |at: usize, count: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
        refusal(&bytes)
    };
    assert_eq!(
        with(path, u32::MAX),
        "path: 4294967295 is more than the limit of 4096"
    );
    assert_eq!(with(path, 4096), "cut off in path");
    let checkpoint = path + 4 + 2 * 28;
    assert_eq!(
        with(checkpoint, 65_537),
        "checkpoint state: 65537 is more than the limit of 65536"
    );
    assert_eq!(with(8, 2), "version 2 is not known to this program");
}

#[test]
fn impossible_commits_are_refused_by_name() {
    type Damage = fn(&mut Commit);
    let cases: &[(Damage, &str)] = &[
        (|c| c.path.clear(), "the path is empty"),
        (
            |c| c.path[1].timeline = c.path[0].timeline,
            "the path ends on timeline",
        ),
        (|c| c.path[1].start = Lsn(8), "begins out of order"),
        (|c| c.path[0].tli = 0, "impossible start or number"),
        (
            |c| c.position.lsn = Lsn(0x0300_0101),
            "is not the end of a record",
        ),
        (|c| c.prev_record = c.position.lsn, "not before"),
        (|c| c.digests.swap(0, 1), "out of order"),
        (|c| c.digests[1].end = Lsn(0x0300_0108), "out of order"),
        (
            |c| c.author = "x".repeat(1025),
            "author: 1025 is more than the limit",
        ),
        (
            |c| c.parents = vec![c.parents[0]; 17],
            "parents: 17 is more than the limit",
        ),
        (
            |c| c.message = "x".repeat(MAX_MESSAGE + 1),
            "message: 65537 is more than the limit",
        ),
        (
            |c| c.settings = "x".repeat(MAX_SETTINGS + 1),
            "settings: 262145 is more than the limit",
        ),
        (|c| c.message = "a\u{1b}[2Jb".to_owned(), "control characters"),
        (|c| c.message = "a\rb".to_owned(), "control characters"),
        (|c| c.author = "Ada\n<a@b>".to_owned(), "control characters"),
        (|c| c.settings = "a = '\u{7}'".to_owned(), "control characters"),
        (
            |c| c.environment.preload = vec!["\u{9b}2J".to_owned()],
            "control characters",
        ),
    ];
    for (damage, expected) in cases {
        let mut commit = sample();
        damage(&mut commit);
        let why = refusal(&commit.encode());
        assert!(why.contains(expected), "expected {expected:?}, got {why:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// One commit has one spelling: whatever is accepted is what it encodes to.
    #[test]
    fn what_is_read_is_written_the_same(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = sample().encode();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(commit) = Commit::decode(&bytes) {
            prop_assert_eq!(commit.encode(), bytes);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut framed = COMMIT_MAGIC.to_vec();
        framed.extend_from_slice(&1_u32.to_le_bytes());
        framed.extend_from_slice(&bytes);
        let _ = Commit::decode(&framed);
    }
}
