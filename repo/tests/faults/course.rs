//! The course: what people and daemons do with repositories, step by step. A step may be taken again, whatever became of it before.

use neon_pagestore::{Compacted, NewTimeline, import};
use neon_repo::api::{Clone, Gc, Init, Quiet, Request, Response, Retain, Transfer};
use neon_types::TimelineId;

use crate::material::Strand;
use crate::stage::{Stage, Trouble, options};

type Done = Result<(), Trouble>;

/// One step. What is open stays open until the next that is marked as `fresh`: there a new process begins.
pub struct Step {
    pub name: &'static str,
    pub fresh: bool,
    pub take: fn(&mut Stage<'_>) -> Done,
}

const fn fresh(name: &'static str, take: fn(&mut Stage<'_>) -> Done) -> Step {
    Step {
        name,
        fresh: true,
        take,
    }
}

const fn then(name: &'static str, take: fn(&mut Stage<'_>) -> Done) -> Step {
    Step {
        name,
        fresh: false,
        take,
    }
}

pub const COURSE: &[Step] = &[
    fresh("init", init),
    fresh("retention", |stage| {
        let retain = Retain {
            keep_wal: Some("1MB".into()),
            ..Retain::default()
        };
        stage.ask("a", Request::Retention(retain)).map(drop)
    }),
    then("a timeline for main", |stage| open_for(stage, "main")),
    then("receive", |stage| receive(stage, "main", 10)),
    then("receive", |stage| receive(stage, "main", 20)),
    then("seal", |stage| seal(stage, "main")),
    then("receive", |stage| receive(stage, "main", 30)),
    then("receive", |stage| receive(stage, "main", 34)),
    then("seal", |stage| seal(stage, "main")),
    then("commit", |stage| commit(stage, "main", "early")),
    then("receive", |stage| receive(stage, "main", 38)),
    then("receive without fsync", |stage| append(stage, "main", 42)),
    fresh("commit of what a dead process left", |stage| {
        commit(stage, "main", "left")
    }),
    then("branch at a position", |stage| {
        let rev = format!("main@{}", stage.material.main.at(25));
        branch(stage, "some/where", Some(rev))
    }),
    then("tag", |stage| {
        let request = Request::TagCreate {
            name: "v1".into(),
            rev: Some("main".into()),
        };
        unless(stage.ask("a", request), "tag_exists")
    }),
    then("rename", |stage| {
        let request = Request::BranchRename {
            old: "some/where".into(),
            new: "some".into(),
        };
        unless(stage.ask("a", request), "no_branch")
    }),
    then("switch", |stage| {
        stage
            .ask(
                "a",
                Request::Switch {
                    branch: "some".into(),
                },
            )
            .map(drop)
    }),
    then("switch back", |stage| {
        stage
            .ask(
                "a",
                Request::Switch {
                    branch: "main".into(),
                },
            )
            .map(drop)
    }),
    fresh("receive up to the fork", |stage| {
        let fork = stage.material.dev.ancestor.lsn;
        receive_to(stage, "main", fork)
    }),
    then("branch dev", |stage| {
        branch(
            stage,
            "dev",
            Some(format!("main@{}", stage.material.dev.ancestor.lsn)),
        )
    }),
    then("a timeline for dev", |stage| open_for(stage, "dev")),
    then("receive on dev", |stage| receive(stage, "dev", 30)),
    then("receive on dev", |stage| receive(stage, "dev", 60)),
    then("seal dev", |stage| seal(stage, "dev")),
    then("receive on dev", |stage| receive(stage, "dev", 100)),
    then("commit on dev", |stage| commit(stage, "dev", "on dev")),
    fresh("receive", |stage| receive(stage, "main", 60)),
    then("seal", |stage| seal(stage, "main")),
    then("receive", |stage| receive(stage, "main", 70)),
    then("seal", |stage| seal(stage, "main")),
    then("receive", |stage| receive(stage, "main", 75)),
    then("seal", |stage| seal(stage, "main")),
    then("compact", |stage| compact(stage, "main")),
    then("commit", |stage| commit(stage, "main", "compacted")),
    fresh("a branch whose endpoint goes on unseen", |stage| {
        let rev = format!("main@{}", stage.material.gap.ancestor.lsn);
        branch(stage, "gap", Some(rev))
    }),
    then("take in a directory with a gap", resync),
    then("commit it", |stage| commit(stage, "gap", "what it was")),
    fresh("an empty repository", |stage| {
        if stage.neon_dir("b").exists() {
            stage.repository("b")?;
            stage.leave("b");
            return Ok(());
        }
        stage.seed += 1;
        let id = neon_types::RepoId([0xb; 16]);
        neon_repo::create_empty(&stage.directory("b"), id, &options(stage.seed), &stage.runtime).map(drop)?;
        Ok(())
    }),
    fresh("an origin", |stage| {
        let uri = stage.directory("b").display().to_string();
        unless(
            stage.ask(
                "a",
                Request::OriginAdd {
                    name: "b".into(),
                    uri,
                },
            ),
            "origin_exists",
        )
    }),
    then("push", |stage| push(stage, "main")),
    fresh("clone", clone),
    fresh("receive", |stage| receive(stage, "main", 90)),
    then("commit", |stage| commit(stage, "main", "to push")),
    then("push", |stage| push(stage, "main")),
    then("push dev", |stage| push(stage, "dev")),
    then("push a timeline with a gap", |stage| push(stage, "gap")),
    fresh("pull", |stage| {
        let transfer = Transfer {
            branch: Some("main".into()),
            ..Transfer::default()
        };
        stage.ask("c", Request::Pull(transfer)).map(drop)
    }),
    then("fetch", |stage| {
        let transfer = Transfer {
            branch: Some("dev".into()),
            target: Some("origin".into()),
            ..Transfer::default()
        };
        stage.ask("c", Request::Fetch(transfer)).map(drop)
    }),
    fresh("seal and receive", |stage| {
        receive(stage, "main", 95)?;
        seal(stage, "main")?;
        receive(stage, "main", 100)
    }),
    then("delete dev", |stage| delete(stage, "dev")),
    then("delete gap", |stage| {
        stage.forget("a", stage.material.gap.id);
        delete(stage, "gap")
    }),
    then("delete a tag", |stage| {
        unless(stage.ask("a", Request::TagDelete { name: "v1".into() }), "no_tag")
    }),
    then("condemn", |stage| collect(stage, None)),
    then("collect", |stage| collect(stage, Some(0))),
    then("commit", |stage| commit(stage, "main", "last")),
    fresh("history that is not kept", |stage| {
        let retain = Retain {
            branch: Some("main".into()),
            keep: Some("0s".into()),
            ..Retain::default()
        };
        stage.ask("a", Request::Retention(retain)).map(drop)
    }),
    then("delete a branch that keeps it", |stage| delete(stage, "some")),
    then("drop it", |stage| collect(stage, Some(0))),
    then("collect what it was in", |stage| collect(stage, Some(0))),
    fresh("a branch after that", |stage| {
        branch(stage, "late", Some("main".into()))
    }),
];

