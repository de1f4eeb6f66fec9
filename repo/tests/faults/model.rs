//! What must be there: refs, acknowledged WAL, pages as the original has them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use neon_objects::{ObjectStore, Refs};
use neon_pagestore::Timeline;
use neon_repo::Repository;
use neon_repo::api::{ApiError, Fsck, Quiet, Request, Response, Retain};
use neon_types::{Lsn, Position, RefName, RelTag, TimelineId, with_causes};

use crate::material::Material;
use crate::stage::{Acknowledged, caller, options};

/// Blocks that are read at each position.
const BLOCKS: usize = 10;
/// Positions that are read of each acknowledged timeline.
const POSITIONS: u64 = 2;

/// The refs of one repository, by where they point: ids of commits differ from run to run with the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub head: String,
    pub refs: BTreeMap<String, Position>,
}

impl Facts {
    /// Reads them, without opening the repository.
    pub fn read(neon_dir: &Path) -> Result<Facts, String> {
        let said = |error: neon_objects::ObjectsError| with_causes(&error);
        let refs = Refs::open(neon_dir).map_err(said)?;
        let objects = ObjectStore::open(neon_dir.join("objects")).map_err(said)?;
        let mut found = BTreeMap::new();
        for (name, id) in refs.list("").map_err(said)? {
            found.insert(name.to_string(), objects.read_commit(id).map_err(said)?.position);
        }
        Ok(Facts {
            head: refs.head().map_err(said)?,
            refs: found,
        })
    }
}

/// What a repository must be like: something between two moments of the course.
pub struct Expected<'a> {
    /// None while it was not made.
    pub before: Option<&'a Facts>,
    pub after: Option<&'a Facts>,
    /// Refs may have moved one by one.
    pub one_by_one: bool,
    pub acknowledged: &'a Acknowledged,
}

impl Expected<'_> {
    fn check(&self, now: &Facts) -> Result<(), String> {
        let moments = [self.before, self.after];
        let mut moments = moments.iter().flatten();
        if moments.clone().any(|moment| *moment == now) {
            return Ok(());
        }
        let empty = BTreeMap::new();
        let before = self.before.map_or(&empty, |facts| &facts.refs);
        let after = self.after.map_or(&empty, |facts| &facts.refs);
        let heads_fit = self.before.is_none() || moments.any(|moment| moment.head == now.head);
        let each = |name: &String| {
            let now = now.refs.get(name);
            now == before.get(name) || now == after.get(name)
        };
        let names = before.keys().chain(after.keys()).chain(now.refs.keys());
        let whole = now.refs == *before || now.refs == *after;
        if heads_fit && (whole || self.one_by_one && names.clone().all(each)) {
            return Ok(());
        }
        Err(format!(
            "refs are {now:?}; before the step {:?}, after it {:?}",
            self.before, self.after
        ))
    }
}

