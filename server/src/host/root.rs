//! The directory that `neon serve --root` serves: which repositories there are, and where new ones are made.
//!
//! ```text
//! ROOT/NAME/.neon/                  a repository that is served
//! ROOT/.neon-incoming-NAME/.neon/   one whose first push is not accepted yet; renamed to NAME when it is
//! ROOT/.neon-users, .neon-users.secret, .neon-audit, .neon-serve.toml
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use neon_objects::{ObjectStore, ObjectsError, Refs, durable, owned};
use neon_repo::RepoError;
use neon_repo::api::ApiError;
use neon_transport::is_repository_name;

use crate::client::local;

/// What a directory is called in which a repository is being made, before its name.
const INCOMING: &str = ".neon-incoming-";

/// A directory of repositories, ours and nobody else's.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// Returns the root at `path`, which must be ours alone (law 16).
    pub fn open(path: &Path) -> Result<Root, ApiError> {
        let path = fs::canonicalize(path)
            .map_err(|error| local("root", &format!("cannot enter {}", path.display()), error))?;
        owned::open_directory(&path).map_err(RepoError::from)?;
        Ok(Root { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory that a repository of that name has, or will have.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the directory in which a repository is made that is to have that name.
    pub fn incoming(&self, name: &str) -> PathBuf {
        self.path.join(format!("{INCOMING}{name}"))
    }

    /// Returns the `.neon/` of the repository of that name; absent when there is none.
    ///
    /// Errors: [`ObjectsError::NotOurs`] for what is a symbolic link, somebody else's, or open to others.
    pub fn find(&self, name: &str) -> Result<Option<PathBuf>, ObjectsError> {
        self.find_in(&self.directory(name))
    }

    /// The same in one of the directories below the root.
    fn find_in(&self, directory: &Path) -> Result<Option<PathBuf>, ObjectsError> {
        let root = owned::open_directory(&self.path)?;
        let name = directory.file_name().and_then(|name| name.to_str());
        let Some(outer) = owned::open_directory_at(&root, name.unwrap_or_default(), directory)? else {
            return Ok(None);
        };
        let neon_dir = directory.join(".neon");
        if owned::open_directory_at(&outer, ".neon", &neon_dir)?.is_none() {
            return Ok(None);
        }
        // It is made last: without it nothing was finished.
        Ok(neon_dir.join("config.toml").is_file().then_some(neon_dir))
    }

    /// Returns the `.neon/` that an unfinished first push to that name left; absent when there is none.
    pub fn unfinished(&self, name: &str) -> Result<Option<PathBuf>, ObjectsError> {
        self.find_in(&self.incoming(name))
    }

    /// Returns the names of the repositories, and of those that are being made.
    pub fn names(&self) -> io::Result<(Vec<String>, Vec<String>)> {
        let (mut made, mut unfinished) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let (Some(name), true) = (name.to_str(), entry.file_type()?.is_dir()) else {
                continue;
            };
            match name.strip_prefix(INCOMING) {
                Some(name) => unfinished.push(name.to_owned()),
                None if is_repository_name(name) => made.push(name.to_owned()),
                None => {}
            }
        }
        Ok((made, unfinished))
    }

    /// Returns true when one more repository of that name is within the limit, or it is being made already.
    pub fn has_room(&self, name: &str, limit: usize) -> io::Result<bool> {
        let (made, unfinished) = self.names()?;
        Ok(made.len() + unfinished.len() < limit || unfinished.iter().any(|other| other == name))
    }

    /// Gives a repository that was made its name, durably.
    pub fn place(&self, name: &str) -> io::Result<()> {
        fs::rename(self.incoming(name), self.directory(name))?;
        durable::sync_directory(&self.path).map_err(io::Error::other)
    }

    /// Removes what an unfinished first push left.
    pub fn remove_unfinished(&self, name: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.incoming(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        durable::sync_directory(&self.path).map_err(io::Error::other)
    }

    /// Gives its name to a repository whose branch had moved when the server died. False when there is none, or the name is taken.
    pub fn finish(&self, name: &str) -> Result<bool, ObjectsError> {
        let Some(neon_dir) = self.unfinished(name)? else {
            return Ok(false);
        };
        let accepted = !Refs::open(&neon_dir)?.list("refs/heads/")?.is_empty();
        if !accepted || self.directory(name).exists() {
            return Ok(false);
        }
        self.place(name).map_err(|source| ObjectsError::Io {
            action: "rename",
            path: self.incoming(name),
            source,
        })?;
        tracing::info!(repository = ?name, "a repository whose first push was accepted has its name now");
        Ok(true)
    }

    /// Removes what unfinished pushes left `keep` ago and nobody went on with; of a repository that was being made only with a claim to it.
    /// Returns the bytes that were freed in repositories.
    pub fn expire<C>(&self, keep: Duration, claim: impl Fn(&str) -> Option<C>) -> io::Result<u64> {
        let before = SystemTime::now()
            .checked_sub(keep)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let (made, unfinished) = self.names()?;
        let mut freed = 0;
        for name in made {
            if let Ok(Some(neon_dir)) = self.find(&name) {
                let expired = ObjectStore::open(neon_dir.join("objects"))
                    .and_then(|objects| objects.expire_incoming(before));
                match expired {
                    Ok(bytes) => freed += bytes,
                    Err(error) => tracing::warn!(repository = ?name, %error, "leftovers are kept"),
                }
            }
        }
        for name in unfinished {
            let Some(_claim) = claim(&name) else { continue };
            if newest_below(&self.incoming(&name)).is_none_or(|newest| newest < before) {
                self.remove_unfinished(&name)?;
                tracing::info!(repository = ?name, "removed what an unfinished first push left");
            }
        }
        Ok(freed)
    }
}

/// Returns when something below a directory was last written; absent when nothing can be seen.
fn newest_below(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?;
    let times = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let own = metadata.modified().ok();
        if metadata.is_dir() {
            own.max(newest_below(&entry.path()))
        } else {
            own
        }
    });
    times.max()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use neon_objects::NotOurs;

    use super::*;

    fn make(directory: &Path) {
        fs::create_dir_all(directory.join(".neon/objects")).expect("made");
        fs::write(directory.join(".neon/config.toml"), "").expect("written");
        for path in [directory.to_owned(), directory.join(".neon")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("our own");
        }
    }

    #[test]
    fn only_what_is_ours_alone_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::open(dir.path()).expect("ours");
        assert!(root.find("shop").expect("looked").is_none());
        make(&root.directory("shop"));
        assert_eq!(
            root.find("shop").expect("ours"),
            Some(root.path().join("shop/.neon"))
        );

        symlink("shop", root.directory("link")).expect("made");
        fs::create_dir(root.directory("inner")).expect("made");
        fs::set_permissions(root.directory("inner"), fs::Permissions::from_mode(0o700)).expect("our own");
        symlink("../shop/.neon", root.directory("inner").join(".neon")).expect("made");
        for name in ["link", "inner"] {
            let found = root.find(name);
            assert!(
                matches!(found, Err(ObjectsError::NotOurs(NotOurs::Link(_)))),
                "{found:?}"
            );
        }
        for path in ["shop", "shop/.neon"] {
            let path = root.path().join(path);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("our own");
            let found = root.find("shop");
            assert!(
                matches!(found, Err(ObjectsError::NotOurs(NotOurs::Open { .. }))),
                "{found:?}"
            );
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("our own");
        assert!(Root::open(dir.path()).is_err());
    }

    #[test]
    fn leftovers_expire_unless_somebody_goes_on_with_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::open(dir.path()).expect("ours");
        for name in ["old", "busy"] {
            make(&root.incoming(name));
        }
        make(&root.directory("shop"));
        assert_eq!(root.names().expect("listed").0, ["shop"]);
        root.expire(Duration::from_secs(3600), |_| Some(()))
            .expect("looked");
        assert_eq!(root.names().expect("listed").1.len(), 2, "too young");
        root.expire(Duration::ZERO, |name| (name != "busy").then_some(()))
            .expect("removed");
        assert_eq!(root.names().expect("listed").1, ["busy"]);
        assert_eq!(root.names().expect("listed").0, ["shop"]);
    }
}