/// Returns the numbers of the steps that begin a process.
pub fn acts() -> Vec<std::ops::Range<usize>> {
    let mut begins: Vec<usize> = (0..COURSE.len()).filter(|index| COURSE[*index].fresh).collect();
    begins.push(COURSE.len());
    begins.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Takes an answer that says that it was done before for one that it is done.
fn unless(answer: Result<Response, Trouble>, code: &str) -> Done {
    match answer {
        Err(Trouble(text)) if text.starts_with(&format!("[{code}]")) => Ok(()),
        answer => answer.map(drop),
    }
}

fn strand<'a>(stage: &Stage<'a>, branch: &str) -> &'a Strand {
    match branch {
        "main" => &stage.material.main,
        _ => &stage.material.dev,
    }
}

/// Returns true when a repository has its name: then it is whole, whatever became of the command that made it.
fn is_made(stage: &mut Stage<'_>, name: &'static str) -> Result<bool, Trouble> {
    if !stage.neon_dir(name).exists() {
        return Ok(false);
    }
    stage.ask(name, Request::Show { rev: "main".into() })?;
    stage.leave(name);
    Ok(true)
}

fn init(stage: &mut Stage<'_>) -> Done {
    if is_made(stage, "a")? {
        return Ok(());
    }
    stage.seed += 1;
    let init = Init {
        directory: stage.directory("a"),
        from: Some(stage.material.pgdata.clone()),
        ..Init::default()
    };
    neon_repo::init(init, options(stage.seed), &stage.runtime, &mut Quiet)?;
    Ok(())
}

/// Makes the timeline that an endpoint of the branch would write.
fn open_for(stage: &mut Stage<'_>, branch: &str) -> Done {
    let repository = stage.repository("a")?;
    let strand = strand(stage, branch);
    if repository.pages().contains(strand.timeline) {
        return Ok(());
    }
    repository.pages().create(NewTimeline {
        id: strand.timeline,
        ancestor: strand.ancestor,
        tli: strand.tli,
        writer: stage.writer("a"),
        branch: Some(branch.to_owned()),
        provisional: false,
    })?;
    Ok(())
}