/// Checks one repository of a stage; what is wrong otherwise.
pub fn check(
    root: &Path,
    name: &'static str,
    expected: &Expected<'_>,
    material: &Material,
    runtime: &tokio::runtime::Handle,
    seed: u64,
) -> Result<(), String> {
    let neon_dir = root.join(name).join(".neon");
    let repository = match Repository::open(&neon_dir, options(10_000 + seed), runtime) {
        Ok(repository) => Arc::new(repository),
        Err(_) if expected.before.is_none() => return Ok(()),
        Err(error) => return Err(format!("it does not open: {}", with_causes(&error))),
    };
    let answer = repository.handle(
        Request::Fsck(Fsck {
            deep: seed.is_multiple_of(3),
            ..Fsck::default()
        }),
        &caller(),
        &mut Quiet,
    );
    match answer {
        Ok(Response::Checked(checked)) if checked.findings.is_empty() => {}
        Ok(other) => return Err(format!("fsck: {other:?}")),
        Err(ApiError {
            message, caused_by, ..
        }) => return Err(format!("fsck fails: {message}: {caused_by:?}")),
    }
    let now = Facts::read(&neon_dir)?;
    expected.check(&now)?;
    for (name, position) in &now.refs {
        // Of an origin's branch only the commit is here until it is used.
        if matches!(name.parse(), Ok(RefName::Branch(_) | RefName::Tag(_))) {
            same_pages(&repository, position.timeline, position.lsn, material, seed)
                .map_err(|error| format!("{name} at {position}: {error}"))?;
        }
    }
    let drops = drops_history(&repository)?;
    for ((_, timeline), lsn) in expected.acknowledged.iter().filter(|((of, _), _)| *of == name) {
        let open = repository
            .pages()
            .get(*timeline)
            .map_err(|error| with_causes(&error))?;
        if open.end() < *lsn {
            return Err(format!(
                "{timeline} ends at {}, and {lsn} was acknowledged",
                open.end()
            ));
        }
        let known = material.positions(*timeline, *lsn);
        for sample in 0..POSITIONS {
            let lsn = known[usize::try_from(draw(seed, sample) % known.len() as u64).expect("few")];
            if drops && open.readable().is_some_and(|readable| !readable.contains(lsn)) {
                continue;
            }
            same_pages(&repository, *timeline, lsn, material, seed)
                .map_err(|error| format!("{timeline} at {lsn}: {error}"))?;
        }
    }
    Ok(())
}

/// Returns true when a branch does not keep all of its history.
fn drops_history(repository: &Arc<Repository>) -> Result<bool, String> {
    match repository.handle(Request::Retention(Retain::default()), &caller(), &mut Quiet) {
        Ok(Response::Retention(rows)) => Ok(rows.iter().any(|row| row.keep != "forever")),
        other => Err(format!("retention: {other:?}")),
    }
}

fn draw(seed: u64, number: u64) -> u64 {
    let hash = blake3::hash(format!("{seed} {number}").as_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"))
}

type Sizes = Vec<(RelTag, u32)>;

fn sizes(timeline: &Timeline, lsn: Lsn) -> Result<Sizes, String> {
    let mut sizes = Vec::new();
    timeline
        .scan_relations(lsn, &mut |rel, size| sizes.push((rel, size.size)))
        .map_err(|error| with_causes(&error))?;
    Ok(sizes)
}

/// Compares what can be read at a position with the original: sizes of all relations, the checkpoint state, some pages.
fn same_pages(
    repository: &Repository,
    timeline: TimelineId,
    lsn: Lsn,
    material: &Material,
    seed: u64,
) -> Result<(), String> {
    let said = |error: neon_pagestore::PageStoreError| with_causes(&error);
    let ours = repository.pages().get(timeline).map_err(said)?;
    let theirs = material.original.pages().get(timeline).map_err(said)?;
    let all = sizes(&theirs, lsn)?;
    if sizes(&ours, lsn)? != all {
        return Err("relations have other sizes".into());
    }
    let state = |timeline: &Timeline| timeline.checkpoint_state(lsn).map_err(said);
    if state(&ours)? != state(&theirs)? {
        return Err("the checkpoint state is another".into());
    }
    let of_user: Vec<_> = all
        .iter()
        .filter(|(rel, size)| rel.rel >= 16384 && *size > 0)
        .collect();
    let any: Vec<_> = all.iter().filter(|(_, size)| *size > 0).collect();
    for sample in 0..BLOCKS {
        let number = draw(seed ^ lsn.0, sample as u64);
        // Mostly of what the WAL changes.
        let from = if sample % 3 == 0 || of_user.is_empty() {
            &any
        } else {
            &of_user
        };
        let (rel, size) = from[usize::try_from(number % from.len() as u64).expect("few")];
        let block = u32::try_from((number >> 32) % u64::from(*size)).expect("a block");
        let page = |timeline: &Timeline| timeline.get_page(*rel, block, lsn).map_err(said);
        if page(&ours)? != page(&theirs)? {
            return Err(format!("block {block} of {rel:?} is another"));
        }
    }
    Ok(())
}
