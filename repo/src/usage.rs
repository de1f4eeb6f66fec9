//! `du`: what refs cost on disk, alone and together, and what a position's bytes are for.

use std::collections::{BTreeMap, BTreeSet};

use neon_pagestore::{RelationFile, Timeline};
use neon_types::{CommitId, LayerId, Lsn, TimelineId};

use crate::api::{DatabaseUsage, Progress, ProgressSink, RefUsage, RelationUsage, RevisionUsage, Usage};
use crate::catalog::{Names, RelationName};
use crate::endpoint;
use crate::error::Result;
use crate::history::Place;
use crate::repository::Repository;
use crate::status::bytes_below;

/// Something on disk that one or more refs need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Layer(LayerId),
    Wal(TimelineId),
}

impl Repository {
    /// Returns what each branch, tag and fetched branch needs, and how much of it nothing else needs.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut wanted: Vec<(String, BTreeMap<Part, u64>, u64)> = Vec::new();
        let (names, damaged) = self.refs.survey("refs/")?;
        let names = names.into_iter().map(|(name, id)| (name, Some(id)));
        let mut incomplete = Vec::new();
        for (name, id) in names.chain(damaged.into_iter().map(|name| (name, None))) {
            let name = name.to_string();
            let branch = name.strip_prefix("refs/heads/");
            let endpoint = branch.map_or(0, |branch| {
                bytes_below(&endpoint::directory_of(&self.neon_dir, branch))
            });
            let short = branch.or_else(|| name.strip_prefix("refs/")).unwrap_or(&name);
            let parts = match id.map(|id| self.parts_of(branch, id)) {
                Some(Err(error)) if !error.is_damage() => return Err(error),
                Some(Ok(parts)) => parts,
                Some(Err(_)) | None => {
                    incomplete.push(short.to_owned());
                    BTreeMap::new()
                }
            };
            wanted.push((short.to_owned(), parts, endpoint));
        }
        let mut users: BTreeMap<Part, u32> = BTreeMap::new();
        for part in wanted.iter().flat_map(|(_, parts, _)| parts.keys()) {
            *users.entry(*part).or_default() += 1;
        }
        let refs = wanted.into_iter().map(|(name, parts, endpoint)| {
            let mut usage = RefUsage {
                damaged: incomplete.contains(&name),
                name,
                alone: 0,
                shared: 0,
                wal: 0,
                endpoint,
            };
            for (part, bytes) in parts {
                match users.get(&part) {
                    Some(1) => usage.alone += bytes,
                    _ => usage.shared += bytes,
                }
                if matches!(part, Part::Wal(_)) {
                    usage.wal += bytes;
                }
            }
            usage
        });
        let refs = refs.collect();
        Ok(Usage {
            refs,
            objects: bytes_below(&self.neon_dir.join("objects")),
            timelines: bytes_below(&self.neon_dir.join("timelines")),
            endpoints: bytes_below(&self.neon_dir.join("endpoints")),
        })
    }

    /// Returns what a ref needs; a branch with what was written after its head.
    fn parts_of(&self, branch: Option<&str>, id: CommitId) -> Result<BTreeMap<Part, u64>> {
        let commit = self.commit(id)?;
        let place = match branch {
            Some(branch) => self.durable_place(branch, &commit)?,
            None => Place::of(&commit),
        };
        self.parts(&place)
    }

    /// Returns the layers that a place is read from, and the WAL of the timelines on its path that is not in layers or kept.
    fn parts(&self, place: &Place) -> Result<BTreeMap<Part, u64>> {
        let timeline = self.timeline(place.position().timeline)?;
        let mut parts = BTreeMap::new();
        if let Some(map) = timeline.layers_at(place.lsn) {
            parts.extend(map.entries().map(|entry| (Part::Layer(entry.layer), entry.len)));
        }
        for fork in &place.path {
            let directory = self.timeline(fork.timeline)?.directory().to_owned();
            parts.insert(Part::Wal(fork.timeline), bytes_below(&directory));
        }
        Ok(parts)
    }

    /// Returns what the layers hold that a revision is read from, by database and relation, with the names that they have there.
    pub(crate) fn usage_of(&self, rev: &str, progress: &mut dyn ProgressSink) -> Result<RevisionUsage> {
        let target = self.resolve(Some(rev))?;
        let position = target.place.position();
        let timeline = self.timeline(position.timeline)?;
        let stored = timeline.usage(position.lsn, &mut |done, total| {
            progress.report(&Progress {
                label: "reading layers".into(),
                done,
                total,
                unit: "bytes".into(),
            });
            !progress.cancelled()
        })?;
        let sealed = timeline
            .layers_at(position.lsn)
            .map_or(timeline.start(), |map| map.sealed());
        let sizes = sizes(&timeline, position.lsn)?;
        let names = Names::read(&timeline, position.lsn)?;
        let files: BTreeSet<RelationFile> = stored.relations.keys().chain(sizes.keys()).copied().collect();
        let mut databases: BTreeMap<u32, DatabaseUsage> = BTreeMap::new();
        let mut relations = Vec::with_capacity(files.len());
        for file in files {
            let (tablespace, database, number) = file;
            let name = names.relations.get(&file);
            let relation = RelationUsage {
                database,
                tablespace,
                file: number,
                schema: name.map(|name: &RelationName| name.schema.clone()),
                name: name.map(|name| name.name.clone()),
                dropped: !sizes.contains_key(&file),
                size: sizes.get(&file).copied().unwrap_or(0),
                stored: stored.relations.get(&file).copied().unwrap_or(0),
            };
            let sum = databases.entry(database).or_insert_with(|| DatabaseUsage {
                oid: database,
                name: names.databases.get(&database).cloned(),
                size: 0,
                stored: 0,
            });
            sum.size += relation.size;
            sum.stored += relation.stored;
            relations.push(relation);
        }
        Ok(RevisionUsage {
            lsn: position.lsn,
            databases: databases.into_values().collect(),
            relations,
            other: stored.other,
            unsealed: position.lsn.0.saturating_sub(sealed.0),
            notes: target.notes,
        })
    }
}

/// Returns the bytes of every relation at a position, all forks.
fn sizes(timeline: &Timeline, lsn: Lsn) -> Result<BTreeMap<RelationFile, u64>> {
    let mut sizes: BTreeMap<RelationFile, u64> = BTreeMap::new();
    timeline.scan_relations(lsn, &mut |rel, size| {
        let bytes = u64::from(size.size) * neon_postgres::BLCKSZ as u64;
        *sizes.entry((rel.spc, rel.db, rel.rel)).or_default() += bytes;
    })?;
    Ok(sizes)
}
