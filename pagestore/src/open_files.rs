//! Files that are open for reading, so many at a time that other parts of the process have descriptors, too.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

/// Most files that are kept open, whatever the process may have.
const MOST: u64 = 1024;
/// Fewest, whatever it may not.
const FEWEST: u64 = 8;
/// What part of the process's descriptors they may take.
const SHARE: u64 = 4;

/// Open files by path. Nobody deletes or replaces one without [`OpenFiles::forget`].
#[derive(Debug)]
pub(crate) struct OpenFiles {
    kept: Mutex<Kept>,
    most: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// With whether it was used since it was looked at for the last time.
    files: HashMap<PathBuf, (Arc<File>, bool)>,
    order: VecDeque<PathBuf>,
}

impl OpenFiles {
    /// Keeps a share of what this process may open.
    pub(crate) fn new() -> OpenFiles {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (limit / SHARE).clamp(FEWEST, MOST);
        OpenFiles {
            kept: Mutex::default(),
            most: usize::try_from(most).unwrap_or(usize::MAX),
        }
    }

    /// Returns the file of that path, which `open` opens. When the process has no descriptor left, all others are closed first.
    pub(crate) fn get(&self, path: &Path, open: impl Fn(&Path) -> io::Result<File>) -> io::Result<Arc<File>> {
        if let Some((file, used)) = self.kept().files.get_mut(path) {
            *used = true;
            return Ok(Arc::clone(file));
        }
        let opened = match open(path) {
            Err(error) if is_out_of_descriptors(&error) => {
                self.kept().keep(0);
                open(path)
            }
            opened => opened,
        };
        let file = Arc::new(opened?);
        let mut kept = self.kept();
        kept.keep(self.most.saturating_sub(1));
        if kept
            .files
            .insert(path.to_owned(), (Arc::clone(&file), false))
            .is_none()
        {
            kept.order.push_back(path.to_owned());
        }
        Ok(file)
    }

    /// Closes a file, because it was deleted or is another one now.
    pub(crate) fn forget(&self, path: &Path) {
        let mut kept = self.kept();
        if kept.files.remove(path).is_some() {
            kept.order.retain(|other| other != path);
        }
    }

    /// Closes the files of a directory.
    pub(crate) fn forget_below(&self, directory: &Path) {
        let mut kept = self.kept();
        kept.files.retain(|path, _| !path.starts_with(directory));
        kept.order.retain(|path| !path.starts_with(directory));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Closes files until so many are left: those that were not used for longest (second chance).
    fn keep(&mut self, most: usize) {
        while self.files.len() > most {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            match self.files.get_mut(&oldest) {
                Some((_, used)) if *used && most > 0 => {
                    *used = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    self.files.remove(&oldest);
                }
            }
        }
    }
}

/// Returns true when the process, or the machine, has no descriptor left.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn few_files_are_open_and_those_that_are_used_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = |number: usize| directory.path().join(number.to_string());
        for number in 0..20 {
            std::fs::write(path(number), number.to_string()).unwrap();
        }
        let files = OpenFiles {
            kept: Mutex::default(),
            most: 8,
        };
        let opened = Cell::new(0);
        let get = |number: usize| {
            files
                .get(&path(number), |path| {
                    opened.set(opened.get() + 1);
                    File::open(path)
                })
                .unwrap()
        };
        for number in 0..20 {
            get(number);
            get(0);
        }
        assert_eq!(
            opened.get(),
            20,
            "the one that is used again and again was not opened again"
        );
        assert_eq!(files.kept().files.len(), 8);
        assert_eq!(files.kept().order.len(), 8);
        files.forget(&path(0));
        get(0);
        assert_eq!(opened.get(), 21);
        files.forget_below(directory.path());
        let kept = files.kept();
        assert_eq!((kept.files.len(), kept.order.len()), (0, 0));
    }

    #[test]
    fn without_descriptors_the_others_are_closed_first() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let files = OpenFiles::new();
        let first = files.get(&one, |path| File::open(path)).unwrap();
        drop(first);
        let got = files.get(&other, |path| match files.kept().files.is_empty() {
            true => File::open(path),
            false => Err(rustix::io::Errno::MFILE.into()),
        });
        got.unwrap();
        assert!(
            files
                .get(&directory.path().join("absent"), |path| File::open(path))
                .is_err()
        );
    }
}
