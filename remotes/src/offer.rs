//! What a sender offers, and what a receiver believes of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use neon_objects::Commit;
use neon_types::{CommitId, Lsn, Position, TimelineId};

use crate::wire::{Flags, Holdings, Offer};
use crate::{
    Acceptance, Catalog, Keeps, LocalError, MAX_PARTS, MAX_TIMELINES, Meter, Options, Part, PartKind,
    PlanRequest, Refusal, RemoteError, Sink, Source, history, ladder, stretches,
};

/// Transfers up to this many bytes are sent without waiting for what the receiver has staged.
const EAGER: u64 = 512 << 10;

/// A head with its content.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: CommitId,
    pub(crate) commit: Arc<Commit>,
}

impl Target {
    /// Believes bytes of the other side if they are what the id says.
    pub(crate) fn open(id: CommitId, bytes: &[u8]) -> Result<Target, RemoteError> {
        match history::open(id, bytes) {
            Ok(commit) if commit.path.len() <= MAX_TIMELINES => Ok(Target {
                id,
                commit: Arc::new(commit),
            }),
            Ok(commit) => Err(Refusal::Limit {
                what: format!(
                    "a path of {} timelines is over the limit of {MAX_TIMELINES}",
                    commit.path.len()
                ),
            }
            .into()),
            Err(error) => Err(RemoteError::Protocol(error.to_string())),
        }
    }
}

/// Returns what a receiver holds of the path of `target`, on its last timeline beyond the target too, and its heads.
pub(crate) fn holdings(sink: &dyn Sink, path: Option<&[crate::Step]>) -> Result<Holdings, LocalError> {
    let possession = match path {
        Some(path) => sink.possession(path, Lsn::MAX)?,
        None => crate::Possession::default(),
    };
    let heads: HashSet<CommitId> = sink
        .branches()?
        .into_iter()
        .map(|(_, branch)| branch.head)
        .collect();
    let mut commits: Vec<CommitId> = heads.into_iter().collect();
    commits.sort_unstable();
    commits.truncate(crate::wire::MAX_HAVES);
    Ok(Holdings { possession, commits })
}

/// Makes the offer that brings the holder of `holdings` to `target`, and what its parts need to stay. Of a dry run only the volume
/// is known, by estimate.
pub(crate) fn make(
    source: &dyn Source,
    target: &Target,
    holdings: Holdings,
    dry_run: bool,
    meter: &Meter,
) -> Result<(Offer, Keeps), RemoteError> {
    let Commit { position, path, .. } = target.commit.as_ref();
    let request = PlanRequest {
        target: *position,
        path: path.clone(),
        have: holdings.possession,
    };
    let plan = source.plan(&request)?;
    let missing = history::missing(source, target.id, &holdings.commits)?;
    let overlap = ladder::overlap(&source.ladders(path, position.lsn)?, &request.have);
    let total = (plan.parts.len() + missing.commits.len()) as u64;
    if total > MAX_PARTS as u64 {
        return Err(Refusal::Limit {
            what: format!("{total} parts are over the limit of {MAX_PARTS}"),
        }
        .into());
    }
    let mut offer = Offer {
        flags: Flags {
            dry_run,
            ..Flags::default()
        },
        timelines: plan.timelines,
        ladders: ladder::sample(&overlap),
        left_out: missing.left_out,
        ..Offer::default()
    };
    for (id, len) in missing.commits {
        offer.volume.add(&PartKind::Commit, len);
        if !dry_run {
            offer.parts.push(Part {
                id: id.0,
                len,
                kind: PartKind::Commit,
            });
        }
    }
    for (planned, done) in plan.parts.iter().zip(1..) {
        if dry_run {
            offer.volume.add(&planned.kind, planned.bytes);
        } else {
            meter.check()?;
            let part = source.prepare(planned, meter)?;
            offer.volume.add(&part.kind, part.len);
            offer.parts.push(part);
            meter.set(done, total);
        }
    }
    offer.flags.extra = !dry_run && offer.volume.bytes <= EAGER;
    Ok((offer, plan.keeps))
}

/// Returns all WAL digests that the holder of `holdings` could have too.
pub(crate) fn ladders(
    source: &dyn Source,
    target: &Target,
    have: &crate::Possession,
) -> Result<Vec<crate::Ladder>, LocalError> {
    let all = source.ladders(&target.commit.path, target.commit.position.lsn)?;
    Ok(ladder::overlap(&all, have))
}

