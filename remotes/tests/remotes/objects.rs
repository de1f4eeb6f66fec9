//! Objects by their names: what is handed out, what is believed, what a cut leaves.

use std::sync::Arc;

use neon_remotes::wire::*;
use neon_remotes::*;
use neon_transport::Channel;
use neon_types::{CommitId, Lsn, ObjectId, RepoId};

use crate::relay::{Way, relay, straight};
use crate::repo::Repo;
use crate::{How, options, push};

const CLIENT: RepoId = RepoId([9; 16]);

async fn fetch(
    (client, server): (Channel, Channel),
    into: &Arc<Repo>,
    from: &Arc<Repo>,
    wanted: &[ObjectId],
) -> Result<Vec<Fetched>, RemoteError> {
    let there = Arc::clone(from);
    let command = Command::FetchObjects.to_string();
    tokio::spawn(async move { serve(&command, server, there.clone(), there, options()).await });
    perform_fetch_objects(client, into.clone(), CLIENT, wanted, options()).await
}

/// Two repositories with the same objects: a base of three frames, a layer, three commits.
async fn twins() -> (Arc<Repo>, Arc<Repo>, Vec<ObjectId>) {
    let (a, b) = (Arc::new(Repo::new(1)), Arc::new(Repo::new(2)));
    a.import(2_500_000);
    a.write("main", 60_000);
    a.write("main", 30_000);
    a.seal();
    let pushed = push(&a, "main", &b, "main", How::default()).await;
    pushed.expect("pushed");
    let shared: Vec<ObjectId> = b.ids().into_iter().filter(|id| a.ids().contains(id)).collect();
    assert!(shared.len() >= 5, "{shared:?}");
    (a, b, shared)
}

#[tokio::test]
async fn what_was_damaged_cut_or_lost_comes_back() {
    let (a, b, shared) = twins().await;
    for (number, id) in shared.iter().enumerate() {
        let mut bytes = b.bytes_on_disk(*id).expect("there");
        let damage = match number % 3 {
            0 => {
                bytes[3] ^= 0x20;
                Some(&bytes[..])
            }
            1 => Some(&bytes[..bytes.len() / 2]),
            _ => None,
        };
        b.replace_on_disk(*id, damage);
        assert!(!b.is_whole(*id));
    }
    let stranger = ObjectId::from_bytes([0xee; 32]);
    let wanted: Vec<ObjectId> = [stranger].into_iter().chain(shared.iter().copied()).collect();
    let fetched = fetch(straight(), &b, &a, &wanted).await.expect("fetched");
    assert_eq!(fetched[0], Fetched::NotThere);
    for (id, fetched) in wanted.iter().zip(fetched).skip(1) {
        let len = a.bytes_on_disk(*id).expect("there").len() as u64;
        assert_eq!(fetched, Fetched::Arrived(len));
        assert!(b.is_whole(*id));
    }
    assert!(b.incoming().is_empty());
}

