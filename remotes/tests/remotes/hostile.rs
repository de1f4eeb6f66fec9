//! Peers that lie, babble, stall and bomb.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use neon_remotes::wire::*;
use neon_remotes::*;
use neon_transport::Channel;
use neon_types::{CommitId, Lsn, LsnRange, ObjectId, RepoId, TimelineId};

use crate::repo::{Random, Repo};
use crate::{How, assert_same, options, push, two};

/// Serves one conversation to a script and returns how it ended.
async fn against(
    to: &Arc<Repo>,
    command: String,
    options: Options,
    script: impl AsyncFnOnce(&mut Channel),
) -> Result<Served, RemoteError> {
    let (mut client, server) = Channel::pair();
    let there = to.clone();
    let served = tokio::spawn(async move { serve(&command, server, there.clone(), there, options).await });
    script(&mut client).await;
    drop(client);
    served.await.expect("no panic")
}

async fn say(channel: &mut Channel, message: &Message) {
    let _ = channel.send(message.encode().into()).await;
}

async fn hear(channel: &mut Channel) -> Message {
    Message::decode(&channel.recv().await.expect("a frame").expect("not the end")).expect("a message")
}

/// An honest push up to the offer, which the script may spoil.
async fn offering(
    from: &Arc<Repo>,
    to: &Arc<Repo>,
    spoil: impl FnOnce(&mut Offer),
    after: impl AsyncFnOnce(&mut Channel),
) -> Result<Served, RemoteError> {
    let head = from.head("main");
    let commit = from.content(head);
    let bytes = from.commit(head).expect("read").expect("there");
    let have = to.possession(&commit.path, Lsn::MAX).expect("possession");
    let plan = from
        .plan(&PlanRequest {
            target: commit.position,
            path: commit.path.clone(),
            have,
        })
        .expect("a plan");
    let mut parts = vec![Part {
        id: head.0,
        len: bytes.len() as u64,
        kind: PartKind::Commit,
    }];
    parts.extend(
        plan.parts
            .iter()
            .map(|part| from.prepare(part, &Meter::default()).expect("prepared")),
    );
    let mut offer = Offer {
        timelines: plan.timelines,
        parts,
        left_out: commit.parents.clone(),
        ..Offer::default()
    };
    spoil(&mut offer);
    let command = Command::Push {
        branch: "main".to_owned(),
        timeline: commit.position.timeline,
    }
    .to_string();
    against(to, command, options(), async move |channel: &mut Channel| {
        hear(channel).await;
        let push = Push {
            version: VERSION,
            flags: Flags::default(),
            repository: RepoId([9; 16]),
            commit: bytes,
        };
        say(channel, &Message::Push(push)).await;
        say(channel, &Message::Offer(Box::new(offer))).await;
        after(channel).await;
        // Whatever it answers is read, as a peer would.
        while let Ok(Some(_)) = channel.recv().await {}
    })
    .await
}

type Spoil = Box<dyn FnOnce(&mut Offer)>;

fn protocol(result: Result<Served, RemoteError>) -> String {
    match result {
        Err(RemoteError::Protocol(what)) => what,
        other => panic!("not a protocol error: {other:?}"),
    }
}

