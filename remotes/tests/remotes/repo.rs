//! A small repository that is real in all that the protocol touches: objects in a store on disk, refs moved by compare-and-swap,
//! timelines of random bytes that are "WAL", sealed into "layers". Its state at a position is the concatenation of everything
//! below it, so that two repositories can be compared byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::sync::Mutex;

use neon_objects::{Commit, Environment, ObjectStore, Staging, WalDigest};
use neon_remotes::*;
use neon_types::{CommitId, Lsn, LsnRange, ObjectId, Position, RepoId, TimelineId};

/// Bytes of WAL in a segment, here.
pub const SEGMENT: u64 = 64 << 10;

/// A generator good enough for test data: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Bytes that compress, as WAL does: every other word is zero.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 16);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
            bytes.extend_from_slice(&[0; 8]);
        }
        bytes.truncate(len);
        bytes
    }
}

#[derive(Clone)]
enum Piece {
    Wal(Vec<u8>),
    /// Object of the bytes of `.1`, of which the piece's range is served.
    Layer(ObjectId, LsnRange),
}

#[derive(Clone)]
struct Timeline {
    facts: TimelineFacts,
    /// Contiguous where no gap was received.
    pieces: BTreeMap<u64, (LsnRange, Piece)>,
    /// Ends of transactions.
    path: Vec<Step>,
}

#[derive(Clone, Default)]
struct State {
    timelines: BTreeMap<TimelineId, Timeline>,
    branches: BTreeMap<String, CommitId>,
    running: BTreeSet<String>,
    reflog: Vec<(BranchMove, Option<CommitId>)>,
}

pub struct Repo {
    pub id: RepoId,
    pub(super) store: ObjectStore,
    state: Mutex<State>,
    random: Mutex<Random>,
    /// How long every write of staged bytes takes.
    pub slow: Mutex<std::time::Duration>,
    /// Called in front of every move of a branch, to lose races on purpose.
    #[allow(clippy::type_complexity)]
    pub before_move: Mutex<Option<Box<dyn FnMut(&Repo) + Send>>>,
    /// Called in front of every acceptance, to take long on purpose.
    #[allow(clippy::type_complexity)]
    pub before_accept: Mutex<Option<Box<dyn FnMut(&Meter) -> Result<(), LocalError> + Send>>>,
    _dir: tempfile::TempDir,
}

/// The base comes before what begins at its LSN.
fn key(range: LsnRange) -> u64 {
    range.start.0 + u64::from(range.start < range.end)
}

fn local(error: neon_objects::ObjectsError) -> LocalError {
    match error {
        neon_objects::ObjectsError::Damaged { id, found } => LocalError::Damaged {
            id,
            reason: format!("hashes to {found}"),
        },
        other => LocalError::other(other),
    }
}

