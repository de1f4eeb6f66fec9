//! The C library's calls that change files, defined anew for this program: each asks the session that watches the file, then calls the
//! one that it stands before. So the code under test has no hooks, and a call that is forgotten here shows as a difference
//! between the log and the directory.
#![expect(unsafe_code, reason = "these are functions of the C library")]
#![allow(non_snake_case)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{mode_t, off_t, size_t, ssize_t};

use crate::disk::Change;
use crate::session;

/// Returns the C library's own function of that name.
macro_rules! real {
    ($name:literal as $type:ty) => {{
        static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        let mut found = REAL.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: a C string is looked up among the libraries behind this program.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, concat!($name, "\0").as_ptr().cast()) };
            assert!(!found.is_null(), concat!("the C library has ", $name));
            REAL.store(found, Ordering::Relaxed);
        }
        // SAFETY: it is the function of that name, whose type the caller knows.
        unsafe { std::mem::transmute::<*mut c_void, $type>(found) }
    }};
}

fn errno() -> c_int {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() }
}

fn fail(errno: c_int) -> i64 {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() = errno };
    -1
}

fn answer(result: Result<i64, c_int>) -> i64 {
    result.unwrap_or_else(fail)
}

type Called = Result<(i64, Option<(u64, u64)>), c_int>;

fn called(result: i64) -> Called {
    if result < 0 {
        Err(errno())
    } else {
        Ok((result, None))
    }
}

fn inode_of(fd: c_int) -> Option<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat64>::uninit();
    let before = errno();
    // SAFETY: there is room for the answer.
    let failed = unsafe { libc::fstat64(fd, stat.as_mut_ptr()) } != 0;
    fail(before);
    // SAFETY: filled in when it did not fail.
    (!failed)
        .then(|| unsafe { stat.assume_init() })
        .map(|stat| (stat.st_dev, stat.st_ino))
}

/// Returns the absolute path that a call means.
///
/// # Safety
/// `path` is a C string.
unsafe fn absolute(directory: c_int, path: *const c_char) -> Option<PathBuf> {
    // SAFETY: the caller's promise.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    if directory == libc::AT_FDCWD {
        return None;
    }
    let above = std::fs::read_link(format!("/proc/self/fd/{directory}")).ok()?;
    Some(above.join(path))
}

/// # Safety
/// As for the function that it stands for.
unsafe fn open_any(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
    real: impl FnOnce() -> c_int,
) -> c_int {
    if session::idle() || flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
        return real();
    }
    // SAFETY: passed on.
    let Some((session, below)) =
        (unsafe { absolute(directory, path) }).and_then(|path| session::of_path(&path))
    else {
        return real();
    };
    let creates = std::cell::Cell::new(false);
    let result = session.perform(
        |disk| match disk.find(&below) {
            None if flags & libc::O_CREAT != 0 => {
                creates.set(true);
                let (directory, name) = disk.place(&below)?;
                Some(Change::Create {
                    directory,
                    name,
                    mode: mode & !umask(),
                })
            }
            Some(file) if flags & libc::O_TRUNC != 0 && disk.len(file) > 0 => {
                Some(Change::Truncate { file, len: 0 })
            }
            _ => None,
        },
        |_| {
            let fd = real();
            let (result, _) = called(fd.into())?;
            Ok((result, if creates.get() { inode_of(fd) } else { None }))
        },
    );
    answer(result) as c_int
}

