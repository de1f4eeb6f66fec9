//! `.neon/condemned`: what was found to be garbage, and when. `docs/format/condemned.md` describes it.
//!
//! A list that is missing or damaged condemns nothing: what is garbage is found, and waits, again.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use neon_objects::{StoredFile, durable};
use neon_types::{ObjectId, TimelineId};

use crate::error::Result;

const FILE: &str = "condemned";
const FIRST_LINE: &str = "# neon condemned 1";
const CHECKSUM: &str = "# blake3 ";
/// Longest list that is read, in bytes.
const MAX_LIST: u64 = 256 << 20;
/// Most things of one list; others are condemned when these are gone.
const MAX_ENTRIES: usize = 1 << 20;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Commit,
    /// A layer map or a chunk of one.
    Map,
    Layer,
    /// WAL that arrived in a transfer that was not finished.
    Other,
}

/// Something that can be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Thing {
    Object(Kind, ObjectId),
    /// An object that was received in part.
    Incoming(ObjectId),
    Timeline(TimelineId),
}

impl Thing {
    /// Returns a word for its kind.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Thing::Object(Kind::Commit, _) => "commit",
            Thing::Object(Kind::Map, _) => "map",
            Thing::Object(Kind::Layer, _) => "layer",
            Thing::Object(Kind::Other, _) => "object",
            Thing::Incoming(_) => "incoming",
            Thing::Timeline(_) => "timeline",
        }
    }

    /// Returns its id in full.
    pub(crate) fn id(self) -> String {
        match self {
            Thing::Object(_, id) | Thing::Incoming(id) => id.to_string(),
            Thing::Timeline(id) => id.to_string(),
        }
    }

    fn parse(kind: &str, id: &str) -> Option<Thing> {
        let object = |kind| Some(Thing::Object(kind, id.parse().ok()?));
        match kind {
            "commit" => object(Kind::Commit),
            "map" => object(Kind::Map),
            "layer" => object(Kind::Layer),
            "object" => object(Kind::Other),
            "incoming" => Some(Thing::Incoming(id.parse().ok()?)),
            "timeline" => Some(Thing::Timeline(id.parse().ok()?)),
            _ => None,
        }
    }
}

/// Something that was found to be garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condemned {
    /// What.
    pub thing: Thing,
    /// When, in microseconds since 1970 by our own clock.
    pub time: i64,
    /// The file, or directory, that it was then.
    pub file: StoredFile,
}

impl Condemned {
    /// Returns true when both are of the same file: nobody put the thing again in between.
    pub(crate) fn is_same(&self, other: &Condemned) -> bool {
        let same_length = self.file.len == other.file.len || matches!(self.thing, Thing::Timeline(_));
        self.thing == other.thing && self.file.inode == other.file.inode && same_length
    }
}

impl fmt::Display for Condemned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id) = (self.thing.kind(), self.thing.id());
        write!(
            f,
            "{} {kind} {id} {} {}",
            self.time, self.file.len, self.file.inode
        )
    }
}

impl FromStr for Condemned {
    type Err = ();

    fn from_str(line: &str) -> std::result::Result<Condemned, ()> {
        let mut fields = line.split(' ');
        let mut condemned = || {
            let time = fields.next()?.parse().ok()?;
            let thing = Thing::parse(fields.next()?, fields.next()?)?;
            let len = fields.next()?.parse().ok()?;
            let inode = fields.next()?.parse().ok()?;
            let file = StoredFile { len, inode };
            fields.next().is_none().then_some(Condemned { thing, time, file })
        };
        condemned().ok_or(())
    }
}

fn decode(text: &str) -> Option<Vec<Condemned>> {
    let (body, checksum) = text.strip_suffix('\n')?.rsplit_once(CHECKSUM)?;
    if blake3::hash(body.as_bytes()).to_hex().as_str() != checksum {
        return None;
    }
    let mut lines = body.lines();
    if lines.next() != Some(FIRST_LINE) {
        return None;
    }
    lines.map(|line| line.parse().ok()).collect()
}

fn encode(list: &[Condemned]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for condemned in list {
        text.push_str(&format!("{condemned}\n"));
    }
    let checksum = blake3::hash(text.as_bytes()).to_hex();
    text.push_str(&format!("{CHECKSUM}{checksum}\n"));
    text
}

