//! The WAL of one timeline as segment files: received bytes go to disk before anybody looks into them.
//!
//! Files have Postgres' names. The first one may begin with a hole: bytes before the timeline's start are not ours.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use neon_objects::{Mode, durable};
use neon_postgres::BLCKSZ;
use neon_postgres::wal::{RECORD_HEADER_SIZE, record_crc, segment};
use neon_types::{Lsn, LsnRange, TimelineId, with_causes};

use super::TimelineState;
use crate::failpoint::failpoint;
use crate::open_files::OpenFiles;
use crate::{PageStoreError, Result};

pub(crate) struct Wal {
    timeline: TimelineId,
    directory: PathBuf,
    tli: u32,
    segment_size: u32,
    /// First byte that is kept.
    start: AtomicU64,
    generations: Mutex<Generations>,
    /// Held during an fsync: whoever comes second must not believe that the first one is done.
    syncing: Mutex<()>,
    tail: Mutex<Tail>,
    files: Arc<OpenFiles>,
    mode: Mode,
}

struct Tail {
    received: Lsn,
    /// End of the bytes in the files. Beyond `received` they are those of an earlier connection: a new one that brings the same
    /// takes nothing off the disk that was acknowledged.
    kept: Lsn,
    durable: Lsn,
    /// Raised when bytes are taken back.
    epoch: u64,
    writer: Option<(u64, Arc<File>)>,
    dirty: Vec<Arc<File>>,
    new_names: bool,
    poisoned: bool,
}

