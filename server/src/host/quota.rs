//! What a repository may take of the disk through pushes.

use std::any::Any;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neon_remotes::Refusal;
use neon_repo::span::bytes_text;

use crate::settings::Space;

/// The space of one repository. Bytes that are about to arrive are reserved, so that pushes at one time cannot pass the limit together.
pub(crate) struct Quota {
    name: String,
    space: Space,
    ledger: Mutex<Ledger>,
}

/// What is taken. An upper bound while something is reserved; measured anew when nothing is.
#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    /// Bytes of history, and of these those that are staged.
    measured: Option<(u64, u64)>,
    reserved: u64,
}

/// Bytes that may arrive, for as long as this lives.
struct Reservation {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut ledger = self.quota.ledger();
        ledger.reserved = ledger.reserved.saturating_sub(self.bytes);
        ledger.measured = match ledger.measured {
            // They are here now, or some of them.
            Some((all, staged)) if ledger.reserved > 0 => Some((all + self.bytes, staged + self.bytes)),
            _ => None,
        };
    }
}

impl Quota {
    pub fn new(name: &str, space: Space) -> Arc<Quota> {
        Arc::new(Quota {
            name: name.to_owned(),
            space,
            ledger: Mutex::default(),
        })
    }

    /// Reserves bytes for the repository in `neon_dir`, which need not exist yet.
    pub fn reserve(self: &Arc<Self>, neon_dir: &Path, bytes: u64) -> Result<Box<dyn Any + Send>, Refusal> {
        let mut ledger = self.ledger();
        let (all, staged) = *ledger.measured.get_or_insert_with(|| measure(neon_dir));
        self.check(
            "serve.max_repository_bytes",
            self.space.repository,
            all,
            &ledger,
            bytes,
        )?;
        self.check(
            "serve.max_staging_bytes",
            self.space.staging,
            staged,
            &ledger,
            bytes,
        )?;
        ledger.reserved += bytes;
        let quota = Arc::clone(self);
        Ok(Box::new(Reservation { quota, bytes }))
    }

    fn check(
        &self,
        setting: &str,
        limit: u64,
        taken: u64,
        ledger: &Ledger,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let taken = taken.saturating_add(ledger.reserved);
        if taken.saturating_add(bytes) <= limit {
            return Ok(());
        }
        Err(Refusal::Limit {
            what: format!(
                "repository '{}' has {taken} of {} that it may have ({setting}), and {bytes} bytes would come",
                self.name,
                bytes_text(limit)
            ),
        })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the bytes of history in a repository, and of these those that are staged.
fn measure(neon_dir: &Path) -> (u64, u64) {
    let below = |path: &str| bytes_below(neon_dir.join(path));
    (below("objects") + below("timelines"), below("objects/incoming"))
}

fn bytes_below(directory: PathBuf) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(repository: u64, staging: u64) -> (tempfile::TempDir, Arc<Quota>) {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("objects/incoming")).expect("made");
        (dir, Quota::new("shop", Space { repository, staging }))
    }

    #[test]
    fn what_comes_at_one_time_counts_together() {
        let (dir, quota) = quota(100, 1000);
        fs::write(dir.path().join("objects/x"), [0; 40]).expect("written");
        let first = quota.reserve(dir.path(), 30).expect("room");
        let second = quota.reserve(dir.path(), 30).expect("room");
        let refused = quota.reserve(dir.path(), 1);
        let Err(Refusal::Limit { what }) = refused.map(|_| ()) else {
            panic!("room for more");
        };
        assert!(
            what.contains("serve.max_repository_bytes") && what.contains("'shop'"),
            "{what}"
        );
        // Until it is measured again, what was reserved is taken for here.
        drop(first);
        assert!(quota.reserve(dir.path(), 1).is_err());
        drop(second);
        assert!(quota.reserve(dir.path(), 60).is_ok(), "nothing came");
        assert!(quota.reserve(dir.path(), 0).is_ok());
    }

    #[test]
    fn leftovers_count() {
        let (dir, quota) = quota(1000, 50);
        fs::write(dir.path().join("objects/incoming/x"), [0; 40]).expect("written");
        let refused = quota.reserve(dir.path(), 11);
        let Err(Refusal::Limit { what }) = refused.map(|_| ()) else {
            panic!("room for more");
        };
        assert!(what.contains("serve.max_staging_bytes"), "{what}");
        assert!(quota.reserve(dir.path(), 10).is_ok());
    }

    #[test]
    fn absurd_numbers_are_refused() {
        let (dir, quota) = quota(u64::MAX - 1, u64::MAX);
        assert!(quota.reserve(dir.path(), u64::MAX).is_err());
        let most = quota.reserve(dir.path(), u64::MAX - 1).expect("room");
        assert!(quota.reserve(dir.path(), u64::MAX - 1).is_err());
        drop(most);
    }
}
