//! Every row of the table, in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use neon_remotes::wire::Message;
use neon_remotes::*;
use neon_types::{LsnRange, Position};

use crate::relay::{Way, relay};
use crate::repo::Repo;
use crate::{How, assert_same, fetch, pull, push, push_over, refused, two};

const FORCE: How = How {
    force: true,
    dry_run: false,
};
const DRY: How = How {
    force: false,
    dry_run: true,
};
const PLAIN: How = How {
    force: false,
    dry_run: false,
};

#[tokio::test]
async fn absent_is_created_in_an_empty_repository_and_beside_its_own_history() {
    let (a, b) = two(300_000).await;
    assert_same(&a, "main", &b, "main");
    a.branch_at("topic", "main", None);
    a.write("topic", 40_000);
    let outcome = push(&a, "topic", &b, "feature/x", PLAIN).await.expect("pushed");
    assert_eq!((outcome.motion, outcome.before), (Motion::Create, None));
    assert_eq!(outcome.head, Some(a.head("topic")));
    assert_eq!(outcome.peer, b.id);
    // Shares what is there: the base does not travel again.
    assert!(outcome.sent.bytes < 45_000, "{:?}", outcome.sent);
    assert_same(&a, "topic", &b, "feature/x");
}

#[tokio::test]
async fn another_history_is_refused_even_with_force() {
    let (_, b) = two(10_000).await;
    let stranger = Arc::new(Repo::new(9));
    stranger.import(20_000);
    let before = b.head("main");
    for (branch, how) in [("main", PLAIN), ("main", FORCE), ("new", PLAIN), ("new", FORCE)] {
        let refusal = refused(push(&stranger, "main", &b, branch, how).await);
        assert!(matches!(refusal, Refusal::Unrelated { .. }), "{refusal:?}");
        let refusal = refused(pull(&b, branch, &stranger, "main", how).await);
        assert!(matches!(refusal, Refusal::Unrelated { .. }), "{refusal:?}");
    }
    assert!(matches!(
        refused(fetch(&b, &stranger).await),
        Refusal::Unrelated { .. }
    ));
    assert_eq!((b.head("main"), b.try_head("new")), (before, None));
}

#[tokio::test]
async fn behind_gets_only_what_is_newer_sliced_at_both_ends() {
    let (a, b) = two(200_000).await;
    for _ in 0..3 {
        a.write("main", 100_000);
    }
    // One WAL and one layer of it, cut in the middle: the branch ends inside of what main has.
    a.seal();
    let middle = a.content(a.head("main")).position.lsn.0 - 50_000;
    a.branch_at("half", "main", Some(neon_types::Lsn(middle / 8 * 8)));
    let outcome = push(&a, "half", &b, "half", PLAIN).await.expect("pushed");
    // 200,000 bytes of WAL and half of 100,000, with three small commits.
    assert!(
        (250_000..253_000).contains(&outcome.sent.bytes),
        "{:?}",
        outcome.sent
    );
    assert_same(&a, "half", &b, "half");
    let outcome = push(&a, "main", &b, "main", PLAIN).await.expect("pushed");
    assert_eq!((outcome.motion, outcome.sent.layers), (Motion::Forward, 1));
    assert!(
        outcome.sent.bytes < 52_000,
        "the other half only: {:?}",
        outcome.sent
    );
    assert_same(&a, "main", &b, "main");
}

#[tokio::test]
async fn behind_crosses_forks_and_leaves_out_what_is_off_the_path() {
    let (a, b) = two(50_000).await;
    let fork = a.content(a.head("main")).position.lsn;
    a.write("main", 30_000);
    a.branch_at("topic", "main", Some(fork));
    a.write("topic", 20_000);
    a.write("topic", 20_000);
    let outcome = push(&a, "topic", &b, "main", PLAIN).await.expect("pushed");
    assert_eq!(outcome.motion, Motion::Forward);
    assert!(
        outcome.sent.bytes < 42_000,
        "WAL of main after the fork left: {:?}",
        outcome.sent
    );
    assert_same(&a, "topic", &b, "main");
}

