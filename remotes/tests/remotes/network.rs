//! The same over TCP, with passwords, through a proxy that cuts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use neon_remotes::*;
use neon_transport::server::{Caller, Opening, Service, Users, UsersError};
use neon_transport::testing::CuttingProxy;
use neon_transport::{
    Address, Channel, DialOptions, PasswordSources, Refusal as Reason, TransportError, dial_with, scram,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::repo::{Random, Repo};
use crate::{assert_same, options};

struct Alice(String);

impl Users for Alice {
    fn verifier(&self, user: &str, _: &str) -> Result<Option<String>, UsersError> {
        Ok((user == "alice").then(|| self.0.clone()))
    }
}

struct Host {
    repo: Arc<Repo>,
    served: Mutex<Vec<Result<Served, RemoteError>>>,
}

impl Service for Host {
    async fn open(&self, _: &Caller, command: &str, opening: Opening) -> Result<(), Reason> {
        let channel = opening.accept().await?;
        let served = serve(command, channel, self.repo.clone(), self.repo.clone(), options()).await;
        self.served.lock().expect("not poisoned").push(served);
        Ok(())
    }
}

/// A server for `repo` behind a proxy.
struct Town {
    host: Arc<Host>,
    proxy: CuttingProxy,
    shutdown: CancellationToken,
}

impl Town {
    async fn new(repo: &Arc<Repo>) -> Town {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let host = Arc::new(Host {
            repo: repo.clone(),
            served: Mutex::default(),
        });
        let shutdown = CancellationToken::new();
        let verifier = scram::make_verifier("secret", &[7; 16], 4096).expect("a verifier");
        tokio::spawn(neon_transport::server::serve(
            listener,
            host.clone(),
            Arc::new(Alice(verifier)),
            Default::default(),
            shutdown.clone(),
        ));
        let proxy = CuttingProxy::start(address).await.expect("a proxy");
        Town {
            host,
            proxy,
            shutdown,
        }
    }

    async fn dial(&self, command: &Command) -> Result<Channel, TransportError> {
        let address: Address = format!("postgresql://alice:secret@{}/shop", self.proxy.address())
            .parse()
            .expect("an address");
        let options = DialOptions {
            passwords: PasswordSources::default(),
            user: "nobody".to_owned(),
            patience: Duration::from_secs(20),
        };
        dial_with(&address, &command.to_string(), &options).await
    }

    async fn push(&self, from: &Arc<Repo>, branch: &str) -> Result<PushOutcome, RemoteError> {
        let head = from.head(branch);
        let timeline = from.content(head).position.timeline;
        let command = Command::Push {
            branch: branch.to_owned(),
            timeline,
        };
        let channel = self.dial(&command).await.map_err(RemoteError::Transport)?;
        let request = PushRequest {
            branch: branch.to_owned(),
            head,
            force: false,
            dry_run: false,
        };
        perform_push(channel, from.clone(), request, options()).await
    }

    async fn fetch(&self, into: &Arc<Repo>) -> Result<FetchOutcome, RemoteError> {
        let channel = self
            .dial(&Command::ListBranches)
            .await
            .map_err(RemoteError::Transport)?;
        perform_fetch(
            channel,
            into.clone(),
            FetchRequest::All { dry_run: false },
            options(),
        )
        .await
    }

    /// Waits until the server is done with `count` conversations and returns how they ended.
    async fn served(&self, count: usize) -> Vec<Result<Served, RemoteError>> {
        for _ in 0..2_000 {
            {
                let mut served = self.host.served.lock().expect("not poisoned");
                if served.len() >= count {
                    return std::mem::take(&mut *served);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server is not done");
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn rich() -> Arc<Repo> {
    let repo = Arc::new(Repo::new(1));
    repo.import(1_500_000);
    repo.write("main", 900_000);
    repo.seal();
    repo.write("main", 700_000);
    repo
}

#[tokio::test]
async fn push_again_and_clone_end_cleanly_on_both_sides() {
    let (a, b) = (rich(), Arc::new(Repo::new(2)));
    let town = Town::new(&b).await;
    assert_eq!(
        town.push(&a, "main").await.expect("pushed").motion,
        Motion::Create
    );
    assert_eq!(town.push(&a, "main").await.expect("pushed").motion, Motion::Stay);
    let c = Arc::new(Repo::new(3));
    let fetched = town.fetch(&c).await.expect("fetched");
    c.set_branch("main", fetched.branches[0].head);
    assert_same(&a, "main", &c, "main");
    for served in town.served(3).await {
        served.expect("a clean end at the server");
    }
}

#[tokio::test]
async fn refusals_arrive_whole() {
    let (a, b) = (rich(), Arc::new(Repo::new(2)));
    let town = Town::new(&b).await;
    town.push(&a, "main").await.expect("pushed");
    a.write("main", 1_000);
    b.set_running("main", true);
    assert!(matches!(
        crate::refused(town.push(&a, "main").await),
        Refusal::EndpointRuns { .. }
    ));
    b.set_running("main", false);
    // Decided only at the very end, after everything has been sent.
    *b.before_move.lock().expect("not poisoned") = Some(Box::new(|repo| repo.set_running("main", true)));
    assert!(matches!(
        crate::refused(town.push(&a, "main").await),
        Refusal::EndpointRuns { .. }
    ));
}

#[tokio::test]
async fn cut_at_any_byte_a_push_and_a_clone_get_there() {
    let (a, b) = (rich(), Arc::new(Repo::new(2)));
    let town = Town::new(&b).await;
    let mut random = Random(11);
    // A chunk is a MiB: what never passes one whole cannot get on.
    let mut cuts = 0;
    loop {
        town.proxy.cut_after(400 + random.next() % 1_600_000);
        match town.push(&a, "main").await {
            Ok(_) => break,
            Err(RemoteError::Cut { .. } | RemoteError::Transport(_)) => cuts += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert!(cuts < 300, "no progress");
    }
    assert!(cuts > 0, "nothing was cut");
    assert_same(&a, "main", &b, "main");
    let c = Arc::new(Repo::new(3));
    let fetched = loop {
        town.proxy.cut_after(400 + random.next() % 1_600_000);
        match town.fetch(&c).await {
            Ok(fetched) => break fetched,
            Err(RemoteError::Cut { .. } | RemoteError::Transport(_)) => cuts += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert!(cuts < 600, "no progress");
    };
    c.set_branch("main", fetched.branches[0].head);
    assert_same(&a, "main", &c, "main");
}
