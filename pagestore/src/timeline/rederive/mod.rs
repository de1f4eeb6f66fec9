//! Sealed history derived again from WAL that is still kept, and compared with what the layers hold.
//!
//! WAL is taken in by chunks, as ingest does: the state before a chunk is read from the layers below it, what was looked up once stays
//! derived. Of each chunk ([`chunk`]) every version is compared with the delta layers, both ways ([`compare`]), then the image layers
//! whose LSN is in it are made again ([`image`]). Everything is read through one layer map, as it was at the beginning.

mod boundaries;
mod chunk;
mod compare;
mod image;
mod start;

use std::sync::Arc;

use neon_types::{Lsn, LsnRange, ObjectId, with_causes};

use self::chunk::Chunks;
#[cfg(test)]
pub(crate) use self::compare::name as key_name;
use super::{Timeline, read};
use crate::gc::{Span, Spans};
use crate::map::LayerMap;
use crate::{PageStoreError, Result};

/// Findings of one timeline that are named; of more it is said how many.
const MAX_FINDINGS: usize = 100;

/// What was derived again of a timeline, and what differs.
#[derive(Debug, Default)]
pub(crate) struct Rederived {
    /// Bytes of WAL that were taken in again.
    pub wal_bytes: u64,
    /// Versions of delta layers that were compared, on either side.
    pub versions: u64,
    /// Values of image layers that were compared.
    pub images: u64,
    /// Sealed history that was not derived again, and why.
    pub skipped: Vec<(LsnRange, String)>,
    /// What differs.
    pub differences: Differences,
}

/// What differs, as far as it is named.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// The first of them: the layer, where one is to blame, and what is wrong.
    pub named: Vec<(Option<ObjectId>, String)>,
    /// How many more there are.
    pub more: u64,
}

impl Differences {
    fn add(&mut self, object: Option<ObjectId>, problem: String) {
        if self.named.len() < MAX_FINDINGS {
            self.named.push((object, problem));
        } else {
            self.more += 1;
        }
    }

    fn count(&self) -> u64 {
        self.named.len() as u64 + self.more
    }

    fn take(&mut self, other: Differences) {
        for (object, problem) in other.named {
            self.add(object, problem);
        }
        self.more += other.more;
    }
}

impl Timeline {
    /// Returns how many bytes of WAL [`Timeline::rederive`] would take in.
    pub(crate) fn rederivable(&self) -> u64 {
        let Some(map) = self.layer_map() else {
            return 0;
        };
        let kept = self.wal_start();
        let spans = self.sealed_spans(&map);
        spans
            .iter()
            .map(|span| span.to.bytes_since(span.from.max(kept).min(span.to)))
            .sum()
    }

    /// Derives again what is sealed of this timeline itself and not dropped, as far back as its WAL is kept. `progress` is told of bytes
    /// of WAL, and ends it by returning false.
    pub(crate) fn rederive(&self, progress: &mut dyn FnMut(u64) -> bool) -> Rederived {
        // What is pinned cannot go while it is read; what went before begins above.
        let _pin = self.wal.pin_from(self.wal_start());
        let Some(map) = self.layer_map() else {
            return Rederived::default();
        };
        let mut run = Run {
            timeline: self,
            found: Rederived::default(),
            progress,
            suspects: image::Suspects::default(),
            unsound: compare::Unsound::default(),
        };
        for span in self.sealed_spans(&map).iter() {
            if !run.span(&map, span) {
                break;
            }
        }
        run.found
    }

    /// Returns the positions between which changes of this timeline are sealed and can be read.
    fn sealed_spans(&self, map: &LayerMap) -> Spans {
        let own = Span {
            from: self.start,
            to: map.sealed(),
        };
        let own: Spans = [own].into_iter().collect();
        let readable = read(&self.memory).readable.clone();
        let spans = readable.map_or_else(|| own.clone(), |readable| readable.and(&own));
        spans.iter().filter(|span| span.from < span.to).collect()
    }
}

/// One timeline on its way.
struct Run<'a> {
    timeline: &'a Timeline,
    found: Rederived,
    progress: &'a mut dyn FnMut(u64) -> bool,
    /// Image layers that are wrong: none is made of them.
    suspects: image::Suspects,
    /// Keys whose changes differ.
    unsound: compare::Unsound,
}

impl Run<'_> {
    fn skip(&mut self, start: Lsn, end: Lsn, why: &str) {
        if start < end {
            self.found.skipped.push((LsnRange { start, end }, why.to_owned()));
        }
    }

    /// What is damaged so that the rest of a span cannot be compared.
    fn give_up(&mut self, at: Lsn, span: Span, error: &PageStoreError) {
        let why = with_causes(error);
        self.skip(at, span.to, &why);
        self.found.differences.add(None, why);
    }

    /// Returns false when told to stop.
    fn span(&mut self, map: &Arc<LayerMap>, span: Span) -> bool {
        let from = match self.timeline.first_record_end(span) {
            Ok(from) => from.unwrap_or(span.to),
            Err(error) => {
                self.give_up(span.from, span, &error);
                return true;
            }
        };
        self.skip(span.from, from, "no WAL is kept");
        let mut chunks = Chunks::new(self.timeline, from, span.to);
        let mut sound = true;
        loop {
            let at = chunks.at();
            match self.chunk(map, &mut chunks, &mut sound, span) {
                Ok(Next::More) => {}
                Ok(Next::End) => return true,
                Ok(Next::Stop) => return false,
                Err(error) => {
                    self.give_up(at, span, &error);
                    return true;
                }
            }
        }
    }

    /// Compares one chunk; `sound` becomes false when the changes of the span differ from here on.
    fn chunk(
        &mut self,
        map: &Arc<LayerMap>,
        chunks: &mut Chunks<'_>,
        sound: &mut bool,
        span: Span,
    ) -> Result<Next> {
        let before = self.found.wal_bytes;
        let checked = image::checked(map, chunks.at(), &self.suspects);
        let Some(chunk) = chunks.next(&checked, &mut |bytes| (self.progress)(before + bytes))? else {
            return Ok(chunks.why_none());
        };
        let lsns = chunk.lsns;
        self.found.wal_bytes += lsns.end.bytes_since(lsns.start);
        let done = self.found.wal_bytes;
        let stop = &mut || !(self.progress)(done);
        let Some(compared) = compare::compare(self.timeline, map, &checked, &chunk, &mut self.unsound, stop)?
        else {
            return Ok(Next::Stop);
        };
        drop(chunk);
        self.found.versions += compared.versions;
        if *sound && compared.differences.count() > 0 {
            *sound = false;
            if image::any(map, lsns.start, span.to) {
                let why = "the image layers in it are not made again: the changes below them differ";
                self.skip(lsns.start, span.to, why);
            }
        }
        self.found.differences.take(compared.differences);
        if *sound {
            let stop = &mut || !(self.progress)(done);
            let Some(images) = image::check(self.timeline, map, lsns, &mut self.suspects, stop)? else {
                return Ok(Next::Stop);
            };
            self.found.images += images.versions;
            self.found.differences.take(images.differences);
        }
        Ok(Next::More)
    }
}

/// How it goes on after a chunk.
enum Next {
    More,
    End,
    Stop,
}
