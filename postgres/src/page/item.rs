//! Item ids, the line pointers behind the page header: 4 bytes each.
//!
//! Bits 0-14 offset of the tuple, 15-16 state, 17-31 length of the tuple.

use super::{PAGE_HEADER_SIZE, Page};

/// What an item id stands for (`lp_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ItemFlags {
    /// `LP_UNUSED`
    Unused = 0,
    /// `LP_NORMAL`: points to a tuple.
    Normal = 1,
    /// `LP_REDIRECT`: the offset is the number of another item.
    Redirect = 2,
    /// `LP_DEAD`
    Dead = 3,
}

/// A line pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemId(pub u32);

impl ItemId {
    /// Returns an item id of those parts; offset and length are cut to 15 bits.
    pub fn new(offset: u16, flags: ItemFlags, length: u16) -> ItemId {
        ItemId(u32::from(offset & 0x7fff) | (flags as u32) << 15 | u32::from(length & 0x7fff) << 17)
    }

    /// Returns the offset of the tuple in the page, or the number of the item that a redirect names.
    pub fn offset(self) -> u16 {
        (self.0 & 0x7fff) as u16
    }

    /// Returns the state.
    pub fn flags(self) -> ItemFlags {
        match (self.0 >> 15) & 3 {
            0 => ItemFlags::Unused,
            1 => ItemFlags::Normal,
            2 => ItemFlags::Redirect,
            _ => ItemFlags::Dead,
        }
    }

    /// Returns the length of the tuple, bytes.
    pub fn length(self) -> u16 {
        (self.0 >> 17) as u16
    }

    /// Returns true when there is a tuple behind it (`ItemIdHasStorage`).
    pub fn has_storage(self) -> bool {
        self.length() != 0
    }
}

impl Page {
    /// Returns the number of item ids (`PageGetMaxOffsetNumber`), 0 for a page without a sane `pd_lower`.
    pub fn item_count(&self) -> u16 {
        (self.lower().saturating_sub(PAGE_HEADER_SIZE as u16)) / 4
    }

    /// Returns item `number`, counted from 1. `None` for 0 and for what lies beyond `pd_lower` or the page.
    pub fn item(&self, number: u16) -> Option<ItemId> {
        let at = self.item_offset(number)?;
        let bytes = self.as_bytes().get(at..at + 4)?;
        Some(ItemId(u32::from_le_bytes(bytes.try_into().ok()?)))
    }

    /// Sets item `number`, counted from 1. `None`, and no change, where [`Page::item`] would return `None`.
    pub fn set_item(&mut self, number: u16, item: ItemId) -> Option<()> {
        let at = self.item_offset(number)?;
        let bytes = self.as_bytes_mut().get_mut(at..at + 4)?;
        bytes.copy_from_slice(&item.0.to_le_bytes());
        Some(())
    }

    /// Returns the bytes of the tuple behind `item`, `None` when they are not inside the page.
    pub fn tuple(&self, item: ItemId) -> Option<&[u8]> {
        let start = usize::from(item.offset());
        self.as_bytes().get(start..start + usize::from(item.length()))
    }

    /// Returns the bytes of the tuple behind `item` for change.
    pub fn tuple_mut(&mut self, item: ItemId) -> Option<&mut [u8]> {
        let start = usize::from(item.offset());
        self.as_bytes_mut()
            .get_mut(start..start + usize::from(item.length()))
    }

    fn item_offset(&self, number: u16) -> Option<usize> {
        (1..=self.item_count())
            .contains(&number)
            .then(|| PAGE_HEADER_SIZE + (usize::from(number) - 1) * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_keeps_its_parts() {
        for flags in [
            ItemFlags::Unused,
            ItemFlags::Normal,
            ItemFlags::Redirect,
            ItemFlags::Dead,
        ] {
            let item = ItemId::new(8160, flags, 32);
            assert_eq!((item.offset(), item.flags(), item.length()), (8160, flags, 32));
        }
        assert_eq!(ItemId::new(8160, ItemFlags::Normal, 32).0, 0x0040_9FE0);
    }

    #[test]
    fn items_are_counted_from_one_and_end_at_lower() {
        let mut page = Page::zeroed();
        page.init(0);
        page.set_lower(32);
        let item = ItemId::new(8100, ItemFlags::Normal, 92);
        assert_eq!(page.set_item(2, item), Some(()));
        assert_eq!(page.item(2), Some(item));
        assert_eq!(page.tuple(item).map(<[u8]>::len), Some(92));
        assert_eq!((page.item(0), page.item(3)), (None, None));
        assert_eq!(page.tuple(ItemId::new(8100, ItemFlags::Normal, 93)), None);
    }

    #[test]
    fn an_insane_lower_does_not_panic() {
        let mut page = Page::zeroed();
        page.set_lower(u16::MAX);
        assert_eq!(page.item(u16::MAX), None);
        assert_eq!(page.item(3000), None);
    }
}