impl Repo {
    pub fn new(seed: u8) -> Repo {
        let dir = tempfile::tempdir().expect("a directory");
        let objects = dir.path().join("objects");
        std::fs::create_dir(&objects).expect("made");
        Repo {
            id: RepoId([seed; 16]),
            store: ObjectStore::open(&objects).expect("a store"),
            state: Mutex::default(),
            random: Mutex::new(Random(u64::from(seed))),
            slow: Mutex::default(),
            before_move: Mutex::new(None),
            before_accept: Mutex::new(None),
            _dir: dir,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn draw(&self, len: usize) -> Vec<u8> {
        self.random.lock().expect("not poisoned").bytes(len)
    }

    /// Makes the first history: a base of `base` bytes at LSN 4096, branch main.
    pub fn import(&self, base: usize) -> CommitId {
        let bytes = self.draw(base);
        let id = self.store.put(&bytes).expect("stored");
        let mut name = [0; 16];
        name.copy_from_slice(&id.to_bytes()[..16]);
        let (id_timeline, start) = (TimelineId(name), Lsn(4096));
        let path = vec![Step {
            timeline: id_timeline,
            tli: 1,
            start,
        }];
        let range = LsnRange { start, end: start };
        self.state().timelines.insert(
            id_timeline,
            Timeline {
                facts: TimelineFacts {
                    id: id_timeline,
                    ancestor: None,
                    tli: 1,
                    writer: self.id,
                    start,
                    facts: b"import".to_vec(),
                    attestations: vec![],
                },
                pieces: BTreeMap::from([(key(range), (range, Piece::Layer(id, range)))]),
                path: path.clone(),
            },
        );
        self.commit_at("main", path, start, vec![], "import")
    }

    /// Commits a position and moves the branch there.
    pub fn commit_at(
        &self,
        branch: &str,
        path: Vec<Step>,
        lsn: Lsn,
        parents: Vec<CommitId>,
        message: &str,
    ) -> CommitId {
        let commit = Commit {
            position: Position {
                timeline: path.last().expect("a path").timeline,
                lsn,
            },
            prev_record: Lsn(lsn.0 - 8),
            path,
            checkpoint: vec![1],
            digests: vec![],
            parents,
            system_id: 77,
            environment: Environment {
                pg_version_num: 170_000,
                architecture: "x86_64".to_owned(),
                char_signed: true,
                libc: String::new(),
                icu: String::new(),
                segment_size: 16 << 20,
                preload: vec![],
                checksums: true,
            },
            settings: String::new(),
            author: "T <t@example.org>".to_owned(),
            time: 1_000_000,
            message: message.to_owned(),
        };
        let id = self.store.write_commit(&commit).expect("stored");
        self.state().branches.insert(branch.to_owned(), id);
        id
    }

    pub fn head(&self, branch: &str) -> CommitId {
        *self
            .state()
            .branches
            .get(branch)
            .unwrap_or_else(|| panic!("no branch {branch}"))
    }

    pub fn try_head(&self, branch: &str) -> Option<CommitId> {
        self.state().branches.get(branch).copied()
    }

    pub fn content(&self, id: CommitId) -> Commit {
        self.store.read_commit(id).expect("a commit")
    }

    /// Writes WAL on a branch and commits: on its timeline if it is ours, else on a new one that forks there.
    pub fn write(&self, branch: &str, len: usize) -> CommitId {
        let parent = self.head(branch);
        let commit = self.content(parent);
        let mut path = commit.path.clone();
        let mut at = commit.position;
        let bytes = self.draw(len.next_multiple_of(8));
        {
            let fresh = TimelineId(self.draw(16).try_into().expect("16 bytes"));
            let mut state = self.state();
            let open = state.timelines.get(&at.timeline).expect("a timeline");
            let end = open
                .pieces
                .values()
                .map(|(range, _)| range.end)
                .max()
                .unwrap_or(open.facts.start);
            if open.facts.writer != self.id || end != at.lsn {
                let tli = path.last().expect("a path").tli + 1 + u32::from(fresh.0[0]);
                path.push(Step {
                    timeline: fresh,
                    tli,
                    start: at.lsn,
                });
                let facts = TimelineFacts {
                    id: fresh,
                    ancestor: Some(at),
                    tli,
                    writer: self.id,
                    start: at.lsn,
                    facts: vec![],
                    attestations: vec![],
                };
                at.timeline = fresh;
                state.timelines.insert(
                    fresh,
                    Timeline {
                        facts,
                        pieces: BTreeMap::new(),
                        path: path.clone(),
                    },
                );
            }
            let range = LsnRange {
                start: at.lsn,
                end: at.lsn + bytes.len() as u64,
            };
            at.lsn = range.end;
            let timeline = state.timelines.get_mut(&at.timeline).expect("a timeline");
            timeline.pieces.insert(key(range), (range, Piece::Wal(bytes)));
        }
        self.commit_at(branch, path, at.lsn, vec![parent], "write")
    }

    /// Turns all WAL into layers.
    pub fn seal(&self) {
        let mut state = self.state();
        for timeline in state.timelines.values_mut() {
            for (range, piece) in timeline.pieces.values_mut() {
                if let Piece::Wal(bytes) = piece {
                    *piece = Piece::Layer(self.store.put(bytes).expect("stored"), *range);
                }
            }
        }
    }

    /// Makes a branch at an LSN of another one's last timeline.
    pub fn branch_at(&self, name: &str, from: &str, lsn: Option<Lsn>) -> CommitId {
        let parent = self.head(from);
        let commit = self.content(parent);
        let lsn = lsn.unwrap_or(commit.position.lsn);
        let parents = if lsn == commit.position.lsn {
            vec![parent]
        } else {
            vec![]
        };
        self.commit_at(name, commit.path, lsn, parents, "branch")
    }

    pub fn set_branch(&self, name: &str, to: CommitId) {
        self.state().branches.insert(name.to_owned(), to);
    }

    pub fn forget_branch(&self, name: &str) {
        self.state().branches.remove(name);
    }

    pub fn set_running(&self, branch: &str, running: bool) {
        let mut state = self.state();
        if running {
            state.running.insert(branch.to_owned())
        } else {
            state.running.remove(branch)
        };
    }

    pub fn reflog(&self) -> Vec<(BranchMove, Option<CommitId>)> {
        self.state().reflog.clone()
    }

    /// Changes one byte of the WAL that is held of a branch's timeline: another history under the same name.
    pub fn corrupt_history(&self, branch: &str, at: Lsn) {
        let timeline = self.content(self.head(branch)).position.timeline;
        let mut state = self.state();
        for (range, piece) in state
            .timelines
            .get_mut(&timeline)
            .expect("a timeline")
            .pieces
            .values_mut()
        {
            if range.start <= at && at < range.end {
                let Piece::Wal(bytes) = piece else {
                    panic!("not WAL")
                };
                bytes[(at.0 - range.start.0) as usize] ^= 1;
            }
        }
    }

    fn bytes_of(&self, range: LsnRange, piece: &Piece) -> Result<Vec<u8>, LocalError> {
        match piece {
            Piece::Wal(bytes) => Ok(bytes.clone()),
            Piece::Layer(id, whole) => {
                let bytes = self.store.read(*id, 1 << 30).map_err(local)?;
                if range.start == range.end {
                    return Ok(bytes);
                }
                let from = (range.start.0 - whole.start.0) as usize;
                Ok(bytes[from..from + (range.end.0 - range.start.0) as usize].to_vec())
            }
        }
    }

    /// Returns everything below a commit, in order; fails when something is missing.
    pub fn read(&self, id: CommitId) -> Result<Vec<u8>, String> {
        let commit = self.content(id);
        let state = self.state();
        self.read_at(&state, &commit.path, commit.position.lsn)
    }

    fn read_at(&self, state: &State, path: &[Step], end: Lsn) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        for (step, end) in stretches(path, end) {
            let timeline = state
                .timelines
                .get(&step.timeline)
                .ok_or(format!("no timeline {}", step.timeline))?;
            let mut at = step.start;
            for (range, piece) in timeline.pieces.values() {
                if range.start != at || range.start > end || (range.start == end && range.end > end) {
                    continue;
                }
                let mut bytes = self.bytes_of(*range, piece).map_err(|error| error.to_string())?;
                if range.end > end {
                    bytes.truncate((end.0 - range.start.0) as usize);
                }
                all.extend(bytes);
                at = range.end.min(end);
            }
            if at != end {
                return Err(format!("timeline {} ends at {at}, not {end}", step.timeline));
            }
        }
        if all.is_empty() {
            Err("no base".to_owned())
        } else {
            Ok(all)
        }
    }

    fn segments(&self, timeline: &Timeline, end: Lsn) -> Result<Vec<WalDigest>, LocalError> {
        let mut rungs = Vec::new();
        let mut at = None;
        let mut run: Vec<u8> = Vec::new();
        let mut run_start = Lsn(0);
        let mut finish = |start: Lsn, bytes: &[u8]| {
            let mut from = start;
            let last = start + bytes.len() as u64;
            while from < last {
                let to = Lsn(((from.0 / SEGMENT) + 1) * SEGMENT).min(last);
                // A segment's part on this timeline: whole, or from the timeline's first byte on.
                let aligned = |lsn: Lsn| lsn.0.is_multiple_of(SEGMENT);
                if aligned(to) && (aligned(from) || from == timeline.facts.start) {
                    let bytes = &bytes[(from.0 - start.0) as usize..(to.0 - start.0) as usize];
                    rungs.push(WalDigest {
                        segment: from.0 / SEGMENT,
                        start: from,
                        end: to,
                        blake3: *blake3::hash(bytes).as_bytes(),
                    });
                }
                from = to;
            }
        };
        for (range, piece) in timeline
            .pieces
            .values()
            .filter(|(range, _)| range.start < range.end)
        {
            if at != Some(range.start) {
                finish(run_start, &run);
                run.clear();
                run_start = range.start;
            }
            run.extend(self.bytes_of(*range, piece)?);
            at = Some(range.end);
        }
        finish(run_start, &run);
        rungs.retain(|rung| rung.end <= end);
        Ok(rungs)
    }
}

impl Catalog for Repo {
    fn identity(&self) -> Result<Identity, LocalError> {
        let state = self.state();
        let roots = state
            .timelines
            .values()
            .filter(|t| t.facts.ancestor.is_none())
            .map(|t| t.facts.id)
            .collect();
        Ok(Identity {
            repository: self.id,
            roots,
            system_id: 77,
            head: Some("main".to_owned()),
        })
    }

