//! Records one after the other through ingest, each with what those before it left behind.
//!
//! ```text
//! for each record, up to 8: u16 length | a `Case` of any resource manager, whose page is not used
//! ```
//! All records have the version of the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use neon_pagestore::{Effect, Ingest, Result, State, Value};
use neon_postgres::PgVersion;
use neon_postgres::checkpoint::CheckpointState;
use neon_postgres::control::{CheckPoint, ControlFile};
use neon_postgres::wal::{Record, rmgr};
use neon_types::{Key, KeyRange, Lsn, PackedKey};

use crate::case::Case;
use crate::mutate::{self, Mutate};
use crate::records::RMIDS;

const MAX_RECORDS: usize = 8;

/// The newest value of each item.
struct Items(BTreeMap<PackedKey, Arc<[u8]>>);

impl State for Items {
    fn item(&self, key: Key) -> Result<Option<Arc<[u8]>>> {
        Ok(self.0.get(&key.pack()).cloned())
    }

    fn scan_items(&self, range: KeyRange, f: &mut dyn FnMut(Key, &[u8]) -> Result<()>) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        let mut items = self.0.range(range.start..range.end);
        items.try_for_each(|(key, bytes)| f(Key::unpack(key).expect("was packed"), bytes))
    }
}

/// Takes the records in.
///
/// # Panics
/// A record has two effects on one key, or an item that was written cannot be taken up.
pub fn run(data: &[u8]) {
    let cases = split(data);
    let Some(version) = cases.first().map(|bytes| Case::decode(bytes).version()) else {
        return;
    };
    let mut items = Items(BTreeMap::new());
    items.0.insert(Key::Checkpoint.pack(), checkpoint(version).into());
    let mut ingest = Ingest::new(version);
    let mut start = Lsn(0x0100_0028);
    for bytes in cases {
        let mut case = Case::decode(bytes);
        case.version = PgVersion::ALL.iter().position(|v| *v == version).unwrap_or(0) as u8;
        let record = Record::decode(version, case.record(&RMIDS)).expect("the framing is right");
        let end = Lsn(start.0 + record.bytes().len() as u64).align();
        let Ok(effects) = ingest.effects(&record, start, end, &items) else {
            continue;
        };
        let mut keys: Vec<PackedKey> = effects.iter().map(|(key, _)| key.pack()).collect();
        keys.sort_unstable();
        let twice = keys.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(
            twice,
            None,
            "two effects of {} on one key",
            rmgr::describe(&record)
        );
        for (key, effect) in effects {
            match effect {
                Effect::Put(Value::Item(bytes)) => {
                    items.0.insert(key.pack(), bytes.into());
                }
                Effect::Put(Value::Absent) => {
                    items.0.remove(&key.pack());
                }
                _ => {}
            }
        }
        start = end;
    }
}

/// Returns the encoded checkpoint state of a new cluster.
fn checkpoint(version: PgVersion) -> Vec<u8> {
    let mut image = vec![0; if version >= PgVersion::V18 { 292 } else { 288 }];
    image[8..12].copy_from_slice(&version.control_version().to_le_bytes());
    image[12..16].copy_from_slice(&version.catalog_version().to_le_bytes());
    let control = ControlFile::from_image(&image).expect("an image of the right size");
    let state = CheckpointState {
        checkpoint: CheckPoint {
            next_xid: 1000,
            next_multi: 1,
            ..CheckPoint::default()
        },
        last_time: 0,
        last_record: Lsn(0x0100_0000),
        control: control.image().to_vec(),
    };
    state.encode(version)
}

/// Returns the bytes of each case.
fn split(mut data: &[u8]) -> Vec<&[u8]> {
    let mut cases = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (case, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        cases.push(case);
        data = rest;
        if cases.len() == MAX_RECORDS {
            break;
        }
    }
    cases
}

/// Returns the input of these cases.
pub fn join(cases: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for case in cases {
        out.extend_from_slice(&(case.len() as u16).to_le_bytes());
        out.extend_from_slice(&case[..case.len().min(usize::from(u16::MAX))]);
    }
    out
}

/// Changes one of the records, doubles one, or leaves one out.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32, with: Mutate<'_>) -> usize {
    let mut cases: Vec<Vec<u8>> = split(&data[..size]).into_iter().map(<[u8]>::to_vec).collect();
    let count = cases.len();
    let which = seed as usize / 64 % count.max(1);
    match (seed % 64, cases.get_mut(which)) {
        (0, _) | (_, None) => return with(data, size, max_size),
        (1..4, Some(case)) => {
            let twin = case.clone();
            cases.insert(which, twin);
        }
        (4..6, Some(_)) if count > 1 => drop(cases.remove(which)),
        (_, Some(case)) => {
            let size = case.len();
            case.resize(size + 256, 0);
            let limit = case.len();
            let size = mutate::case(case, size, limit, seed.rotate_left(7) | 1, with);
            case.truncate(size);
        }
    }
    let bytes = join(&cases);
    let length = bytes.len().min(max_size);
    data[..length].copy_from_slice(&bytes[..length]);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_joined_and_split() {
        let cases = vec![vec![1, 2], vec![], vec![3; 700]];
        assert_eq!(split(&join(&cases)), cases);
        run(&join(&cases));
    }
}
