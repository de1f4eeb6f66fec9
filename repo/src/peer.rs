//! What this repository is to another one: a source of parts, and a sink for them.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use neon_objects::ancestry::Line;
use neon_objects::{Commit, Expect, ObjectsError, RefEdit, Staging, Used};
use neon_pagestore::{Blame, PageStoreError, SlicePart};
use neon_remotes::{
    Acceptance, Branch, BranchMove, Catalog, Command, Held, Identity, Ladder, LocalError, MAX_ATTESTATIONS,
    Meter, Options, Part, PartKind, PartWriter, Plan, PlanRequest, PlannedPart, Possession, Reads,
    RemoteError, Sink, Source, Step, TimelineFacts, stretches,
};
use neon_transport::Channel;
use neon_types::{CommitId, LayerId, Lsn, LsnRange, Position, TimelineId, with_causes};

use crate::error::RepoError;
use crate::history::Place;
use crate::repository::{Repository, branch_ref};

pub(crate) type Local<T> = Result<T, LocalError>;

impl From<RepoError> for LocalError {
    fn from(error: RepoError) -> LocalError {
        match error {
            RepoError::EndpointRuns(branch) => LocalError::EndpointRuns { branch },
            RepoError::Objects(error) => objects(error),
            RepoError::Pages(error) => pages(error),
            other => LocalError::other(other),
        }
    }
}

pub(crate) fn objects(error: ObjectsError) -> LocalError {
    match error {
        ObjectsError::Damaged { id, found } => LocalError::Damaged {
            id,
            reason: format!("its bytes hash to {}", found.short()),
        },
        other => LocalError::other(other),
    }
}

fn pages(error: PageStoreError) -> LocalError {
    match error {
        PageStoreError::Objects(error) => objects(error),
        error if error.blame() == Blame::Nobody => LocalError::Stopped,
        error => LocalError::other(error),
    }
}

impl Catalog for Repository {
    fn identity(&self) -> Local<Identity> {
        let mut roots = Vec::new();
        let mut system_id = 0;
        for id in self.pages.list() {
            let state = self.pages.state_of(id);
            if !state.is_ok_and(|state| state.ancestor.is_none()) {
                continue;
            }
            match self.pages.get(id) {
                Ok(timeline) if timeline.is_held() => {
                    roots.push(id);
                    system_id = timeline.state().system_id;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(timeline = %id, error = with_causes(&error), "a history cannot be read");
                }
            }
        }
        let head = self.refs.head().map_err(objects)?;
        let exists = self.heads()?.iter().any(|(name, _)| *name == head);
        Ok(Identity {
            repository: self.config()?.repository(),
            roots,
            system_id,
            head: exists.then_some(head),
        })
    }

    fn branches(&self) -> Local<Vec<(String, Branch)>> {
        let mut branches = Vec::new();
        for (name, head) in self.heads()? {
            if let Err(error) = Repository::commit(self, head) {
                // Others can still be had.
                tracing::error!(
                    branch = name,
                    error = with_causes(&error),
                    "a branch cannot be served"
                );
                continue;
            }
            let running = self.endpoint_is_running(&name)?;
            branches.push((name, Branch { head, running }));
        }
        Ok(branches)
    }

    fn branch(&self, name: &str, receiving: bool) -> Local<Option<Branch>> {
        let name_ref = branch_ref(name)?;
        if self.refs.get(&name_ref).map_err(objects)?.is_none() {
            return Ok(None);
        }
        let running = self.endpoint_is_running(name)?;
        if receiving && !running {
            let _exclusive = self.exclusive();
            if let Some(place) = self.take_in(name)? {
                self.commit_tail(name, &place, None, None)?;
            }
        }
        let (head, _) = self.head_of(name)?;
        Ok(Some(Branch { head, running }))
    }

