//! What a host has to say about a push, and that work ends when nobody waits for it.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use neon_remotes::*;

use crate::repo::Repo;
use crate::{How, fetch, options, push, push_through, refused, relay, two};

/// A host that lets so many bytes in, and maybe no branch move.
struct Host {
    bytes: u64,
    closed: bool,
    held: Arc<AtomicU64>,
    moves: Mutex<Vec<(BranchMove, Volume, u64)>>,
}

/// Bytes that count while this lives.
struct Held(Arc<AtomicU64>, u64);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

impl Gate for Host {
    fn admit(&self, bytes: u64) -> Result<Box<dyn Any + Send>, Refusal> {
        if bytes > self.bytes {
            return Err(Refusal::Limit {
                what: format!("{bytes} bytes are too many"),
            });
        }
        self.held.fetch_add(bytes, Ordering::SeqCst);
        Ok(Box::new(Held(Arc::clone(&self.held), bytes)))
    }

    fn moves(&self, step: &BranchMove, arrived: &Volume) -> Result<(), LocalError> {
        if self.closed {
            return Err(LocalError::other("the book is full"));
        }
        let held = self.held.load(Ordering::SeqCst);
        self.moves
            .lock()
            .expect("not poisoned")
            .push((step.clone(), *arrived, held));
        Ok(())
    }
}

fn host(bytes: u64, closed: bool) -> Arc<Host> {
    Arc::new(Host {
        bytes,
        closed,
        held: Arc::default(),
        moves: Mutex::default(),
    })
}

fn led_by(host: &Arc<Host>) -> Options {
    Options {
        who: Some("Ada <ada@127.0.0.1>".into()),
        gate: Some(Arc::clone(host) as Arc<dyn Gate>),
        ..options()
    }
}

#[tokio::test]
async fn who_moves_a_branch_and_what_for_is_known_before_it_moves() {
    let (a, b) = two(20_000).await;
    let before = b.head("main");
    let after = a.write("main", 5_000);
    let host = host(u64::MAX, false);
    let admitted = Arc::clone(&host.held);
    *b.before_accept.lock().expect("not poisoned") = Some(Box::new(move |_| {
        assert!(
            admitted.load(Ordering::SeqCst) >= 5_000,
            "reserved while it is taken in"
        );
        Ok(())
    }));
    let (pushed, served) = push_through(
        relay::straight(),
        &a,
        "main",
        &b,
        "main",
        How::default(),
        led_by(&host),
    )
    .await;
    assert_eq!(pushed.expect("pushed").motion, Motion::Forward);
    let served = served.expect("served");
    let moves = host.moves.lock().expect("not poisoned");
    let [(step, arrived, _)] = moves.as_slice() else {
        panic!("{moves:?}")
    };
    assert_eq!((step.expect, step.new), (Some(before), after));
    assert_eq!(step.who.as_deref(), Some("Ada <ada@127.0.0.1>"));
    assert_eq!(*arrived, served.volume);
    assert!(arrived.bytes >= 5_000, "{arrived:?}");
    assert_eq!(host.held.load(Ordering::SeqCst), 0, "given back");
    let reflog = b.reflog();
    assert_eq!(reflog.last().expect("moved").0, *step);
}

#[tokio::test]
async fn what_a_host_does_not_admit_does_not_arrive() {
    let (a, b) = two(20_000).await;
    let before = b.head("main");
    a.write("main", 50_000);
    // Whether it would follow at once or is asked for, and though it lies.
    for bytes in [0, 1_000, 40_000] {
        let host = host(bytes, false);
        let (pushed, served) = push_through(
            relay::straight(),
            &a,
            "main",
            &b,
            "main",
            How::default(),
            led_by(&host),
        )
        .await;
        assert!(matches!(refused(pushed), Refusal::Limit { .. }));
        assert!(served.is_err());
        assert_eq!(b.head("main"), before);
        assert_eq!(host.held.load(Ordering::SeqCst), 0);
    }
    // What is here already is not counted again.
    push(&a, "main", &b, "copy", How::default())
        .await
        .expect("pushed");
    let host = host(0, false);
    let (pushed, _) = push_through(
        relay::straight(),
        &a,
        "main",
        &b,
        "main",
        How::default(),
        led_by(&host),
    )
    .await;
    assert_eq!(pushed.expect("nothing to send").motion, Motion::Forward);
}

#[tokio::test]
async fn a_branch_does_not_move_when_the_host_cannot_tell_of_it() {
    let (a, b) = two(20_000).await;
    let before = b.head("main");
    a.write("main", 5_000);
    let host = host(u64::MAX, true);
    let (pushed, served) = push_through(
        relay::straight(),
        &a,
        "main",
        &b,
        "main",
        How::default(),
        led_by(&host),
    )
    .await;
    let error = pushed.expect_err("the book is full");
    assert!(error.to_string().contains("the book is full"), "{error}");
    assert!(matches!(served, Err(RemoteError::Local(_))), "{served:?}");
    assert_eq!(b.head("main"), before);
}

#[tokio::test]
async fn work_ends_when_nobody_waits_for_it() {
    let (a, b) = two(20_000).await;
    let before = b.head("main");
    a.write("main", 5_000);
    let (began, begun) = tokio::sync::oneshot::channel();
    let (ended, end) = tokio::sync::oneshot::channel();
    let mut told = Some((began, ended));
    *b.before_accept.lock().expect("not poisoned") = Some(Box::new(move |meter| {
        let (began, ended) = told.take().expect("once");
        began.send(()).expect("heard");
        // Long work, that asks.
        while meter.check().is_ok() {
            std::thread::yield_now();
        }
        ended.send(()).expect("heard");
        meter.check()
    }));
    let (client, server) = relay::straight();
    let there = Arc::clone(&b);
    let command = Command::Push {
        branch: "main".to_owned(),
        timeline: a.content(a.head("main")).position.timeline,
    };
    let serving =
        tokio::spawn(
            async move { serve(&command.to_string(), server, there.clone(), there, options()).await },
        );
    let request = PushRequest {
        branch: "main".to_owned(),
        head: a.head("main"),
        force: false,
        dry_run: false,
    };
    let pushing = tokio::spawn(perform_push(client, a.clone(), request, options()));
    begun.await.expect("it was begun");
    // As a server does whose client is gone, or that is told to end.
    serving.abort();
    end.await.expect("it ended");
    assert!(pushing.await.expect("no panic").is_err());
    assert_eq!(b.head("main"), before);
}

#[tokio::test]
async fn names_that_cannot_be_kept_do_not_stand_in_the_way_of_others() {
    let a = Arc::new(Repo::new(1));
    a.import(20_000);
    let head = a.head("main");
    for name in ["refs/heads/x", "heads/x", "x.lock", "-d", "\u{202e}x", "a/b", "a"] {
        a.set_branch(name, head);
    }
    let b = Arc::new(Repo::new(2));
    let fetched = fetch(&b, &a).await.expect("fetched");
    let names: Vec<&str> = fetched
        .branches
        .iter()
        .map(|branch| branch.name.as_str())
        .collect();
    assert_eq!(names, ["a", "main"]);
    assert_eq!(fetched.skipped.len(), 6);
    assert!(fetched.skipped.iter().any(|skipped| skipped.name == "\\u{202e}x"));
}
