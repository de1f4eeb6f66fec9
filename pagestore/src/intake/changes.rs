//! What differs between a data directory and a position.

use std::collections::{BTreeMap, VecDeque};

use neon_postgres::Page;
use neon_types::{Fork, Key, KeyRange, Lsn, PackedKey, RelTag, SlruKind};

use super::blocks::Blocks;
use super::layers::Layers;
use crate::items::{RelSize, SlruSegments};
use crate::{PageStoreError, Result, Timeline, Value};

/// Takes every value of a directory in key order, and puts those that are others at the position into layers.
pub(super) struct Changes<'a> {
    timeline: &'a Timeline,
    lsn: Lsn,
    /// Nothing older is read of relations that begin, or end, in the directory.
    floor: Lsn,
    /// Items of the position whose keys were not reached yet.
    items: BTreeMap<PackedKey, Vec<u8>>,
    /// SLRU pages of the directory that were not reached yet.
    slru: VecDeque<(SlruKind, u64)>,
    blocks: Blocks<'a>,
    layers: Layers<'a>,
}

impl<'a> Changes<'a> {
    /// Reads the items of the position.
    pub(super) fn new(
        timeline: &'a Timeline,
        lsn: Lsn,
        floor: Lsn,
        layers: Layers<'a>,
    ) -> Result<Changes<'a>> {
        let mut items = BTreeMap::new();
        let pages = |kind, page| Key::SlruPage { kind, page }.pack();
        for range in [
            KeyRange {
                start: PackedKey::MIN,
                end: pages(SlruKind::Clog, 0),
            },
            KeyRange {
                start: pages(SlruKind::CommitTs, u64::MAX).next(),
                end: PackedKey::MAX,
            },
        ] {
            timeline.scan_items(range, lsn, &mut |key, bytes| {
                if counts(&key) {
                    items.insert(key.pack(), bytes.to_vec());
                }
                Ok(())
            })?;
        }
        Ok(Changes {
            timeline,
            lsn,
            floor,
            items,
            slru: VecDeque::new(),
            blocks: Blocks::new(timeline, lsn),
            layers,
        })
    }

    /// Takes the next value.
    pub(super) fn take(&mut self, packed: PackedKey, value: Value) -> Result<()> {
        let key = Key::unpack(&packed).map_err(|error| PageStoreError::damaged("a key", error))?;
        if !counts(&key) {
            return Ok(());
        }
        self.pass_items(packed)?;
        match (key, value) {
            (Key::SlruPage { kind, page }, value) => self.slru_page(kind, page, value),
            (Key::Block(rel, block), Value::Image(page)) => self.block(rel, block, page),
            (Key::RelSize(rel), Value::Item(bytes)) => self.size(rel, packed, &bytes),
            (key, Value::Item(bytes)) => {
                if let Key::SlruSegments(kind) = key {
                    let pages = SlruSegments::decode(&bytes)
                        .map_err(|error| PageStoreError::damaged(format!("{key:?}"), error))?;
                    self.slru.extend(pages.pages().map(|page| (kind, page)));
                }
                let same = self.items.remove(&packed).is_some_and(|then| then == bytes);
                // The state is read at its own LSN.
                if same && key != Key::Checkpoint {
                    return Ok(());
                }
                self.layers.add(packed, &Value::Item(bytes))
            }
            (_, value) => self.layers.add(packed, &value),
        }
    }

    /// Ends it; returns the layers.
    pub(super) fn finish(mut self) -> Result<Layers<'a>> {
        self.pass_items(PackedKey::MAX)?;
        self.pass_slru(None)?;
        self.pass_blocks(None)?;
        Ok(self.layers)
    }

    /// Says of the items of the position below a key that were not met that they are no more.
    fn pass_items(&mut self, upto: PackedKey) -> Result<()> {
        while let Some(item) = self.items.first_entry()
            && *item.key() < upto
        {
            let (gone, _) = item.remove_entry();
            if gone > slru_end() {
                self.pass_slru(None)?;
            }
            self.layers.add(gone, &Value::Absent)?;
        }
        Ok(())
    }

    fn slru_page(&mut self, kind: SlruKind, page: u64, value: Value) -> Result<()> {
        self.pass_slru(Some((kind, page)))?;
        let key = Key::SlruPage { kind, page };
        let same = match (&value, self.timeline.get_item(key, self.lsn)) {
            (Value::Image(now), Ok(Some(then))) => now.as_bytes().as_slice() == &*then,
            _ => false,
        };
        if same {
            return Ok(());
        }
        self.layers.add(key.pack(), &value)
    }

    /// Goes to a page, or behind all: those in between are zeros in the directory.
    fn pass_slru(&mut self, to: Option<(SlruKind, u64)>) -> Result<()> {
        while let Some((kind, page)) = self.slru.pop_front() {
            if to == Some((kind, page)) {
                return Ok(());
            }
            let key = Key::SlruPage { kind, page };
            let zero = match self.timeline.get_item(key, self.lsn) {
                Ok(then) => then.is_none_or(|then| then.iter().all(|byte| *byte == 0)),
                Err(_) => false,
            };
            if !zero {
                self.layers.add(key.pack(), &Value::Image(Page::zeroed()))?;
            }
        }
        Ok(())
    }

    fn size(&mut self, rel: RelTag, packed: PackedKey, bytes: &[u8]) -> Result<()> {
        self.pass_slru(None)?;
        let decode = |bytes: &[u8]| {
            RelSize::decode(bytes)
                .map_err(|error| PageStoreError::damaged(format!("the size of relation {rel}"), error))
        };
        let now = decode(bytes)?.size;
        let then = self
            .items
            .remove(&packed)
            .map(|bytes| decode(&bytes))
            .transpose()?;
        self.blocks
            .push(rel, now, then.as_ref().map_or(0, |then| then.size));
        let changed = match then {
            Some(then) if then.size == now => return Ok(()),
            Some(mut size) => {
                if now < size.size {
                    size.truncate(now, self.floor);
                }
                RelSize { size: now, ..size }
            }
            None => RelSize {
                size: now,
                ..RelSize::created(self.floor)
            },
        };
        self.layers.add(packed, &Value::Item(changed.encode()))
    }

    fn block(&mut self, rel: RelTag, block: u32, page: Page) -> Result<()> {
        self.pass_slru(None)?;
        self.pass_blocks(Some((rel, block)))?;
        if self.blocks.differs(block, &page)? {
            self.layers
                .add(Key::Block(rel, block).pack(), &Value::Image(page))?;
        }
        Ok(())
    }

    fn pass_blocks(&mut self, to: Option<(RelTag, u32)>) -> Result<()> {
        let layers = &mut self.layers;
        self.blocks.pass(to, &mut |rel, block| {
            layers.add(Key::Block(rel, block).pack(), &Value::Image(Page::zeroed()))
        })
    }
}

/// Returns true for what a data directory can tell: not files that are carried as they were at the import, nor where records were, nor free
/// space maps.
fn counts(key: &Key) -> bool {
    match key {
        Key::File { .. } | Key::Boundaries { .. } => false,
        Key::RelSize(rel) | Key::Unreadable(rel) | Key::Block(rel, _) => rel.fork != Fork::FreeSpaceMap,
        _ => true,
    }
}

fn slru_end() -> PackedKey {
    Key::SlruPage {
        kind: SlruKind::CommitTs,
        page: u64::MAX,
    }
    .pack()
}