#[tokio::test]
async fn only_what_branches_lead_to_is_handed_out() {
    let a = Arc::new(Repo::new(1));
    let first = a.import(10_000);
    let early = a.write("main", 20_000);
    a.seal();
    let before: Vec<ObjectId> = a.ids();
    let late = a.write("main", 20_000);
    a.seal();
    let beyond: Vec<ObjectId> = a.ids().into_iter().filter(|id| !before.contains(id)).collect();
    assert!(
        beyond.contains(&late.0) && beyond.len() == 2,
        "a commit and a layer"
    );
    // The branch goes back: what came later is nobody's business any more.
    a.set_branch("main", early);
    // Below the head, on its very line, but not one of its parents.
    let aside = {
        let commit = a.content(early);
        let aside = a.commit_at(
            "aside",
            commit.path,
            Lsn(4096 + 8),
            vec![first],
            "of a branch that is gone",
        );
        a.forget_branch("aside");
        aside
    };
    let nobodys = a.put(b"left by somebody");
    let b = Arc::new(Repo::new(2));
    for (wanted, expected) in [
        (before.clone(), true),
        (beyond, false),
        (vec![aside.0, nobodys], false),
    ] {
        let fetched = fetch(straight(), &b, &a, &wanted).await.expect("fetched");
        for (id, fetched) in wanted.iter().zip(fetched) {
            assert_eq!(
                matches!(fetched, Fetched::Arrived(_)),
                expected,
                "{id}: {fetched:?}"
            );
            assert_eq!(b.is_whole(*id), expected);
        }
    }
    assert!(before.contains(&early.0) && before.contains(&first.0));
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_leave_what_was_there() {
    let (a, b, shared) = twins().await;
    let spoilt = a.damage_largest_object();
    b.replace_on_disk(spoilt, Some(b"damaged here too"));
    let fetched = fetch(straight(), &b, &a, &shared).await.expect("fetched");
    for (id, fetched) in shared.iter().zip(fetched) {
        let wrong = matches!(fetched, Fetched::Wrong(_));
        assert_eq!(wrong, *id == spoilt, "{id}: {fetched:?}");
    }
    assert_eq!(b.bytes_on_disk(spoilt).as_deref(), Some(&b"damaged here too"[..]));
    assert!(b.incoming().is_empty(), "nothing of it is kept");
}

#[tokio::test]
async fn a_cut_at_any_frame_leaves_each_object_as_it_was_or_whole() {
    let (a, b, shared) = twins().await;
    let good: Vec<Vec<u8>> = shared
        .iter()
        .map(|id| b.bytes_on_disk(*id).expect("there"))
        .collect();
    for frame in 0..40 {
        for id in &shared {
            b.replace_on_disk(*id, Some(b"spoilt"));
        }
        let cut = relay(Box::new(move |_, number, bytes| {
            (number < frame).then_some(bytes)
        }));
        let result = fetch(cut, &b, &a, &shared).await;
        for (id, good) in shared.iter().zip(&good) {
            let now = b.bytes_on_disk(*id).expect("there");
            assert!(now == *good || now == b"spoilt", "cut at frame {frame}");
        }
        if result.is_ok() {
            assert!(shared.iter().all(|id| b.is_whole(*id)));
            assert!(frame > 8, "{frame} frames");
            return;
        }
    }
    panic!("it never came through");
}

/// A server that says what the script says, against our client.
async fn told(
    wanted: &[ObjectId],
    script: impl AsyncFnOnce(&mut Channel) + Send + 'static,
) -> Result<Vec<Fetched>, RemoteError> {
    let (client, mut server) = Channel::pair();
    let b = Arc::new(Repo::new(2));
    let identity = b.identity().expect("an identity");
    let say_hello = Message::Hello(Box::new(Hello {
        min: neon_remotes::wire::VERSION,
        max: neon_remotes::wire::VERSION,
        identity,
        tip: None,
        holdings: None,
    }));
    let asking = perform_fetch_objects(client, b.clone(), CLIENT, wanted, options());
    let telling = async {
        let _ = server.send(say_hello.encode().into()).await;
        script(&mut server).await;
        while let Ok(Some(_)) = server.recv().await {}
    };
    let (result, ()) = tokio::join!(asking, telling);
    assert!(b.ids().is_empty(), "nothing was believed");
    result
}

#[tokio::test]
async fn a_server_that_lies_is_not_believed() {
    let wanted = [ObjectId::from_bytes([1; 32]), ObjectId::from_bytes([2; 32])];
    let chunk = |part, offset, len| {
        let bytes = ChunkBytes::Raw(vec![7; len]);
        Message::Chunk(Chunk { part, offset, bytes })
    };
    let found = |lens: &[Option<u64>]| Message::Found(lens.to_vec());
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 3).expect("compressed");
    let lies: Vec<Vec<Message>> = vec![
        vec![found(&[Some(10)])],
        vec![found(&[None, None, None])],
        vec![Message::Done],
        vec![found(&[Some(10), None]), chunk(1, 0, 10), Message::Done],
        vec![found(&[Some(10), None]), chunk(0, 5, 5), Message::Done],
        vec![found(&[Some(10), None]), chunk(0, 0, 11), Message::Done],
        vec![found(&[Some(10), None]), chunk(0, 0, 0), Message::Done],
        vec![found(&[Some(10), None]), chunk(0, 0, 4), Message::Done],
        vec![found(&[None, None]), chunk(0, 0, 4), Message::Done],
        vec![
            found(&[Some(8 << 20), None]),
            Message::Chunk(Chunk {
                part: 0,
                offset: 0,
                bytes: ChunkBytes::Zstd(bomb),
            }),
            Message::Done,
        ],
        vec![found(&[Some(10), Some(3)]), Message::ListBranches],
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let result = told(&wanted, async move |server: &mut Channel| {
            let _ = server.recv().await;
            for message in &lie {
                let _ = server.send(message.encode().into()).await;
            }
        })
        .await;
        assert!(
            matches!(result, Err(RemoteError::Protocol(_))),
            "lie {number}: {result:?}"
        );
    }
}

