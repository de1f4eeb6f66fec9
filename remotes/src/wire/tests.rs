use neon_objects::{Attestation, WalDigest};
use neon_types::{Lsn, LsnRange, ObjectId, RepoId, TimelineId};
use proptest::prelude::*;

use super::*;
use crate::{Divergence, Head, Held, Identity, Part, PartKind, Possession, TimelineFacts, Volume};

const TIMELINE: TimelineId = TimelineId([0x11; 16]);
const FORK: TimelineId = TimelineId([0x22; 16]);
const REPOSITORY: RepoId = RepoId([0x33; 16]);

fn object(byte: u8) -> ObjectId {
    ObjectId::from_bytes([byte; 32])
}

fn commit(byte: u8) -> CommitId {
    CommitId(object(byte))
}

fn range(start: u64, end: u64) -> LsnRange {
    LsnRange {
        start: Lsn(start),
        end: Lsn(end),
    }
}

fn position(lsn: u64) -> Position {
    Position {
        timeline: TIMELINE,
        lsn: Lsn(lsn),
    }
}

fn ladders() -> Vec<Ladder> {
    let rung = WalDigest {
        segment: 1,
        start: Lsn(0x100_0028),
        end: Lsn(0x200_0000),
        blake3: [0xdd; 32],
    };
    vec![Ladder {
        timeline: TIMELINE,
        rungs: vec![rung],
    }]
}

fn holdings() -> Holdings {
    Holdings {
        possession: Possession {
            held: vec![Held {
                timeline: TIMELINE,
                ranges: vec![range(8, 64), range(128, 256)],
            }],
        },
        commits: vec![commit(1), commit(2)],
    }
}