/// Returns why an offer cannot be what leads to `target`, if so. Nothing of it is trusted before.
pub(crate) fn check(offer: &Offer, target: &Target, options: &Options) -> Result<(), RemoteError> {
    let protocol = |what: String| Err(RemoteError::Protocol(what));
    let path = &target.commit.path;
    let named: Vec<TimelineId> = offer.timelines.iter().map(|facts| facts.id).collect();
    if named != path.iter().map(|step| step.timeline).collect::<Vec<_>>() {
        return protocol("an offer whose timelines are not those of the path".to_owned());
    }
    let mut ancestor: Option<TimelineId> = None;
    for (facts, step) in offer.timelines.iter().zip(path) {
        let forks_at = ancestor.map(|timeline| Position {
            timeline,
            lsn: step.start,
        });
        if (facts.ancestor, facts.tli, facts.start) != (forks_at, step.tli, step.start) {
            return protocol(format!("facts of timeline {} that contradict its path", facts.id));
        }
        ancestor = Some(facts.id);
    }
    let limits: HashMap<TimelineId, (Lsn, Lsn)> = stretches(path, target.commit.position.lsn)
        .into_iter()
        .map(|(step, end)| (step.timeline, (step.start, end)))
        .collect();
    let mut bytes = 0u64;
    for part in &offer.parts {
        bytes = bytes.saturating_add(part.len);
        if let (Some(timeline), Some(range)) = (part.kind.timeline(), part.kind.range()) {
            match limits.get(&timeline) {
                Some((start, end)) if *start <= range.start && range.end <= *end => {}
                _ => return protocol(format!("{part} is not on the path")),
            }
        }
    }
    if offer.flags.dry_run && !offer.parts.is_empty() {
        return protocol("an offer of a dry run with parts".to_owned());
    }
    if bytes.max(offer.volume.bytes) > options.max_bytes {
        return Err(Refusal::Limit {
            what: format!(
                "{bytes} bytes are over the limit of {} for one transfer",
                options.max_bytes
            ),
        }
        .into());
    }
    Ok(())
}

/// Returns how many bytes of each part are here.
pub(crate) fn staged(sink: &dyn Sink, parts: &[Part]) -> Result<Vec<u64>, LocalError> {
    parts
        .iter()
        .map(|part| sink.staged(part).map(|staged| staged.min(part.len)))
        .collect()
}

/// Returns the bytes that are still to come.
pub(crate) fn missing(parts: &[Part], staged: &[u64]) -> u64 {
    let missing = parts.iter().zip(staged).map(|(part, staged)| part.len - staged);
    missing.fold(0, u64::saturating_add)
}

/// Takes in what was staged and checks that nothing is missing below the target.
pub(crate) fn accept(
    sink: &dyn Sink,
    target: &Target,
    offer: Offer,
    meter: &Meter,
) -> Result<(), RemoteError> {
    let acceptance = Acceptance {
        target: target.id,
        position: target.commit.position,
        path: target.commit.path.clone(),
        timelines: offer.timelines,
        parts: offer.parts,
    };
    check_parents(sink, target, &acceptance, offer.left_out)?;
    Ok(sink.accept(&acceptance, meter)?)
}

/// Checks that every commit that was sent leads to others that are here, or were left out by name.
fn check_parents(
    sink: &dyn Sink,
    target: &Target,
    acceptance: &Acceptance,
    left_out: Vec<CommitId>,
) -> Result<(), RemoteError> {
    let left_out: HashSet<CommitId> = left_out.into_iter().collect();
    for id in acceptance.commits().map(CommitId).chain([target.id]) {
        let Some((commit, _)) = history::read(sink, id)? else {
            return Err(not_here(target, id));
        };
        for parent in commit.parents {
            if !left_out.contains(&parent) && Catalog::commit(sink, parent)?.is_none() {
                return Err(not_here(target, parent));
            }
        }
    }
    Ok(())
}

fn not_here(target: &Target, commit: CommitId) -> RemoteError {
    Refusal::NotReadable {
        position: target.commit.position,
        missing: format!("commit {commit} was not sent"),
    }
    .into()
}
