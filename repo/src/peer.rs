//! What this repository is to another one: a source of parts, and a sink for them.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use neon_objects::ancestry::Line;
use neon_objects::{Expect, ObjectsError, RefEdit, Staging, Used};
use neon_pagestore::{AcceptPart, PageStoreError, ReceivedTimeline, SlicePart};
use neon_remotes::{
    Acceptance, Branch, BranchMove, Catalog, Command, Held, Identity, Ladder, LocalError, Meter, Options,
    Part, PartKind, PartWriter, Plan, PlanRequest, PlannedPart, Possession, Reads, RemoteError, Sink, Source,
    Step, TimelineFacts, stretches,
};
use neon_transport::Channel;
use neon_types::{CommitId, LayerId, Lsn, LsnRange, Position, TimelineId};

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
    LocalError::other(error)
}

impl Catalog for Repository {
    fn identity(&self) -> Local<Identity> {
        let mut roots = Vec::new();
        let mut system_id = 0;
        for id in self.pages.list() {
            let timeline = self.pages.get(id).map_err(pages)?;
            if timeline.ancestor().is_none() && timeline.is_held() {
                roots.push(id);
                system_id = timeline.state().system_id;
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
            let timeline = self
                .pages
                .get(step.timeline)
                .map_err(|_| LocalError::NotReadable {
                    position: request.target,
                    missing: format!("timeline {} is not here", step.timeline.short()),
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
            plan.timelines.push(TimelineFacts {
                id: step.timeline,
                ancestor: timeline.ancestor(),
                tli: timeline.tli(),
                writer: state.writer,
                start: timeline.start(),
                facts: state.facts(),
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

    fn staged(&self, part: &Part) -> Local<u64> {
        // What is here already is not sent: it must stay until it is taken in.
        if self.objects.touch(part.id) {
            return Ok(part.len);
        }
        let incoming = self.objects.incoming().map_err(objects)?;
        Ok(incoming
            .iter()
            .find(|incoming| incoming.id == part.id)
            .map_or(0, |incoming| {
                // Whole but not verified: the last byte is asked for again, and finishing decides.
                incoming.len.min(part.len.saturating_sub(1))
            }))
    }

    fn stage(&self, part: &Part) -> Local<Box<dyn PartWriter>> {
        let staging = self.objects.staging(part.id).map_err(objects)?.limited(part.len);
        Ok(Box::new(Arriving(staging)))
    }

    fn accept(&self, acceptance: &Acceptance, meter: &Meter) -> Local<()> {
        let _exclusive = self.exclusive();
        for facts in &acceptance.timelines {
            if !self.use_timeline(facts.id) {
                self.pages
                    .create_received(&ReceivedTimeline {
                        id: facts.id,
                        ancestor: facts.ancestor,
                        tli: facts.tli,
                        writer: facts.writer,
                        start: facts.start,
                        facts: facts.facts.clone(),
                    })
                    .map_err(pages)?;
            }
        }
        let all = stretches(&acceptance.path, acceptance.position.lsn);
        let total = all.len() as u64;
        for (done, (step, upto)) in (0u64..).zip(all) {
            meter.check()?;
            meter.set(done, total);
            let timeline = self.pages.get(step.timeline).map_err(pages)?;
            let parts: Vec<AcceptPart> = acceptance
                .parts
                .iter()
                .filter(|part| part.kind.timeline() == Some(step.timeline))
                .filter_map(|part| match part.kind {
                    PartKind::Layer { range, .. } => Some(AcceptPart::Layer {
                        id: LayerId(part.id),
                        range,
                    }),
                    PartKind::Wal { range, .. } => Some(AcceptPart::Wal { id: part.id, range }),
                    PartKind::Commit => None,
                })
                .collect();
            timeline.accept(upto, &parts).map_err(pages)?;
            self.compactor.wake(&timeline);
        }
        meter.set(total, total);
        self.check_arrived(acceptance)
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
            if Place::of(&commit).normal() != Place::of(&new).normal() {
                self.drop_tail(&step.branch)?;
            }
        }
        let expect = step.expect.map_or(Expect::Absent, Expect::Exactly);
        let edit = RefEdit {
            name,
            expect,
            new: Some(step.new),
        };
        self.move_refs_as(step.who.as_deref(), &[edit], step.why)?;
        Ok(())
    }
}

impl Repository {
    /// Returns true when the timeline is here, and will be until the conversation is over, whether a ref leads to it or not.
    fn use_timeline(&self, id: TimelineId) -> bool {
        let uses = self.objects.uses();
        uses.using(Used::Timeline(id), || self.pages.contains(id))
    }

    /// The commit that arrived must be what our own reading of its position says (law 6).
    fn check_arrived(&self, acceptance: &Acceptance) -> Local<()> {
        let commit = Repository::commit(self, acceptance.target)?;
        let timeline = self.pages.get(commit.position.timeline).map_err(pages)?;
        let missing = |missing: &str| LocalError::NotReadable {
            position: commit.position,
            missing: missing.to_owned(),
        };
        let span = timeline.record_at_or_before(commit.position.lsn).map_err(pages)?;
        if span.end != commit.position.lsn || span.start != commit.prev_record {
            return Err(missing("the record that the commit says ends there"));
        }
        if timeline
            .checkpoint_state(commit.position.lsn)
            .map_err(pages)?
            .encode(timeline.version())
            != commit.checkpoint
        {
            return Err(missing("the checkpoint state that the commit signs off"));
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
