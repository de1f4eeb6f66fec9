//! Who gets in, who is kept waiting, who is sent away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use neon_transport::server::Options;
use neon_transport::{Refusal, TransportError, ask, dial_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::world::{World, options, secret, uri_at, world, world_with};

/// Nobody is thrown out for being slow.
fn patient() -> Options {
    Options {
        login: Duration::from_secs(3600),
        ..Options::default()
    }
}

fn start_up(user: &str, database: &str) -> Vec<u8> {
    let body = format!("\0\x03\0\0user\0{user}\0database\0{database}\0\0");
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body.as_bytes());
    packet
}

/// Reads one message of a server.
async fn message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let tag = stream.read_u8().await.unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.unwrap();
    (tag, body)
}

/// A login that gets as far as the server's first message, which is returned, and no further.
async fn half_login(address: SocketAddr, user: &str, database: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&start_up(user, database)).await.unwrap();
    assert_eq!(message(&mut stream).await.0, b'R');
    let first = b"p\0\0\0\x21SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc";
    stream.write_all(first).await.unwrap();
    let (tag, body) = message(&mut stream).await;
    assert_eq!(tag, b'R');
    let text = String::from_utf8(body[4..].to_vec()).unwrap();
    (stream, text)
}

fn refused(error: &TransportError) -> &Refusal {
    match error {
        TransportError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Forwards connections so that they come from another address.
async fn from_elsewhere(source: [u8; 4], target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((source, 0).into()).unwrap();
            let mut server = socket.connect(target).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_hundred_half_logins_keep_nobody_out() {
    let world = world_with(patient()).await;
    let mut half = Vec::new();
    for number in 0..100 {
        half.push(half_login(world.address, &format!("user{number}"), "shop").await);
        half.push(half_login(world.address, "alice", "shop").await);
    }
    ask(&world.alice(), "help", &options()).await.unwrap();
    // The oldest gave way, with a word, and the newest are still there.
    let (tag, body) = message(&mut half[0].0).await;
    assert_eq!(tag, b'E');
    assert!(String::from_utf8_lossy(&body).contains("53000"));
    let (mut newest, _) = half.pop().unwrap();
    newest.write_all(b"p\0\0\0\x05x").await.unwrap();
    let (_, body) = message(&mut newest).await;
    assert!(String::from_utf8_lossy(&body).contains("08P01"));
}

#[tokio::test]
async fn idle_connections_take_no_place_of_a_real_login() {
    let world = world_with(Options {
        logins: 16,
        ..patient()
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..10 {
        for _ in 0..40 {
            idle.push(TcpStream::connect(world.address).await.unwrap());
        }
        // Each takes its time, while more and more come and say nothing.
        let logins = (0..4).map(|_| async { ask(&world.alice(), "help", &options()).await });
        let more = async {
            for _ in 0..40 {
                idle.push(TcpStream::connect(world.address).await.unwrap());
                tokio::task::yield_now().await;
            }
        };
        let (results, ()) = tokio::join!(all(logins), more);
        for result in results {
            result.unwrap();
        }
    }
}

#[tokio::test]
async fn a_login_that_gave_way_comes_again() {
    let world = world_with(Options {
        logins: 16,
        ..patient()
    })
    .await;
    // More than there are places for, all at once.
    let logins = (0..12).map(|_| async { ask(&world.alice(), "help", &options()).await });
    for result in all(logins).await {
        result.unwrap();
    }
    let gave_way = |tried: &&crate::world::Tried| tried.2.as_deref() == Some("53000");
    let attempts = world.toy.attempts.lock().unwrap().clone();
    assert!(attempts.iter().filter(gave_way).count() >= 4, "{attempts:?}");
}

async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut running {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn one_user_cannot_take_the_sessions_of_all() {
    let world = world_with(Options {
        sessions: 4,
        sessions_per_user: 2,
        ..Options::default()
    })
    .await;
    world.people.add("bob", "builder");
    let mut first = dial_with(&world.alice(), "echo", &options()).await.unwrap();
    let second = dial_with(&world.alice(), "echo", &options()).await.unwrap();
    let error = ask(&world.alice(), "help", &options()).await.unwrap_err();
    let refusal = refused(&error);
    assert_eq!(refusal.code, "53300");
    assert!(refusal.message.contains("'alice'"), "{refusal:?}");
    let bob = world.uri("bob:builder", "shop");
    ask(&bob, "help", &options()).await.unwrap();
    first.send(Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(first.recv().await.unwrap().unwrap(), "still here");
    second.finish().await.unwrap();
}

#[tokio::test]
async fn a_session_that_does_nothing_gives_way() {
    let world = world_with(Options {
        sessions: 1,
        ..Options::default()
    })
    .await;
    // As psql waits at its prompt.
    let mut channel = dial_with(&world.alice(), "echo", &options()).await.unwrap();
    channel.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(channel.recv().await.unwrap().unwrap(), "x");
    let error = ask(&world.alice(), "help", &options()).await.unwrap_err();
    assert_eq!(refused(&error).code, "53300", "a busy one stays");
    let (mut send, mut recv) = channel.split();
    send.end().await.unwrap();
    assert!(recv.recv().await.unwrap().is_none());
    // Its connection is still open, and idle as soon as the server has said so.
    let mut result = ask(&world.alice(), "help", &options()).await;
    let began = Instant::now();
    while result.as_ref().is_err_and(|error| refused(error).code == "53300") {
        assert!(began.elapsed() < Duration::from_secs(60), "it never gives way");
        tokio::task::yield_now().await;
        result = ask(&world.alice(), "help", &options()).await;
    }
    result.unwrap();
    drop((send, recv));
}

#[tokio::test]
async fn guesses_are_slowed_and_a_user_from_elsewhere_is_not_locked_out() {
    let world = world().await;
    let (answer, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (mut stream, first) = half_login(world.address, "alice", "shop").await;
        let nonce = first.split(',').next().unwrap().to_owned();
        let answer = answer.clone();
        guesses.spawn(async move {
            let proof = format!("c=biws,{nonce},p={}=", "A".repeat(43));
            stream.write_u8(b'p').await.unwrap();
            stream.write_u32(4 + proof.len() as u32).await.unwrap();
            stream.write_all(proof.as_bytes()).await.unwrap();
            let (_, body) = message(&mut stream).await;
            let _ = answer.send(String::from_utf8_lossy(&body).into_owned());
        });
    }
    drop(answer);
    // A first handful is free, then each waits for its turn, and those whose turn is far away are not looked at.
    let mut not_looked_at = 0;
    while not_looked_at < 20 {
        let text = answers.recv().await.expect("every guess was looked at");
        if text.contains("57P03") {
            assert!(
                text.contains("was not looked at") && text.contains("seconds"),
                "{text}"
            );
            not_looked_at += 1;
        } else {
            assert!(text.contains("28P01"), "{text}");
        }
    }
    let elsewhere = from_elsewhere([127, 0, 0, 2], world.address).await;
    ask(
        &uri_at(elsewhere, "alice:wonder%3Aland", "shop"),
        "help",
        &options(),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn nobody_learns_from_a_salt_whether_there_is_a_user() {
    let challenge = async |world: &World, user: &str, database: &str| {
        let (_stream, text) = half_login(world.address, user, database).await;
        text.split_once(",s=").unwrap().1.to_owned()
    };
    let kept = Options {
        secret: Some(secret()),
        ..Options::default()
    };
    let world = world_with(kept.clone()).await;
    let unborn = challenge(&world, "carol", "shop").await;
    assert!(unborn.ends_with(",i=4096"), "{unborn}");
    world.people.add("carol", "first");
    assert_eq!(challenge(&world, "carol", "shop").await, unborn, "she exists now");
    ask(&world.uri("carol:first", "shop"), "help", &options())
        .await
        .unwrap();
    world.people.add("carol", "second");
    assert_eq!(
        challenge(&world, "carol", "shop").await,
        unborn,
        "another password"
    );
    assert_eq!(
        challenge(&world, "carol", "other").await,
        unborn,
        "no right to it"
    );
    assert_eq!(challenge(&world, "carol", "no such/name").await, unborn);
    world.people.remove("carol");
    assert_eq!(challenge(&world, "carol", "shop").await, unborn, "she is gone");
    let restarted = world_with(kept).await;
    assert_eq!(challenge(&restarted, "carol", "shop").await, unborn, "a restart");

    let mut salts = BTreeSet::from([unborn]);
    for user in ["alice", "bob", "dave", "carol2"] {
        let salt = challenge(&world, user, "shop").await;
        assert_eq!(salt.len(), 24 + ",i=4096".len(), "{user}: {salt}");
        assert!(salts.insert(salt), "{user} has the salt of somebody else");
    }
}

#[tokio::test]
async fn a_name_that_nobody_can_have_gets_into_no_record() {
    let world = world().await;
    for name in ["x\ny", "\u{1b}[2K", "a b", "\u{202e}ada", &"x".repeat(64), "ä"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&start_up(name, "shop")).await.unwrap();
        let (tag, body) = message(&mut stream).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(tag == b'E' && text.contains("28000"), "{name:?}: {text}");
        assert!(!text.contains(name), "{text:?}");
    }
    let attempts = world.toy.attempts.lock().unwrap().clone();
    assert_eq!(attempts, vec![(None, None, Some("28000".into())); 6]);
}

#[tokio::test]
async fn each_attempt_is_told_with_its_name_and_end() {
    let world = world().await;
    ask(&world.alice(), "help", &options()).await.unwrap();
    ask(&world.uri("alice:wrong", "shop"), "help", &options())
        .await
        .unwrap_err();
    ask(&world.uri("eve:wrong", "shop"), "help", &options())
        .await
        .unwrap_err();
    ask(&world.alice(), "help", &options()).await.unwrap();
    let attempts = world.toy.attempts.lock().unwrap().clone();
    let wrong = |name: &str| (Some(name.to_owned()), None, Some("28P01".to_owned()));
    let good = |session| (Some("alice".to_owned()), Some(session), None);
    assert_eq!(attempts, [good(1), wrong("alice"), wrong("eve"), good(2)]);
}

#[tokio::test]
async fn a_session_ends_when_its_user_does() {
    let world = world_with(Options {
        vigil: Duration::from_millis(10),
        ..Options::default()
    })
    .await;
    world.people.add("bob", "builder");
    let bob = world.uri("bob:builder", "shop");
    let end = |result: Result<Option<Bytes>, TransportError>| {
        let error = result.unwrap_err();
        assert_eq!(refused(&error).code, "57P01", "{error:?}");
    };
    // In the middle of something that never ends by itself, or between two frames.
    let mut asleep = dial_with(&bob, "sleep", &options()).await.unwrap();
    let mut waiting = dial_with(&bob, "echo", &options()).await.unwrap();
    let mut alice = dial_with(&world.alice(), "echo", &options()).await.unwrap();
    world.people.remove("bob");
    end(asleep.recv().await);
    end(waiting.recv().await);
    while world.toy.asleep.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    let error = ask(&bob, "help", &options()).await.unwrap_err();
    assert!(matches!(error, TransportError::WrongPassword { .. }), "{error:?}");

    // Users that cannot be read for a moment send nobody away, and let nobody in.
    let people = world.people.0.lock().unwrap().take();
    let error = ask(&world.alice(), "help", &options()).await.unwrap_err();
    assert_eq!(refused(&error).code, "57P03", "{error:?}");
    let error = ask(&bob, "help", &options()).await.unwrap_err();
    assert_eq!(refused(&error).code, "57P03", "{error:?}");
    let looks = world.people.1.load(Ordering::SeqCst);
    while world.people.1.load(Ordering::SeqCst) < looks + 3 {
        tokio::task::yield_now().await;
    }
    *world.people.0.lock().unwrap() = people;
    alice.send(Bytes::from_static(b"me too")).await.unwrap();
    assert_eq!(alice.recv().await.unwrap().unwrap(), "me too");
    // A password that was changed is another one.
    world.people.add("alice", "wonder:land");
    alice.send(Bytes::from_static(b"the same")).await.unwrap();
    assert_eq!(alice.recv().await.unwrap().unwrap(), "the same");
    world.people.add("alice", "changed");
    end(alice.recv().await);
}

#[tokio::test]
async fn work_ends_when_nobody_waits_for_it() {
    let world = world_with(Options {
        vigil: Duration::from_millis(10),
        ..Options::default()
    })
    .await;
    // What the client has said is not read, so its end is not reached by reading.
    let mut asleep = dial_with(&world.alice(), "sleep", &options()).await.unwrap();
    asleep.send(Bytes::from(vec![0; 100_000])).await.unwrap();
    assert_eq!(world.toy.asleep.load(Ordering::SeqCst), 1);
    drop(asleep);
    while world.toy.asleep.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}
