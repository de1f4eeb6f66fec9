//! Unix sockets inside the repository: reached through the descriptor of their directory.
//!
//! A socket lies in a directory of ours and nowhere else, so nobody can take its name before us. The system takes paths of some hundred
//! bytes only, and a path may lead elsewhere a moment later; so the directory is opened, looked at, and the socket named by
//! `/proc/self/fd/N/NAME`: always short, and through symbolic links or after a rename the same one. Where there is no `/proc` (macOS) it is
//! named by its path, which must be short there, and only the directory says whose it is.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Longest path of a Unix socket, bytes: `sun_path` without the final zero.
const MAX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Longest name that Postgres gives a socket: `.s.PGSQL.65535.lock`, and a slash.
const NAME: usize = 21;

/// A directory is opened to look at it and to name what is in it.
#[cfg(target_os = "linux")]
const LOOK: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const LOOK: OFlags = OFlags::RDONLY;

/// Connects to a socket; whoever answers there is a process of ours. Does not wait.
///
/// # Errors
/// `PermissionDenied` when the directory, or who listens in it, is another user's, or others may write in the directory. `WouldBlock` when as
/// many wait for who listens as can.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let place = Place::of(socket)?;
    let stream = connect_at_once(&place.path)?;
    check_peer(&stream)?;
    Ok(stream)
}

#[cfg(target_os = "linux")]
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(not(target_os = "linux"))]
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path)
}

/// Listens on a socket that only its owner may connect to. One that is there goes: call this only under a lock that says that nobody listens.
///
/// # Errors
/// As of [`connect`].
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::of(socket)?;
    match fs::remove_file(&place.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&place.path)?;
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Makes a directory for sockets that nobody else enters, or makes one of ours so.
///
/// # Errors
/// `PermissionDenied` when it is another user's; it may be no symbolic link.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let opened = open_directory(directory, OFlags::NOFOLLOW | OFlags::RDONLY)?;
    let metadata = fs::File::from(opened.try_clone()?).metadata()?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(foreign(&metadata, directory));
    }
    if metadata.mode() & 0o077 != 0 {
        rustix::fs::fchmod(&opened, Mode::RWXU)?;
    }
    Ok(())
}

/// Returns true when programs of Postgres, which know paths only, can connect to its socket in a directory of that path.
pub fn fits(directory: &Path) -> bool {
    directory.as_os_str().len() + NAME <= MAX_PATH
}

/// A directory that stays open in programs that this process turns into.
#[derive(Debug)]
pub struct Inherited {
    _open: OwnedFd,
    path: PathBuf,
}

impl Inherited {
    /// Opens it.
    pub fn open(directory: &Path) -> io::Result<Inherited> {
        let open = open_directory(directory, LOOK)?;
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty())?;
        let path = through(&open, directory);
        Ok(Inherited { _open: open, path })
    }

    /// Returns a short path of it, for this process and those that have the descriptor from it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A short path of a socket, good while its directory is open.
struct Place {
    path: PathBuf,
    _directory: OwnedFd,
}

impl Place {
    fn of(socket: &Path) -> io::Result<Place> {
        let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let opened = open_directory(directory, LOOK)?;
        let path = through(&opened, directory);
        check_owner(&fs::metadata(&path)?, directory)?;
        Ok(Place {
            path: path.join(name),
            _directory: opened,
        })
    }
}

fn open_directory(directory: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

fn through(directory: &OwnedFd, path: &Path) -> PathBuf {
    if cfg!(target_os = "linux") {
        PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()))
    } else {
        path.to_owned()
    }
}

fn check_owner(metadata: &fs::Metadata, directory: &Path) -> io::Result<()> {
    let ours = rustix::process::geteuid().as_raw();
    if metadata.uid() == ours && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(foreign(metadata, directory))
}

fn foreign(metadata: &fs::Metadata, directory: &Path) -> io::Error {
    let ours = rustix::process::geteuid().as_raw();
    denied(format!(
        "{} belongs to user id {} with mode {:o}: a directory with sockets must be ours (user id {ours}), and only ours to write in",
        directory.display(),
        metadata.uid(),
        metadata.mode() & 0o7777
    ))
}

#[cfg(not(target_os = "linux"))]
fn check_peer(_: &UnixStream) -> io::Result<()> {
    Ok(())
}

/// The system says who listens at the other end.
#[cfg(target_os = "linux")]
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let (theirs, ours) = (
        rustix::net::sockopt::socket_peercred(stream)?.uid,
        rustix::process::geteuid(),
    );
    if theirs == ours {
        return Ok(());
    }
    Err(denied(format!(
        "a process of user id {} answers, not one of ours (user id {})",
        theirs.as_raw(),
        ours.as_raw()
    )))
}

fn denied(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn answers(socket: &Path) -> bool {
        let Ok(mut stream) = connect(socket) else {
            return false;
        };
        let mut said = String::new();
        stream.read_to_string(&mut said).is_ok() && said == "hello"
    }

    fn serve(listener: UnixListener, times: usize) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().expect("a connection");
                stream.write_all(b"hello").expect("sent");
            }
        })
    }

    #[test]
    fn a_socket_is_found_by_any_path_of_any_length() {
        let root = tempfile::tempdir().expect("temporary directory");
        let deep = root.path().join("d".repeat(200));
        make_directory(&deep).expect("a directory");
        assert!(!fits(&deep) && fits(Path::new("/run/neon")));
        let serving = serve(bind(&deep.join("x.sock")).expect("bound"), 4);
        assert!(answers(&deep.join("x.sock")));
        std::os::unix::fs::symlink(&deep, root.path().join("link")).expect("a link");
        assert!(answers(&root.path().join("link/x.sock")));
        let moved = root.path().join("moved");
        fs::rename(&deep, &moved).expect("renamed");
        assert!(answers(&moved.join("x.sock")) && !answers(&deep.join("x.sock")));
        let inherited = Inherited::open(&moved).expect("open");
        assert!(answers(&inherited.path().join("x.sock")));
        serving.join().expect("served");
    }

    #[test]
    fn a_directory_that_others_may_write_in_has_no_socket_of_ours() {
        let root = tempfile::tempdir().expect("temporary directory");
        let open = root.path().join("open");
        fs::create_dir(&open).expect("mkdir");
        let _listener = UnixListener::bind(open.join("x.sock")).expect("bound");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("chmod");
        for refused in [
            connect(&open.join("x.sock")).map(|_| ()),
            bind(&open.join("y.sock")).map(|_| ()),
        ] {
            assert_eq!(
                refused.expect_err("refused").kind(),
                io::ErrorKind::PermissionDenied
            );
        }
        make_directory(&open).expect("ours to mend");
        assert_eq!(fs::metadata(&open).expect("there").mode() & 0o777, 0o700);
        connect(&open.join("x.sock")).expect("connected");
        let theirs = check_owner(&fs::metadata("/").expect("there"), Path::new("/"));
        assert_eq!(theirs.is_err(), !rustix::process::geteuid().is_root());
    }

    #[test]
    fn a_link_is_no_directory_for_sockets() {
        let root = tempfile::tempdir().expect("temporary directory");
        std::os::unix::fs::symlink("/tmp", root.path().join("link")).expect("a link");
        make_directory(&root.path().join("link")).expect_err("a link");
    }
}
