//! The naive store at a position, to be compared with a directory.

use neon_pagestore::PageStoreError;
use neon_pagestore::compare::Subject;
use neon_postgres::Page;
use neon_types::{Key, Lsn, RelTag, SlruKind};

use super::naive::Naive;

/// The store at a position.
pub struct NaiveAt<'a>(pub &'a Naive, pub Lsn);

impl Subject for NaiveAt<'_> {
    fn items(
        &self,
        f: &mut dyn FnMut(Key, &[u8]) -> Result<(), PageStoreError>,
    ) -> Result<(), PageStoreError> {
        let keys = self.0.keys();
        for key in keys.filter(|key| !matches!(key, Key::Block(..) | Key::SlruPage { .. })) {
            if let Some(bytes) = self.0.item_at(key, self.1) {
                f(key, &bytes)?;
            }
        }
        Ok(())
    }

    fn slru_page(&self, kind: SlruKind, page: u64) -> Result<Page, PageStoreError> {
        self.0
            .page_at(Key::SlruPage { kind, page }, Lsn::INVALID, self.1, || {
                Ok(Page::zeroed())
            })
    }

    fn block(&self, rel: RelTag, block: u32) -> Result<Page, PageStoreError> {
        self.0.block_at(rel, block, self.1)
    }
}
