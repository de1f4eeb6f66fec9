//! Counts parts and bytes for a progress listener.

use crate::wire::Phase;
use crate::{Options, Part, Progress};

/// How far a transfer is.
#[derive(Debug)]
pub(crate) struct Count {
    options: Options,
    now: Progress,
}

impl Count {
    pub(crate) fn new(options: &Options, parts: &[Part], have: &[u64]) -> Count {
        let bytes_total = parts.iter().map(|part| part.len).sum();
        let mut count = Count {
            options: options.clone(),
            now: Progress {
                phase: Phase::Transferring,
                bytes_done: 0,
                bytes_total,
                objects_done: 0,
                objects_total: parts.len() as u64,
            },
        };
        for (part, have) in parts.iter().zip(have) {
            count.now.bytes_done += have;
            count.now.objects_done += u64::from(*have == part.len);
        }
        count.options.report(count.now);
        count
    }

    pub(crate) fn add(&mut self, bytes: u64, objects: u64) {
        self.now.bytes_done += bytes;
        self.now.objects_done += objects;
        self.options.report(self.now);
    }
}