    fn branches(&self) -> Result<Vec<(String, Branch)>, LocalError> {
        let state = self.state();
        Ok(state
            .branches
            .iter()
            .map(|(name, head)| {
                (
                    name.clone(),
                    Branch {
                        head: *head,
                        running: state.running.contains(name),
                    },
                )
            })
            .collect())
    }

    fn branch(&self, name: &str, _receiving: bool) -> Result<Option<Branch>, LocalError> {
        Ok(self
            .branches()?
            .into_iter()
            .find(|(other, _)| other == name)
            .map(|(_, branch)| branch))
    }

    fn commit(&self, id: CommitId) -> Result<Option<Vec<u8>>, LocalError> {
        if !self.store.contains(id.0) {
            return Ok(None);
        }
        self.store.read(id.0, 1 << 24).map(Some).map_err(local)
    }

    fn check_claims(&self, commit: &Commit) -> Result<(), LocalError> {
        let state = self.state();
        let mut before: Option<TimelineId> = None;
        for step in &commit.path {
            if let Some(held) = state.timelines.get(&step.timeline).map(|held| &held.facts) {
                let forks_at = before.map(|timeline| Position {
                    timeline,
                    lsn: step.start,
                });
                if (held.tli, held.start, held.ancestor) != (step.tli, step.start, forks_at) {
                    return Err(LocalError::Contradiction(format!("{} begins elsewhere", held.id)));
                }
            }
            before = Some(step.timeline);
        }
        Ok(())
    }

