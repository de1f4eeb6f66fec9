//! Walks over commits by their parents.

use std::collections::{BinaryHeap, HashMap, HashSet};

use neon_objects::Commit;
use neon_types::{CommitId, Lsn};

use crate::{Catalog, LocalError, MAX_PARTS};

/// The commits that a receiver needs to have `target` with all that it descends from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// The commits with the length of their bytes, lower positions first.
    pub commits: Vec<(CommitId, u64)>,
    /// Parents that are not sent: they are not on the target's path, or not here.
    pub left_out: Vec<CommitId>,
}

#[derive(Debug)]
struct Seen {
    len: u64,
    parents: Vec<CommitId>,
    held: bool,
    done: bool,
}

/// Returns what is missing to somebody who has `haves` with all that they descend from.
///
/// The walk goes from high LSNs to low ones and ends when only held commits are left, so that it costs what is new, not what
/// is there.
///
/// Errors: [`LocalError::Missing`] when the target is not here; a history of more than [`MAX_PARTS`] commits.
pub fn missing(catalog: &dyn Catalog, target: CommitId, haves: &[CommitId]) -> Result<Missing, LocalError> {
    if haves.contains(&target) {
        return Ok(Missing::default());
    }
    let Some((top, _)) = read(catalog, target)? else {
        return Err(LocalError::Missing(format!("commit {target}")));
    };
    let line = top.line();
    let mut seen: HashMap<CommitId, Seen> = HashMap::new();
    let mut queue: BinaryHeap<(Lsn, CommitId)> = BinaryHeap::new();
    let mut wanted_in_queue = 0usize;
    let mut left_out = HashSet::new();
    let mut order = Vec::new();
    for (id, held) in haves.iter().map(|id| (*id, true)).chain([(target, false)]) {
        if let Some((commit, len)) = read(catalog, id)?
            && !seen.contains_key(&id)
        {
            queue.push((commit.position.lsn, id));
            wanted_in_queue += usize::from(!held);
            seen.insert(
                id,
                Seen {
                    len,
                    parents: commit.parents,
                    held,
                    done: false,
                },
            );
        }
    }
    while wanted_in_queue > 0 {
        let Some((_, id)) = queue.pop() else { break };
        let Some(entry) = seen.get_mut(&id) else { continue };
        entry.done = true;
        let (held, parents) = (entry.held, entry.parents.clone());
        if !held {
            wanted_in_queue -= 1;
            order.push(id);
            if order.len() > MAX_PARTS {
                return Err(LocalError::other(format!(
                    "more than {MAX_PARTS} commits to send"
                )));
            }
        }
        for parent in parents {
            if let Some(known) = seen.get_mut(&parent) {
                if held && !known.held {
                    known.held = true;
                    wanted_in_queue -= usize::from(!known.done);
                }
                continue;
            }
            match read(catalog, parent)? {
                Some((commit, len)) if line.passes(&commit.position) => {
                    queue.push((commit.position.lsn, parent));
                    wanted_in_queue += usize::from(!held);
                    seen.insert(
                        parent,
                        Seen {
                            len,
                            parents: commit.parents,
                            held,
                            done: false,
                        },
                    );
                }
                _ if held => {}
                _ => {
                    left_out.insert(parent);
                }
            }
        }
    }
    let mut commits: Vec<(CommitId, u64)> = order
        .into_iter()
        .filter_map(|id| {
            seen.get(&id)
                .filter(|entry| !entry.held)
                .map(|entry| (id, entry.len))
        })
        .collect();
    commits.reverse();
    let mut left_out: Vec<CommitId> = left_out.into_iter().collect();
    left_out.sort_unstable();
    Ok(Missing { commits, left_out })
}

/// Returns true when `from` is `to` or descends from it through commits at the same LSN or above.
pub fn descends(catalog: &dyn Catalog, from: CommitId, to: CommitId) -> Result<bool, LocalError> {
    let Some((floor, _)) = read(catalog, to)? else {
        return Ok(from == to);
    };
    let mut seen = HashSet::from([from]);
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        if id == to {
            return Ok(true);
        }
        if let Some((commit, _)) = read(catalog, id)?
            && commit.position.lsn >= floor.position.lsn
            && seen.len() <= MAX_PARTS
        {
            open.extend(commit.parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
    }
    Ok(false)
}

/// Returns true when `wanted` is among the commits that [`missing`] names to somebody who has nothing of `head`. What is damaged here, or is
/// no commit, leads nowhere.
pub fn leads_to(catalog: &dyn Catalog, head: CommitId, wanted: CommitId) -> Result<bool, LocalError> {
    let whole = |id| match read(catalog, id) {
        Ok(found) => Ok(found.map(|(commit, _)| commit)),
        Err(LocalError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let (Some(top), Some(floor)) = (whole(head)?, whole(wanted)?) else {
        return Ok(false);
    };
    let line = top.line();
    let mut seen = HashSet::from([head]);
    let mut open = vec![head];
    while let Some(id) = open.pop() {
        let Some(commit) = whole(id)?.filter(|commit| line.passes(&commit.position)) else {
            continue;
        };
        if id == wanted {
            return Ok(true);
        }
        if commit.position.lsn >= floor.position.lsn && seen.len() <= MAX_PARTS {
            open.extend(commit.parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
    }
    Ok(false)
}

/// Returns the commit and the length of its bytes, none when it is not here.
///
/// Errors: [`LocalError::Damaged`] for bytes that are not that commit.
pub fn read(catalog: &dyn Catalog, id: CommitId) -> Result<Option<(Commit, u64)>, LocalError> {
    let Some(bytes) = catalog.commit(id)? else {
        return Ok(None);
    };
    open(id, &bytes).map(|commit| Some((commit, bytes.len() as u64)))
}

/// Returns the commit of these bytes if they are what `id` names.
pub fn open(id: CommitId, bytes: &[u8]) -> Result<Commit, LocalError> {
    let damaged = |reason: String| LocalError::Damaged { id: id.0, reason };
    let found = blake3::hash(bytes);
    if *found.as_bytes() != id.0.to_bytes() {
        return Err(damaged(format!("its bytes hash to {found}")));
    }
    Commit::decode(bytes).map_err(|error| damaged(error.to_string()))
}
