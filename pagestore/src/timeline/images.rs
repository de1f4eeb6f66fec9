//! Full-page images on their way into a layer: most differ little from the page that they replace.
//!
//! A seal goes over the versions of a block once and carries the page along: what an image replaces is the page that the versions
//! before it make. Only the page at the beginning of the seal is read from layers.

use neon_postgres::Page;
use neon_postgres::wal::Record;
use neon_types::{Key, Lsn, PackedKey, RelTag};

use super::Timeline;
use super::open::{OpenLayer, OpenVersion, Slot};
use super::read::{Limit, Sealed};
use super::sizes::Sizes;
use crate::items::RelSize;
use crate::map::LayerMap;
use crate::page_delta;
use crate::value::Value;
use crate::{PageStoreError, Result};

/// Versions that a read of a delta replays at most, down to one that needs no older one.
pub(crate) const MAX_VERSIONS: usize = 256;

/// Turns the images of one seal into deltas.
pub(super) struct Images<'a> {
    timeline: &'a Timeline,
    frozen: &'a OpenLayer,
    below: &'a LayerMap,
    sizes: Sizes<'a>,
}

/// The versions of one block, which are passed in order.
pub(super) struct Block<'i, 'a> {
    images: &'i mut Images<'a>,
    place: Option<(RelTag, u32)>,
    /// Versions that were not passed.
    rest: &'a [OpenVersion],
    carried: Option<Carried>,
}

/// The page that versions make.
struct Carried {
    page: Page,
    /// How many they are, down to one that needs no older one.
    versions: usize,
    /// The highest floor that leaves all of them.
    floor: Lsn,
}

/// Returns true for a record that makes its page anew, as all do that restore an image.
fn may_be_image(version: &OpenVersion) -> bool {
    version.whole && matches!(version.slot, Slot::Wal { .. })
}

fn restores(record: &Record, index: usize) -> bool {
    let block = record.blocks.get(index);
    block.is_some_and(|block| block.image.as_ref().is_some_and(|image| image.apply))
}

impl<'a> Images<'a> {
    /// Begins a seal of `frozen`, above the layers of `below`.
    pub(super) fn new(timeline: &'a Timeline, frozen: &'a OpenLayer, below: &'a LayerMap) -> Images<'a> {
        Images {
            timeline,
            frozen,
            below,
            sizes: Sizes::new(timeline, frozen),
        }
    }

    /// Begins with a key and all its versions.
    pub(super) fn block<'i>(&'i mut self, key: &PackedKey, versions: &'a [OpenVersion]) -> Block<'i, 'a> {
        let wanted = self.timeline.core.settings.delta_layers > 0
            && versions.iter().any(may_be_image)
            && !self.timeline.is_behind();
        let place = match Key::unpack(key) {
            Ok(Key::Block(rel, block)) if wanted => Some((rel, block)),
            _ => None,
        };
        let mut block = Block {
            images: self,
            place,
            rest: versions,
            carried: None,
        };
        block.carried = block.first();
        block
    }

    /// Returns the size of a relation at `lsn`, which is not below the seal's beginning.
    fn size(&mut self, rel: RelTag, lsn: Lsn) -> Result<Option<RelSize>> {
        let (timeline, start) = (self.timeline, self.frozen.range().start);
        self.sizes.at(rel, lsn, || timeline.rel_size_item(rel, start))
    }
}

impl Block<'_, '_> {
    /// Returns true when it is worth having the page of so many versions: an image follows soon enough.
    fn is_worth(&self, versions: usize) -> bool {
        let next = self.rest.iter().position(may_be_image);
        next.is_some_and(|between| versions + between < MAX_VERSIONS)
    }

    /// Returns the page at the beginning of the seal, if it is wanted and can be had at a bounded price.
    fn first(&mut self) -> Option<Carried> {
        if self.place.is_none() || !self.is_worth(0) {
            return None;
        }
        let first = self.rest.iter().position(|version| version.whole)?;
        // Where another version makes the page anew before the first image, that is what is carried.
        let image = self.rest.get(first).filter(|version| may_be_image(version))?.lsn;
        match self.below(image) {
            Ok(carried) => carried.filter(|carried| self.is_worth(carried.versions)),
            Err(error) => self.unknown(image, &error),
        }
    }