#[tokio::test]
async fn wal_is_compressed_on_the_wire() {
    let (a, b) = two(1_000).await;
    a.write("main", 3_000_000);
    let outcome = push(&a, "main", &b, "main", PLAIN).await.expect("pushed");
    assert!(
        outcome.sent.bytes > 3_000_000 && outcome.wire_sent < 2_000_000,
        "{outcome:?}"
    );
    assert_same(&a, "main", &b, "main");
}

#[tokio::test]
async fn equal_is_one_message_and_nothing_is_sent() {
    let (a, b) = two(10_000).await;
    let to_server = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&to_server);
    let ends = relay(Box::new(move |way, _, frame| {
        if way == Way::ToServer {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Some(frame)
    }));
    let (result, served) = push_over(ends, &a, "main", &b, "main", PLAIN).await;
    let outcome = result.expect("pushed");
    assert_eq!((outcome.motion, outcome.wire_sent), (Motion::Stay, 0));
    assert_eq!(to_server.load(Ordering::SeqCst), 0, "the hello was enough");
    assert_eq!(served.expect("served").motion, None);
    assert_eq!(
        pull(&b, "main", &a, "main", PLAIN).await.expect("pulled").motion,
        Motion::Stay
    );
}

#[tokio::test]
async fn a_small_push_takes_two_round_trips() {
    let (a, b) = two(10_000).await;
    a.write("main", 8_000);
    let turns = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&turns);
    let ends = relay(Box::new(move |way, _, frame| {
        let mut seen = seen.lock().expect("not poisoned");
        if seen.last() != Some(&way) {
            seen.push(way);
        }
        Some(frame)
    }));
    let outcome = push_over(ends, &a, "main", &b, "main", PLAIN)
        .await
        .0
        .expect("pushed");
    // 4,000 bytes of them cannot be compressed; the rest is the commit, twice, and the offer.
    assert!(
        outcome.sent.bytes > 8_000 && outcome.wire_sent < 6_000,
        "{outcome:?}"
    );
    let turns = turns.lock().expect("not poisoned").clone();
    assert_eq!(turns, [Way::ToClient, Way::ToServer, Way::ToClient]);
}

#[tokio::test]
async fn at_an_equal_position_only_a_descendant_moves_the_branch() {
    let (a, b) = two(10_000).await;
    let head = a.head("main");
    let commit = a.content(head);
    let child = a.commit_at(
        "main",
        commit.path.clone(),
        commit.position.lsn,
        vec![head],
        "a child",
    );
    let outcome = push(&a, "main", &b, "main", PLAIN).await.expect("pushed");
    assert_eq!(
        (outcome.motion, outcome.sent.commits, outcome.sent.wal),
        (Motion::Recommit, 1, 0)
    );
    assert_eq!(b.head("main"), child);
    // Siblings: both stay where they are, in both directions.
    a.commit_at(
        "main",
        commit.path.clone(),
        commit.position.lsn,
        vec![head],
        "a sibling",
    );
    assert_eq!(
        push(&a, "main", &b, "main", PLAIN)
            .await
            .expect("no error")
            .motion,
        Motion::Stay
    );
    assert_eq!(
        pull(&b, "main", &a, "main", FORCE)
            .await
            .expect("no error")
            .motion,
        Motion::Stay
    );
    assert_eq!(b.head("main"), child);
    // And in a pull the descent is known only after the commits have come.
    let grandchild = a.commit_at(
        "main",
        commit.path,
        commit.position.lsn,
        vec![child],
        "a grandchild",
    );
    assert_eq!(
        pull(&b, "main", &a, "main", PLAIN).await.expect("pulled").motion,
        Motion::Recommit
    );
    assert_eq!(b.head("main"), grandchild);
}

