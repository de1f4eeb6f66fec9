//! A server of ours with a small service, and somebody to ask it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use neon_transport::server::{Caller, Opening, Options, Service, Users, serve};
use neon_transport::{Address, DialOptions, PasswordSources, Refusal, Rows, scram, sqlstate};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// `alice` may use `shop` and `alice`, with the password `wonder:land`.
pub struct OneUser(String);

impl Users for OneUser {
    fn verifier(&self, user: &str, database: &str) -> Option<String> {
        (user == "alice" && matches!(database, "shop" | "alice")).then(|| self.0.clone())
    }
}

/// Commands: `help`, `refuse`, `echo` (frames come back), `count N SIZE` (frames come), `sink` (frames go), `break N` (gives up
/// after N frames), `vanish` (panics in mid-channel), `drop` (answers nothing), `greedy` (reads nothing, ends at once).
#[derive(Default)]
pub struct Toy {
    pub callers: Mutex<Vec<Caller>>,
    pub sunk: Mutex<Vec<Result<u64, String>>>,
}

impl Service for Toy {
    async fn open(&self, caller: &Caller, command: &str, opening: Opening) -> Result<(), Refusal> {
        self.callers.lock().unwrap().push(caller.clone());
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["help"] => Ok(opening
                .rows(&Rows::lines(
                    "help",
                    ["help: this text", "echo: frames come back"],
                ))
                .await?),
            ["refuse"] => Err(Refusal::new("55000", "branch 'main' has diverged").with_hint("neon fetch")),
            ["drop"] => Ok(()),
            ["echo"] => {
                let mut channel = opening.accept().await?;
                while let Some(frame) = channel.recv().await? {
                    channel.send(frame).await?;
                }
                Ok(channel.finish().await?)
            }
            ["count", frames, size] => {
                let frame = Bytes::from(vec![7; size.parse().unwrap()]);
                let mut channel = opening.accept().await?;
                for _ in 0..frames.parse::<u64>().unwrap() {
                    channel.send(frame.clone()).await?;
                }
                Ok(())
            }
            ["sink"] => {
                let mut channel = opening.accept().await?;
                let result = loop {
                    match channel.recv().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break Ok(channel.received()),
                        Err(error) => break Err(error),
                    }
                };
                let copy = result
                    .as_ref()
                    .map(|bytes| *bytes)
                    .map_err(|error| error.to_string());
                self.sunk.lock().unwrap().push(copy);
                result?;
                Ok(())
            }
            ["break", frames] => {
                let mut channel = opening.accept().await?;
                for _ in 0..frames.parse::<u64>().unwrap() {
                    channel.recv().await?;
                }
                Err(Refusal::new(sqlstate::OBJECT_IN_USE, "an endpoint runs on it").with_hint("stop it"))
            }
            ["vanish"] => {
                let mut channel = opening.accept().await?;
                channel.send(Bytes::from_static(b"so far")).await?;
                panic!("on purpose");
            }
            ["greedy"] => {
                let channel = opening.accept().await?;
                drop(channel);
                Ok(())
            }
            ["sleep"] => {
                let _channel = opening.accept().await?;
                std::future::pending().await
            }
            _ => Err(
                Refusal::new(sqlstate::SYNTAX_ERROR, format!("unknown command \"{command}\""))
                    .with_hint("try: help"),
            ),
        }
    }
}

pub struct World {
    pub address: SocketAddr,
    pub toy: Arc<Toy>,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<std::io::Result<()>>,
}

pub async fn world() -> World {
    world_with(Options::default()).await
}

pub async fn world_with(options: Options) -> World {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let toy = Arc::new(Toy::default());
    let verifier = scram::make_verifier("wonder:land", b"0123456789abcdef", 4096).unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(
        listener,
        Arc::clone(&toy),
        Arc::new(OneUser(verifier)),
        options,
        shutdown.clone(),
    ));
    World {
        address,
        toy,
        shutdown,
        server,
    }
}

impl World {
    pub fn uri(&self, login: &str, repository: &str) -> Address {
        uri_at(self.address, login, repository)
    }

    pub fn alice(&self) -> Address {
        self.uri("alice:wonder%3Aland", "shop")
    }
}

pub fn uri_at(address: SocketAddr, login: &str, repository: &str) -> Address {
    format!("postgresql://{login}@{address}/{repository}")
        .parse()
        .unwrap()
}

pub fn options() -> DialOptions {
    DialOptions {
        passwords: PasswordSources::default(),
        user: "nobody".into(),
        patience: Duration::from_secs(20),
    }
}