/// Keeps the WAL that a reader may need from being trimmed, while it lives.
pub struct Pin(#[expect(dead_code, reason = "it is its life that counts")] Arc<Lsn>);

/// Readers by what was sealed when they began. Those that began after a seal find in layers what it sealed.
struct Generations {
    current: Arc<Lsn>,
    before: Vec<Weak<Lsn>>,
}

impl Wal {
    /// Opens the segment files in `directory`, which is made if it is missing.
    pub(crate) fn open(
        directory: PathBuf,
        state: &TimelineState,
        files: Arc<OpenFiles>,
        mode: Mode,
    ) -> Result<Wal> {
        if mode == Mode::Writing
            && let Some(parent) = directory.parent()
        {
            durable::create_directories(parent, &directory)?;
        }
        let wal = Wal {
            timeline: state.id,
            tli: state.tli,
            segment_size: state.segment_size,
            start: AtomicU64::new(0),
            generations: Mutex::new(Generations {
                current: Arc::new(state.sealed),
                before: Vec::new(),
            }),
            syncing: Mutex::new(()),
            tail: Mutex::new(Tail {
                received: Lsn::INVALID,
                kept: Lsn::INVALID,
                durable: Lsn::INVALID,
                epoch: 0,
                writer: None,
                dirty: Vec::new(),
                new_names: false,
                poisoned: false,
            }),
            files,
            directory,
            mode,
        };
        let (start, received) = wal.survey(state)?;
        wal.start.store(start.0, Ordering::Release);
        let mut tail = wal.tail();
        (tail.received, tail.kept, tail.durable) = (received, received, received);
        drop(tail);
        let found = LsnRange {
            start: state.sealed.max(start),
            end: received,
        };
        if mode == Mode::Writing {
            wal.make_found_durable(found)?;
        }
        Ok(wal)
    }

    /// Makes durable what was found in the files and is not sealed. It may have been acknowledged or not, so that nothing of it can be taken back
    /// later; and who wrote it may have died before it was on disk.
    fn make_found_durable(&self, found: LsnRange) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        for number in found.start.segment(self.size())..=Lsn(found.end.0 - 1).segment(self.size()) {
            let file = self.file(number)?;
            let failed = |error| PageStoreError::io("fsync", self.path(number))(error);
            if file.sync_data().is_ok() {
                continue;
            }
            // Another fsync would succeed without having written what this one could not: it has to be written again.
            let begin = found.start.max(Lsn(number * self.size()));
            let end = found.end.min(Lsn((number + 1) * self.size()));
            let len = usize::try_from(end.bytes_since(begin)).unwrap_or(0);
            let mut bytes = vec![0; len];
            let offset = begin.segment_offset(self.size());
            file.read_exact_at(&mut bytes, offset)
                .and_then(|()| file.write_all_at(&bytes, offset))
                .and_then(|()| file.sync_data())
                .map_err(failed)?;
        }
        Ok(durable::sync_directory(&self.directory)?)
    }

    /// Returns the first byte that is kept and the end of the bytes that follow without a hole.
    fn survey(&self, state: &TimelineState) -> Result<(Lsn, Lsn)> {
        let lengths = self.lengths()?;
        let base = state.wal_base;
        let needed = base.max(state.sealed);
        let kept: Vec<(u64, u64)> = lengths
            .into_iter()
            .filter(|(number, _)| *number >= base.segment(self.size()))
            .collect();
        let Some((first, _)) = kept.first() else {
            return Ok((needed, needed));
        };
        let start = base.max(Lsn(first * self.size()));
        let mut received = start;
        for (number, len) in kept {
            let begin = Lsn(number * self.size());
            if received < begin || begin + len <= received {
                break;
            }
            received = begin + len.min(self.size());
        }
        if start > needed {
            return Err(PageStoreError::WalGone {
                timeline: self.timeline,
                at: needed,
                start,
            });
        }
        // A file that is cut below what is sealed already has nothing to tell.
        if received < needed {
            return Ok((needed, needed));
        }
        Ok((start, received))
    }

    fn lengths(&self) -> Result<BTreeMap<u64, u64>> {
        let mut lengths = BTreeMap::new();
        let failed = |error| PageStoreError::io("list", &self.directory)(error);
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if let Some((tli, number)) = segment::parse_file_name(&name, self.segment_size)
                && tli == self.tli
            {
                lengths.insert(number, entry.metadata().map_err(failed)?.len());
            }
        }
        Ok(lengths)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self) -> u64 {
        u64::from(self.segment_size)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory
            .join(segment::file_name(self.tli, number, self.segment_size))
    }

    /// Returns the first byte that is kept.
    pub(crate) fn start(&self) -> Lsn {
        Lsn(self.start.load(Ordering::Acquire))
    }

    /// Returns the end of the bytes that were received.
    pub(crate) fn received(&self) -> Lsn {
        self.tail().received
    }

    /// Returns a number that changes whenever bytes are taken back, and the end of the bytes received.
    pub(crate) fn epoch(&self) -> (u64, Lsn) {
        let tail = self.tail();
        (tail.epoch, tail.received)
    }

    /// Keeps everything that is not sealed now from being trimmed while the pin lives. To be taken before looking up places.
    pub(crate) fn pin(&self) -> Pin {
        Pin(Arc::clone(&self.generations().current))
    }

    /// Keeps the WAL from `from` on from being trimmed while the pin lives.
    pub(crate) fn pin_from(&self, from: Lsn) -> Pin {
        // A trim that has decided is waited for: afterwards what it took is known to be gone.
        let _tail = self.tail();
        let pin = Arc::new(from);
        self.generations().before.push(Arc::downgrade(&pin));
        Pin(pin)
    }

    /// Notes that readers from now on find everything up to `sealed` in layers.
    pub(crate) fn sealed(&self, sealed: Lsn) {
        let mut generations = self.generations();
        let before = std::mem::replace(&mut generations.current, Arc::new(sealed));
        let before = Arc::downgrade(&before);
        generations.before.push(before);
        generations
            .before
            .retain(|generation| generation.strong_count() > 0);
    }

    /// Returns the LSN below which no reader needs WAL.
    fn unpinned(&self) -> Lsn {
        let generations = self.generations();
        let pinned = generations
            .before
            .iter()
            .filter_map(Weak::upgrade)
            .map(|sealed| *sealed);
        pinned.chain([*generations.current]).min().unwrap_or(Lsn::INVALID)
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes bytes at `at`, which is at least `floor` and at most the received end. What was there beyond stays on disk as long
    /// as the same bytes come again, and goes with the first other one.
    pub(crate) fn append(&self, at: Lsn, bytes: &[u8], floor: Lsn) -> Result<()> {
        let mut tail = self.tail();
        if tail.poisoned {
            return Err(PageStoreError::Poisoned(self.timeline));
        }
        if at < floor || at > tail.received {
            return Err(PageStoreError::NotContiguous {
                timeline: self.timeline,
                at,
                allowed: LsnRange {
                    start: floor,
                    end: tail.received,
                },
            });
        }
        if at < tail.received {
            tail.epoch += 1;
            tail.received = at;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if tail.received < tail.kept {
                let same = self.same_bytes(&tail, rest);
                tail.received = tail.received + same as u64;
                rest = rest.get(same..).unwrap_or_default();
                if tail.received < tail.kept && !rest.is_empty() {
                    self.cut(&mut tail)?;
                }
                continue;
            }
            let begin = tail.received;
            let offset = begin.segment_offset(self.size());
            let room = usize::try_from(self.size() - offset).unwrap_or(usize::MAX);
            let (part, more) = rest.split_at(room.min(rest.len()));
            let file = self.writer(&mut tail, begin)?;
            let written = failpoint("wal-write").and_then(|()| file.write_all_at(part, offset));
            if let Err(error) = written {
                // How much of it is there is not known: the next append cuts the file first.
                tail.writer = None;
                return Err(PageStoreError::io("write", self.path(begin.segment(self.size())))(error));
            }
            tail.received = begin + part.len() as u64;
            tail.kept = tail.received;
            rest = more;
        }
        Ok(())
    }

    /// Returns how many of these bytes are already in the files from the received end on.
    fn same_bytes(&self, tail: &Tail, bytes: &[u8]) -> usize {
        let kept = usize::try_from(tail.kept.bytes_since(tail.received)).unwrap_or(usize::MAX);
        let mut there = vec![0; kept.min(bytes.len())];
        match self.read(tail.received, &mut there) {
            Ok(()) => there
                .iter()
                .zip(bytes)
                .take_while(|(there, new)| there == new)
                .count(),
            // What cannot be read is replaced.
            Err(_) => 0,
        }
    }

    /// Returns the file of the segment that `at` is in, cut there, and marks it dirty.
    fn writer(&self, tail: &mut Tail, at: Lsn) -> Result<Arc<File>> {
        let number = at.segment(self.size());
        if let Some((current, file)) = &tail.writer
            && *current == number
        {
            return Ok(Arc::clone(file));
        }
        let path = self.path(number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| {
                let offset = at.segment_offset(self.size());
                if file.metadata()?.len() > offset {
                    file.set_len(offset)?;
                }
                Ok(Arc::new(file))
            })
            .map_err(PageStoreError::io("open", &path))?;
        self.files.forget(&path);
        tail.writer = Some((number, Arc::clone(&file)));
        tail.dirty.push(Arc::clone(&file));
        tail.new_names = true;
        Ok(file)
    }

    /// Takes the bytes beyond the received end out of the files.
    fn cut(&self, tail: &mut Tail) -> Result<()> {
        let at = tail.received;
        tail.writer = None;
        tail.durable = tail.durable.min(at);
        let first = at.segment(self.size());
        for number in self.lengths()?.into_keys().rev().filter(|number| *number > first) {
            let path = self.path(number);
            fs::remove_file(&path).map_err(PageStoreError::io("remove", &path))?;
            self.files.forget(&path);
        }
        tail.new_names = true;
        // The file itself is cut when it is opened for writing.
        self.files.forget(&self.path(first));
        tail.kept = at;
        Ok(())
    }

    /// Makes what was received durable and returns the end of it. After a failure nothing is acknowledged any more until
    /// [`Wal::reopen`]: nobody knows which bytes the disk has.
    pub(crate) fn sync(&self) -> Result<Lsn> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (target, epoch, dirty, new_names, current) = {
            let mut tail = self.tail();
            if tail.poisoned {
                return Err(PageStoreError::Poisoned(self.timeline));
            }
            if tail.durable >= tail.received {
                return Ok(tail.received);
            }
            let dirty = std::mem::take(&mut tail.dirty);
            let new_names = std::mem::take(&mut tail.new_names);
            (tail.received, tail.epoch, dirty, new_names, tail.writer.clone())
        };
        let synced = failpoint("wal-fsync")
            .and_then(|()| dirty.iter().try_for_each(|file| file.sync_data()))
            .map_err(PageStoreError::io("fsync WAL in", &self.directory))
            .and_then(|()| {
                if new_names {
                    durable::sync_directory(&self.directory)?;
                }
                Ok(())
            });
        let mut tail = self.tail();
        if let Err(error) = synced {
            tail.poisoned = true;
            // What could not be written can still be read, and the next fsync would not say that it is not on disk: whoever opens
            // the files may not find it there.
            if let Err(error) = self.take_back(&mut tail) {
                tracing::warn!(timeline = %self.timeline, error = with_causes(&error), "WAL that is not durable could not be taken back");
            }
            return Err(error);
        }
        // The file that is written now stays dirty: more may have been written while it was synced.
        if let Some((_, file)) = current {
            tail.dirty.push(file);
        }
        if tail.epoch == epoch {
            tail.durable = tail.durable.max(target);
        }
        Ok(tail.durable.min(tail.received))
    }

    /// Takes everything out of the files that is not known to be durable.
    fn take_back(&self, tail: &mut Tail) -> Result<()> {
        tail.epoch += 1;
        tail.received = tail.durable.min(tail.received);
        self.cut(tail)?;
        let end = tail.received;
        self.writer(tail, end).map(drop)
    }

    /// Returns true after a failed fsync, until [`Wal::reopen`].
    pub(crate) fn is_poisoned(&self) -> bool {
        self.tail().poisoned
    }

    /// Forgets everything that is not known to be durable, and all open files. Returns the durable end.
    pub(crate) fn reopen(&self) -> Result<Lsn> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tail = self.tail();
        let durable = tail.durable.min(tail.received);
        tail.epoch += 1;
        tail.received = durable;
        self.cut(&mut tail)?;
        tail.dirty.clear();
        tail.poisoned = false;
        self.files.forget_below(&self.directory);
        Ok(durable)
    }

    fn file(&self, number: u64) -> Result<Arc<File>> {
        let path = self.path(number);
        let write = self.mode == Mode::Writing;
        let open = |path: &Path| OpenOptions::new().read(true).write(write).open(path);
        self.files.get(&path, open).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => PageStoreError::WalGone {
                timeline: self.timeline,
                at: Lsn(number * self.size()),
                start: self.start(),
            },
            _ => PageStoreError::io("open", &path)(error),
        })
    }

    /// Fills `buffer` with the bytes from `at` on, all of which were received and are kept.
    pub(crate) fn read(&self, at: Lsn, buffer: &mut [u8]) -> Result<()> {
        if at < self.start() {
            return Err(PageStoreError::WalGone {
                timeline: self.timeline,
                at,
                start: self.start(),
            });
        }
        let mut at = at;
        let mut rest = buffer;
        while !rest.is_empty() {
            let offset = at.segment_offset(self.size());
            let room = usize::try_from(self.size() - offset).unwrap_or(usize::MAX);
            let (part, more) = rest.split_at_mut(room.min(rest.len()));
            let number = at.segment(self.size());
            self.file(number)?
                .read_exact_at(part, offset)
                .map_err(|error| PageStoreError::io("read", self.path(number))(error))?;
            at = at + part.len() as u64;
            rest = more;
        }
        Ok(())
    }

    /// Returns the record that begins at `start` and ends at or before `end`, page headers removed. Its checksum is verified: what a disk
    /// changed meanwhile must not get into a layer.
    pub(crate) fn record(&self, start: Lsn, end: Lsn) -> Result<Vec<u8>> {
        let bad = |reason: &str| PageStoreError::BrokenWal {
            timeline: self.timeline,
            lsn: start,
            reason: reason.to_owned(),
        };
        let span = usize::try_from(end.bytes_since(start)).map_err(|_| bad("the record is too long"))?;
        let mut raw = vec![0; span];
        self.read(start, &mut raw)?;
        let page = BLCKSZ as u64;
        if start.0 / page == (end.0 - 1) / page && !start.0.is_multiple_of(page) {
            return whole_record(raw).map_err(bad);
        }
        let mut record = Vec::with_capacity(span);
        let mut at = start;
        let mut rest = raw.as_slice();
        while !rest.is_empty() {
            let data = segment::skip_header(at, self.segment_size);
            let header = usize::try_from(data.bytes_since(at)).unwrap_or(0);
            rest = rest.get(header..).unwrap_or_default();
            let room = usize::try_from(page - data.0 % page).unwrap_or(0);
            let (part, more) = rest.split_at(room.min(rest.len()));
            record.extend_from_slice(part);
            at = data + part.len() as u64;
            rest = more;
        }
        whole_record(record).map_err(bad)
    }

    /// Deletes whole segments below `upto`, as far as no reader has a pin. Returns the bytes that went.
    pub(crate) fn trim(&self, upto: Lsn) -> Result<u64> {
        let tail = self.tail();
        let upto = upto.min(self.unpinned());
        let first_kept = upto.segment(self.size());
        if Lsn(first_kept * self.size()) <= self.start() {
            return Ok(0);
        }
        // The promise is withdrawn before the files go.
        self.start.store(first_kept * self.size(), Ordering::Release);
        let mut gone = 0;
        for (number, len) in self
            .lengths()?
            .into_iter()
            .filter(|(number, _)| *number < first_kept)
        {
            let path = self.path(number);
            self.files.forget(&path);
            fs::remove_file(&path).map_err(PageStoreError::io("remove", &path))?;
            gone += len;
        }
        drop(tail);
        durable::sync_directory(&self.directory)?;
        Ok(gone)
    }

    /// Forgets all WAL: the next bytes begin at `base`.
    pub(crate) fn restart(&self, base: Lsn) -> Result<()> {
        let mut tail = self.tail();
        self.start.store(base.0, Ordering::Release);
        tail.epoch += 1;
        tail.writer = None;
        tail.dirty.clear();
        (tail.received, tail.kept, tail.durable) = (base, base, base);
        self.files.forget_below(&self.directory);
        for number in self.lengths()?.into_keys() {
            let path = self.path(number);
            fs::remove_file(&path).map_err(PageStoreError::io("remove", &path))?;
        }
        durable::sync_directory(&self.directory)?;
        Ok(())
    }
}

/// Cuts a buffer that begins with a record to the record's own length, and checks that it is the one that was received.
fn whole_record(mut record: Vec<u8>) -> std::result::Result<Vec<u8>, &'static str> {
    let field = |at: usize| record.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let stated = field(0).and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    if stated < RECORD_HEADER_SIZE || stated > record.len() {
        return Err("no record begins here");
    }
    let crc = field(RECORD_HEADER_SIZE - 4);
    record.truncate(stated);
    match record_crc(&record) == crc {
        true => Ok(record),
        false => Err("the record is not what was received: its checksum is wrong"),
    }
}