/// Returns the list; empty when it is missing or damaged.
pub(crate) fn read(neon_dir: &Path) -> Vec<Condemned> {
    let mut text = String::new();
    let read = File::open(neon_dir.join(FILE)).and_then(|file| file.take(MAX_LIST).read_to_string(&mut text));
    match read {
        Ok(_) => decode(&text).unwrap_or_else(|| {
            tracing::warn!("the list of what is condemned is damaged: everything in it is condemned anew");
            Vec::new()
        }),
        Err(_) => Vec::new(),
    }
}

/// Returns true when there is a list that cannot be understood.
pub(crate) fn is_damaged(neon_dir: &Path) -> bool {
    std::fs::read(neon_dir.join(FILE))
        .is_ok_and(|bytes| std::str::from_utf8(&bytes).ok().and_then(decode).is_none())
}

/// Replaces the list durably; without anything to list there is none.
pub(crate) fn write(neon_dir: &Path, list: &[Condemned]) -> Result<()> {
    let path = neon_dir.join(FILE);
    if list.is_empty() {
        durable::remove(&path)?;
        return Ok(());
    }
    let listed = list.get(..MAX_ENTRIES).unwrap_or(list);
    Ok(durable::replace(&path, encode(listed).as_bytes(), 0o600)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Behind a checksum that is right, too.
        #[test]
        fn any_text_is_a_list_or_damaged(body in "(-?[0-9]{1,20}|[a-z]{1,9}|[0-9a-f]{64}| |\n|\\PC){0,60}") {
            let text = format!("{FIRST_LINE}\n{body}");
            let checksum = blake3::hash(text.as_bytes()).to_hex();
            if let Some(list) = decode(&format!("{text}{CHECKSUM}{checksum}\n")) {
                prop_assert_eq!(decode(&encode(&list)), Some(list));
            }
        }

        #[test]
        fn a_line_is_read_as_it_was_written(
            time: i64, kind in 0usize..6, id: [u8; 32], len: u64, inode: u64,
        ) {
            let word = ["commit", "map", "layer", "object", "incoming", "timeline"][kind];
            let id = match word {
                "timeline" => TimelineId(*id.first_chunk().unwrap()).to_string(),
                _ => ObjectId::from_bytes(id).to_string(),
            };
            let line = format!("{time} {word} {id} {len} {inode}");
            let read: Condemned = line.parse().expect("a line");
            prop_assert_eq!(read.to_string(), line);
        }
    }

    fn sample() -> Vec<Condemned> {
        let object = ObjectId::from_bytes([0xab; 32]);
        let things = [
            Thing::Object(Kind::Commit, object),
            Thing::Object(Kind::Map, object),
            Thing::Object(Kind::Layer, object),
            Thing::Object(Kind::Other, object),
            Thing::Incoming(object),
            Thing::Timeline(TimelineId([0xcd; 16])),
        ];
        let condemned = |(number, thing)| Condemned {
            thing,
            time: number as i64 - 3,
            file: StoredFile {
                len: number as u64 * 1000,
                inode: 77,
            },
        };
        things.into_iter().enumerate().map(condemned).collect()
    }

    /// The format may not drift.
    #[test]
    fn the_golden_list_is_read_and_written_the_same() {
        let text = encode(&sample());
        assert_eq!(decode(&text), Some(sample()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# neon condemned 1");
        assert_eq!(lines[1], format!("-3 commit {} 0 77", "ab".repeat(32)));
        assert_eq!(lines[6], format!("2 timeline {} 5000 77", "cd".repeat(16)));
        assert_eq!(lines[7].len(), CHECKSUM.len() + 64);
        assert_eq!(lines.len(), 8);
    }

    #[test]
    fn damage_condemns_nothing() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &sample()).unwrap();
        assert_eq!(read(directory.path()), sample());
        let text = std::fs::read(directory.path().join(FILE)).unwrap();
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            std::fs::write(directory.path().join(FILE), &damaged).unwrap();
            assert_eq!(read(directory.path()), [], "byte {at}");
            std::fs::write(directory.path().join(FILE), &text[..at]).unwrap();
            assert_eq!(read(directory.path()), [], "cut at {at}");
        }
        write(directory.path(), &[]).unwrap();
        assert!(!directory.path().join(FILE).exists());
        assert_eq!(read(directory.path()), []);
    }
}