#[tokio::test]
async fn ahead_is_refused_until_forced_and_a_pull_goes_forward() {
    let (a, b) = two(10_000).await;
    let old = a.head("main");
    a.write("main", 10_000);
    push(&a, "main", &b, "main", PLAIN).await.expect("pushed");
    let new = a.head("main");
    a.set_branch("main", old);
    let Refusal::Ahead { head, .. } = refused(push(&a, "main", &b, "main", PLAIN).await) else {
        panic!("not ahead")
    };
    assert_eq!(head.commit, new);
    assert_eq!(
        pull(&b, "main", &a, "main", PLAIN)
            .await
            .expect("nothing to do")
            .motion,
        Motion::Stay
    );
    assert_eq!(b.head("main"), new);

    assert_eq!(
        push(&a, "main", &b, "main", FORCE).await.expect("forced").motion,
        Motion::Back
    );
    assert_eq!(b.head("main"), old);
    let reflog = b.reflog();
    let (step, was) = reflog.last().expect("an entry");
    assert_eq!((*was, step.why()), (Some(new), "push (forced)"));

    b.set_branch("main", new);
    let outcome = pull(&a, "main", &b, "main", PLAIN).await.expect("pulled");
    assert_eq!(
        (outcome.motion, outcome.before, outcome.head),
        (Motion::Forward, Some(old), Some(new))
    );
    assert_eq!(
        pull(&a, "main", &a, "main", FORCE).await.expect("itself").motion,
        Motion::Stay
    );
}

#[tokio::test]
async fn diverged_is_refused_with_all_facts_and_force_keeps_the_old_head_in_the_reflog() {
    let (a, b) = two(10_000).await;
    let common = a.content(a.head("main")).position;
    a.write("main", 10 * 1024);
    b.write("main", 3 * 1024);
    let theirs = b.head("main");
    for pulling in [false, true] {
        let refusal = if pulling {
            refused(pull(&b, "main", &a, "main", PLAIN).await)
        } else {
            refused(push(&a, "main", &b, "main", PLAIN).await)
        };
        let text = refusal.to_string();
        let Refusal::Diverged { divergence, .. } = refusal else {
            panic!("not diverged")
        };
        assert_eq!(
            (divergence.incoming.commit, divergence.current.commit),
            (a.head("main"), theirs)
        );
        assert_eq!(divergence.common, common);
        assert_eq!(
            (divergence.incoming_transactions, divergence.current_transactions),
            (Some(10), Some(3))
        );
        assert!(
            text.contains("10 transactions") && text.contains("3 transactions"),
            "{text}"
        );
    }
    // Fetch shows both without moving anything.
    let fetched = fetch(&a, &b).await.expect("fetched");
    assert_eq!(fetched.branches[0].head, theirs);
    assert_eq!(a.read(theirs), b.read(theirs));

    assert_eq!(
        push(&a, "main", &b, "main", FORCE).await.expect("forced").motion,
        Motion::Replace
    );
    assert_eq!(b.reflog().last().expect("an entry").1, Some(theirs));
    assert_same(&a, "main", &b, "main");
    b.set_branch("main", theirs);
    assert_eq!(
        pull(&b, "main", &a, "main", FORCE).await.expect("forced").motion,
        Motion::Replace
    );
    assert_same(&a, "main", &b, "main");
}

#[tokio::test]
async fn a_running_endpoint_is_told() {
    let (a, b) = two(10_000).await;
    a.write("main", 1_000);
    b.set_running("main", true);
    for how in [PLAIN, FORCE] {
        assert!(matches!(
            refused(push(&a, "main", &b, "main", how).await),
            Refusal::EndpointRuns { .. }
        ));
        assert!(matches!(
            refused(pull(&b, "main", &a, "main", how).await),
            Refusal::EndpointRuns { .. }
        ));
    }
    // What runs at the sender does not matter: it serves its head.
    b.set_running("main", false);
    a.set_running("main", true);
    assert_eq!(
        pull(&b, "main", &a, "main", PLAIN).await.expect("pulled").motion,
        Motion::Forward
    );
}

#[tokio::test]
async fn an_endpoint_that_starts_meanwhile_is_told_too() {
    let (a, b) = two(10_000).await;
    a.write("main", 1_000);
    let before = b.head("main");
    *b.before_move.lock().expect("not poisoned") = Some(Box::new(|repo| repo.set_running("main", true)));
    assert!(matches!(
        refused(push(&a, "main", &b, "main", PLAIN).await),
        Refusal::EndpointRuns { .. }
    ));
    assert_eq!(b.head("main"), before);
}

