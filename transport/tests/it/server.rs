//! Our client against our server, over TCP.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use neon_transport::server::Options;
use neon_transport::testing::CuttingProxy;
use neon_transport::{
    MAX_FRAME, Password, PasswordOrigin, PasswordSources, Refusal, TransportError, ask, dial_with,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{options, uri_at, world, world_with};

fn frame(seed: u8, size: usize) -> Bytes {
    (0..size)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

#[tokio::test]
async fn frames_of_all_sizes_come_back_whole_and_in_order() {
    let world = world().await;
    let (mut send, mut recv) = dial_with(&world.alice(), "echo", &options())
        .await
        .unwrap()
        .split();
    let sizes = [0, 1, 5, 8191, 8192, 262_144, 1 << 20, MAX_FRAME, 3];
    let sender = tokio::spawn(async move {
        for (seed, size) in sizes.iter().enumerate() {
            send.send(frame(seed as u8, *size)).await.unwrap();
        }
        send.end().await.unwrap();
        send
    });
    for (seed, size) in sizes.iter().enumerate() {
        assert_eq!(
            recv.recv().await.unwrap().unwrap(),
            frame(seed as u8, *size),
            "frame {seed}"
        );
    }
    assert!(recv.recv().await.unwrap().is_none());
    assert!(recv.recv().await.unwrap().is_none(), "the end stays the end");
    let send = sender.await.unwrap();
    assert_eq!(send.sent(), recv.received());
    neon_transport::Channel::join(send, recv).finish().await.unwrap();
    let caller = world.toy.callers.lock().unwrap()[0].clone();
    assert_eq!(
        (caller.user.as_str(), caller.database.as_str(), caller.neon),
        ("alice", "shop", true)
    );
}

#[tokio::test]
async fn a_frame_over_the_limit_is_not_sent_and_does_no_harm() {
    let world = world().await;
    let mut channel = dial_with(&world.alice(), "echo", &options()).await.unwrap();
    let error = channel
        .send(Bytes::from(vec![0; MAX_FRAME + 1]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::FrameTooLarge { size, limit } if size == limit + 1),
        "{error}"
    );
    channel.send(Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(channel.recv().await.unwrap().unwrap(), "still here");
    channel.finish().await.unwrap();
}

#[tokio::test]
async fn wrong_password_unknown_user_and_forbidden_repository_look_the_same() {
    let world = world().await;
    let mut shown = Vec::new();
    for (login, repository) in [
        ("alice:wrong", "shop"),
        ("mallory:wonder%3Aland", "shop"),
        ("alice:wonder%3Aland", "other"),
    ] {
        let address = world.uri(login, repository);
        let error = dial_with(&address, "echo", &options()).await.unwrap_err();
        let TransportError::WrongPassword { origin, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*origin, PasswordOrigin::Uri);
        let text = format!("{error} {error:?} {:?}", error.hint());
        assert!(!text.contains("wonder") && !text.contains("wrong\""), "{text}");
        shown.push(error.to_string().replace(&address.to_string(), "ADDRESS"));
    }
    assert!(shown.iter().all(|text| *text == shown[0]), "{shown:?}");
    assert!(world.toy.callers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_password_comes_from_uri_then_environment_then_passfile() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let passfile = dir.path().join("pgpass");
    std::fs::write(
        &passfile,
        format!("127.0.0.1:{}:shop:alice:wonder\\:land\n", world.address.port()),
    )
    .unwrap();
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut options = options();
    let error = dial_with(&world.uri("alice", "shop"), "echo", &options)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::PasswordMissing { passfile: None, .. }),
        "{error:?}"
    );

    options.passwords = PasswordSources {
        passfile: Some(passfile.clone()),
        ..PasswordSources::default()
    };
    ask(&world.uri("alice", "shop"), "help", &options).await.unwrap();
    options.passwords.environment = Some(Password::new("wrong"));
    let error = ask(&world.uri("alice", "shop"), "help", &options)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            TransportError::WrongPassword {
                origin: PasswordOrigin::Environment,
                ..
            }
        ),
        "{error:?}"
    );
    ask(&world.alice(), "help", &options).await.unwrap();

    options.passwords.environment = None;
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = ask(&world.uri("alice", "shop"), "help", &options)
        .await
        .unwrap_err();
    assert!(error.hint().unwrap().contains("chmod 600"), "{error:?}");
}