#[tokio::test]
async fn offers_that_contradict_the_commit_are_refused() {
    let (a, b) = two(1_000).await;
    a.write("main", 5_000);
    let before = b.head("main");
    let other = TimelineId([0xee; 16]);
    let spoils: Vec<(&str, Spoil)> = vec![
        ("no timelines", Box::new(|offer| offer.timelines.clear())),
        (
            "another start",
            Box::new(|offer| offer.timelines[0].start = Lsn(8)),
        ),
        ("another number", Box::new(|offer| offer.timelines[0].tli = 9)),
        (
            "an ancestor",
            Box::new(move |offer| {
                offer.timelines[0].ancestor = Some(neon_types::Position {
                    timeline: other,
                    lsn: Lsn(8),
                });
            }),
        ),
        (
            "a part of another timeline",
            Box::new(move |offer| {
                offer.parts[1].kind = PartKind::Layer {
                    timeline: other,
                    range: LsnRange {
                        start: Lsn(8),
                        end: Lsn(16),
                    },
                };
            }),
        ),
        (
            "a part beyond the end",
            Box::new(|offer| {
                let timeline = offer.timelines[0].id;
                offer.parts[1].kind = PartKind::Layer {
                    timeline,
                    range: LsnRange {
                        start: Lsn(4096),
                        end: Lsn(1 << 40),
                    },
                };
            }),
        ),
        (
            "a part before the start",
            Box::new(|offer| {
                let timeline = offer.timelines[0].id;
                offer.parts[1].kind = PartKind::Layer {
                    timeline,
                    range: LsnRange {
                        start: Lsn(0),
                        end: Lsn(4096),
                    },
                };
            }),
        ),
        (
            "a dry run that was not asked for",
            Box::new(|offer| {
                offer.flags.dry_run = true;
                offer.parts.clear();
            }),
        ),
    ];
    for (what, spoil) in spoils {
        let result = offering(&a, &b, spoil, async |_| {}).await;
        assert!(
            matches!(result, Err(RemoteError::Protocol(_))),
            "{what}: {result:?}"
        );
    }
    assert_eq!(b.head("main"), before);
    push(&a, "main", &b, "main", How::default())
        .await
        .expect("nothing was broken by all that");
    assert_same(&a, "main", &b, "main");
}

#[tokio::test]
async fn chunks_that_lie_are_refused() {
    let (a, b) = two(1_000).await;
    a.write("main", 50_000);
    let chunk = |part, offset, bytes| Message::Chunk(Chunk { part, offset, bytes });
    let bomb = zstd::bulk::compress(&vec![0; 300 << 20], 19).expect("compressed");
    assert!(bomb.len() < CHUNK, "a bomb that fits");
    let commit_len = a.commit(a.head("main")).expect("read").expect("there").len();
    let cases = vec![
        (
            "a part that was not offered",
            vec![chunk(7, 0, ChunkBytes::Raw(vec![1]))],
        ),
        ("a gap", vec![chunk(0, 100, ChunkBytes::Raw(vec![1]))]),
        (
            "an offset that overflows",
            vec![chunk(0, u64::MAX, ChunkBytes::Raw(vec![1, 2]))],
        ),
        (
            "more than the part",
            vec![chunk(0, 0, ChunkBytes::Raw(vec![1; commit_len + 1]))],
        ),
        ("a bomb", vec![chunk(1, 0, ChunkBytes::Zstd(bomb))]),
        ("no zstd", vec![chunk(1, 0, ChunkBytes::Zstd(vec![1, 2, 3]))]),
        (
            "backwards",
            vec![
                chunk(1, 0, ChunkBytes::Raw(vec![1; 10])),
                chunk(0, 0, ChunkBytes::Raw(vec![1; 10])),
            ],
        ),
        ("done too early", vec![Message::Done]),
        ("babble", vec![Message::ListBranches]),
    ];
    for (what, messages) in cases {
        let result = offering(
            &a,
            &b,
            |_| {},
            async |channel| {
                for message in &messages {
                    say(channel, message).await;
                }
                say(channel, &Message::Done).await;
            },
        )
        .await;
        assert!(
            matches!(result, Err(RemoteError::Protocol(_))),
            "{what}: {result:?}"
        );
    }
    push(&a, "main", &b, "main", How::default())
        .await
        .expect("what was staged meanwhile is found out");
    assert_same(&a, "main", &b, "main");
}