#[tokio::test]
async fn the_second_of_two_racing_pushes_is_refused_with_the_new_head() {
    let (a, b) = two(10_000).await;
    let c = Arc::new(Repo::new(3));
    pull(&c, "main", &b, "main", PLAIN).await.expect("cloned");
    a.write("main", 9_000);
    c.write("main", 9_000);
    // While the push of `c` is about to move the branch, that of `a` has done so.
    let winner = a.head("main");
    push(&a, "main", &b, "side", PLAIN)
        .await
        .expect("the winner's parts are there");
    *b.before_move.lock().expect("not poisoned") =
        Some(Box::new(move |repo| repo.set_branch("main", winner)));
    let refusal = refused(push(&c, "main", &b, "main", PLAIN).await);
    assert_eq!(
        refusal,
        Refusal::Moved {
            branch: "main".to_owned(),
            head: Some(winner)
        }
    );
    assert_eq!(b.head("main"), winner);
    // The next attempt says what is the matter, and force overwrites.
    assert!(matches!(
        refused(push(&c, "main", &b, "main", PLAIN).await),
        Refusal::Diverged { .. }
    ));
    let forced = push(&c, "main", &b, "main", FORCE).await.expect("forced");
    assert_eq!(
        (forced.motion, forced.sent.wal, forced.sent.layers),
        (Motion::Replace, 0, 0),
        "the parts were there"
    );
}

#[tokio::test]
async fn two_pushes_at_once_end_with_one_winner() {
    for seed in 10..14 {
        let b = Arc::new(Repo::new(2));
        let (a, c) = (Arc::new(Repo::new(seed)), Arc::new(Repo::new(seed + 100)));
        a.import(10_000);
        push(&a, "main", &b, "main", PLAIN).await.expect("pushed");
        pull(&c, "main", &b, "main", PLAIN).await.expect("pulled");
        a.write("main", 900_000);
        c.write("main", 900_000);
        let (one, other) = tokio::join!(
            push(&a, "main", &b, "main", PLAIN),
            push(&c, "main", &b, "main", PLAIN)
        );
        let (winner, loser) = if one.is_ok() { (&a, other) } else { (&c, one) };
        let refusal = refused(loser);
        assert!(
            matches!(refusal, Refusal::Moved { .. } | Refusal::Diverged { .. }),
            "{refusal:?}"
        );
        assert_same(winner, "main", &b, "main");
    }
}

#[tokio::test]
async fn a_dry_run_plans_on_both_sides_and_changes_nothing() {
    let (a, b) = two(10_000).await;
    a.write("main", 700_000);
    let (before, objects) = (b.head("main"), b.objects());
    let outcome = push(&a, "main", &b, "main", DRY).await.expect("planned");
    assert_eq!(
        (outcome.motion, outcome.sent),
        (Motion::Forward, Volume::default())
    );
    assert_eq!((outcome.planned.commits, outcome.planned.wal), (1, 1));
    assert!(outcome.planned.bytes > 700_000);
    let planned = pull(&b, "main", &a, "main", DRY).await.expect("planned");
    assert_eq!(
        (planned.motion, planned.planned),
        (Motion::Forward, outcome.planned)
    );
    assert_eq!((b.head("main"), b.objects()), (before, objects));
    let created = push(&a, "main", &b, "new", DRY).await.expect("planned");
    assert_eq!((created.motion, created.head), (Motion::Create, None));
}

#[tokio::test]
async fn possession_counts_and_not_ancestry() {
    // The receiver knows the timeline but holds only its beginning, by way of another branch.
    let (a, b) = two(60_000).await;
    a.write("main", 10_000);
    a.branch_at("topic", "main", None);
    a.write("main", 10_000);
    a.write("topic", 10_000);
    push(&a, "topic", &b, "topic", PLAIN).await.expect("pushed");
    let outcome = push(&a, "main", &b, "other", PLAIN).await.expect("pushed");
    assert!(
        outcome.sent.bytes < 12_000,
        "only what topic does not hold: {:?}",
        outcome.sent
    );
    assert_same(&a, "main", &b, "other");
}

