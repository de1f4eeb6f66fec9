//! The failing store: a course of everything that is done with repositories, over the WAL of a real Postgres, dies or fails at every
//! change that it makes to the disk. Afterwards what was acknowledged is there, `fsck` finds nothing, and pages are the original's.
//!
//! `docs/faults.md` says what is tried and what came of it. `NEON_FAULTS` chooses: `all`, or numbers of steps.

mod course;
mod crash;
mod disk;
mod interpose;
mod leftovers;
mod live;
mod material;
mod model;
mod plan;
mod reference;
mod session;
mod stage;

use std::thread;
use std::time::Instant;

use crash::Tally;
use plan::Plan;

fn judge(what: &str, begun: Instant, tally: Tally) -> Vec<String> {
    println!(
        "{what}: {} states, {} looked at, {} gone on with, {} failures, {} s",
        tally.states,
        tally.looked_at,
        tally.went_on,
        tally.failures.len(),
        begun.elapsed().as_secs()
    );
    assert!(tally.states > 0, "nothing was tried");
    tally.failures
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let begun = Instant::now();
    let reference = &reference::make();
    println!("{} changes, {} s", reference.log.len(), begun.elapsed().as_secs());
    crash::log_is_complete(reference);
    let plan = &Plan::from_environment();
    let failures: Vec<String> = thread::scope(|scope| {
        let runs = [
            scope.spawn(move || judge("crashes", begun, crash::run(reference, plan))),
            scope.spawn(move || judge("input/output errors", begun, live::run(reference, plan, false))),
            scope.spawn(move || judge("full disks", begun, live::run(reference, plan, true))),
        ];
        runs.into_iter()
            .flat_map(|run| run.join().expect("a run ends"))
            .collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