#[tokio::test]
async fn a_commit_that_is_missing_below_the_target_is_found_out() {
    let (a, b) = two(1_000).await;
    let target = a.write("main", 5_000);
    let lost = a.content(target).parents[0];
    // The receiver has never heard of the parent.
    let c = Arc::new(Repo::new(7));
    let result = offering(
        &a,
        &c,
        |offer| {
            offer.left_out.clear();
            offer.flags.extra = true;
        },
        async |channel| {
            let commit = a.content(target);
            let have = c.possession(&commit.path, Lsn::MAX).expect("possession");
            let plan = a
                .plan(&PlanRequest {
                    target: commit.position,
                    path: commit.path,
                    have,
                })
                .expect("a plan");
            let bytes = a.commit(target).expect("read").expect("there");
            say(
                channel,
                &Message::Chunk(Chunk {
                    part: 0,
                    offset: 0,
                    bytes: ChunkBytes::Raw(bytes),
                }),
            )
            .await;
            for (part, index) in plan.parts.iter().zip(1..) {
                let part = a.prepare(part, &Meter::default()).expect("prepared");
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut a.open_part(&part, 0).expect("open"), &mut bytes)
                    .expect("read");
                say(
                    channel,
                    &Message::Chunk(Chunk {
                        part: index,
                        offset: 0,
                        bytes: ChunkBytes::Raw(bytes),
                    }),
                )
                .await;
            }
            say(channel, &Message::Done).await;
        },
    )
    .await;
    let refusal = crate::refused(result);
    assert!(refusal.to_string().contains(&lost.to_string()), "{refusal}");
    assert_eq!(c.try_head("main"), None);
    let _ = b;
}

#[tokio::test]
async fn a_pull_of_a_commit_that_was_not_named_opens_nothing() {
    let (a, _) = two(1_000).await;
    let secret = a.write("main", 1_000);
    a.branch_at("public", "main", Some(Lsn(4096)));
    for target in [secret, CommitId(ObjectId::from_bytes([5; 32]))] {
        let result = against(
            &a,
            "branch_pull public -".to_owned(),
            options(),
            async |channel| {
                hear(channel).await;
                let pull = Pull {
                    version: VERSION,
                    flags: Flags::default(),
                    repository: RepoId([9; 16]),
                    target,
                };
                say(channel, &Message::Pull(pull)).await;
                say(channel, &Message::Holdings(Holdings::default())).await;
                while let Ok(Some(frame)) = channel.recv().await {
                    assert!(
                        !matches!(Message::decode(&frame), Ok(Message::Offer(_))),
                        "served"
                    );
                }
            },
        )
        .await;
        assert!(protocol(result).contains("pull"));
    }
}

#[tokio::test]
async fn silence_ends_a_conversation() {
    let (a, _) = two(1_000).await;
    let impatient = Options {
        idle: Duration::from_millis(200),
        beat: Duration::from_millis(50),
        ..options()
    };
    let result = against(
        &a,
        "list_branches".to_owned(),
        impatient.clone(),
        async |channel| {
            while let Ok(Some(_)) = channel.recv().await {}
        },
    )
    .await;
    assert!(matches!(result, Err(RemoteError::Silent { .. })), "{result:?}");
    let (client, _server) = Channel::pair();
    let request = PushRequest {
        branch: "main".to_owned(),
        head: a.head("main"),
        force: false,
        dry_run: false,
    };
    let result = perform_push(client, a.clone(), request, impatient).await;
    assert!(matches!(result, Err(RemoteError::Silent { .. })), "{result:?}");
}

#[tokio::test]
async fn a_disk_that_is_slower_than_the_peer_is_patient_is_waited_for() {
    let (a, b) = (Arc::new(Repo::new(1)), Arc::new(Repo::new(2)));
    a.import(8 << 20);
    *b.slow.lock().expect("not poisoned") = Duration::from_millis(1_300);
    let impatient = Options {
        idle: Duration::from_secs(1),
        beat: Duration::from_millis(100),
        ..options()
    };
    let (client, server) = Channel::pair();
    let (there, theirs) = (b.clone(), impatient.clone());
    let command = format!("branch_push main {}", a.content(a.head("main")).position.timeline);
    let served = tokio::spawn(async move { serve(&command, server, there.clone(), there, theirs).await });
    let request = PushRequest {
        branch: "main".to_owned(),
        head: a.head("main"),
        force: false,
        dry_run: false,
    };
    perform_push(client, a.clone(), request, impatient)
        .await
        .expect("pushed");
    served.await.expect("no panic").expect("served");
    assert_same(&a, "main", &b, "main");
}