    fn ladders(&self, path: &[Step], end: Lsn) -> Result<Vec<Ladder>, LocalError> {
        let state = self.state();
        let mut ladders = Vec::new();
        for (step, end) in stretches(path, end) {
            if let Some(timeline) = state.timelines.get(&step.timeline) {
                ladders.push(Ladder {
                    timeline: step.timeline,
                    rungs: self.segments(timeline, end)?,
                });
            }
        }
        Ok(ladders)
    }

    fn transactions(
        &self,
        path: &[Step],
        end: Lsn,
        since: Position,
        _meter: &Meter,
    ) -> Result<Option<u64>, LocalError> {
        // One transaction is a KiB.
        let mut bytes = 0;
        let mut passed = false;
        for (step, end) in stretches(path, end) {
            let from = if step.timeline == since.timeline {
                since.lsn
            } else {
                step.start
            };
            passed |= step.timeline == since.timeline;
            if passed {
                bytes += end.bytes_since(from);
            }
        }
        Ok(Some(bytes / 1024))
    }
}

impl Source for Repo {
    fn plan(&self, request: &PlanRequest) -> Result<Plan, LocalError> {
        let state = self.state();
        let mut plan = Plan::default();
        for (step, end) in request.stretches() {
            let timeline = state
                .timelines
                .get(&step.timeline)
                .ok_or_else(|| LocalError::Missing("timeline".to_owned()))?;
            plan.timelines.push(timeline.facts.clone());
            let mut from = request.have.highest_at_or_below(step.timeline, end);
            let base = LsnRange {
                start: step.start,
                end: step.start,
            };
            for (range, piece) in timeline.pieces.values() {
                let kind_of = |range| match piece {
                    Piece::Wal(_) => PartKind::Wal {
                        timeline: step.timeline,
                        range,
                    },
                    Piece::Layer(..) => PartKind::Layer {
                        timeline: step.timeline,
                        range,
                    },
                };
                let object = if let Piece::Layer(id, _) = piece {
                    Some(*id)
                } else {
                    None
                };
                if range.start == range.end {
                    if from.is_none() && *range == base {
                        let bytes = self.store.len(object.expect("a layer")).map_err(local)?;
                        plan.parts.push(PlannedPart {
                            kind: kind_of(*range),
                            bytes,
                            object,
                            slice: false,
                        });
                        from = Some(range.end);
                    }
                    continue;
                }
                let start = range.start.max(from.unwrap_or(step.start));
                let stop = range.end.min(end);
                if start < stop {
                    let cut = LsnRange { start, end: stop };
                    let whole = matches!(piece, Piece::Layer(_, whole) if *whole == cut);
                    plan.parts.push(PlannedPart {
                        kind: kind_of(cut),
                        bytes: stop.0 - start.0,
                        object,
                        slice: object.is_some() && !whole,
                    });
                }
            }
        }
        Ok(plan)
    }