    fn commit(&self, id: CommitId) -> Local<Option<Vec<u8>>> {
        // Who asks may name it next.
        if !self.objects.touch(id.0) {
            return Ok(None);
        }
        match self.objects.read_commit(id) {
            Ok(commit) => Ok(Some(commit.encode())),
            Err(ObjectsError::NotACommit(_)) => Ok(None),
            Err(error) => Err(objects(error)),
        }
    }

    fn check_claims(&self, commit: &Commit) -> Local<()> {
        self.check_claimed(commit)
    }

    fn ladders(&self, path: &[Step], end: Lsn) -> Local<Vec<Ladder>> {
        let mut ladders = Vec::new();
        for (step, upto) in stretches(path, end) {
            if !self.pages.contains(step.timeline) {
                continue;
            }
            let timeline = self.pages.get(step.timeline).map_err(pages)?;
            let rungs = timeline
                .ladder()
                .into_iter()
                .filter(|rung| rung.end <= upto)
                .collect();
            ladders.push(Ladder {
                timeline: step.timeline,
                rungs,
            });
        }
        Ok(ladders)
    }

    fn transactions(&self, path: &[Step], end: Lsn, since: Position, meter: &Meter) -> Local<Option<u64>> {
        let line = Line { path, lsn: end };
        if !line.passes(&since) {
            return Ok(None);
        }
        let mut count = 0;
        let mut counting = false;
        for (step, upto) in stretches(path, end) {
            let start = if step.timeline == since.timeline {
                counting = true;
                since.lsn
            } else {
                step.start
            };
            if !counting {
                continue;
            }
            if !self.pages.contains(step.timeline) {
                return Ok(None);
            }
            let timeline = self.pages.get(step.timeline).map_err(pages)?;
            count += timeline
                .commits_in(LsnRange { start, end: upto }, &|| meter.is_stopped())
                .map_err(pages)?;
        }
        Ok(Some(count))
    }
}

impl Source for Repository {
    fn plan(&self, request: &PlanRequest) -> Local<Plan> {
        let mut plan = Plan::default();
        for (step, upto) in request.stretches() {
            let timeline = self.pages.get(step.timeline).map_err(|error| match error {
                PageStoreError::NoSuchTimeline(_) => LocalError::NotReadable {
                    position: request.target,
                    missing: format!("timeline {} is not here", step.timeline.short()),
                },
                // It is here, and cannot be opened: that is what is told.
                error => pages(error),
            })?;
            let from = request.have.highest_at_or_below(step.timeline, upto);
            let is_there = from.is_some_and(|from| from >= upto);
            let served = timeline.served();
            if !is_there
                && !served
                    .iter()
                    .any(|range| range.start <= upto && upto <= range.end)
            {
                return Err(LocalError::NotReadable {
                    position: request.target,
                    missing: format!(
                        "timeline {} is held up to {}",
                        step.timeline.short(),
                        timeline.end()
                    ),
                });
            }
            let state = timeline.state();
            let attestations = if is_there {
                Vec::new()
            } else {
                let most = (MAX_ATTESTATIONS / request.path.len().max(1)).max(1);
                self.attestations(&timeline, from.unwrap_or(step.start), upto, most)?
            };
            plan.timelines.push(TimelineFacts {
                id: step.timeline,
                ancestor: timeline.ancestor(),
                tli: timeline.tli(),
                writer: state.writer,
                start: timeline.start(),
                facts: state.facts(),
                attestations,
            });
            if is_there {
                continue;
            }
            let (parts, keep) = timeline.plan_kept(from, upto).map_err(pages)?;
            plan.keeps.push(keep);
            plan.parts.extend(parts.iter().map(|part| planned(step, part)));
        }
        Ok(plan)
    }

