//! Connections that end at every possible frame, and bits that flip.

use std::sync::Arc;

use neon_remotes::wire::{ChunkBytes, Message};
use neon_remotes::*;

use crate::relay::{Way, relay};
use crate::repo::Repo;
use crate::{How, assert_same, fetch_over, pull_over, push, push_over};

/// A repository whose push takes many frames: base, layers, WAL, several timelines, several commits.
fn rich(seed: u8) -> Arc<Repo> {
    let repo = Arc::new(Repo::new(seed));
    repo.import(2_500_000);
    repo.write("main", 1_300_000);
    repo.seal();
    repo.write("main", 1_100_000);
    repo.branch_at("topic", "main", Some(neon_types::Lsn(4096 + 1_400_000)));
    repo.write("topic", 1_200_000);
    repo.write("topic", 300_000);
    repo
}

fn cut_at(frame: u64) -> (neon_transport::Channel, neon_transport::Channel) {
    relay(Box::new(move |_, number, bytes| {
        (number < frame).then_some(bytes)
    }))
}

#[tokio::test]
async fn a_push_cut_at_any_frame_keeps_what_arrived_and_the_next_sends_the_rest() {
    let a = rich(1);
    for frame in 0..200 {
        let b = Arc::new(Repo::new(2));
        let (result, served) = push_over(cut_at(frame), &a, "topic", &b, "topic", How::default()).await;
        match &result {
            Ok(_) => {
                // Only the farewell was cut, or nothing.
                assert_same(&a, "topic", &b, "topic");
                assert!(frame > 12, "a push of {frame} frames");
                if served.is_ok() {
                    return;
                }
                continue;
            }
            Err(RemoteError::Cut { .. }) => {}
            Err(other) => panic!("cut at frame {frame}: {other:?}"),
        }
        let kept: u64 = b.incoming().iter().map(|(_, len)| len).sum::<u64>();
        let objects = b.objects() as u64;
        let moved = b.try_head("topic");
        let again = push(&a, "topic", &b, "topic", How::default())
            .await
            .expect("the second attempt");
        assert_same(&a, "topic", &b, "topic");
        assert!(
            b.incoming().is_empty(),
            "cut at {frame}: something stayed in quarantine"
        );
        if moved.is_some() {
            // Only the answer was lost.
            assert_eq!(again.motion, Motion::Stay);
        } else {
            let skipped = again.planned.objects() - again.sent.objects();
            assert_eq!(skipped, objects, "cut at {frame}: whole objects travelled twice");
            assert!(
                again.sent.bytes <= again.planned.bytes - kept,
                "cut at {frame}: {kept} staged bytes travelled twice"
            );
        }
    }
    panic!("200 frames were not enough");
}

#[tokio::test]
async fn a_pull_cut_at_any_frame_resumes() {
    let a = rich(1);
    for frame in (0..200).step_by(3) {
        let b = Arc::new(Repo::new(2));
        let (result, _) = pull_over(cut_at(frame), &b, "topic", &a, "topic", How::default()).await;
        if result.is_ok() {
            assert!(frame > 12, "a pull of {frame} frames");
            assert_same(&a, "topic", &b, "topic");
            return;
        }
        assert!(
            matches!(result, Err(RemoteError::Cut { .. })),
            "cut at {frame}: {result:?}"
        );
        assert_eq!(b.try_head("topic"), None, "cut at {frame}: the branch moved");
        let objects = b.objects() as u64;
        let (again, _) = pull_over(crate::relay::straight(), &b, "topic", &a, "topic", How::default()).await;
        let again = again.expect("the second attempt");
        assert_eq!(
            again.planned.objects() - again.arrived.objects(),
            objects,
            "cut at {frame}"
        );
        assert_same(&a, "topic", &b, "topic");
    }
    panic!("200 frames were not enough");
}

#[tokio::test]
async fn a_connection_that_is_cut_all_the_time_gets_there_in_the_end() {
    let a = rich(1);
    let b = Arc::new(Repo::new(2));
    let mut random = crate::repo::Random(42);
    for attempt in 0..200 {
        let (result, _) = fetch_over(cut_at(4 + random.next() % 6), &b, &a).await;
        if let Ok(fetched) = result {
            assert!(attempt > 2, "nothing was cut");
            for branch in fetched.branches {
                assert_eq!(a.read(branch.head), b.read(branch.head));
            }
            return;
        }
    }
    panic!("no progress in 200 attempts");
}