    fn prepare(&self, part: &PlannedPart, _meter: &Meter) -> Result<Part, LocalError> {
        if let (Some(id), false) = (part.object, part.slice) {
            return Ok(Part {
                id,
                len: self.store.len(id).map_err(local)?,
                kind: part.kind,
            });
        }
        let (timeline, range) = (
            part.kind.timeline().expect("not a commit"),
            part.kind.range().expect("not a commit"),
        );
        let state = self.state();
        for (of, piece) in state.timelines[&timeline].pieces.values() {
            if of.start <= range.start && range.end <= of.end {
                let bytes = self.bytes_of(*of, piece)?;
                let from = (range.start.0 - of.start.0) as usize;
                let bytes = &bytes[from..from + (range.end.0 - range.start.0) as usize];
                let id = if part.slice {
                    self.store.put(bytes).map_err(local)?
                } else {
                    ObjectId::from_bytes(*blake3::hash(bytes).as_bytes())
                };
                return Ok(Part {
                    id,
                    len: bytes.len() as u64,
                    kind: part.kind,
                });
            }
        }
        Err(LocalError::Missing("piece".to_owned()))
    }

    fn open_part(&self, part: &Part, offset: u64) -> Result<Box<dyn Read + Send>, LocalError> {
        let bytes = match part.kind {
            PartKind::Wal { timeline, range } => {
                let state = self.state();
                let (of, piece) = state.timelines[&timeline]
                    .pieces
                    .values()
                    .find(|(of, _)| of.start <= range.start && range.end <= of.end)
                    .expect("planned");
                let bytes = self.bytes_of(*of, piece)?;
                let from = (range.start.0 - of.start.0) as usize;
                bytes[from..from + part.len as usize].to_vec()
            }
            _ => std::fs::read(self.store.path(part.id))?,
        };
        let mut cursor = Cursor::new(bytes);
        cursor.set_position(offset);
        Ok(Box::new(cursor))
    }
}

struct Writer(Staging, std::time::Duration);

impl PartWriter for Writer {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn append(&mut self, bytes: &[u8]) -> Result<(), LocalError> {
        if bytes.len() > 500_000 {
            std::thread::sleep(self.1);
        }
        self.0.append(bytes).map_err(local)
    }
    fn finish(self: Box<Self>) -> Result<(), LocalError> {
        self.0.finish().map(|_| ()).map_err(local)
    }
}

impl Sink for Repo {
    fn possession(&self, path: &[Step], end: Lsn) -> Result<Possession, LocalError> {
        let state = self.state();
        let mut possession = Possession::default();
        for (step, limit) in stretches(path, end) {
            let Some(timeline) = state.timelines.get(&step.timeline) else {
                break;
            };
            // The longest readable run from the timeline's start.
            let mut last = None;
            let ends = timeline
                .pieces
                .values()
                .map(|(range, _)| range.end)
                .chain([step.start]);
            for end in ends {
                if end <= limit && self.read_at(&state, &timeline.path, end).is_ok() {
                    last = last.max(Some(end));
                }
            }
            if let Some(end) = last {
                let ranges = vec![LsnRange {
                    start: step.start,
                    end,
                }];
                possession.held.push(Held {
                    timeline: step.timeline,
                    ranges,
                });
            }
        }
        Ok(possession)
    }

    fn staged(&self, part: &Part) -> Result<u64, LocalError> {
        if self.store.contains(part.id) {
            return Ok(part.len);
        }
        Ok(self.store.staged(part.id).map_err(local)?.min(part.len - 1))
    }