    /// Returns the page at the beginning of the seal as a read right below `image` sees it.
    fn below(&mut self, image: Lsn) -> Result<Option<Carried>> {
        let Some((rel, block)) = self.place else {
            return Ok(None);
        };
        let before = Lsn(image.0.saturating_sub(1));
        let Some(size) = self.images.size(rel, before)?.filter(|size| block < size.size) else {
            return Ok(None);
        };
        let Images {
            timeline,
            frozen,
            below,
            ..
        } = *self.images;
        let floor = size.floor(block);
        let mut found = Vec::new();
        let limit = Limit {
            versions: MAX_VERSIONS,
            layers: timeline.core.settings.delta_layers.saturating_sub(1),
        };
        let key = Key::Block(rel, block);
        let sealed = Sealed {
            cache: &timeline.core.cache,
            objects: &timeline.core.objects,
            map: below,
        };
        let start = frozen.range().start;
        let Some(whole) = sealed.collect(&key.pack(), start, floor, limit, &mut found)? else {
            return Ok(None);
        };
        let above_floor = |version: &OpenVersion| version.lsn > floor && version.lsn < image;
        let is_new = found.is_empty() && !self.rest.iter().any(above_floor);
        // A page that was copied from another relation is as far away as that one's.
        let is_copy = !whole && size.source(block).is_some();
        if is_new || is_copy {
            return Ok(None);
        }
        let versions = found.len();
        let page = timeline.rebuild(key, found, || Ok(None))?;
        Ok(Some(Carried {
            page,
            versions,
            floor,
        }))
    }

    /// Passes a version that no record holds.
    pub(super) fn put(&mut self, lsn: Lsn, whole: bool, value: &Value) {
        self.advance();
        let Some((rel, block)) = self.place else {
            return;
        };
        let key = Key::Block(rel, block);
        let timeline = self.images.timeline;
        self.step(lsn, whole, |page| timeline.apply(key, lsn, value.clone(), page));
    }

    /// Passes the record that ends at `lsn`, of which block `index` is this one and takes `len` bytes to store; returns the delta
    /// that stands for it. None where the record itself is better: it restores no image, there is no page before, the delta is
    /// not much smaller, or too much would be replayed.
    pub(super) fn record(
        &mut self,
        lsn: Lsn,
        whole: bool,
        record: &Record,
        index: usize,
        len: usize,
    ) -> Option<Vec<u8>> {
        self.advance();
        let (rel, block) = self.place?;
        let timeline = self.images.timeline;
        let replay = |page: &mut Page| timeline.redo_record(Key::Block(rel, block), lsn, record, index, page);
        let base = match &mut self.carried {
            Some(_) if whole && restores(record, index) => self.carried.take(),
            _ => {
                self.step(lsn, whole, replay);
                return None;
            }
        };
        let base = base.filter(|base| self.is_visible(rel, block, lsn, base.floor));
        let Some(base) = base else {
            self.step(lsn, whole, replay);
            return None;
        };
        let mut result = base.page.clone();
        if let Err(error) = replay(&mut result) {
            return self.unknown(lsn, &error);
        }
        let delta = page_delta::encode(&base.page, &result);
        let is_small = delta.len() < len / 2;
        let next = Carried {
            page: result,
            versions: if is_small { base.versions + 1 } else { 1 },
            floor: if is_small { base.floor } else { just_below(lsn) },
        };
        self.carried = Some(next).filter(|next| self.is_worth(next.versions));
        is_small.then_some(delta)
    }

    fn advance(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Carries the page over a version.
    fn step(&mut self, lsn: Lsn, whole: bool, apply: impl FnOnce(&mut Page) -> Result<()>) {
        let carried = if whole {
            self.is_worth(1).then(|| Carried {
                page: Page::zeroed(),
                versions: 0,
                floor: just_below(lsn),
            })
        } else {
            self.carried.take()
        };
        let Some(mut carried) = carried else {
            self.carried = None;
            return;
        };
        if lsn > carried.floor {
            carried.versions += 1;
            if let Err(error) = apply(&mut carried.page) {
                self.carried = self.unknown(lsn, &error);
                return;
            }
        }
        self.carried = Some(carried);
    }

    /// Returns true when a read right below `lsn` sees the block, and nothing that it sees was cut off since `floor`.
    fn is_visible(&mut self, rel: RelTag, block: u32, lsn: Lsn, floor: Lsn) -> bool {
        match self.images.size(rel, just_below(lsn)) {
            Ok(size) => size.is_some_and(|size| block < size.size && size.floor(block) <= floor),
            Err(error) => {
                self.unknown::<Carried>(lsn, &error);
                false
            }
        }
    }

    /// What the page was is not known; what it is, the image says.
    fn unknown<T>(&self, lsn: Lsn, error: &PageStoreError) -> Option<T> {
        tracing::debug!(block = ?self.place, %lsn, %error, "a full-page image is kept whole");
        None
    }
}

fn just_below(lsn: Lsn) -> Lsn {
    Lsn(lsn.0.saturating_sub(1))
}
