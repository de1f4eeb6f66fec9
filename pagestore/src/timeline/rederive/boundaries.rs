//! Record boundaries: layers hold them by seals, so what counts is what a reader is told, record by record.

use std::collections::BTreeMap;

use neon_types::{Key, Lsn, LsnRange};

use super::super::Timeline;
use super::super::open::{OpenVersion, Slot};
use super::super::read::{Limit, Sealed};
use crate::Result;
use crate::boundaries::Boundaries;
use crate::value::Value;

/// By the end of a record: its start, and the time of a commit.
type Records = BTreeMap<Lsn, (Lsn, Option<i64>)>;

/// What layers tell of the records that begin in a mebibyte.
pub(super) struct Told {
    pub records: Records,
    /// How many versions tell of them.
    pub versions: u64,
}

/// Returns what a reader at any LSN of `lsns` is told of records that end there and begin in a mebibyte.
pub(super) fn told(timeline: &Timeline, sealed: &Sealed<'_>, mebibyte: u64, lsns: LsnRange) -> Result<Told> {
    let key = Key::Boundaries { mebibyte }.pack();
    let mut told = Told {
        records: Records::new(),
        versions: 0,
    };
    let mut upto = lsns.end;
    while upto > lsns.start {
        let mut found = Vec::new();
        sealed.collect(&key, upto, Lsn::INVALID, Limit::NONE, &mut found)?;
        // A version of the ancestor tells of what follows the fork there.
        let Some(version) = found
            .into_iter()
            .next()
            .filter(|found| found.lsn > timeline.start)
        else {
            break;
        };
        told.versions += 1;
        if let Value::Item(bytes) = version.value {
            // Up to the next version this is the one that is read.
            let here = |lsn: Lsn| version.lsn <= lsn && lsn <= upto && lsns.contains(lsn);
            let records = records(&bytes)?;
            told.records
                .extend(records.into_iter().filter(|(end, _)| here(*end)));
        }
        upto = Lsn(version.lsn.0 - 1);
    }
    Ok(told)
}

/// Returns what the versions that WAL makes tell.
pub(super) fn made(derived: &[OpenVersion]) -> Result<Records> {
    let mut made = Records::new();
    for version in derived {
        if let Slot::Put(value) = &version.slot
            && let Value::Item(bytes) = value.as_ref()
        {
            made.extend(records(bytes)?);
        }
    }
    Ok(made)
}

fn records(bytes: &[u8]) -> Result<Records> {
    let boundaries = Boundaries::decode(bytes)?;
    let spans = boundaries.spans.iter();
    let mut records: Records = spans.map(|span| (span.end, (span.start, None))).collect();
    for (end, time) in boundaries.commits {
        if let Some((_, commit)) = records.get_mut(&end) {
            *commit = Some(time);
        }
    }
    Ok(records)
}

/// Returns where both differ, with what is wrong there.
pub(super) fn differences(told: &Records, made: &Records) -> Vec<(Lsn, &'static str)> {
    let other = made.iter().filter_map(|(end, record)| match told.get(end) {
        Some(there) if there == record => None,
        Some(_) => Some((
            *end,
            "layers say another start or commit time of the record than the WAL",
        )),
        None => Some((*end, "no layer tells of the record that ends there")),
    });
    let extra = told.keys().filter(|end| !made.contains_key(end));
    let extra = extra.map(|end| (*end, "layers tell of a record that the WAL does not have"));
    other.chain(extra).collect()
}
