//! How fast frames move over loopback: `cargo run --release -p neon-transport --example throughput [MEGABYTES]`.
//!
//! Client and server are in one process. One direction at a time, then both at once; then round trips of small frames.
#![allow(missing_docs, reason = "a measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use neon_transport::server::{Caller, Opening, Options, Service, Users, UsersError, serve};
use neon_transport::{
    Address, Channel, DialOptions, PasswordSources, Refusal, TransportError, dial_with, scram,
};
use tokio_util::sync::CancellationToken;

struct Anybody(String);

impl Users for Anybody {
    fn verifier(&self, _user: &str, _database: &str) -> Result<Option<String>, UsersError> {
        Ok(Some(self.0.clone()))
    }
}

struct Mill;

impl Service for Mill {
    async fn open(&self, _caller: &Caller, command: &str, opening: Opening) -> Result<(), Refusal> {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |index: usize| words.get(index).and_then(|w| w.parse().ok()).unwrap_or(0usize);
        let (frames, size) = (number(1), number(2));
        let channel = opening.accept().await?;
        match words.first().copied() {
            Some("up") => drain(channel).await?,
            Some("down") => fill(channel, frames, size).await?,
            Some("both") => both(channel, frames, size).await?,
            _ => echo(channel).await?,
        }
        Ok(())
    }
}

async fn drain(mut channel: Channel) -> Result<(), TransportError> {
    while channel.recv().await?.is_some() {}
    channel.finish().await
}

async fn fill(mut channel: Channel, frames: usize, size: usize) -> Result<(), TransportError> {
    let frame = Bytes::from(vec![42; size]);
    for _ in 0..frames {
        channel.send(frame.clone()).await?;
    }
    channel.finish().await
}

async fn both(channel: Channel, frames: usize, size: usize) -> Result<(), TransportError> {
    let (mut send, mut recv) = channel.split();
    let sender = tokio::spawn(async move {
        let frame = Bytes::from(vec![42; size]);
        for _ in 0..frames {
            send.send(frame.clone()).await?;
        }
        send.end().await.map(|()| send)
    });
    while recv.recv().await?.is_some() {}
    let send = sender
        .await
        .map_err(|e| TransportError::Protocol { what: e.to_string() })??;
    Channel::join(send, recv).finish().await
}

async fn echo(mut channel: Channel) -> Result<(), TransportError> {
    while let Some(frame) = channel.recv().await? {
        channel.send(frame).await?;
    }
    channel.finish().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let megabytes: usize = std::env::args().nth(1).map_or(Ok(2048), |text| text.parse())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address: Address = format!("postgresql://u:p@{}/bench", listener.local_addr()?).parse()?;
    let verifier = scram::make_verifier(
        "p",
        &scram::salt_of("p", &scram::Secret::draw()?),
        scram::DEFAULT_ITERATIONS,
    )?;
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(
        listener,
        Arc::new(Mill),
        Arc::new(Anybody(verifier)),
        Options::default(),
        stop.clone(),
    ));
    let options = DialOptions {
        passwords: PasswordSources::default(),
        user: "nobody".to_owned(),
        patience: Duration::from_secs(20),
    };

    for size in [8 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20] {
        let frames = (megabytes << 20) / size;
        for direction in ["down", "up", "both"] {
            let channel = dial_with(&address, &format!("{direction} {frames} {size}"), &options).await?;
            let began = Instant::now();
            match direction {
                "down" => drain(channel).await?,
                "up" => fill(channel, frames, size).await?,
                _ => both(channel, frames, size).await?,
            }
            let rate = megabytes as f64 / began.elapsed().as_secs_f64();
            println!("{:>5} KiB frames, {direction:<4} {rate:>7.0} MiB/s", size >> 10);
        }
    }
    let mut channel = dial_with(&address, "echo", &options).await?;
    let began = Instant::now();
    for _ in 0..10_000 {
        channel.send(Bytes::from_static(b"0123456789")).await?;
        channel.recv().await?;
    }
    println!("round trip of a small frame {:?}", began.elapsed() / 10_000);
    channel.finish().await?;
    let began = Instant::now();
    for _ in 0..100 {
        dial_with(&address, "echo", &options).await?.finish().await?;
    }
    println!("dial, SCRAM, command, finish {:?}", began.elapsed() / 100);
    stop.cancel();
    Ok(server.await??)
}
