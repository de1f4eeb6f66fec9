//! Every value of a data directory, in key order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::records::relmap::map_size;
use neon_postgres::{BLCKSZ, Page, RELSEG_BLOCKS, layout};
use neon_types::{Key, Lsn, PackedKey, RelTag, SlruKind};

use super::{ImportError, ImportSource, ValuesDigest, origins, slrus};
use crate::items::{
    CarriedFile, Database, MAX_FILE_SIZE, OriginProgress, PAGES_PER_SEGMENT, RelMap, RelSize, Tablespace,
    TwoPhase,
};
use crate::{MAX_VALUE, Value};

/// Bytes of one block.
const BLOCK: u64 = BLCKSZ as u64;
/// Bytes of a whole relation segment.
const FULL_SEGMENT: u64 = RELSEG_BLOCKS as u64 * BLOCK;
/// Bytes read from a file at a time.
const CHUNK: usize = 64 * BLCKSZ;

type Sink<'a> = &'a mut dyn FnMut(PackedKey, Value) -> crate::Result<()>;

/// Number and pages of each file of an SLRU.
type SlruFiles = Vec<(u64, u64)>;

/// Emits everything; returns the digest.
pub(super) fn all(
    source: &ImportSource,
    state: &CheckpointState,
    sink: Sink<'_>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<[u8; 32], ImportError> {
    let survey = &source.survey;
    let slru_bytes = survey.slrus.values().flat_map(BTreeMap::values).sum::<u64>();
    let rel_bytes = survey.relations.values().flat_map(BTreeMap::values).sum::<u64>();
    let mut out = Emitter {
        source,
        sink,
        progress,
        digest: ValuesDigest::default(),
        last: PackedKey::MIN,
        done: 0,
        total: slru_bytes + rel_bytes,
    };
    out.item(Key::Checkpoint, state.encode(source.version))?;
    out.carried_files()?;
    out.tablespaces()?;
    out.databases()?;
    out.rel_maps()?;
    out.two_phase(state.checkpoint.next_xid)?;
    out.origins()?;
    let slrus = out.slru_sizes()?;
    for (kind, files) in &slrus {
        out.slru_pages(*kind, files)?;
    }
    let sizes = out.rel_sizes()?;
    for (rel, blocks) in sizes {
        out.blocks(rel, blocks)?;
    }
    Ok(out.digest.finish())
}

struct Emitter<'a> {
    source: &'a ImportSource,
    sink: Sink<'a>,
    progress: &'a mut dyn FnMut(u64, u64) -> bool,
    digest: ValuesDigest,
    /// Key of the last value.
    last: PackedKey,
    /// Bytes of pages read.
    done: u64,
    /// Bytes of pages that there are.
    total: u64,
}

