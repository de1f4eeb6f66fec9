//! The course as it goes when nothing fails: every change, and what stands after each step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neon_objects::RepoLock;

use crate::course::COURSE;
use crate::disk::{Cut, Disk};
use crate::leftovers::{self, Left, Leftovers};
use crate::material::Material;
use crate::model::{Expected, Facts, check};
use crate::session::{self, Logged};
use crate::stage::{Acknowledged, Stage};

/// The repositories of the course.
pub const NAMES: [&str; 3] = ["a", "b", "c"];
/// Steps that move refs one by one: a pull remembers the origin's branch after ours was moved, a branch is made of a branch that is committed
/// first.
const ONE_BY_ONE: [&str; 3] = ["pull", "branch at a position", "branch dev"];

/// What stands after a step.
#[derive(Clone, Default)]
pub struct Moment {
    pub facts: BTreeMap<&'static str, Facts>,
    pub acknowledged: Acknowledged,
}

pub struct Reference {
    /// Holds everything that is made on disk; all names of roots in it are of one length.
    _base: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub material: Material,
    pub log: Vec<Logged>,
    /// Before the first step, and after each.
    pub moments: Vec<Moment>,
    pub root: PathBuf,
}

/// Returns the directory of that number; all paths of them have one length.
pub fn root(base: &Path, number: u64) -> PathBuf {
    let root = base.join(format!("w{number:07}"));
    std::fs::create_dir(&root).expect("a new directory");
    root
}

/// Returns a directory in memory, where there is one: nothing has to be durable, and much is written.
fn scratch() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("neon-faults-");
    let in_memory = builder.tempdir_in("/dev/shm");
    in_memory.or_else(|_| builder.tempdir()).expect("a directory")
}

/// Takes the course.
pub fn make() -> Reference {
    let base = scratch();
    let top = std::fs::canonicalize(base.path()).expect("it is there");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let material = Material::make(&top, runtime.handle());
    let root = root(&top, 0);
    let watch = session::watch(&root, Disk::new(), None);
    let mut moments = vec![Moment::default()];
    let mut stage = Stage::new(&root, &material, runtime.handle(), 100);
    for (number, step) in COURSE.iter().enumerate() {
        watch.0.begin(number);
        if step.fresh {
            stage.close();
        }
        (step.take)(&mut stage).unwrap_or_else(|error| panic!("step {number}, {}: {}", step.name, error.0));
        let left = watch.0.seen().disk.after(Cut::Killed);
        moments.push(Moment {
            facts: facts(&top, &left),
            acknowledged: stage.acknowledged.clone(),
        });
    }
    let dropped = stage
        .timeline("a", material.main.timeline)
        .map(|timeline| timeline.readable());
    assert!(matches!(dropped, Ok(Some(_))), "no history was dropped");
    stage.close();
    settle(&root);
    let log = std::mem::take(&mut watch.0.seen().log);
    drop(stage);
    Reference {
        _base: base,
        runtime,
        material,
        log,
        moments,
        root,
    }
}

/// Waits until nobody has a repository below a root open: the other half of a conversation may end a moment after ours.
pub fn settle(root: &Path) {
    for name in NAMES {
        let neon_dir = root.join(name).join(".neon");
        // A lock that never becomes free is found by who opens the repository next.
        let mut looks = 0;
        while matches!(RepoLock::holder(&neon_dir), Ok(Some(_))) && looks < 2000 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            looks += 1;
        }
    }
}

/// Reads the refs of all repositories from a copy.
fn facts(top: &Path, left: &Leftovers) -> BTreeMap<&'static str, Facts> {
    let copy = tempfile::tempdir_in(top).expect("a directory");
    leftovers::write(left, copy.path()).expect("written");
    let there = NAMES
        .iter()
        .filter(|name| left.contains_key(&format!("{name}/.neon/config.toml")));
    there
        .map(|name| {
            (
                *name,
                Facts::read(&copy.path().join(name).join(".neon")).expect("sound"),
            )
        })
        .collect()
}

impl Reference {
    pub fn top(&self) -> PathBuf {
        self.root.parent().expect("below the base").to_owned()
    }

    /// Returns the step that the change of that number belongs to, and how it reads.
    pub fn describe(&self, number: usize) -> (usize, String) {
        match self.log.get(number) {
            Some(Logged { change, step }) => {
                let mut text = format!("{change:?}");
                text.truncate(160);
                (
                    *step,
                    format!(
                        "before change {number} ({text}) of step {step}, {}",
                        COURSE[*step].name
                    ),
                )
            }
            None => (COURSE.len() - 1, "after the last change".into()),
        }
    }

    /// Returns the numbers of the changes of a step.
    pub fn changes_of(&self, step: usize) -> std::ops::Range<usize> {
        let from = self.log.partition_point(|logged| logged.step < step);
        let to = self.log.partition_point(|logged| logged.step <= step);
        from..to
    }

    /// Checks all, or some, repositories below a root against what must be between two moments.
    pub fn check(
        &self,
        root: &Path,
        (before, after): (usize, usize),
        acknowledged: &Acknowledged,
        names: &[&'static str],
        seed: u64,
    ) -> Result<(), String> {
        for name in names {
            let expected = Expected {
                before: self.moments[before].facts.get(name),
                after: self.moments[after].facts.get(name),
                one_by_one: after - before > 1 || ONE_BY_ONE.contains(&COURSE[after.max(1) - 1].name),
                acknowledged,
            };
            check(root, name, &expected, &self.material, self.runtime.handle(), seed)
                .map_err(|error| format!("repository {name}: {error}"))?;
        }
        Ok(())
    }
}

/// Writes a crashed disk below a new root: paths in configurations follow, and each repository's directory is the one that its writer was
/// drawn for. Returns the disk as it is there; names and bytes that were not durable before still are not.
pub fn place(disk: &Disk, left: &Leftovers, from: &Path, to: &Path) -> Disk {
    let mut disk = disk.clone();
    let (old, new) = (from.to_str().expect("UTF-8"), to.to_str().expect("UTF-8"));
    assert_eq!(old.len(), new.len());
    let mut left = left.clone();
    for (_, found) in left.values_mut() {
        if let Left::File(bytes) = found {
            leftovers::rewrite(bytes, old, new);
        }
    }
    disk.rewrite(old, new);
    leftovers::write(&left, to).expect("written");
    for name in NAMES {
        let path = format!("{name}/.neon/instance");
        let Some((_, Left::File(bytes))) = left.get(&path) else {
            continue;
        };
        let text = String::from_utf8_lossy(bytes);
        let Some((writer, _)) = text.strip_suffix('\n').and_then(|line| line.split_once(' ')) else {
            continue;
        };
        use std::os::unix::fs::MetadataExt;
        let here = std::fs::metadata(to.join(name).join(".neon")).expect("it is there");
        let line = format!("{writer} {}:{}\n", here.dev(), here.ino());
        std::fs::write(to.join(&path), &line).expect("written");
        if let Some(node) = disk.find(&path) {
            disk.set(node, line.into_bytes());
        }
    }
    disk
}
