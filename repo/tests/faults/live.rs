//! One change of the course fails, or the disk is full from there on; the same process goes on, or another one opens what is there.

use crate::course::{COURSE, acts};
use crate::crash::{Tally, after_a_power_cut};
use crate::disk::{Cut, Disk};
use crate::leftovers;
use crate::plan::{Plan, Watchdog};
use crate::reference::{NAMES, Reference, place, settle};
use crate::session::{self, Fault};
use crate::stage::Stage;

/// What comes after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoesOn,
    Reopens,
}

/// What an error has to say, in some part.
fn says_why(fault: Fault, text: &str) -> bool {
    let reason = std::io::Error::from_raw_os_error(fault.errno()).to_string();
    text.contains(&reason)
}

pub fn run(reference: &Reference, plan: &Plan, full: bool) -> Tally {
    let mut tally = Tally::default();
    let mut disk = Disk::new();
    for act in acts() {
        let first = reference.changes_of(act.start).start;
        let last = reference.changes_of(act.end - 1).end;
        for number in (first..last).filter(|number| plan.fails(reference, *number)) {
            if full && !reference.log[number].change.takes_space() {
                continue;
            }
            let what = if full { "full disks" } else { "input/output errors" };
            plan.tell(what, reference, number, tally.failures.len());
            let ways = match plan {
                Plan::Sample if number.is_multiple_of(2) => vec![Then::GoesOn],
                Plan::Sample => vec![Then::Reopens],
                _ => vec![Then::GoesOn, Then::Reopens],
            };
            for then in ways {
                let at = number - first;
                let fault = if full { Fault::Full(at) } else { Fault::Broken(at) };
                let what = format!(
                    "{}, {fault:?} of the act, then {then:?}",
                    reference.describe(number).1
                );
                tally.states += 1;
                let _watchdog = Watchdog::new(&what);
                if let Err(error) = fault_at(
                    reference,
                    plan,
                    &disk,
                    act.clone(),
                    number,
                    fault,
                    then,
                    &mut tally,
                ) {
                    eprintln!("{what}: {error}");
                    tally.failures.push(format!("{what}: {error}"));
                }
            }
        }
        for logged in &reference.log[first..last] {
            disk.apply(&logged.change);
        }
    }
    tally
}

#[expect(clippy::too_many_arguments, reason = "a fault, and where it is put")]
fn fault_at(
    reference: &Reference,
    plan: &Plan,
    disk: &Disk,
    act: std::ops::Range<usize>,
    number: usize,
    fault: Fault,
    then: Then,
    tally: &mut Tally,
) -> Result<(), String> {
    let root = plan.root(&reference.top());
    let seed = number as u64;
    let placed = place(disk, &disk.after(Cut::Killed), &reference.root, &root.0);
    let watch = session::watch(&root.0, placed, Some(fault));
    // The same world as in the reference: the change of that number is the same.
    let mut stage = Stage::new(
        &root.0,
        &reference.material,
        reference.runtime.handle(),
        30_000 + seed * 100,
    );
    stage.acknowledged = reference.moments[act.start].acknowledged.clone();
    let mut struck = Vec::new();
    for number in act.clone() {
        let step = &COURSE[number];
        if let Err(error) = (step.take)(&mut stage) {
            struck = watch.0.heal();
            if struck.is_empty() {
                return Err(format!("{} fails without a fault: {}", step.name, error.0));
            }
            tally.looked_at += 1;
            if !says_why(fault, &error.0) {
                return Err(format!("{} says only: {} ({struck:?})", step.name, error.0));
            }
            if then == Then::Reopens {
                stage.close();
                settle(&root.0);
                let moments = (number, number + 1);
                let acknowledged = stage.acknowledged.clone();
                reference
                    .check(&root.0, moments, &acknowledged, &NAMES, seed)
                    .map_err(|wrong| format!("after {struck:?}, {}: {wrong}", error.0))?;
            }
            (step.take)(&mut stage).map_err(|again| {
                format!(
                    "{} again: {} (it was {}, {struck:?})",
                    step.name, again.0, error.0
                )
            })?;
        }
    }
    struck.extend(watch.0.heal());
    stage.close();
    settle(&root.0);
    let acknowledged = stage.acknowledged.clone();
    let disk = watch.0.seen().disk.clone();
    let differ = leftovers::differences(
        &disk.after(Cut::Killed),
        &leftovers::read(&root.0).expect("readable"),
    );
    drop(watch);
    if !differ.is_empty() {
        return Err(format!(
            "the log and the directory differ in {differ:?}; {struck:?}"
        ));
    }
    reference
        .check(&root.0, (act.end, act.end), &acknowledged, &NAMES, seed)
        .map_err(|wrong| format!("after {struck:?}: {wrong}"))?;
    after_a_power_cut(reference, plan, &disk, &root.0, act.end, &acknowledged, seed)
        .map_err(|wrong| format!("{struck:?}: {wrong}"))
}