    fn prepare(&self, part: &PlannedPart, meter: &Meter) -> Local<Part> {
        let timeline = part
            .kind
            .timeline()
            .ok_or_else(|| LocalError::Missing("the timeline of a commit".into()))?;
        let timeline = self.pages.get(timeline).map_err(pages)?;
        let slice = match (part.kind, part.object) {
            (PartKind::Layer { range, .. }, Some(object)) if part.slice => SlicePart::Slice {
                of: LayerId(object),
                range,
                estimate: part.bytes,
            },
            (PartKind::Layer { range, .. }, Some(object)) => SlicePart::Layer {
                id: LayerId(object),
                range,
                len: part.bytes,
            },
            (PartKind::Wal { range, .. }, _) => SlicePart::Wal { range },
            _ => return Err(LocalError::Missing(format!("the object of {}", part.kind))),
        };
        let stop = || meter.is_stopped();
        let (id, len) = timeline.materialize(&slice, &stop).map_err(pages)?;
        Ok(Part {
            id,
            len,
            kind: part.kind,
        })
    }

    fn open_part(&self, part: &Part, offset: u64) -> Local<Box<dyn Read + Send>> {
        match part.kind {
            PartKind::Commit | PartKind::Layer { .. } => {
                let mut file = self.objects.open_object(part.id).map_err(objects)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file))
            }
            PartKind::Wal { timeline, range } => {
                let timeline = self.pages.get(timeline).map_err(pages)?;
                let range = LsnRange {
                    start: range.start + offset,
                    end: range.end,
                };
                Ok(Box::new(timeline.wal_reader(range).map_err(pages)?))
            }
        }
    }
}

fn planned(step: Step, part: &SlicePart) -> PlannedPart {
    let timeline = step.timeline;
    match *part {
        SlicePart::Layer { id, range, len } => PlannedPart {
            kind: PartKind::Layer { timeline, range },
            bytes: len,
            object: Some(id.0),
            slice: false,
        },
        SlicePart::Slice { of, range, estimate } => PlannedPart {
            kind: PartKind::Layer { timeline, range },
            bytes: estimate,
            object: Some(of.0),
            slice: true,
        },
        SlicePart::Wal { range } => PlannedPart {
            kind: PartKind::Wal { timeline, range },
            bytes: range.end.bytes_since(range.start),
            object: None,
            slice: false,
        },
    }
}

impl Sink for Repository {
    fn possession(&self, path: &[Step], end: Lsn) -> Local<Possession> {
        let mut possession = Possession::default();
        // From here on back everything is held that is needed to go on, whatever retention dropped of it.
        let mut based = false;
        for (step, upto) in stretches(path, end).into_iter().rev() {
            if !self.use_timeline(step.timeline) {
                continue;
            }
            let timeline = self.pages.get(step.timeline).map_err(pages)?;
            let ranges: Vec<LsnRange> = timeline
                .served()
                .into_iter()
                .filter(|range| range.start <= upto)
                .map(|range| LsnRange {
                    start: range.start,
                    end: range.end.min(upto),
                })
                .collect();
            let ranges = if based {
                vec![LsnRange {
                    start: step.start,
                    end: upto,
                }]
            } else {
                ranges
            };
            if !ranges.is_empty() {
                based = true;
                possession.held.push(Held {
                    timeline: step.timeline,
                    ranges,
                });
            }
        }
        possession.held.reverse();
        Ok(possession)
    }

    fn check_timelines(&self, commit: &Commit, timelines: &[TimelineFacts]) -> Local<()> {
        self.check_offered(commit, timelines)
    }

    fn staged(&self, part: &Part) -> Local<u64> {
        // What is here already is not sent: it must stay until it is taken in.
        if self.objects.touch(part.id) {
            return Ok(part.len);
        }
        // Whole but not verified: the last byte is asked for again, and finishing decides.
        let staged = self.objects.staged(part.id).map_err(objects)?;
        Ok(staged.min(part.len.saturating_sub(1)))
    }

    fn stage(&self, part: &Part) -> Local<Box<dyn PartWriter>> {
        let staging = self.objects.staging(part.id).map_err(objects)?.limited(part.len);
        Ok(Box::new(Arriving(staging)))
    }

