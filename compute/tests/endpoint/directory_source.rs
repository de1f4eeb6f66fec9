//! A page source over a cleanly stopped data directory: every page as its files have it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use neon_compute::{ComputeError, Item, PageSource, Result, Subject, Unbuildable, read_control};
use neon_pagestore::items::{CarriedFile, PAGES_PER_SEGMENT, SlruSegments};
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::control::{ControlFile, DbState};
use neon_postgres::layout::{self, GLOBAL_TABLESPACE};
use neon_postgres::wal::segment::file_name;
use neon_postgres::wal::{StreamParams, WalDecoder};
use neon_postgres::{BLCKSZ, Page, RELSEG_BLOCKS};
use neon_types::{Fork, Lsn, RelTag, SlruKind};

pub struct DirectorySource {
    root: PathBuf,
    control: ControlFile,
    lsn: Lsn,
    /// Relations that are said to need redo that does not exist.
    pub unbuildable: Vec<Unbuildable>,
}

/// Returns the end of the record that begins at `start`.
pub fn end_of_record(root: &Path, control: &ControlFile, start: Lsn) -> Lsn {
    let params = StreamParams {
        version: control.version(),
        system_id: control.system_id(),
        tli: control.checkpoint().tli,
        segment_size: control.segment_size(),
    };
    let size = u64::from(params.segment_size);
    let mut decoder = WalDecoder::new(params, start, None);
    loop {
        if let Some(record) = decoder.next_record().expect("the checkpoint is readable") {
            return record.end;
        }
        let at = decoder.fed();
        let name = file_name(params.tli, at.segment(size), params.segment_size);
        let bytes = fs::read(root.join("pg_wal").join(name)).expect("its segment is there");
        decoder.feed(&bytes[usize::try_from(at.segment_offset(size)).expect("fits")..]);
    }
}

impl DirectorySource {
    pub fn open(root: &Path) -> DirectorySource {
        let control = read_control(root).expect("pg_control");
        assert_eq!(
            control.state(),
            Some(DbState::ShutDowned),
            "the directory was not stopped cleanly"
        );
        DirectorySource {
            root: root.to_owned(),
            lsn: end_of_record(root, &control, control.checkpoint_lsn()),
            control,
            unbuildable: Vec::new(),
        }
    }

    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    pub fn tli(&self) -> u32 {
        self.control.checkpoint().tli
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root.join(directory))
            .map(|entries| {
                entries
                    .map(|e| e.expect("entry").file_name().into_string().expect("UTF-8"))
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }

    fn database_directories(&self) -> Vec<String> {
        let mut all = vec!["global".to_owned()];
        all.extend(self.list("base").into_iter().map(|db| format!("base/{db}")));
        for spc in self.list("pg_tblspc") {
            let version = layout::version_directory(self.control.version());
            let place = format!("pg_tblspc/{spc}/{version}");
            all.extend(self.list(&place).into_iter().map(|db| format!("{place}/{db}")));
        }
        all
    }
}

impl PageSource for DirectorySource {
    fn subject(&self) -> Subject {
        Subject {
            version: self.control.version(),
            system_id: self.control.system_id(),
            segment_size: self.control.segment_size(),
            lsn: self.lsn,
        }
    }

    fn checkpoint_state(&self) -> Result<CheckpointState> {
        Ok(CheckpointState::from_control(&self.control))
    }

    fn items(&self, f: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        let version = self.control.version();
        for path in self
            .list("")
            .into_iter()
            .filter(|name| name.ends_with(".conf") && !name.starts_with("neon"))
        {
            let bytes = fs::read(self.root.join(&path)).expect("configuration");
            f(Item::File(CarriedFile {
                path,
                mode: 0o600,
                bytes,
            }))?;
        }
        for spc in self.list("pg_tblspc") {
            f(Item::Tablespace {
                spc: spc.parse().expect("an oid"),
            })?;
        }
        let mut relations: BTreeMap<RelTag, u32> = BTreeMap::new();
        for directory in self.database_directories() {
            let Some((spc, db)) = layout::parse_database_directory(version, &directory) else {
                continue;
            };
            for name in self.list(&directory) {
                let path = format!("{directory}/{name}");
                let file = self.root.join(&path);
                if name == "pg_filenode.map" {
                    f(Item::RelMap {
                        spc,
                        db,
                        file: fs::read(&file).expect("map"),
                    })?;
                } else if name == "PG_VERSION" && spc != GLOBAL_TABLESPACE {
                    f(Item::Database {
                        spc,
                        db,
                        version_file: fs::read(&file).expect("version"),
                    })?;
                } else if let Some((rel, _)) = layout::parse_relation_path(version, &path) {
                    let blocks = fs::metadata(&file).expect("file").len() / BLCKSZ as u64;
                    *relations.entry(rel).or_default() += u32::try_from(blocks).expect("fits");
                }
            }
        }
        for (rel, blocks) in relations
            .into_iter()
            .filter(|(rel, _)| rel.fork != Fork::FreeSpaceMap)
        {
            f(Item::Relation {
                rel,
                blocks,
                creator: None,
            })?;
        }
        let next_xid = self.control.checkpoint().next_xid;
        for name in self.list("pg_twophase") {
            let xid = u64::from_str_radix(&name, 16).expect("hexadecimal") | (next_xid >> 32 << 32);
            f(Item::TwoPhase {
                xid,
                file: fs::read(self.root.join("pg_twophase").join(name)).expect("state"),
            })?;
        }
        let origins = fs::read(self.root.join("pg_logical/replorigin_checkpoint")).unwrap_or_default();
        for origin in origins
            .get(4..origins.len().saturating_sub(4))
            .unwrap_or_default()
            .chunks(16)
        {
            f(Item::ReplicationOrigin {
                id: u16::from_le_bytes([origin[0], origin[1]]),
                remote: Lsn(u64::from_le_bytes(origin[8..16].try_into().expect("8 bytes"))),
            })?;
        }
        for kind in SlruKind::ALL {
            let mut segments = SlruSegments::default();
            self.slru_pages(kind, &mut |page, _| {
                segments.insert(page);
                Ok(())
            })?;
            f(Item::Slru { kind, segments })?;
        }
        Ok(())
    }

    fn scan_pages(
        &self,
        rel: RelTag,
        blocks: Range<u32>,
        f: &mut dyn FnMut(u32, &Page) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = [0; BLCKSZ];
        for block in blocks {
            let path = layout::relation_path(self.control.version(), rel, block / RELSEG_BLOCKS);
            let offset = u64::from(block % RELSEG_BLOCKS) * BLCKSZ as u64;
            File::open(self.root.join(path))
                .and_then(|file| file.read_exact_at(&mut bytes, offset))
                .map_err(|error| ComputeError::Source(Box::new(error)))?;
            let mut page = Page::from_bytes(&bytes).expect("8 kB");
            // As the page store keeps them.
            page.set_stored_checksum(0);
            f(block, &page)?;
        }
        Ok(())
    }

    fn slru_pages(&self, kind: SlruKind, f: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        for name in self.list(kind.directory()) {
            let bytes = fs::read(self.root.join(kind.directory()).join(&name)).expect("segment");
            let segment = u64::from_str_radix(&name, 16).expect("hexadecimal");
            for (page, bytes) in (segment * PAGES_PER_SEGMENT..).zip(bytes.chunks(BLCKSZ)) {
                f(page, bytes)?;
            }
        }
        Ok(())
    }

    fn unbuildable(&self) -> Result<Vec<Unbuildable>> {
        Ok(self.unbuildable.clone())
    }
}
