//! Somebody who answers at a server's address and does not know the password.

use neon_transport::{PasswordSources, TransportError, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::{options, uri_at};

/// What a server says once it lets somebody in.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x14neon.protocol\x001\0Z\0\0\0\x05I";
/// The answer to a question: no rows, ready.
const ANSWER: &[u8] = b"T\0\0\0\x06\0\0C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I";
const ASK_SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";

/// What an impostor says, and in between what it waits for.
#[derive(Clone, Copy)]
enum Line {
    Say(&'static [u8]),
    /// A message of the client.
    Hear,
    /// A first message that goes on from the client's nonce, with so many iterations.
    Challenge(u32),
}

/// Plays its lines to one caller, and returns all that it hears afterwards.
async fn impostor(lines: &'static [Line]) -> (std::net::SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let play = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream
            .read_exact(&mut vec![0; length as usize - 4])
            .await
            .unwrap();
        let mut heard = Vec::new();
        for line in lines {
            match line {
                Line::Say(bytes) => stream.write_all(bytes).await.unwrap(),
                Line::Hear => {
                    stream.read_u8().await.unwrap();
                    let length = stream.read_u32().await.unwrap();
                    heard = vec![0; length as usize - 4];
                    stream.read_exact(&mut heard).await.unwrap();
                }
                Line::Challenge(iterations) => {
                    let text = String::from_utf8_lossy(&heard).into_owned();
                    let nonce = text.split("r=").nth(1).unwrap();
                    let body = format!("r={nonce}abc,s=MDEyMzQ1Njc4OWFiY2RlZg==,i={iterations}");
                    stream.write_u8(b'R').await.unwrap();
                    stream.write_u32(8 + body.len() as u32).await.unwrap();
                    stream.write_u32(11).await.unwrap();
                    stream.write_all(body.as_bytes()).await.unwrap();
                }
            }
        }
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    };
    (address, tokio::spawn(play))
}

/// The impostor is told nothing after its lines, and the client knows what to think of it.
async fn assert_unproven(lines: &'static [Line]) {
    let (address, playing) = impostor(lines).await;
    let error = ask(&uri_at(address, "alice:secret", "shop"), "help", &options())
        .await
        .unwrap_err();
    let TransportError::Unproven { address: named, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*named, address.to_string());
    assert!(error.hint().unwrap().contains("require_auth=none"), "{error:?}");
    assert_eq!(playing.await.unwrap(), b"", "the client went on");
}

#[tokio::test]
async fn who_asks_for_no_password_is_told_nothing() {
    assert_unproven(&[Line::Say(WELCOME)]).await;
}

#[tokio::test]
async fn who_breaks_off_the_exchange_is_told_nothing() {
    assert_unproven(&[Line::Say(ASK_SCRAM), Line::Hear, Line::Say(WELCOME)]).await;
    let after_continue = &[
        Line::Say(ASK_SCRAM),
        Line::Hear,
        Line::Challenge(4096),
        Line::Hear,
        Line::Say(WELCOME),
    ];
    assert_unproven(after_continue).await;
}

#[tokio::test]
async fn who_proves_something_else_is_told_nothing() {
    // A signature of the right length.
    const FINAL: &[u8] = b"R\0\0\0\x36\0\0\0\x0cv=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let lines = &[
        Line::Say(ASK_SCRAM),
        Line::Hear,
        Line::Challenge(4096),
        Line::Hear,
        Line::Say(FINAL),
    ];
    assert_unproven(lines).await;
}

#[tokio::test]
async fn who_asks_for_absurd_work_is_told_nothing() {
    assert_unproven(&[Line::Say(ASK_SCRAM), Line::Hear, Line::Challenge(1)]).await;
    assert_unproven(&[Line::Say(ASK_SCRAM), Line::Hear, Line::Challenge(1_000_000)]).await;
}

#[tokio::test]
async fn who_is_ready_without_letting_anybody_in_is_told_nothing() {
    const READY: &[u8] = b"S\0\0\0\x14neon.protocol\x001\0Z\0\0\0\x05I";
    let (address, playing) = impostor(&[Line::Say(READY)]).await;
    let error = ask(&uri_at(address, "alice:secret", "shop"), "help", &options())
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::NotANeonServer { .. }),
        "{error:?}"
    );
    assert_eq!(playing.await.unwrap(), b"", "the client went on");
}

#[tokio::test]
async fn without_a_password_an_impostor_is_told_nothing_either() {
    let (address, playing) = impostor(&[Line::Say(WELCOME)]).await;
    let mut options = options();
    options.passwords = PasswordSources {
        typed: None,
        environment: Some(neon_transport::Password::new("")),
        passfile: None,
    };
    let error = ask(&uri_at(address, "alice", "shop"), "help", &options)
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Unproven { .. }), "{error:?}");
    assert_eq!(playing.await.unwrap(), b"", "the client went on");
}

#[tokio::test]
async fn an_address_may_waive_the_proof() {
    let (address, playing) = impostor(&[Line::Say(WELCOME), Line::Hear, Line::Say(ANSWER)]).await;
    let address = format!("postgresql://alice@{address}/shop?require_auth=none");
    ask(&address.parse().unwrap(), "help", &options()).await.unwrap();
    assert_eq!(playing.await.unwrap(), b"X\0\0\0\x04", "a goodbye");
}