    fn check_timelines(&self, _commit: &Commit, timelines: &[TimelineFacts]) -> Result<(), LocalError> {
        let state = self.state();
        let held = |facts: &TimelineFacts| state.timelines.get(&facts.id).map(|held| held.facts.clone());
        match timelines
            .iter()
            .find(|facts| held(facts).is_some_and(|held| held != **facts))
        {
            Some(facts) => Err(LocalError::Contradiction(format!("{} is another one", facts.id))),
            None => Ok(()),
        }
    }

    fn stage(&self, part: &Part) -> Result<Box<dyn PartWriter + '_>, LocalError> {
        let slow = *self.slow.lock().expect("not poisoned");
        let staging = self.store.staging(part.id).map_err(local)?;
        Ok(Box::new(Writer(staging.limited(part.len), slow)))
    }

    fn accept(&self, acceptance: &Acceptance, meter: &Meter) -> Result<(), LocalError> {
        let hook = self.before_accept.lock().expect("not poisoned").take();
        if let Some(mut hook) = hook {
            hook(meter)?;
        }
        let mut state = self.state();
        let mut next = state.clone();
        for (index, facts) in acceptance.timelines.iter().enumerate() {
            next.timelines.entry(facts.id).or_insert_with(|| Timeline {
                facts: facts.clone(),
                pieces: BTreeMap::new(),
                path: acceptance.path[..=index].to_vec(),
            });
        }
        for part in &acceptance.parts {
            let (Some(timeline), Some(range)) = (part.kind.timeline(), part.kind.range()) else {
                continue;
            };
            let piece = match part.kind {
                PartKind::Wal { .. } => Piece::Wal(self.store.read(part.id, part.len).map_err(local)?),
                _ => Piece::Layer(part.id, range),
            };
            let timeline = next
                .timelines
                .get_mut(&timeline)
                .expect("checked by the protocol");
            timeline.pieces.entry(key(range)).or_insert((range, piece));
        }
        meter.set(1, 2);
        meter.check()?;
        if let Err(missing) = self.read_at(&next, &acceptance.path, acceptance.position.lsn) {
            return Err(LocalError::NotReadable {
                position: acceptance.position,
                missing,
            });
        }
        *state = next;
        Ok(())
    }

    fn move_branch(&self, step: &BranchMove) -> Result<(), LocalError> {
        let mut hook = self.before_move.lock().expect("not poisoned").take();
        if let Some(hook) = &mut hook {
            hook(self);
        }
        let mut state = self.state();
        let now = state.branches.get(&step.branch).copied();
        if state.running.contains(&step.branch) {
            return Err(LocalError::EndpointRuns {
                branch: step.branch.clone(),
            });
        }
        if now != step.expect {
            return Err(LocalError::Moved {
                branch: step.branch.clone(),
                now,
            });
        }
        state.branches.insert(step.branch.clone(), step.new);
        state.reflog.push((step.clone(), now));
        Ok(())
    }
}

impl Objects for Repo {
    fn find_objects(&self, wanted: &[ObjectId]) -> Result<Vec<Option<u64>>, LocalError> {
        let heads: Vec<CommitId> = self.state().branches.values().copied().collect();
        let mut whole: BTreeSet<ObjectId> = BTreeSet::new();
        for head in &heads {
            let commit = self.content(*head);
            let state = self.state();
            for (step, end) in stretches(&commit.path, commit.position.lsn) {
                let pieces = state.timelines[&step.timeline].pieces.values();
                whole.extend(pieces.filter_map(|(range, piece)| match piece {
                    Piece::Layer(id, _) if range.end <= end => Some(*id),
                    _ => None,
                }));
            }
        }
        let mut found = Vec::new();
        for id in wanted {
            let mut may_have = whole.contains(id);
            for head in &heads {
                may_have = may_have || history::leads_to(self, *head, CommitId(*id))?;
            }
            found.push(self.store.len(*id).ok().filter(|_| may_have));
        }
        Ok(found)
    }

    fn open_object(&self, id: ObjectId) -> Result<Box<dyn Read + Send>, LocalError> {
        Ok(Box::new(self.store.open_object(id).map_err(local)?))
    }
}

impl ObjectSink for Repo {
    fn stage_object(&self, id: ObjectId, len: u64) -> Result<Box<dyn PartWriter + '_>, LocalError> {
        let mut staging = self.store.staging(id).map_err(local)?.limited(len);
        staging.restart().map_err(local)?;
        Ok(Box::new(Writer(staging, std::time::Duration::ZERO)))
    }
}
