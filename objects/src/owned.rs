//! Who owns what is opened, and who may write it (law 16). Everything that decides which programs run, who may log in or whose history is
//! served is opened here, or checked here when it is opened elsewhere.
//!
//! What is looked at is the open descriptor, never the name: what a name leads to can change between two looks.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::{ObjectsError, Result};

/// Directories and files that may be written by the group, or by everybody.
const GROUP: u32 = 0o020;
const OTHERS: u32 = 0o002;
/// Of a directory: nobody moves what somebody else put there.
const STICKY: u32 = 0o1000;

/// Whose a thing may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Only of the user who runs this program.
    Us,
    /// Also of root: what an administrator put there.
    UsOrRoot,
}

/// Who besides its owner may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Others may read it and not write it.
    Readable,
    /// Others may do nothing with it: it holds secrets.
    Secret,
}

/// Why something is not used: it is, or may become, somebody else's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Another user owns it.
    #[error("{} belongs to another user (uid {owner}, you are {me})", path.display())]
    Foreign {
        /// What was opened.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who opened it.
        me: u32,
    },
    /// Others may write it, or read it though it is secret.
    #[error("{} is open to others (mode {mode:o})", path.display())]
    Open {
        /// What was opened.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Those that it may have.
        allowed: u32,
    },
    /// It is a symbolic link where none is followed.
    #[error("{} is a symbolic link, which is not followed here", .0.display())]
    Link(PathBuf),
    /// It is neither a file nor a directory, or not the one that is needed.
    #[error("{} is not {expected}", path.display())]
    Kind {
        /// What was opened.
        path: PathBuf,
        /// What is needed.
        expected: &'static str,
    },
}

impl NotOurs {
    /// Returns a word for programs that tell errors apart.
    pub fn code(&self) -> &'static str {
        match self {
            NotOurs::Foreign { .. } => "foreign_owner",
            NotOurs::Open { .. } => "open_to_others",
            NotOurs::Link(_) => "symbolic_link",
            NotOurs::Kind { .. } => "wrong_kind",
        }
    }

    /// Returns what to do next.
    pub fn hint(&self) -> String {
        match self {
            NotOurs::Foreign { .. } => {
                "run the command as that user, or work in a copy of your own: neon clone".to_owned()
            }
            NotOurs::Open { path, mode, allowed } => {
                format!("chmod {:o} '{}'", mode & allowed, path.display())
            }
            NotOurs::Link(path) => format!("put what '{}' leads to in its place", path.display()),
            NotOurs::Kind { path, .. } => format!("move '{}' away", path.display()),
        }
    }
}

/// What is known of an open descriptor.
struct Seen {
    owner: u32,
    group: u32,
    mode: u32,
}

impl Seen {
    fn of(file: &File, path: &Path) -> Result<Seen> {
        let metadata = file.metadata().map_err(ObjectsError::io("look at", path))?;
        Ok(Seen {
            owner: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        })
    }

    fn check_owner(&self, path: &Path, owner: Owner) -> Result<()> {
        let me = rustix::process::geteuid().as_raw();
        if self.owner == me || (owner == Owner::UsOrRoot && self.owner == 0) {
            return Ok(());
        }
        Err(NotOurs::Foreign {
            path: path.to_owned(),
            owner: self.owner,
            me,
        }
        .into())
    }

    /// Refuses permission bits that are in `denied`.
    fn check_mode(&self, path: &Path, denied: u32) -> Result<()> {
        if self.mode & denied == 0 {
            return Ok(());
        }
        Err(NotOurs::Open {
            path: path.to_owned(),
            mode: self.mode,
            allowed: !denied,
        }
        .into())
    }
}

/// Opens the file at `path` and checks that it is a plain file of `owner` that others may use as `access` says. Links are followed: it
/// is the file that counts.
///
/// Errors: [`ObjectsError::NotOurs`]; [`ObjectsError::Io`].
pub fn open(path: &Path, owner: Owner, access: Access) -> Result<File> {
    // Not waiting: opening a named pipe would take for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| ObjectsError::io("read", path)(error.into()))?;
    check(&file, path, owner, access)?;
    Ok(file)
}