#[tokio::test]
async fn a_position_that_would_not_be_readable_is_not_accepted() {
    let (a, b) = two(60_000).await;
    a.write("main", 400_000);
    let (before, commit) = (b.head("main"), a.content(a.head("main")));
    // A sender that leaves a part out.
    let ends = relay(Box::new(|way, _, frame| {
        if way == Way::ToServer
            && let Ok(Message::Offer(mut offer)) = Message::decode(&frame)
        {
            offer.parts.retain(|part| part.kind == PartKind::Commit);
            offer.flags.extra = true;
            return Some(Message::Offer(offer).encode().into());
        }
        // Chunks of the part that was left out.
        let lost = way == Way::ToServer
            && matches!(Message::decode(&frame), Ok(Message::Chunk(chunk)) if chunk.part > 0);
        Some(if lost {
            Message::Beat(neon_remotes::wire::Beat {
                phase: Phase::Transferring,
                done: 0,
                total: 0,
            })
            .encode()
            .into()
        } else {
            frame
        })
    }));
    let (result, served) = push_over(ends, &a, "main", &b, "main", PLAIN).await;
    assert!(result.is_err());
    let refusal = refused(served);
    let Refusal::NotReadable { position, .. } = refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(position, commit.position);
    assert_eq!(b.head("main"), before);
    let everything = b
        .possession(&commit.path, neon_types::Lsn::MAX)
        .expect("possession");
    assert!(!everything.reads(position));
}

#[tokio::test]
async fn a_clone_is_a_fetch_of_everything() {
    let (a, _) = two(100_000).await;
    a.branch_at("topic", "main", None);
    a.write("topic", 10_000);
    a.write("main", 10_000);
    a.branch_at("same", "main", None);
    let clone = Arc::new(Repo::new(5));
    let fetched = fetch(&clone, &a).await.expect("fetched");
    assert_eq!(fetched.default_branch(None).expect("a branch").name, "main");
    assert_eq!(
        fetched.default_branch(Some("topic")).expect("a branch").head,
        a.head("topic")
    );
    assert!(matches!(
        fetched.default_branch(Some("none")),
        Err(Refusal::NoBranch { .. })
    ));
    for branch in &fetched.branches {
        clone.set_branch(&branch.name, branch.head);
        assert_same(&a, &branch.name, &clone, &branch.name);
    }
    // The second branch brings only what the first did not.
    let total: u64 = fetched.branches.iter().map(|branch| branch.arrived.bytes).sum();
    assert!(total < 130_000, "{fetched:?}");
    // Again: one list, nothing asked.
    let again = fetch(&clone, &a).await.expect("fetched");
    assert_eq!(again.wire_sent, 0);
    assert_eq!(again.branches.len(), 3);
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let (a, b) = two(1_000).await;
    let refusal = refused(pull(&b, "x", &a, "nothere", PLAIN).await);
    assert_eq!(
        refusal,
        Refusal::NoBranch {
            branch: "nothere".to_owned()
        }
    );
}

#[tokio::test]
async fn different_wal_under_one_name_is_refused_and_the_last_equal_rung_named() {
    use crate::repo::SEGMENT;
    let (a, b) = two(1_000).await;
    a.write("main", 1_000_000);
    push(&a, "main", &b, "main", PLAIN).await.expect("pushed");
    a.write("main", 100_000);
    // Byte 5 * SEGMENT + 1 differs: segments 0 to 4 are equal, whatever comes after is not looked at.
    a.corrupt_history("main", neon_types::Lsn(5 * SEGMENT + 1));
    let timeline = a.content(a.head("main")).position.timeline;
    let before = b.head("main");
    let expected = Refusal::LadderMismatch {
        timeline,
        start: neon_types::Lsn(5 * SEGMENT),
        end: neon_types::Lsn(6 * SEGMENT),
        last_equal: Some(neon_types::Lsn(5 * SEGMENT)),
    };
    for how in [PLAIN, FORCE, DRY] {
        assert_eq!(refused(push(&a, "main", &b, "main", how).await), expected);
        assert_eq!(refused(pull(&b, "main", &a, "main", how).await), expected);
    }
    assert!(
        expected.hint().contains("neon branch NAME BRANCH@0/50000"),
        "{}",
        expected.hint()
    );
    assert_eq!(b.head("main"), before);
    // The same where the parts would have waited for a have.
    a.write("main", 2_000_000);
    assert_eq!(refused(push(&a, "main", &b, "main", PLAIN).await), expected);
}