/// One of each message and of each variant inside.
fn samples() -> Vec<Message> {
    let tip = Tip {
        commit: commit(0xc1),
        running: true,
        bytes: vec![1, 2, 3],
    };
    let identity = Identity {
        repository: REPOSITORY,
        roots: vec![TIMELINE],
        system_id: 0x0102_0304_0506_0708,
        head: Some("main".to_owned()),
    };
    let head = |byte, lsn| Head {
        commit: commit(byte),
        position: position(lsn),
    };
    let mut samples = vec![
        Message::Hello(Box::new(Hello {
            min: 1,
            max: 1,
            identity: identity.clone(),
            tip: Some(tip.clone()),
            holdings: Some(holdings()),
        })),
        Message::Hello(Box::new(Hello {
            min: 1,
            max: 2,
            identity: Identity {
                roots: Vec::new(),
                head: None,
                ..identity
            },
            tip: None,
            holdings: None,
        })),
        Message::LookUp("feature/x".to_owned()),
        Message::Tip(Some(tip)),
        Message::Tip(None),
        Message::ListBranches,
        Message::Branches(vec![Listed {
            name: "main".to_owned(),
            head: commit(5),
            running: false,
        }]),
        Message::Count {
            commit: commit(6),
            since: position(104),
        },
        Message::Counted(Some(7)),
        Message::Counted(None),
        Message::Push(Push {
            version: 1,
            flags: Flags {
                force: true,
                dry_run: false,
                extra: true,
            },
            repository: REPOSITORY,
            commit: vec![9, 8, 7],
        }),
        Message::Pull(Pull {
            version: 1,
            flags: Flags {
                dry_run: true,
                ..Flags::default()
            },
            repository: REPOSITORY,
            target: commit(0xc2),
        }),
        Message::Holdings(holdings()),
        Message::Offer(Box::new(Offer {
            flags: Flags {
                extra: true,
                ..Flags::default()
            },
            volume: Volume {
                commits: 1,
                layers: 1,
                wal: 1,
                bytes: 123,
            },
            timelines: vec![
                TimelineFacts {
                    id: TIMELINE,
                    ancestor: None,
                    tli: 1,
                    writer: REPOSITORY,
                    start: Lsn(8),
                    facts: vec![0xfa],
                    attestations: Vec::new(),
                },
                TimelineFacts {
                    id: FORK,
                    ancestor: Some(position(104)),
                    tli: 2,
                    writer: REPOSITORY,
                    start: Lsn(104),
                    facts: Vec::new(),
                    attestations: vec![Attestation {
                        range: range(104, 200),
                        blake3: [0xb3; 32],
                        key: [0xce; 32],
                        signature: [0x51; 64],
                    }],
                },
            ],
            ladders: ladders(),
            left_out: vec![commit(3)],
            parts: vec![
                Part {
                    id: object(1),
                    len: 3,
                    kind: PartKind::Commit,
                },
                Part {
                    id: object(2),
                    len: 40,
                    kind: PartKind::Layer {
                        timeline: TIMELINE,
                        range: range(8, 104),
                    },
                },
                Part {
                    id: object(3),
                    len: 80,
                    kind: PartKind::Wal {
                        timeline: FORK,
                        range: range(104, 184),
                    },
                },
            ],
        })),
        Message::Have(vec![3, 0, 17]),
        Message::Chunk(Chunk {
            part: 2,
            offset: 1 << 20,
            bytes: ChunkBytes::Raw(vec![1, 2, 3]),
        }),
        Message::Chunk(Chunk {
            part: 2,
            offset: 0,
            bytes: ChunkBytes::Zstd(vec![4, 5]),
        }),
        Message::Done,
        Message::Settled(Settled {
            motion: Motion::Forward,
            head: Some(commit(0xc3)),
        }),
        Message::Settled(Settled {
            motion: Motion::Stay,
            head: None,
        }),
        Message::WantLadders,
        Message::Ladders(ladders()),
    ];
    for phase in [
        Phase::Negotiating,
        Phase::Planning,
        Phase::Transferring,
        Phase::Accepting,
    ] {
        samples.push(Message::Beat(Beat {
            phase,
            done: 1,
            total: 2,
        }));
    }
    for kind in [FailKind::Other, FailKind::Damaged(4), FailKind::Protocol] {
        samples.push(Message::Failed(Failure {
            kind,
            message: "disk full".to_owned(),
            hint: "make room".to_owned(),
        }));
    }
    let branch = || "main".to_owned();
    for refusal in [
        Refusal::Unrelated {
            incoming: TIMELINE,
            there: FORK,
        },
        Refusal::Ahead {
            branch: branch(),
            head: head(1, 104),
        },
        Refusal::Diverged {
            branch: branch(),
            divergence: Box::new(Divergence {
                incoming: head(1, 208),
                current: head(2, 304),
                common: position(104),
                incoming_transactions: Some(3),
                current_transactions: None,
            }),
        },
        Refusal::EndpointRuns { branch: branch() },
        Refusal::Moved {
            branch: branch(),
            head: Some(commit(9)),
        },
        Refusal::NoBranch { branch: branch() },
        Refusal::NotReadable {
            position: position(8),
            missing: "layer".to_owned(),
        },
        Refusal::LadderMismatch {
            timeline: TIMELINE,
            start: Lsn(16),
            end: Lsn(32),
            last_equal: Some(Lsn(16)),
        },
        Refusal::Limit {
            what: "too much".to_owned(),
        },
        Refusal::NotAllowed {
            reason: "read-only".to_owned(),
        },
        Refusal::Contradiction {
            what: "it begins elsewhere".to_owned(),
        },
        Refusal::Settings {
            branch: branch(),
            names: vec!["work_mem".to_owned(), "my.setting".to_owned()],
        },
    ] {
        samples.push(Message::Refused(Box::new(refusal)));
    }
    samples.push(Message::Want(Want {
        version: 1,
        repository: REPOSITORY,
        objects: vec![object(7), object(8)],
    }));
    samples.push(Message::Found(vec![Some(1 << 20), None]));
    samples
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of version 2 do not change. `NEON_BLESS=1` writes the file anew, for a new version only.
#[test]
fn the_bytes_are_those_of_the_golden_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/protocol-v2.txt");
    let now: String = samples()
        .iter()
        .map(|message| format!("{} {}\n", message.name(), hex(&message.encode())))
        .collect();
    if std::env::var_os("NEON_BLESS").is_some() {
        std::fs::write(path, &now).expect("written");
    }
    let golden = std::fs::read_to_string(path).expect("the golden file");
    for (golden, now) in golden.lines().zip(now.lines()) {
        assert_eq!(golden, now);
    }
    assert_eq!(golden.lines().count(), samples().len());
}