#[tokio::test]
async fn unknown_commands_and_versions_are_told() {
    let (a, _) = two(1_000).await;
    let mut answer = None;
    let result = against(&a, "drop_database main".to_owned(), options(), async |channel| {
        answer = Some(hear(channel).await);
    })
    .await;
    assert!(matches!(result, Err(RemoteError::Command(_))));
    assert!(matches!(answer, Some(Message::Failed(failure)) if failure.message.contains("drop_database")));

    let (client, mut server) = Channel::pair();
    let there = a.clone();
    let client = tokio::spawn(async move {
        let request = PushRequest {
            branch: "main".to_owned(),
            head: there.head("main"),
            force: false,
            dry_run: false,
        };
        perform_push(client, there, request, options()).await
    });
    let identity = a.identity().expect("an identity");
    say(
        &mut server,
        &Message::Hello(Box::new(Hello {
            min: 7,
            max: 9,
            identity,
            tip: None,
            holdings: None,
        })),
    )
    .await;
    let error = client.await.expect("no panic").expect_err("another version");
    assert!(matches!(
        error,
        RemoteError::Version {
            min: 7,
            max: 9,
            ours: VERSION
        }
    ));
    assert!(error.hint().contains("upgrade this program"));
}

#[tokio::test]
async fn a_head_that_is_not_what_its_name_says_is_not_believed() {
    let (a, _) = two(1_000).await;
    let (client, mut server) = Channel::pair();
    let there = a.clone();
    let client = tokio::spawn(async move {
        let request = PullRequest {
            branch: "main".to_owned(),
            into: "x".to_owned(),
            force: false,
            dry_run: false,
        };
        perform_pull(client, there, request, options()).await
    });
    let mut bytes = a.commit(a.head("main")).expect("read").expect("there");
    bytes[40] ^= 1;
    let tip = Tip {
        commit: a.head("main"),
        running: false,
        bytes,
    };
    let identity = a.identity().expect("an identity");
    let hello = Hello {
        min: neon_remotes::wire::VERSION,
        max: neon_remotes::wire::VERSION,
        identity,
        tip: Some(tip),
        holdings: None,
    };
    say(&mut server, &Message::Hello(Box::new(hello))).await;
    assert!(matches!(
        client.await.expect("no panic"),
        Err(RemoteError::Protocol(_))
    ));
}

#[tokio::test]
async fn random_frames_end_in_an_error_and_never_in_a_panic_or_a_moved_branch() {
    let (a, b) = two(1_000).await;
    let before = b.head("main");
    let timeline = a.content(a.head("main")).position.timeline;
    let mut random = Random(7);
    for round in 0..150 {
        let command = match round % 3 {
            0 => format!("branch_push main {timeline}"),
            1 => "branch_pull main -".to_owned(),
            _ => "list_branches".to_owned(),
        };
        let frames: Vec<Vec<u8>> = (0..random.next() % 6)
            .map(|_| {
                let len = (random.next() % 200) as usize;
                let mut frame = random.bytes(len);
                if let Some(tag) = frame.first_mut() {
                    *tag = (random.next() % 22) as u8;
                }
                frame
            })
            .collect();
        let _ = against(&b, command, options(), async |channel| {
            for frame in frames {
                let _ = channel.send(Bytes::from(frame)).await;
            }
        })
        .await;
    }
    assert_eq!(b.head("main"), before);
}