#[tokio::test]
async fn more_than_is_wanted_at_all_is_refused() {
    let (client, mut server) = Channel::pair();
    let b = Arc::new(Repo::new(2));
    let identity = b.identity().expect("an identity");
    let limited = Options {
        max_bytes: 1000,
        ..options()
    };
    let wanted = [ObjectId::from_bytes([1; 32])];
    let asking = perform_fetch_objects(client, b, CLIENT, &wanted, limited);
    let telling = async {
        let hello = Hello {
            min: neon_remotes::wire::VERSION,
            max: neon_remotes::wire::VERSION,
            identity,
            tip: None,
            holdings: None,
        };
        for message in [Message::Hello(Box::new(hello)), Message::Found(vec![Some(1001)])] {
            let _ = server.send(message.encode().into()).await;
        }
        while let Ok(Some(_)) = server.recv().await {}
    };
    let (result, ()) = tokio::join!(asking, telling);
    let refused =
        matches!(&result, Err(RemoteError::Refused(refusal)) if matches!(**refusal, Refusal::Limit { .. }));
    assert!(refused, "{result:?}");
}

#[tokio::test]
async fn another_version_is_told_so() {
    let (a, b, shared) = twins().await;
    let newer = relay(Box::new(|way, _, bytes| {
        if way == Way::ToServer
            && let Ok(Message::Want(want)) = Message::decode(&bytes)
        {
            return Some(Message::Want(Want { version: 9, ..want }).encode().into());
        }
        Some(bytes)
    }));
    let result = fetch(newer, &b, &a, &shared).await;
    let message = format!("{}", result.expect_err("no such version"));
    assert!(message.contains("protocol versions 9"), "{message}");
}

#[tokio::test]
async fn a_commit_comes_with_its_head_and_with_no_other() {
    let a = Arc::new(Repo::new(1));
    a.import(5_000);
    let fork = a.write("main", 5_000);
    a.branch_at("topic", "main", None);
    let topic = a.write("topic", 5_000);
    let main = a.write("main", 5_000);
    for (head, wanted, expected) in [
        (main, fork, true),
        (topic, fork, true),
        (main, main, true),
        (main, topic, false),
        (topic, main, false),
        (fork, main, false),
        (main, CommitId(ObjectId::from_bytes([5; 32])), false),
    ] {
        assert_eq!(
            history::leads_to(a.as_ref(), head, wanted).expect("read"),
            expected,
            "{head} {wanted}"
        );
        if expected {
            let sent = history::missing(a.as_ref(), head, &[]).expect("read").commits;
            assert!(sent.iter().any(|(id, _)| *id == wanted), "as a fetch has it");
        }
    }
}