#[test]
fn every_message_reads_back() {
    for message in samples() {
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn every_truncation_is_refused() {
    for message in samples() {
        let bytes = message.encode();
        for len in 0..bytes.len() {
            // A chunk's bytes and a shorter zstd frame are all there is to tell: found when they are used.
            let shorter = Message::decode(&bytes[..len]);
            if !matches!(message, Message::Chunk(_)) {
                assert!(
                    shorter.is_err(),
                    "{} cut to {len} of {} bytes was taken",
                    message.name(),
                    bytes.len()
                );
            }
        }
    }
}

#[test]
fn only_the_hello_may_grow() {
    for message in samples() {
        let mut bytes = message.encode();
        bytes.push(0);
        match message {
            Message::Hello(_) => assert_eq!(Message::decode(&bytes), Ok(message)),
            // More bytes of the part.
            Message::Chunk(_) => {}
            _ => assert!(
                Message::decode(&bytes).is_err(),
                "{} took a byte too many",
                message.name()
            ),
        }
    }
}

#[test]
fn counts_are_checked_before_anything_is_allocated() {
    let mut bytes = vec![12];
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(
        Message::decode(&bytes).is_err(),
        "four billion offsets in no bytes"
    );
    let mut bytes = vec![12];
    bytes.extend_from_slice(&60_000u32.to_le_bytes());
    let error = Message::decode(&bytes).expect_err("sixty thousand offsets in no bytes");
    assert_eq!(error.message, "have");
    let mut bytes = vec![2];
    bytes.extend_from_slice(&(1u32 << 30).to_le_bytes());
    assert!(Message::decode(&bytes).is_err(), "a name of a gigabyte");
    assert!(Message::decode(&vec![15; MAX_MESSAGE + 1]).is_err());
}

#[test]
fn names_ranges_and_lengths_that_cannot_be_are_refused() {
    assert!(Message::decode(&Message::LookUp("../../etc".to_owned()).encode()).is_err());
    assert!(Message::decode(&Message::LookUp("-d".to_owned()).encode()).is_err());
    let offer = |part: Part| {
        Message::Offer(Box::new(Offer {
            parts: vec![part],
            ..Offer::default()
        }))
        .encode()
    };
    let wal = |len, range| Part {
        id: object(1),
        len,
        kind: PartKind::Wal {
            timeline: TIMELINE,
            range,
        },
    };
    for len in [0, crate::MAX_PART + 1] {
        assert!(
            Message::decode(&Message::Found(vec![Some(len)]).encode()).is_err(),
            "{len}"
        );
    }
    let want = Message::Want(Want {
        version: 1,
        repository: REPOSITORY,
        objects: vec![object(1); MAX_WANTED + 1],
    });
    assert!(Message::decode(&want.encode()).is_err());
    assert!(Message::decode(&offer(wal(8, range(8, 16)))).is_ok());
    for bad in [
        wal(9, range(8, 16)),
        wal(8, range(16, 8)),
        wal(0, range(8, 8)),
        Part {
            id: object(1),
            len: crate::MAX_PART + 1,
            kind: PartKind::Layer {
                timeline: TIMELINE,
                range: range(0, 8),
            },
        },
        Part {
            id: object(1),
            len: 1 << 40,
            kind: PartKind::Commit,
        },
    ] {
        assert!(Message::decode(&offer(bad)).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn what_a_stranger_says_cannot_drive_a_terminal() {
    let failure = Failure {
        kind: FailKind::Other,
        message: "\x1b[2Jgone\r".to_owned(),
        hint: "x".repeat(100_000),
    };
    let Ok(Message::Failed(read)) = Message::decode(&Message::Failed(failure).encode()) else {
        panic!("not read")
    };
    assert!(
        !read.message.contains(|c: char| c.is_control()),
        "{:?}",
        read.message
    );
    assert_eq!(read.hint.len(), 4 << 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(tag in 0u8..24, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut message = vec![tag];
        message.extend_from_slice(&bytes);
        let _ = Message::decode(&message);
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic_and_have_one_spelling(
        index in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let samples = samples();
        let mut bytes = index.get(&samples).encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(message) = Message::decode(&bytes) {
            // Text is cleaned and a hello may have grown; everything else reads back to the very bytes.
            if !matches!(message, Message::Hello(_) | Message::Refused(_) | Message::Failed(_)) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
