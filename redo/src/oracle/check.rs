//! One record after the other: replay, compare, remember.

use neon_postgres::wal::{RawRecord, Record};
use neon_postgres::{Page, PgVersion};
use neon_types::{Fork, Lsn};

use super::bases::{Author, Base, Bases};
use super::compare::compare;
use super::fixture::Fixture;
use super::report::{Finding, Report};
use super::{Options, OracleError, Sampler, invalidate};
use crate::{Cluster, is_supported, needs_base, redo};

/// Checks records in the order of the log.
pub struct Oracle {
    cluster: Cluster,
    bases: Bases,
    report: Report,
}

impl Oracle {
    /// Begins without any pages: the first reference to each block only serves as a base, unless it begins the block anew.
    pub fn new(version: PgVersion, options: Options) -> Oracle {
        Oracle {
            cluster: Cluster {
                version,
                hints_logged: options.hints_logged,
            },
            bases: Bases::new(options.max_pages),
            report: Report::new(version, options.max_described),
        }
    }

    /// Checks every block reference of a record.
    ///
    /// # Errors
    /// The record cannot be taken apart.
    pub fn observe(&mut self, raw: RawRecord, sampler: &mut Sampler) -> Result<(), OracleError> {
        let (start, end) = (raw.start, raw.end);
        let decode_error = |source| OracleError::Record { start, source };
        let record = Record::decode(self.cluster.version, raw.bytes).map_err(decode_error)?;
        self.report.count_record(&record);
        for index in 0..record.blocks.len() {
            let sliced = record.slice_for_block(index);
            let sliced = Record::decode(self.cluster.version, sliced).map_err(decode_error)?;
            self.check(&record, &sliced, end, index, sampler);
        }
        invalidate::invalidate(&mut self.bases, &record, end).map_err(decode_error)
    }

    /// Returns what was found.
    pub fn into_report(mut self) -> Report {
        self.report.evicted = self.bases.evicted();
        self.report
    }

    /// Replays `sliced`, which has what replay of this reference needs, and compares with the image of the whole record.
    fn check(&mut self, record: &Record, sliced: &Record, end: Lsn, index: usize, sampler: &mut Sampler) {
        let Some(reference) = record.blocks.get(index) else {
            return;
        };
        let (rel, block) = (reference.rel, reference.block);
        let author = Author {
            rmid: record.rmid,
            info: record.info & 0xF0,
        };
        let image = match record.block_image(index).transpose() {
            Ok(image) => image,
            Err(error) => {
                return self
                    .report
                    .finish(record, end, index, Finding::Failed(error.into()));
            }
        };
        let apply = reference.image.as_ref().is_some_and(|image| image.apply);
        let before = self.bases.take(rel, block);
        let known = before.is_some();
        if let (Some(before), Some(image), false) = (&before, &image, apply)
            && !before.lsn_uncertain
            && !reference.will_init
        {
            self.report
                .count_lsn(before.author, before.page.lsn() == image.lsn());
        }
        let put = |bases: &mut Bases, page: Page, lsn_uncertain: bool, map_lost: bool| {
            bases.put(
                rel,
                block,
                Base {
                    page,
                    author,
                    lsn_uncertain,
                    map_lost,
                },
                known,
            );
        };
        let image_as_base = |bases: &mut Bases, image: Option<Page>| {
            if let Some(mut page) = image {
                page.set_lsn(end);
                put(bases, page, true, false);
            }
        };

        if !apply && !is_supported(record.rmid, record.info) {
            image_as_base(&mut self.bases, image);
            return self.report.finish(record, end, index, Finding::Unsupported);
        }
        let is_map = rel.fork == Fork::VisibilityMap;
        let map_lost = if apply {
            is_map
                && reference
                    .image
                    .as_ref()
                    .is_some_and(|image| image.hole_length > 0)
        } else {
            before.as_ref().is_some_and(|base| base.map_lost)
        };
        let mut page = match before {
            Some(base) => base.page,
            None if needs_base(record, index) && !self.bases.is_zero(rel) => {
                let finding = if image.is_some() {
                    Finding::NoBase
                } else {
                    Finding::NoImage
                };
                image_as_base(&mut self.bases, image);
                return self.report.finish(record, end, index, finding);
            }
            None => Page::zeroed(),
        };
        let base = sampler.wants(sliced, index).then(|| page.clone());
        if let Err(error) = redo(&self.cluster, sliced, end, index, &mut page) {
            image_as_base(&mut self.bases, image);
            return self.report.finish(record, end, index, Finding::Redo(error));
        }
        let finding = match &image {
            None => Finding::NoImage,
            Some(_) if apply => Finding::Restored,
            Some(_) if map_lost => {
                image_as_base(&mut self.bases, image);
                return self.report.finish(record, end, index, Finding::MapLost);
            }
            Some(image) => match compare(record.rmid, rel.fork, block, &page, image) {
                Ok(None) => Finding::Equal,
                Ok(Some(difference)) => Finding::Differs(difference),
                Err(damage) => Finding::Failed(damage),
            },
        };
        if matches!(finding, Finding::Differs(_) | Finding::Failed(_)) {
            image_as_base(&mut self.bases, image);
        } else {
            if let (Finding::Equal, Some(base), Some(after)) = (&finding, base, image) {
                let base = needs_base(sliced, index).then_some(base);
                sampler.add(Fixture {
                    cluster: self.cluster,
                    end,
                    index,
                    record: sliced.clone(),
                    base,
                    after,
                });
            }
            // Without an image a hint may have moved the server's LSN but not ours.
            let hint = record.rmid == neon_postgres::wal::rmgr::XLOG && !apply;
            put(&mut self.bases, page, hint, map_lost);
        }
        self.report.finish(record, end, index, finding);
    }
}