#[tokio::test]
async fn a_bit_that_flips_on_the_way_is_found_and_the_object_named() {
    let a = rich(1);
    for victim in [3u32, 4, 5] {
        let b = Arc::new(Repo::new(2));
        let mut flipped = false;
        let ends = relay(Box::new(move |way, _, frame| match Message::decode(&frame) {
            Ok(Message::Chunk(mut chunk)) if way == Way::ToServer && chunk.part == victim && !flipped => {
                flipped = true;
                let raw = match &chunk.bytes {
                    ChunkBytes::Raw(bytes) => bytes.clone(),
                    ChunkBytes::Zstd(packed) => zstd::bulk::decompress(packed, 1 << 20).expect("zstd"),
                };
                let mut raw = raw;
                let middle = raw.len() / 2;
                raw[middle] ^= 4;
                chunk.bytes = ChunkBytes::Raw(raw);
                Some(Message::Chunk(chunk).encode().into())
            }
            _ => Some(frame),
        }));
        let (result, served) = push_over(ends, &a, "topic", &b, "topic", How::default()).await;
        let Err(RemoteError::Damaged { part, index, .. }) = served else {
            panic!("not found: {served:?}")
        };
        assert_eq!(index, victim);
        let Err(RemoteError::Peer {
            part: told,
            message,
            hint,
        }) = result
        else {
            panic!("not told: {result:?}")
        };
        assert_eq!(told, Some(victim));
        assert!(message.contains(&part.id.to_string()), "{message}");
        assert!(hint.contains("fsck"), "{hint}");
        assert!(
            b.incoming().iter().all(|(id, _)| *id != part.id),
            "the damaged part stayed"
        );
        assert_eq!(b.try_head("topic"), None);
        let again = push(&a, "topic", &b, "topic", How::default())
            .await
            .expect("an undamaged connection");
        assert!(
            again.sent.objects() < again.planned.objects(),
            "what arrived before was kept"
        );
        assert_same(&a, "topic", &b, "topic");
    }
}

#[tokio::test]
async fn staged_bytes_that_a_crash_spoilt_are_asked_for_again() {
    let a = rich(1);
    for pulling in [false, true] {
        let b = Arc::new(Repo::new(2));
        let (result, _) = pull_over(cut_at(9), &b, "topic", &a, "topic", How::default()).await;
        result.expect_err("cut");
        assert_eq!(b.incoming().len(), 1, "something is staged");
        b.spoil_incoming();
        let sent = if pulling {
            let (result, _) =
                pull_over(crate::relay::straight(), &b, "topic", &a, "topic", How::default()).await;
            result.expect("pulled").arrived
        } else {
            push(&a, "topic", &b, "topic", How::default())
                .await
                .expect("pushed")
                .sent
        };
        assert!(sent.bytes > 0);
        assert_same(&a, "topic", &b, "topic");
    }
}

#[tokio::test]
async fn an_object_that_is_damaged_at_the_sender_does_not_spread() {
    let a = rich(1);
    let id = a.damage_largest_object();
    let b = Arc::new(Repo::new(2));
    let error = push(&a, "main", &b, "main", How::default())
        .await
        .expect_err("damaged");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    assert_eq!(b.try_head("main"), None);
    assert!(b.commit(a.head("main")).is_ok());
    let (pulled, _) = pull_over(crate::relay::straight(), &b, "main", &a, "main", How::default()).await;
    assert!(matches!(pulled, Err(RemoteError::Damaged { part, .. }) if part.id == id));
}

#[tokio::test]
async fn a_dropped_push_leaves_a_repository_that_the_next_one_finishes() {
    let a = rich(1);
    for polls in [1, 3, 7, 20, 60, 150] {
        let b = Arc::new(Repo::new(2));
        let (client, server) = crate::relay::straight();
        let command = Command::Push {
            branch: "topic".to_owned(),
            timeline: a.content(a.head("topic")).position.timeline,
        };
        let there = b.clone();
        let served = tokio::spawn(async move {
            serve(
                &command.to_string(),
                server,
                there.clone(),
                there,
                crate::options(),
            )
            .await
        });
        let request = PushRequest {
            branch: "topic".to_owned(),
            head: a.head("topic"),
            force: false,
            dry_run: false,
        };
        {
            let push = perform_push(client, a.clone(), request, crate::options());
            tokio::pin!(push);
            for _ in 0..polls {
                tokio::select! {
                    biased;
                    _ = &mut push => break,
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        let _ = served.await.expect("no panic");
        push(&a, "topic", &b, "topic", How::default())
            .await
            .expect("the second attempt");
        assert_same(&a, "topic", &b, "topic");
    }
}