/// Checks an open file as [`open`] does.
pub fn check(file: &File, path: &Path, owner: Owner, access: Access) -> Result<()> {
    let metadata = file.metadata().map_err(ObjectsError::io("look at", path))?;
    if !metadata.is_file() {
        return Err(kind(path, "a plain file").into());
    }
    let seen = Seen::of(file, path)?;
    seen.check_owner(path, owner)?;
    let denied = match access {
        Access::Readable => GROUP | OTHERS,
        Access::Secret => 0o077,
    };
    seen.check_mode(path, denied)
}

/// Returns the text of the file at `path`, opened as [`open`] does; absent when there is none.
///
/// Errors: also [`ObjectsError::Io`] for a file of more than `limit` bytes and for one that is not UTF-8.
pub fn read(path: &Path, owner: Owner, access: Access, limit: u64) -> Result<Option<String>> {
    let file = match open(path, owner, access) {
        Err(ObjectsError::Io { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let mut text = String::new();
    file.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(ObjectsError::io("read", path))?;
    if text.len() as u64 > limit {
        let error = io::Error::other(format!("it is longer than {limit} bytes"));
        return Err(ObjectsError::io("read", path)(error));
    }
    Ok(Some(text))
}

/// Opens a directory that is ours and that nobody else may write.
///
/// Errors: [`ObjectsError::NotOurs`]; [`ObjectsError::Io`].
pub fn open_directory(path: &Path) -> Result<File> {
    let directory = opened(rustix::fs::CWD, path, path, OFlags::empty())?;
    let seen = Seen::of(&directory, path)?;
    seen.check_owner(path, Owner::Us)?;
    seen.check_mode(path, GROUP | OTHERS)?;
    Ok(directory)
}

/// Opens `name` in an open directory as [`open_directory`] does, unless it is a symbolic link; absent when there is none. `path` is what
/// messages call it.
pub fn open_directory_at(directory: &File, name: &str, path: &Path) -> Result<Option<File>> {
    match opened(directory, Path::new(name), path, OFlags::NOFOLLOW) {
        Err(ObjectsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(found) => {
            let seen = Seen::of(&found, path)?;
            seen.check_owner(path, Owner::Us)?;
            seen.check_mode(path, GROUP | OTHERS)?;
            Ok(Some(found))
        }
    }
}

/// Checks the directory around something that is ours alone: nobody but us, root and our own group may put something else in its place.
pub fn check_around(path: &Path) -> Result<()> {
    let directory = opened(rustix::fs::CWD, path, path, OFlags::empty())?;
    let seen = Seen::of(&directory, path)?;
    seen.check_owner(path, Owner::UsOrRoot)?;
    if seen.mode & STICKY != 0 {
        return Ok(());
    }
    // Where users have groups of their own, what they make may be written by the group.
    let own_group = seen.group == rustix::process::getegid().as_raw();
    let denied = if own_group { OTHERS } else { GROUP | OTHERS };
    seen.check_mode(path, denied)
}

fn opened(at: impl AsFd, name: &Path, path: &Path, more: OFlags) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | more;
    match rustix::fs::openat(at.as_fd(), name, flags, Mode::empty()) {
        Ok(directory) => Ok(File::from(directory)),
        Err(rustix::io::Errno::LOOP) => Err(NotOurs::Link(path.to_owned()).into()),
        // A link and a file answer alike when both flags are given.
        Err(rustix::io::Errno::NOTDIR) if is_link(&at, name) => Err(NotOurs::Link(path.to_owned()).into()),
        Err(rustix::io::Errno::NOTDIR) => Err(kind(path, "a directory").into()),
        Err(error) => Err(ObjectsError::io("open", path)(error.into())),
    }
}

fn is_link(at: &impl AsFd, name: &Path) -> bool {
    rustix::fs::statat(at.as_fd(), name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink)
}

fn kind(path: &Path, expected: &'static str) -> NotOurs {
    NotOurs::Kind {
        path: path.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own");
    }

    fn refused<T: std::fmt::Debug>(result: Result<T>) -> NotOurs {
        match result {
            Err(ObjectsError::NotOurs(error)) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_file_is_read_when_only_we_can_have_written_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users");
        let look = |access| read(&path, Owner::Us, access, 10);
        assert_eq!(look(Access::Readable).expect("none"), None);
        fs::write(&path, "ada").expect("written");
        for (mode, readable, secret) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o644, true, false),
            (0o640, true, false),
            (0o660, false, false),
            (0o606, false, false),
            (0o666, false, false),
            (0o622, false, false),
        ] {
            chmod(&path, mode);
            for (access, may) in [(Access::Readable, readable), (Access::Secret, secret)] {
                match look(access) {
                    Ok(text) => assert!(may && text.as_deref() == Some("ada"), "{mode:o} {access:?}"),
                    Err(error) => {
                        assert!(!may, "{mode:o} {access:?}: {error}");
                        let hint = error.hint().expect("a way out");
                        let (_, rest) = hint.split_once("chmod ").expect("a command");
                        let mode = u32::from_str_radix(rest.split(' ').next().unwrap_or_default(), 8);
                        chmod(&path, mode.expect("octal"));
                        assert!(look(access).is_ok(), "the hint is true: {hint}");
                        chmod(&path, 0o666);
                    }
                }
                chmod(&path, mode);
            }
        }
        chmod(&path, 0o600);
        fs::write(&path, "more than ten").expect("written");
        assert!(matches!(look(Access::Secret), Err(ObjectsError::Io { .. })));
    }

    #[test]
    fn somebody_elses_file_is_refused_and_roots_may_be_allowed() {
        let theirs = Path::new("/etc/hostname");
        let strict = open(theirs, Owner::Us, Access::Readable);
        if rustix::process::geteuid().is_root() {
            assert!(strict.is_ok());
            return;
        }
        assert!(matches!(refused(strict), NotOurs::Foreign { owner: 0, .. }));
        assert!(open(theirs, Owner::UsOrRoot, Access::Readable).is_ok());
        assert!(matches!(
            refused(open_directory(Path::new("/etc"))),
            NotOurs::Foreign { .. }
        ));
    }

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let directory = open(dir.path(), Owner::Us, Access::Readable);
        assert!(matches!(refused(directory), NotOurs::Kind { .. }));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        assert!(matches!(
            refused(open(&pipe, Owner::Us, Access::Readable)),
            NotOurs::Kind { .. }
        ));
    }

    #[test]
    fn links_are_not_followed_where_a_name_is_looked_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = open_directory(dir.path()).expect("ours");
        let look = |name: &str| open_directory_at(&root, name, &dir.path().join(name));
        assert!(look("shop").expect("looked").is_none());
        fs::create_dir(dir.path().join("shop")).expect("made");
        chmod(&dir.path().join("shop"), 0o700);
        symlink("shop", dir.path().join("link")).expect("made");
        symlink("nowhere", dir.path().join("dangling")).expect("made");
        fs::write(dir.path().join("file"), "").expect("written");
        assert!(look("shop").expect("ours").is_some());
        assert!(matches!(refused(look("link")), NotOurs::Link(_)));
        assert!(matches!(refused(look("dangling")), NotOurs::Link(_)));
        assert!(matches!(refused(look("file")), NotOurs::Kind { .. }));
        for mode in [0o770, 0o707, 0o777, 0o720] {
            chmod(&dir.path().join("shop"), mode);
            assert!(matches!(refused(look("shop")), NotOurs::Open { .. }), "{mode:o}");
        }
    }

    #[test]
    fn around_it_nobody_else_may_change_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let around = dir.path().join("around");
        fs::create_dir(&around).expect("made");
        for (mode, may) in [
            (0o755, true),
            // Made by somebody whose group is his own.
            (0o775, true),
            (0o777, false),
            (0o757, false),
            // As /tmp.
            (0o1777, true),
        ] {
            chmod(&around, mode);
            assert_eq!(check_around(&around).is_ok(), may, "{mode:o}");
        }
        assert!(check_around(Path::new("/")).is_ok());
    }
}