fn umask() -> mode_t {
    static UMASK: std::sync::OnceLock<mode_t> = std::sync::OnceLock::new();
    *UMASK.get_or_init(|| {
        // SAFETY: no memory is involved; read by setting it, and set back.
        unsafe {
            let mask = libc::umask(0o022);
            libc::umask(mask);
            mask
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!("open" as unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int);
    // SAFETY: passed on.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode, || real(path, flags, mode)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!("open64" as unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int);
    // SAFETY: passed on.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode, || real(path, flags, mode)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!("openat" as unsafe extern "C" fn(c_int, *const c_char, c_int, mode_t) -> c_int);
    // SAFETY: passed on.
    unsafe { open_any(at, path, flags, mode, || real(at, path, flags, mode)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!("openat64" as unsafe extern "C" fn(c_int, *const c_char, c_int, mode_t) -> c_int);
    // SAFETY: passed on.
    unsafe { open_any(at, path, flags, mode, || real(at, path, flags, mode)) }
}

/// Writes at a place, or where the file stands.
fn write_any(fd: c_int, at: Option<off_t>, bytes: &[u8], real: impl FnOnce(usize) -> ssize_t) -> ssize_t {
    if session::idle() {
        return real(bytes.len());
    }
    let Some((session, file)) = inode_of(fd).and_then(session::of_inode) else {
        return real(bytes.len());
    };
    let result = session.perform(
        |disk| {
            let at = match at {
                Some(at) => at,
                // SAFETY: no memory is involved.
                None if unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_APPEND != 0 => {
                    off_t::try_from(disk.len(file)).ok()?
                }
                // SAFETY: no memory is involved.
                None => unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) },
            };
            Some(Change::Write {
                file,
                at: u64::try_from(at).ok()?,
                bytes: bytes.into(),
            })
        },
        |half| called(real(if half { bytes.len() / 2 } else { bytes.len() }) as i64),
    );
    answer(result) as ssize_t
}

/// # Safety
/// There are so many bytes.
unsafe fn slice<'a>(bytes: *const c_void, len: size_t) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(bytes.cast(), len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t {
    let real = real!("write" as unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t);
    // SAFETY: passed on.
    unsafe { write_any(fd, None, slice(bytes, len), |len| real(fd, bytes, len)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, len: size_t, at: off_t) -> ssize_t {
    let real = real!("pwrite" as unsafe extern "C" fn(c_int, *const c_void, size_t, off_t) -> ssize_t);
    // SAFETY: passed on.
    unsafe { write_any(fd, Some(at), slice(bytes, len), |len| real(fd, bytes, len, at)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, len: size_t, at: off_t) -> ssize_t {
    let real = real!("pwrite64" as unsafe extern "C" fn(c_int, *const c_void, size_t, off_t) -> ssize_t);
    // SAFETY: passed on.
    unsafe { write_any(fd, Some(at), slice(bytes, len), |len| real(fd, bytes, len, at)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> ssize_t {
    let real = real!("writev" as unsafe extern "C" fn(c_int, *const libc::iovec, c_int) -> ssize_t);
    if session::idle() || inode_of(fd).and_then(session::of_inode).is_none() {
        // SAFETY: passed on.
        return unsafe { real(fd, parts, count) };
    }
    // A short write is an answer too: the first part that is not empty.
    // SAFETY: there are so many parts.
    let parts = unsafe { std::slice::from_raw_parts(parts, usize::try_from(count).unwrap_or(0)) };
    match parts.iter().find(|part| part.iov_len > 0) {
        // SAFETY: passed on.
        Some(part) => unsafe { write(fd, part.iov_base, part.iov_len) },
        None => 0,
    }
}

/// Nothing of this process has to outlive the machine: no fsync reaches a real disk, the session's is the one that counts.
fn sync_any(fd: c_int) -> c_int {
    if session::idle() {
        return 0;
    }
    match inode_of(fd).and_then(session::of_inode) {
        Some((session, node)) => {
            answer(session.perform(|_| Some(Change::Sync(node)), |_| called(0))) as c_int
        }
        None => 0,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync_any(fd)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync_any(fd)
}

fn truncate_any(fd: c_int, len: off_t, real: impl FnOnce() -> c_int) -> c_int {
    if session::idle() {
        return real();
    }
    let Some((session, file)) = inode_of(fd).and_then(session::of_inode) else {
        return real();
    };
    let change = |disk: &crate::disk::Disk| {
        let len = u64::try_from(len).ok()?;
        (disk.len(file) != len).then_some(Change::Truncate { file, len })
    };
    answer(session.perform(change, |_| called(real().into()))) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate(fd: c_int, len: off_t) -> c_int {
    let real = real!("ftruncate" as unsafe extern "C" fn(c_int, off_t) -> c_int);
    // SAFETY: passed on.
    truncate_any(fd, len, || unsafe { real(fd, len) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, len: off_t) -> c_int {
    let real = real!("ftruncate64" as unsafe extern "C" fn(c_int, off_t) -> c_int);
    // SAFETY: passed on.
    truncate_any(fd, len, || unsafe { real(fd, len) })
}

/// # Safety
/// As for the function that it stands for.
unsafe fn mkdir_any(at: c_int, path: *const c_char, mode: mode_t, real: impl FnOnce() -> c_int) -> c_int {
    if session::idle() {
        return real();
    }
    // SAFETY: passed on.
    let Some(path) = (unsafe { absolute(at, path) }) else {
        return real();
    };
    let Some((session, below)) = session::of_path(&path) else {
        return real();
    };
    let result = session.perform(
        |disk| {
            let (directory, name) = disk.place(&below)?;
            disk.find(&below).is_none().then_some(Change::MakeDirectory {
                directory,
                name,
                mode: mode & !umask(),
            })
        },
        |_| {
            let (result, _) = called(real().into())?;
            use std::os::unix::fs::MetadataExt;
            let made = std::fs::metadata(&path).ok();
            Ok((result, made.map(|made| (made.dev(), made.ino()))))
        },
    );
    answer(result) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    let real = real!("mkdir" as unsafe extern "C" fn(*const c_char, mode_t) -> c_int);
    // SAFETY: passed on.
    unsafe { mkdir_any(libc::AT_FDCWD, path, mode, || real(path, mode)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(at: c_int, path: *const c_char, mode: mode_t) -> c_int {
    let real = real!("mkdirat" as unsafe extern "C" fn(c_int, *const c_char, mode_t) -> c_int);
    // SAFETY: passed on.
    unsafe { mkdir_any(at, path, mode, || real(at, path, mode)) }
}

/// # Safety
/// As for the function that it stands for.
unsafe fn remove_any(at: c_int, path: *const c_char, real: impl FnOnce() -> c_int) -> c_int {
    if session::idle() {
        return real();
    }
    // SAFETY: passed on.
    let Some((session, below)) = (unsafe { absolute(at, path) }).and_then(|path| session::of_path(&path))
    else {
        return real();
    };
    let change = |disk: &crate::disk::Disk| {
        disk.find(&below)?;
        let (directory, name) = disk.place(&below)?;
        Some(Change::Remove { directory, name })
    };
    answer(session.perform(change, |_| called(real().into()))) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let real = real!("unlink" as unsafe extern "C" fn(*const c_char) -> c_int);
    // SAFETY: passed on.
    unsafe { remove_any(libc::AT_FDCWD, path, || real(path)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    let real = real!("rmdir" as unsafe extern "C" fn(*const c_char) -> c_int);
    // SAFETY: passed on.
    unsafe { remove_any(libc::AT_FDCWD, path, || real(path)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int {
    let real = real!("unlinkat" as unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int);
    // SAFETY: passed on.
    unsafe { remove_any(at, path, || real(at, path, flags)) }
}

/// # Safety
/// As for the function that it stands for.
unsafe fn rename_any(
    from: (c_int, *const c_char),
    to: (c_int, *const c_char),
    real: impl FnOnce() -> c_int,
) -> c_int {
    if session::idle() {
        return real();
    }
    // SAFETY: passed on.
    let (from, to) = unsafe { (absolute(from.0, from.1), absolute(to.0, to.1)) };
    let watched = from.zip(to).and_then(|(from, to)| {
        let (session, from) = session::of_path(&from)?;
        let (_, to) = session::of_path(&to)?;
        Some((session, from, to))
    });
    let Some((session, from, to)) = watched else {
        return real();
    };
    let change = |disk: &crate::disk::Disk| {
        disk.find(&from)?;
        Some(Change::Rename {
            from: disk.place(&from)?,
            to: disk.place(&to)?,
        })
    };
    answer(session.perform(change, |_| called(real().into()))) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let real = real!("rename" as unsafe extern "C" fn(*const c_char, *const c_char) -> c_int);
    // SAFETY: passed on.
    unsafe { rename_any((libc::AT_FDCWD, from), (libc::AT_FDCWD, to), || real(from, to)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(at: c_int, from: *const c_char, into: c_int, to: *const c_char) -> c_int {
    let real = real!("renameat" as unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char) -> c_int);
    // SAFETY: passed on.
    unsafe { rename_any((at, from), (into, to), || real(at, from, into, to)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn chmod(path: *const c_char, mode: mode_t) -> c_int {
    let real = real!("chmod" as unsafe extern "C" fn(*const c_char, mode_t) -> c_int);
    if session::idle() {
        // SAFETY: passed on.
        return unsafe { real(path, mode) };
    }
    // SAFETY: passed on.
    let watched = unsafe { absolute(libc::AT_FDCWD, path) }.and_then(|path| session::of_path(&path));
    let Some((session, below)) = watched else {
        // SAFETY: passed on.
        return unsafe { real(path, mode) };
    };
    let change = |disk: &crate::disk::Disk| {
        Some(Change::Mode {
            node: disk.find(&below)?,
            mode,
        })
    };
    // SAFETY: passed on.
    answer(session.perform(change, |_| called(unsafe { real(path, mode) }.into()))) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fchmod(fd: c_int, mode: mode_t) -> c_int {
    let real = real!("fchmod" as unsafe extern "C" fn(c_int, mode_t) -> c_int);
    // SAFETY: passed on.
    let call = || unsafe { real(fd, mode) };
    if session::idle() {
        return call();
    }
    let Some((session, node)) = inode_of(fd).and_then(session::of_inode) else {
        return call();
    };
    answer(session.perform(|_| Some(Change::Mode { node, mode }), |_| called(call().into()))) as c_int
}
