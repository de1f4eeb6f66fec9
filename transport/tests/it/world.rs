//! A server of ours with a small service, and somebody to ask it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use neon_transport::scram::Secret;
use neon_transport::server::{Attempt, Caller, Opening, Options, Service, Users, UsersError, serve};
use neon_transport::{Address, DialOptions, PasswordSources, Refusal, Rows, scram, sqlstate};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Users by name, with their verifiers, and how often somebody looked at them. They may use `shop` and what is called as they are. Nothing: they
/// cannot be read.
#[derive(Default)]
pub struct People(pub Mutex<Option<BTreeMap<String, String>>>, pub AtomicUsize);

impl People {
    /// Adds a user, or gives one another password.
    pub fn add(&self, user: &str, password: &str) {
        let verifier = scram::make_verifier(password, &scram::salt_of(user, &secret()), 4096).unwrap();
        let mut people = self.0.lock().unwrap();
        people.get_or_insert_default().insert(user.into(), verifier);
    }

    pub fn remove(&self, user: &str) {
        self.0.lock().unwrap().as_mut().unwrap().remove(user);
    }
}

impl Users for People {
    fn verifier(&self, user: &str, database: &str) -> Result<Option<String>, UsersError> {
        let people = self.0.lock().unwrap();
        self.1.fetch_add(1, Ordering::SeqCst);
        let people = people.as_ref().ok_or(UsersError("on purpose".into()))?;
        let may = database == "shop" || database == user;
        Ok(people.get(user).filter(|_| may).cloned())
    }
}

pub fn secret() -> Secret {
    Secret::from_hex(&"5e".repeat(32)).unwrap()
}

/// Counts itself while it lives.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Commands: `help`, `refuse`, `echo` (frames come back), `count N SIZE` (frames come), `sink` (frames go), `break N` (gives up
/// after N frames), `vanish` (panics in mid-channel), `drop` (answers nothing), `greedy` (reads nothing, ends at once), `sleep` (does
/// something for ever).
#[derive(Default)]
pub struct Toy {
    pub callers: Mutex<Vec<Caller>>,
    pub sunk: Mutex<Vec<Result<u64, String>>>,
    /// How many sleep.
    pub asleep: Arc<AtomicUsize>,
    /// Each attempt to log in.
    pub attempts: Mutex<Vec<Tried>>,
}

/// Of an attempt to log in: user, session, SQLSTATE of the refusal.
pub type Tried = (Option<String>, Option<u64>, Option<String>);

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
                self.asleep.fetch_add(1, Ordering::SeqCst);
                let _busy = Busy(Arc::clone(&self.asleep));
                let _channel = opening.accept().await?;
                std::future::pending().await
            }
            _ => Err(
                Refusal::new(sqlstate::SYNTAX_ERROR, format!("unknown command \"{command}\""))
                    .with_hint("try: help"),
            ),
        }
    }

    fn attempted(&self, attempt: Attempt<'_>) {
        let refusal = attempt.refusal.map(|refusal| refusal.code.clone());
        let user = attempt.user.map(str::to_owned);
        self.attempts
            .lock()
            .unwrap()
            .push((user, attempt.session, refusal));
    }
}

pub struct World {
    pub address: SocketAddr,
    pub toy: Arc<Toy>,
    pub people: Arc<People>,
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
    let people = Arc::new(People::default());
    people.add("alice", "wonder:land");
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(
        listener,
        Arc::clone(&toy),
        Arc::clone(&people),
        options,
        shutdown.clone(),
    ));
    World {
        address,
        toy,
        people,
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
