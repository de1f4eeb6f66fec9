//! The process dies, or the power goes, before each change of the course.

use std::collections::HashSet;
use std::path::Path;

use crate::course::{COURSE, acts};
use crate::disk::{Cut, Disk};
use crate::leftovers::{self, Left, Leftovers};
use crate::plan::{Plan, Watchdog};
use crate::reference::{NAMES, Reference, place, settle};
use crate::session;
use crate::stage::Stage;

/// What was tried.
#[derive(Debug, Default)]
pub struct Tally {
    pub states: usize,
    /// States in which some repository differed from all that were looked at before.
    pub looked_at: usize,
    /// After so many of them the course went on.
    pub went_on: usize,
    pub failures: Vec<String>,
}

/// Returns what a part of the leftovers is, so that it is looked at once.
fn digest(left: &Leftovers, name: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let below = format!("{name}/");
    for (path, (mode, left)) in left.iter().filter(|(path, _)| path.starts_with(&below)) {
        hasher.update(format!("\n{path} {mode:o} ").as_bytes());
        if let Left::File(bytes) = left {
            hasher.update(format!("{} ", bytes.len()).as_bytes());
            hasher.update(bytes);
        }
    }
    *hasher.finalize().as_bytes()
}

pub fn run(reference: &Reference, plan: &Plan) -> Tally {
    let mut tally = Tally::default();
    let mut disk = Disk::new();
    let mut looked = HashSet::new();
    for number in 0..=reference.log.len() {
        let (step, text) = reference.describe(number);
        plan.tell("crashes", reference, number, tally.failures.len());
        for cut in plan.cuts(reference, number) {
            tally.states += 1;
            let left = disk.after(cut);
            let fresh: Vec<&'static str> = NAMES
                .into_iter()
                .filter(|name| looked.insert((*name, step, digest(&left, name))))
                .collect();
            if fresh.is_empty() {
                continue;
            }
            tally.looked_at += 1;
            let what = format!("{text}, {cut:?}");
            let goes_on = plan.goes_on(number, cut);
            tally.went_on += usize::from(goes_on);
            let _watchdog = Watchdog::new(&what);
            if let Err(error) = state(reference, plan, &disk, &left, cut, step, number, &fresh, goes_on) {
                eprintln!("{what}: {error}");
                tally.failures.push(format!("{what}: {error}"));
            }
        }
        if let Some(logged) = reference.log.get(number) {
            disk.apply(&logged.change);
        }
    }
    tally
}

#[expect(clippy::too_many_arguments, reason = "a state and what to do with it")]
fn state(
    reference: &Reference,
    plan: &Plan,
    disk: &Disk,
    left: &Leftovers,
    cut: Cut,
    step: usize,
    number: usize,
    names: &[&'static str],
    goes_on: bool,
) -> Result<(), String> {
    let before = &reference.moments[step].acknowledged;
    let top = reference.top();
    let seed = number as u64;
    let first = plan.root(&top);
    place(disk, left, &reference.root, &first.0);
    reference.check(&first.0, (step, step + 1), before, names, seed)?;
    drop(first);
    if goes_on {
        let second = plan.root(&top);
        // What a dead process had written is still only in memory: the next power cut takes it.
        let disk = if cut == Cut::Killed {
            disk.clone()
        } else {
            Disk::of(left)
        };
        let disk = place(&disk, left, &reference.root, &second.0);
        go_on(reference, plan, disk, &second.0, step, seed)
            .map_err(|error| format!("gone on with: {error}"))?;
    }
    Ok(())
}

/// Takes the rest of the act, and then has the power cut.
fn go_on(
    reference: &Reference,
    plan: &Plan,
    disk: Disk,
    root: &Path,
    step: usize,
    seed: u64,
) -> Result<(), String> {
    let act = acts()
        .into_iter()
        .find(|act| act.contains(&step))
        .expect("each step is in an act");
    let watch = session::watch(root, disk, None);
    let mut stage = Stage::new(
        root,
        &reference.material,
        reference.runtime.handle(),
        20_000 + seed * 100,
    );
    stage.acknowledged = reference.moments[step].acknowledged.clone();
    for step in &COURSE[step..act.end] {
        (step.take)(&mut stage).map_err(|error| format!("{}: {}", step.name, error.0))?;
    }
    stage.close();
    let acknowledged = stage.acknowledged.clone();
    settle(root);
    let disk = watch.0.seen().disk.clone();
    drop(watch);
    reference
        .check(root, (act.end, act.end), &acknowledged, &NAMES, seed)
        .map_err(|error| format!("at the end of the act: {error}"))?;
    after_a_power_cut(reference, plan, &disk, root, act.end, &acknowledged, seed)
}

/// Cuts the power when all is done: what was acknowledged is there.
pub fn after_a_power_cut(
    reference: &Reference,
    plan: &Plan,
    disk: &Disk,
    from: &Path,
    moment: usize,
    acknowledged: &crate::stage::Acknowledged,
    seed: u64,
) -> Result<(), String> {
    let left = disk.after(Cut::Lost);
    let last = plan.root(&reference.top());
    place(disk, &left, from, &last.0);
    reference
        .check(&last.0, (moment, moment), acknowledged, &NAMES, seed)
        .map_err(|error| format!("after a power cut at the end: {error}"))
}

/// The log is complete: what it makes is what is there.
pub fn log_is_complete(reference: &Reference) {
    let mut disk = Disk::new();
    for logged in &reference.log {
        disk.apply(&logged.change);
    }
    let (rebuilt, real) = (
        disk.after(Cut::Killed),
        leftovers::read(&reference.root).expect("readable"),
    );
    let differ = leftovers::differences(&rebuilt, &real);
    assert!(
        differ.is_empty(),
        "the log and the directory differ in {differ:?}"
    );
}