#[tokio::test]
async fn a_limit_of_the_receiver_is_said_by_number() {
    let (a, b) = two(1_000).await;
    a.write("main", 900_000);
    let (client, server) = crate::relay::straight();
    let (there, command) = (
        b.clone(),
        Command::Push {
            branch: "main".to_owned(),
            timeline: a.content(a.head("main")).position.timeline,
        },
    );
    let small = Options {
        max_bytes: 100_000,
        ..crate::options()
    };
    let served =
        tokio::spawn(async move { serve(&command.to_string(), server, there.clone(), there, small).await });
    let request = PushRequest {
        branch: "main".to_owned(),
        head: a.head("main"),
        force: false,
        dry_run: false,
    };
    let refusal = refused(perform_push(client, a.clone(), request, crate::options()).await);
    assert!(
        matches!(&refusal, Refusal::Limit { what } if what.contains("100000")),
        "{refusal:?}"
    );
    assert!(served.await.expect("no panic").is_err());
}

#[tokio::test]
async fn progress_runs_from_nothing_to_everything() {
    let (a, b) = two(1_000).await;
    a.write("main", 3_000_000);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let options = Options {
        progress: Some(Arc::new(move |progress| {
            listener.lock().expect("not poisoned").push(progress)
        })),
        ..crate::options()
    };
    let (client, server) = crate::relay::straight();
    let there = a.clone();
    tokio::spawn(async move {
        serve(
            "branch_pull main -",
            server,
            there.clone(),
            there,
            crate::options(),
        )
        .await
    });
    let request = PullRequest {
        branch: "main".to_owned(),
        into: "main".to_owned(),
        force: false,
        dry_run: false,
    };
    perform_pull(client, b.clone(), request, options)
        .await
        .expect("pulled");
    let seen = seen.lock().expect("not poisoned");
    let bytes: Vec<Progress> = seen
        .iter()
        .filter(|p| p.phase == Phase::Transferring && p.objects_total > 0)
        .copied()
        .collect();
    let (first, last) = (bytes.first().expect("some"), bytes.last().expect("some"));
    assert_eq!((first.bytes_done, first.objects_done), (0, 0));
    assert_eq!(
        (last.bytes_done, last.objects_done),
        (last.bytes_total, last.objects_total)
    );
    assert!(bytes.len() > 3, "a report for each frame");
    assert!(
        bytes
            .windows(2)
            .all(|pair| pair[0].bytes_done <= pair[1].bytes_done)
    );
}

#[test]
fn a_possession_finds_what_is_readable() {
    let timeline = neon_types::TimelineId([1; 16]);
    let range = |start, end| LsnRange {
        start: neon_types::Lsn(start),
        end: neon_types::Lsn(end),
    };
    let possession = Possession {
        held: vec![Held {
            timeline,
            ranges: vec![range(8, 64), range(128, 256)],
        }],
    };
    let at = |lsn| Position {
        timeline,
        lsn: neon_types::Lsn(lsn),
    };
    assert!(possession.reads(at(8)) && possession.reads(at(64)) && possession.reads(at(200)));
    assert!(!possession.reads(at(72)) && !possession.reads(at(0)));
    let highest = |limit| {
        possession
            .highest_at_or_below(timeline, neon_types::Lsn(limit))
            .map(|lsn| lsn.0)
    };
    assert_eq!(
        (highest(4), highest(100), highest(200), highest(999)),
        (None, Some(64), Some(200), Some(256))
    );
}