/// Appends WAL of a strand as a receiver does after a break: from the end of the last whole record.
fn append_to(stage: &mut Stage<'_>, branch: &str, upto: neon_types::Lsn) -> Result<TimelineId, Trouble> {
    const MESSAGE: usize = 48 << 10;
    let strand = strand(stage, branch);
    let timeline = stage.timeline("a", strand.timeline)?;
    let mut at = timeline.index_wal()?;
    while at < upto {
        let from = usize::try_from(at.0 - strand.start.0).expect("a few mebibytes");
        let to = usize::try_from(upto.0 - strand.start.0).expect("a few mebibytes");
        let bytes = &strand.wal[from..to.min(from + MESSAGE)];
        timeline.append_wal(at, bytes)?;
        at = at + bytes.len() as u64;
    }
    Ok(strand.timeline)
}

fn receive_to(stage: &mut Stage<'_>, branch: &str, upto: neon_types::Lsn) -> Done {
    let id = append_to(stage, branch, upto)?;
    let timeline = stage.timeline("a", id)?;
    let durable = timeline.sync_wal()?;
    stage.acknowledge("a", id, durable.min(upto));
    timeline.index_wal()?;
    Ok(())
}

fn receive(stage: &mut Stage<'_>, branch: &str, hundredths: u64) -> Done {
    let upto = strand(stage, branch).at(hundredths);
    receive_to(stage, branch, upto)
}

/// The same, but the process is killed before the fsync: nothing is acknowledged.
fn append(stage: &mut Stage<'_>, branch: &str, hundredths: u64) -> Done {
    let upto = strand(stage, branch).at(hundredths);
    append_to(stage, branch, upto)?;
    stage.leave("a");
    // Only who ends by itself takes its name off the lock.
    let killed = std::fs::write(stage.neon_dir("a").join("lock"), "1 test\n");
    killed.map_err(|error| Trouble(error.to_string()))
}

fn seal(stage: &mut Stage<'_>, branch: &str) -> Done {
    let id = strand(stage, branch).timeline;
    stage.timeline("a", id)?.seal()?;
    Ok(())
}

/// Takes in the data directory of a stopped endpoint whose WAL nobody has.
fn resync(stage: &mut Stage<'_>) -> Done {
    let repository = stage.repository("a")?;
    let (new, end) = (&stage.material.gap, stage.material.gap_end);
    let is_there = |pages: &neon_pagestore::PageStore| pages.get(new.id).is_ok_and(|made| made.end() == end);
    if !is_there(repository.pages()) {
        if repository.pages().contains(new.id) {
            // What a dead process left; a user's next attempt draws another name.
            repository.pages().remove(new.id)?;
        }
        let new = NewTimeline {
            writer: stage.writer("a"),
            ..new.clone()
        };
        let source = import::inspect(&stage.material.gap_directory).expect("it was stopped");
        repository.pages().resync(new, &source, &mut |_, _| true)?;
    }
    stage.acknowledge("a", stage.material.gap.id, end);
    Ok(())
}

fn compact(stage: &mut Stage<'_>, branch: &str) -> Done {
    let id = strand(stage, branch).timeline;
    let timeline = stage.timeline("a", id)?;
    while timeline.compact(&|| false)? != Compacted::Nothing {}
    Ok(())
}

fn commit(stage: &mut Stage<'_>, branch: &str, message: &str) -> Done {
    let request = Request::Commit {
        branch: Some(branch.into()),
        message: message.into(),
        author: None,
    };
    stage.ask("a", request).map(drop)
}

fn branch(stage: &mut Stage<'_>, name: &str, rev: Option<String>) -> Done {
    unless(
        stage.ask(
            "a",
            Request::BranchCreate {
                name: name.into(),
                rev,
            },
        ),
        "branch_exists",
    )
}

fn delete(stage: &mut Stage<'_>, name: &str) -> Done {
    let request = Request::BranchDelete {
        name: name.into(),
        force: true,
    };
    unless(stage.ask("a", request), "no_branch")
}

fn push(stage: &mut Stage<'_>, branch: &str) -> Done {
    stage.leave("b");
    let transfer = Transfer {
        branch: Some(branch.into()),
        target: Some("b".into()),
        ..Transfer::default()
    };
    stage.ask("a", Request::Push(transfer)).map(drop)
}

fn clone(stage: &mut Stage<'_>) -> Done {
    if is_made(stage, "c")? {
        return Ok(());
    }
    stage.seed += 1;
    let request = Clone {
        uri: stage.directory("b").display().to_string(),
        directory: stage.directory("c"),
        ..Clone::default()
    };
    neon_repo::clone(request, options(stage.seed), &stage.runtime, &mut Quiet)?;
    Ok(())
}

fn collect(stage: &mut Stage<'_>, grace_seconds: Option<u64>) -> Done {
    stage
        .ask(
            "a",
            Request::Gc(Gc {
                dry_run: false,
                grace_seconds,
            }),
        )
        .map(drop)
}
