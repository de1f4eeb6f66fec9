//! Where what is made while a repository is only read goes: a directory of its own in the one for temporary files, which goes with the process.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::{ObjectsError, Result};

/// A directory that is made when something is to be put there. Nobody else enters it.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Mutex<Option<TempDir>>);

impl Scratch {
    /// Calls `work` with the directory, made when it is missing.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Path) -> T) -> Result<T> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = &*made {
            return Ok(work(directory.path()));
        }
        let directory = tempfile::Builder::new()
            .prefix("neon-")
            .tempdir()
            .map_err(ObjectsError::io("make a directory in", std::env::temp_dir()))?;
        let result = work(directory.path());
        *made = Some(directory);
        Ok(result)
    }

    /// Calls `work` with the directory, if it was made.
    pub(crate) fn if_made<T>(&self, work: impl FnOnce(&Path) -> T) -> Option<T> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.as_ref().map(|directory| work(directory.path()))
    }
}