    fn accept(&self, acceptance: &Acceptance, meter: &Meter) -> Local<()> {
        self.take_in_arrived(acceptance, meter)
    }

    fn move_branch(&self, step: &BranchMove) -> Local<()> {
        let _exclusive = self.exclusive();
        let name = branch_ref(&step.branch)?;
        let now = self.refs.get(&name).map_err(objects)?;
        if now != step.expect {
            return Err(LocalError::Moved {
                branch: step.branch.clone(),
                now,
            });
        }
        if self.endpoint_is_running(&step.branch)? {
            return Err(LocalError::EndpointRuns {
                branch: step.branch.clone(),
            });
        }
        let mut to = step.new;
        if now.is_some() {
            // An endpoint could have run and stopped since the decision was taken: what it committed is the branch's head then.
            if let Some(place) = self.take_in(&step.branch)? {
                self.commit_tail(&step.branch, &place, None, None)?;
            }
            let (head, commit) = self.head_of(&step.branch)?;
            if Some(head) != step.expect {
                return Err(LocalError::Moved {
                    branch: step.branch.clone(),
                    now: Some(head),
                });
            }
            let new = Repository::commit(self, step.new)?;
            to = self.with_settings_kept(step, (head, &commit), (step.new, &new))?;
            if Place::of(&commit).normal() != Place::of(&new).normal() {
                self.drop_tail(&step.branch)?;
            }
        }
        let expect = step.expect.map_or(Expect::Absent, Expect::Exactly);
        let edit = RefEdit {
            name,
            expect,
            new: Some(to),
        };
        self.move_refs_as(step.who.as_deref(), &[edit], step.why())?;
        self.name_a_head(&step.branch)?;
        Ok(())
    }
}

impl Repository {
    /// Returns true when the timeline is here, and will be until the conversation is over, whether a ref leads to it or not.
    fn use_timeline(&self, id: TimelineId) -> bool {
        let uses = self.objects.uses();
        uses.using(Used::Timeline(id), || self.pages.contains(id))
    }

    /// Makes a branch the default of other commands when there is none: the first that is pushed to a new repository.
    fn name_a_head(&self, branch: &str) -> Local<()> {
        let head = self.refs.head().map_err(objects)?;
        if self.refs.get(&branch_ref(&head)?).map_err(objects)?.is_none() {
            self.refs.set_head(branch).map_err(objects)?;
        }
        Ok(())
    }

    /// Leads the serving half of one conversation. Dropping the future ends it, and what it does on other threads soon.
    pub async fn converse(
        self: Arc<Self>,
        command: Command,
        channel: Channel,
        options: Options,
    ) -> Result<neon_remotes::Served, RemoteError> {
        // What arrives, or is cut out of a layer, is named by nothing before the conversation is over.
        let _hold = self.objects.hold();
        tracing::debug!(who = ?options.who, %command, "serving");
        match command {
            Command::Push { branch, timeline } => {
                neon_remotes::serve_push(channel, self as Arc<dyn Sink>, branch, timeline, options).await
            }
            Command::Pull { branch, .. } => {
                neon_remotes::serve_reads(channel, self as Arc<dyn Source>, Reads::Branch(branch), options)
                    .await
            }
            Command::ListBranches => {
                neon_remotes::serve_reads(channel, self as Arc<dyn Source>, Reads::Branches, options).await
            }
            Command::FetchObjects => {
                neon_remotes::serve_reads(channel, self as Arc<dyn Source>, Reads::Objects, options).await
            }
        }
    }
}

/// A part under its temporary name.
pub(crate) struct Arriving(pub Staging);

impl PartWriter for Arriving {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn append(&mut self, bytes: &[u8]) -> Local<()> {
        self.0.append(bytes).map_err(objects)
    }

    fn finish(self: Box<Self>) -> Local<()> {
        self.0.finish().map(|_| ()).map_err(objects)
    }
}
