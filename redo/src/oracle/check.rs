//! One record after the other: replay, compare, remember.

use neon_postgres::wal::{BlockRef, RawRecord, Record, rmgr};
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
    /// The page before the reference that is being checked.
    before: Page,
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
            before: Page::zeroed(),
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
        for (index, reference) in record.blocks.iter().enumerate() {
            let sliced = record.slice_for_block(index);
            let sliced = Record::decode(self.cluster.version, sliced).map_err(decode_error)?;
            let case = Case {
                record: &record,
                reference,
                sliced,
                end,
                index,
            };
            self.check(&case, sampler);
        }
        invalidate::invalidate(&mut self.bases, &record, end).map_err(decode_error)
    }

    /// Returns what was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Returns what was found.
    pub fn into_report(self) -> Report {
        self.report
    }

    /// Checks one reference and remembers the page after it.
    fn check(&mut self, case: &Case<'_>, sampler: &mut Sampler) {
        let (rel, block) = (case.reference.rel, case.reference.block);
        let (before, place) = self.bases.take(rel, block).unzip();
        let (finding, after) = match case.record.block_image(case.index).transpose() {
            Err(error) => (Finding::Failed(error.into()), None),
            Ok(image) => {
                self.check_lsn(case, before.as_ref(), image.as_ref());
                self.outcome(case, before, image, sampler)
            }
        };
        if let Some(after) = after {
            self.bases.put(rel, block, after, place);
        }
        let (kept, most) = self.bases.pages();
        (self.report.pages, self.report.most_pages) = (kept as u64, most as u64);
        self.report.evicted = self.bases.evicted();
        self.report.finish(case.record, case.end, case.index, finding);
    }

    /// Compares the LSN that the page got from us with that in the image, which has not got this record's yet. An image
    /// without an LSN is of a page that was made anew for this record.
    fn check_lsn(&mut self, case: &Case<'_>, before: Option<&Base>, image: Option<&Page>) {
        if let (Some(before), Some(image)) = (before, image)
            && !before.lsn_uncertain
            && image.lsn() != Lsn::INVALID
            && !case.restores()
            && !case.reference.will_init
        {
            self.report
                .count_lsn(before.author, before.page.lsn() == image.lsn());
        }
    }

    /// Returns what the check of one reference gave, and the page to go on with: ours, or the image where ours is missing or
    /// wrong.
    fn outcome(
        &mut self,
        case: &Case<'_>,
        before: Option<Base>,
        image: Option<Page>,
        sampler: &mut Sampler,
    ) -> (Finding, Option<Base>) {
        let reference = case.reference;
        let record = case.record;
        let from_image = |image: Option<Page>| image.map(|image| case.base_of_image(image));
        if !case.restores() && !is_supported(record.rmid, record.info) {
            return (Finding::Unsupported, from_image(image));
        }
        let was_uncertain = before.as_ref().is_some_and(|base| base.lsn_uncertain);
        let map_lost = case.loses_map(before.as_ref());
        let mut page = match before {
            Some(base) => base.page,
            None if needs_base(record, case.index) && !self.bases.is_zero(reference.rel) => {
                let finding = if image.is_some() {
                    Finding::NoBase
                } else {
                    Finding::NoImage
                };
                return (finding, from_image(image));
            }
            None => Page::zeroed(),
        };
        self.before.as_bytes_mut().copy_from_slice(page.as_bytes());
        if let Err(error) = redo(&self.cluster, &case.sliced, case.end, case.index, &mut page) {
            self.keep_failure(case, image.as_ref());
            return (Finding::Redo(error), from_image(image));
        }
        let finding = match &image {
            None => Finding::NoImage,
            Some(_) if case.restores() => Finding::Restored,
            Some(_) if map_lost => return (Finding::MapLost, from_image(image)),
            Some(image) => match compare(record, case.index, &page, image) {
                Ok(None) => Finding::Equal,
                Ok(Some(difference)) => {
                    self.keep_failure(case, Some(image));
                    return (
                        Finding::Differs(difference),
                        Some(case.base_of_image(image.clone())),
                    );
                }
                Err(damage) => {
                    self.keep_failure(case, Some(image));
                    return (Finding::Failed(damage), Some(case.base_of_image(image.clone())));
                }
            },
        };
        if let (Finding::Equal, Some(after)) = (&finding, image)
            && sampler.wants(&case.sliced, case.index)
        {
            sampler.add(case.fixture(self.cluster, self.before.clone(), after));
        }
        // Without an image, a hint may have moved the server's LSN but not ours.
        let hint = record.rmid == rmgr::XLOG && !case.restores();
        let lsn_uncertain = hint || (was_uncertain && page.lsn() != case.end);
        (
            finding,
            Some(Base {
                page,
                author: case.author(),
                lsn_uncertain,
                map_lost,
            }),
        )
    }
}

impl Oracle {
    /// Keeps a reference that came out wrong, as long as mismatches are described.
    fn keep_failure(&mut self, case: &Case<'_>, image: Option<&Page>) {
        if let Some(after) = image
            && self.report.describes()
        {
            let fixture = case.fixture(self.cluster, self.before.clone(), after.clone());
            self.report.failures.push(fixture);
        }
    }
}

/// One block reference of a record.
struct Case<'a> {
    record: &'a Record,
    reference: &'a BlockRef,
    /// The record with what replay of this reference needs, as a page store keeps it.
    sliced: Record,
    end: Lsn,
    index: usize,
}

impl Case<'_> {
    fn author(&self) -> Author {
        Author {
            rmid: self.record.rmid,
            info: self.record.info & 0xF0,
        }
    }

    /// Returns true when the image is there to be restored, not to be compared with.
    fn restores(&self) -> bool {
        self.reference.image.as_ref().is_some_and(|image| image.apply)
    }

    /// Returns true when the page is one of the visibility map whose bits an image without them overwrote.
    fn loses_map(&self, before: Option<&Base>) -> bool {
        let is_map = self.reference.rel.fork == Fork::VisibilityMap;
        match &self.reference.image {
            Some(image) if image.apply => is_map && image.hole_length > 0,
            _ => before.is_some_and(|base| base.map_lost),
        }
    }

    /// Returns the image as the page to go on with; its LSN is only likely to be this record's.
    fn base_of_image(&self, mut page: Page) -> Base {
        page.set_lsn(self.end);
        Base {
            page,
            author: self.author(),
            lsn_uncertain: true,
            map_lost: false,
        }
    }

    fn fixture(&self, cluster: Cluster, base: Page, after: Page) -> Fixture {
        Fixture {
            cluster,
            end: self.end,
            index: self.index,
            record: self.sliced.clone(),
            base: needs_base(&self.sliced, self.index).then_some(base),
            after,
        }
    }
}