impl Emitter<'_> {
    fn put(&mut self, key: Key, value: Value) -> Result<(), ImportError> {
        let packed = key.pack();
        debug_assert!(self.last < packed, "{key:?} is out of order");
        self.last = packed;
        self.digest.add(&packed, value.stored(true).1);
        (self.sink)(packed, value).map_err(|error| ImportError::Store(Box::new(error)))
    }

    fn item(&mut self, key: Key, bytes: Vec<u8>) -> Result<(), ImportError> {
        self.put(key, Value::Item(bytes))
    }

    fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.source.pgdata.join(relative)
    }

    /// Reads a small file whole.
    fn read(&self, relative: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>, ImportError> {
        let path = self.path(relative);
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(ImportError::io(&path))?;
        file.take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(ImportError::io(&path))?;
        if bytes.len() > limit {
            return Err(ImportError::damaged(&path)(format!(
                "it is longer than {limit} bytes"
            )));
        }
        Ok(bytes)
    }

    fn carried_files(&mut self) -> Result<(), ImportError> {
        use std::os::unix::fs::PermissionsExt;
        let mut files = BTreeMap::new();
        for relative in &self.source.survey.carried {
            let path = self.path(relative);
            let metadata = fs::metadata(&path).map_err(ImportError::io(&path))?;
            let file = CarriedFile {
                path: relative.clone(),
                mode: metadata.permissions().mode() & 0o777,
                bytes: self.read(relative, MAX_FILE_SIZE)?,
            };
            files.insert(
                CarriedFile::key(relative).pack(),
                (CarriedFile::key(relative), file),
            );
        }
        for (key, file) in files.into_values() {
            self.item(key, file.encode())?;
        }
        Ok(())
    }

    fn tablespaces(&mut self) -> Result<(), ImportError> {
        for spc in &self.source.survey.in_place {
            // As CREATE TABLESPACE ... LOCATION '' logs it.
            let item = Tablespace { location: Vec::new() };
            self.item(Key::Tablespace { spc: *spc }, item.encode())?;
        }
        Ok(())
    }

    fn databases(&mut self) -> Result<(), ImportError> {
        let version = self.source.version;
        for (spc, db) in &self.source.survey.databases {
            let file = format!("{}/PG_VERSION", layout::database_directory(version, *spc, *db));
            let item = Database {
                version_file: self.read(&file, 64)?,
            };
            if item != Database::of_version(version.major()) {
                let text = String::from_utf8_lossy(&item.version_file).into_owned();
                return Err(ImportError::damaged(&self.path(&file))(format!(
                    "it says '{}'",
                    text.trim()
                )));
            }
            self.item(Key::Database { spc: *spc, db: *db }, item.encode())?;
        }
        Ok(())
    }

    fn rel_maps(&mut self) -> Result<(), ImportError> {
        let mut maps = self.source.survey.rel_maps.clone();
        maps.sort_unstable();
        for (spc, db) in maps {
            let path = layout::relation_map_path(self.source.version, spc, db);
            let length = map_size(self.source.version);
            let file = self.read(&path, length)?;
            if file.len() != length {
                return Err(ImportError::damaged(&self.path(&path))(format!(
                    "it has {} bytes, not {length}",
                    file.len()
                )));
            }
            self.item(Key::RelMap { spc, db }, RelMap { file }.encode())?;
        }
        Ok(())
    }

    fn two_phase(&mut self, next_xid: u64) -> Result<(), ImportError> {
        let mut files: Vec<(u64, &str)> = Vec::new();
        for (xid, digits, path) in &self.source.survey.two_phase {
            let full = if *digits == 16 {
                *xid
            } else {
                crate::ingest::full_xid(*xid as u32, next_xid)
            };
            files.push((full, path));
        }
        files.sort_unstable();
        for (xid, path) in files {
            let file = self.read(path, MAX_VALUE - 1)?;
            let whole = file
                .split_last_chunk::<4>()
                .is_some_and(|(content, crc)| u32::from_le_bytes(*crc) == crc32c::crc32c(content));
            if !whole {
                return Err(ImportError::damaged(&self.path(path))("its checksum is wrong"));
            }
            self.item(Key::TwoPhase { xid }, TwoPhase { file }.encode())?;
        }
        Ok(())
    }

    fn origins(&mut self) -> Result<(), ImportError> {
        if !self.source.survey.origins {
            return Ok(());
        }
        let path = "pg_logical/replorigin_checkpoint";
        let file = self.read(path, 1 << 20)?;
        let origins = origins::parse(&file)
            .ok_or_else(|| ImportError::damaged(&self.path(path))("it is not what Postgres writes"))?;
        for (id, remote) in origins {
            let progress = OriginProgress {
                remote,
                local: Lsn::INVALID,
            };
            self.item(Key::ReplicationOrigin { id }, progress.encode())?;
        }
        Ok(())
    }

    /// Emits which pages each SLRU has; returns its files: number and pages.
    fn slru_sizes(&mut self) -> Result<Vec<(SlruKind, SlruFiles)>, ImportError> {
        let mut all = Vec::new();
        for kind in SlruKind::ALL {
            let segments = slrus::segments(&self.source.pgdata, &self.source.survey, kind)?;
            let lengths = self.source.survey.slrus.get(&kind).into_iter().flatten();
            let files = lengths
                .map(|(number, length)| (*number, length / BLOCK))
                .collect();
            self.item(Key::SlruSegments(kind), segments.encode())?;
            all.push((kind, files));
        }
        Ok(all)
    }

    fn slru_pages(&mut self, kind: SlruKind, files: &[(u64, u64)]) -> Result<(), ImportError> {
        for (number, pages) in files {
            let relative = slrus::path(kind, *number);
            let bytes = self.read(&relative, (PAGES_PER_SEGMENT * BLOCK) as usize)?;
            if bytes.len() as u64 != pages * BLOCK {
                return Err(ImportError::damaged(&self.path(&relative))(
                    "its length changed meanwhile",
                ));
            }
            for (index, page) in bytes.chunks_exact(BLCKSZ).enumerate() {
                let key = Key::SlruPage {
                    kind,
                    page: number * PAGES_PER_SEGMENT + index as u64,
                };
                self.page(key, page, |_| Ok(()))?;
            }
            self.advance(bytes.len())?;
        }
        Ok(())
    }

    /// Emits the size of every relation fork; returns them.
    fn rel_sizes(&mut self) -> Result<Vec<(RelTag, u32)>, ImportError> {
        let source = self.source;
        let mut sizes = Vec::with_capacity(source.survey.relations.len());
        for (rel, segments) in &source.survey.relations {
            let bad = |segment: u32, reason: String| {
                let path = source
                    .pgdata
                    .join(layout::relation_path(source.version, *rel, segment));
                ImportError::Damaged { path, reason }
            };
            let mut blocks: u64 = 0;
            let mut ended = false;
            for (index, (segment, length)) in segments.iter().enumerate() {
                if *segment as usize != index {
                    return Err(bad(*segment, format!("there is no segment {index}")));
                }
                if length % BLOCK != 0 || *length > FULL_SEGMENT {
                    return Err(bad(*segment, format!("it has {length} bytes")));
                }
                // Truncation leaves empty segments behind.
                if ended && *length > 0 {
                    return Err(bad(*segment, "the segment before it is not full".to_owned()));
                }
                blocks += length / BLOCK;
                ended = *length < FULL_SEGMENT;
            }
            let blocks = u32::try_from(blocks).map_err(|_| bad(0, format!("it has {blocks} blocks")))?;
            self.item(Key::RelSize(*rel), RelSize::imported(blocks).encode())?;
            sizes.push((*rel, blocks));
        }
        Ok(sizes)
    }

    fn blocks(&mut self, rel: RelTag, blocks: u32) -> Result<(), ImportError> {
        let checksums = self.source.control.checksums();
        let mut buffer = vec![0; CHUNK];
        let mut block: u32 = 0;
        while block < blocks {
            let segment = block / RELSEG_BLOCKS;
            let end = blocks.min((segment + 1).saturating_mul(RELSEG_BLOCKS));
            let path = self.path(layout::relation_path(self.source.version, rel, segment));
            let mut file = File::open(&path).map_err(ImportError::io(&path))?;
            while block < end {
                let count = ((end - block) as usize * BLCKSZ).min(CHUNK);
                let chunk = buffer.get_mut(..count).unwrap_or_default();
                file.read_exact(chunk).map_err(ImportError::io(&path))?;
                let chunk = std::mem::take(&mut buffer);
                for bytes in chunk.get(..count).unwrap_or_default().chunks_exact(BLCKSZ) {
                    self.page(Key::Block(rel, block), bytes, |page| {
                        if checksums && !page.is_new() {
                            verify(page, block, &path)?;
                        }
                        page.set_stored_checksum(0);
                        Ok(())
                    })?;
                    block += 1;
                }
                buffer = chunk;
                self.advance(count)?;
            }
        }
        Ok(())
    }

    /// Emits a page made canonical, unless it is all zeros.
    fn page(
        &mut self,
        key: Key,
        bytes: &[u8],
        canonical: impl FnOnce(&mut Page) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let Some(mut page) = Page::from_bytes(bytes) else {
            return Ok(());
        };
        if page.is_all_zero() {
            return Ok(());
        }
        canonical(&mut page)?;
        self.put(key, Value::Image(page))
    }

    fn advance(&mut self, bytes: usize) -> Result<(), ImportError> {
        self.done += bytes as u64;
        match (self.progress)(self.done, self.total) {
            true => Ok(()),
            false => Err(ImportError::Interrupted),
        }
    }
}

fn verify(page: &Page, block: u32, path: &Path) -> Result<(), ImportError> {
    let (stored, computed) = (page.stored_checksum(), page.checksum(block));
    if stored == computed {
        return Ok(());
    }
    Err(ImportError::Checksum {
        path: path.to_owned(),
        block,
        stored,
        computed,
    })
}