#[tokio::test]
async fn a_refusal_keeps_code_message_and_hint() {
    let world = world().await;
    let error = dial_with(&world.alice(), "refuse", &options()).await.unwrap_err();
    let TransportError::Refused(refusal) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (refusal.code.as_str(), refusal.message.as_str()),
        ("55000", "branch 'main' has diverged")
    );
    assert_eq!(error.hint().as_deref(), Some("neon fetch"));
    let error = dial_with(&world.alice(), "nonsense", &options())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, TransportError::Refused(r) if r.code == "42601"),
        "{error:?}"
    );
    let error = dial_with(&world.alice(), "drop", &options()).await.unwrap_err();
    assert!(
        matches!(&error, TransportError::Refused(r) if r.code == "XX000"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reason_in_mid_channel_reaches_a_client_that_only_sends() {
    let world = world().await;
    let mut channel = dial_with(&world.alice(), "break 3", &options()).await.unwrap();
    for _ in 0..3 {
        channel.send(frame(1, 100)).await.unwrap();
    }
    let error = channel.recv().await.unwrap_err();
    assert!(
        matches!(&error, TransportError::Refused(r) if r.hint.as_deref() == Some("stop it")),
        "{error:?}"
    );

    let channel = dial_with(&world.alice(), "break 0", &options()).await.unwrap();
    let error = channel.finish().await.unwrap_err();
    assert!(
        matches!(&error, TransportError::Refused(r) if r.code == "55006"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_client_that_gives_up_is_not_a_clean_end() {
    let world = world().await;
    let mut channel = dial_with(&world.alice(), "sink", &options()).await.unwrap();
    channel.send(frame(1, 100)).await.unwrap();
    channel
        .fail(&Refusal::new("53100", "disk full").with_hint("make room"))
        .await
        .unwrap();
    let mut dropped = dial_with(&world.alice(), "sink", &options()).await.unwrap();
    dropped.send(frame(1, 100)).await.unwrap();
    drop(dropped);
    let mut clean = dial_with(&world.alice(), "sink", &options()).await.unwrap();
    clean.send(frame(1, 100)).await.unwrap();
    clean.finish().await.unwrap();
    let mut sunk = world.toy.sunk.lock().unwrap().clone();
    while sunk.len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        sunk = world.toy.sunk.lock().unwrap().clone();
    }
    sunk.sort();
    assert_eq!(
        sunk,
        [
            Ok(100),
            Err("disk full".into()),
            Err("the connection was cut".into())
        ]
    );
}

#[tokio::test]
async fn a_service_that_dies_is_a_cut_and_the_server_lives_on() {
    let world = world().await;
    let mut channel = dial_with(&world.alice(), "vanish", &options()).await.unwrap();
    assert_eq!(channel.recv().await.unwrap().unwrap(), "so far");
    let error = channel.recv().await.unwrap_err();
    assert!(matches!(error, TransportError::Cut { .. }), "{error:?}");
    assert_eq!(
        ask(&world.alice(), "help", &options())
            .await
            .unwrap()
            .get(0, "help"),
        Some("help: this text")
    );
}

#[tokio::test]
async fn a_service_that_is_content_early_is_a_clean_end() {
    let world = world().await;
    let mut channel = dial_with(&world.alice(), "count 3 1000", &options())
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(channel.recv().await.unwrap().unwrap().len(), 1000);
    }
    assert!(channel.recv().await.unwrap().is_none());
    channel.finish().await.unwrap();
    let mut channel = dial_with(&world.alice(), "greedy", &options()).await.unwrap();
    for _ in 0..200 {
        channel.send(frame(1, 100_000)).await.unwrap();
    }
    channel.finish().await.unwrap();
}

#[tokio::test]
async fn a_connection_cut_anywhere_is_a_cut_on_both_sides() {
    let world = world().await;
    let proxy = CuttingProxy::start(world.address).await.unwrap();
    let address = uri_at(proxy.address(), "alice:wonder%3Aland", "shop");
    ask(&address, "help", &options()).await.unwrap();
    // From the first byte of the start-up to the middle of the frames.
    for bytes in [0, 1, 30, 200, 400, 700, 1_000, 60_000, 300_000] {
        proxy.cut_after(bytes);
        let result = async {
            let mut channel = dial_with(&address, "sink", &options()).await?;
            for _ in 0..40 {
                channel.send(frame(3, 10_000)).await?;
            }
            channel.finish().await
        };
        let error = tokio::time::timeout(Duration::from_secs(20), result)
            .await
            .expect("hung")
            .unwrap_err();
        assert!(matches!(error, TransportError::Cut { .. }), "{bytes}: {error:?}");
    }
    proxy.cut_after(u64::MAX);
    dial_with(&address, "sink", &options())
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    let sunk = world.toy.sunk.lock().unwrap().clone();
    assert_eq!(sunk.iter().filter(|result| result.is_ok()).count(), 1, "{sunk:?}");
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_the_address() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = ask(&uri_at(address, "alice:x", "shop"), "help", &options())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, TransportError::Unreachable { address: at, .. } if *at == address.to_string()),
        "{error:?}"
    );
    let nowhere = "postgresql://alice:x@no-such-host.invalid/shop".parse().unwrap();
    let error = ask(&nowhere, "help", &options()).await.unwrap_err();
    assert!(matches!(&error, TransportError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn something_else_is_not_a_neon_server() {
    for greeting in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\0",
        b"R\xff\xff\xff\xff",
        b"R\0\0\0\x03",
        b"R\0\0\0\x08\0\0\0\x63",
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let speaker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(greeting).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = ask(&uri_at(address, "alice:x", "shop"), "help", &options())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, TransportError::NotANeonServer { .. }),
            "{greeting:?}: {error:?}"
        );
        speaker.await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_listener_is_given_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = neon_transport::DialOptions {
        patience: Duration::from_millis(100),
        ..options()
    };
    let error = ask(&uri_at(address, "alice:x", "shop"), "help", &options)
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::NoAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn connections_above_the_limit_are_told_so() {
    let world = world_with(Options {
        sessions: 1,
        ..Options::default()
    })
    .await;
    let mut channel = dial_with(&world.alice(), "echo", &options()).await.unwrap();
    let error = ask(&world.alice(), "help", &options()).await.unwrap_err();
    assert!(
        matches!(&error, TransportError::Refused(r) if r.code == "53300"),
        "{error:?}"
    );
    channel.send(frame(1, 10)).await.unwrap();
    assert_eq!(channel.recv().await.unwrap().unwrap(), frame(1, 10));
    channel.finish().await.unwrap();
    // The seat is free once the server has seen the goodbye.
    let mut again = ask(&world.alice(), "help", &options()).await;
    for _ in 0..100 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = ask(&world.alice(), "help", &options()).await;
    }
    again.unwrap();
}

#[tokio::test]
async fn a_client_that_never_starts_is_dropped() {
    let world = world_with(Options {
        login: Duration::from_millis(100),
        ..Options::default()
    })
    .await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"\0\0").await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn shutdown_ends_idle_sessions_waits_for_busy_ones_and_cuts_the_rest() {
    let world = world_with(Options {
        drain: Duration::from_millis(300),
        ..Options::default()
    })
    .await;
    let mut busy = dial_with(&world.alice(), "echo", &options()).await.unwrap();
    let mut stuck = dial_with(&world.alice(), "sleep", &options()).await.unwrap();
    world.shutdown.cancel();
    busy.send(frame(1, 10)).await.unwrap();
    assert_eq!(busy.recv().await.unwrap().unwrap(), frame(1, 10));
    busy.finish().await.unwrap();
    let error = stuck.recv().await.unwrap_err();
    assert!(matches!(error, TransportError::Cut { .. }), "{error:?}");
    world.server.await.unwrap().unwrap();
    let error = ask(&uri_at(world.address, "alice:x", "shop"), "help", &options())
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn garbage_ends_the_connection_and_not_the_server() {
    let world = world().await;
    let mut seed = 12345u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    for round in 0..60 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let mut bytes: Vec<u8> = (0..200).map(|_| random()).collect();
        if round % 3 == 1 {
            bytes.splice(..8, *b"\0\0\0\xc8\0\x03\0\0");
        } else if round % 3 == 2 {
            let mut start = b"\0\0\0\x16\0\x03\0\0user\0alice\0\0\0".to_vec();
            start[3] = 20;
            start.truncate(20);
            start.extend(bytes);
            bytes = start;
        }
        // The server may close first.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new()))
            .await
            .expect("hung");
    }
    ask(&world.alice(), "help", &options()).await.unwrap();
}
