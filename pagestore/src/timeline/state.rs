//! The state file of a timeline: the only thing of it that changes in place.
//!
//! TOML, so that a person can read it, and a last line `# crc32c XXXXXXXX` over everything before that line. Replaced by
//! writing a new file, fsync, rename, fsync of the directory. docs/format/timeline.md lists the fields.

use std::path::Path;

use neon_objects::{Attestation, durable};
use neon_postgres::PgVersion;
use neon_types::{LayerMapId, Lsn, ObjectId, Position, RepoId, TimelineId, checked_text, with_checksum};
use serde::{Deserialize, Serialize};

use crate::gc::Spans;
use crate::{PageStoreError, Result, Timeline, import};

/// Version of the format of state files.
const FORMAT: u32 = 1;
/// Longest state file, in bytes.
const MAX_STATE: usize = 1 << 20;
pub(crate) const STATE_FILE: &str = "state";
/// The writer of an import: it is never extended, those who write on it fork first.
pub(crate) const NOBODY: RepoId = RepoId([0; 16]);

/// What a timeline is, and where what is held of it begins and ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineState {
    format: u32,
    /// Its id, which is also the name of its directory.
    pub id: TimelineId,
    /// The repository that alone may extend it.
    pub writer: RepoId,
    /// The branch that it is open for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// It becomes history only with the first transaction (law 3).
    pub provisional: bool,
    /// Highest LSN ever committed; raised before any ref names it.
    pub published_end: Lsn,
    /// Its number for Postgres.
    pub tli: u32,
    /// Where it begins: the fork, or the end of the import.
    pub start: Lsn,
    /// `system_identifier` of the cluster.
    #[serde(with = "decimal")]
    pub system_id: u64,
    /// Postgres version.
    pub version: PgVersion,
    /// Bytes in a WAL segment.
    pub segment_size: u32,
    /// Hint bits are WAL-logged: data checksums or `wal_log_hints` are on.
    pub hints_logged: bool,
    /// The map of its layers and its ancestors'; none while nothing is sealed and reads go through the ancestor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_map: Option<LayerMapId>,
    /// Up to here the layer map serves everything; equal to `start` when nothing is sealed.
    pub sealed: Lsn,
    /// End of the last record below `sealed` that makes history (law 3): what follows it is housekeeping. None: not known, and all of it may
    /// make history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub significant: Option<Lsn>,
    /// WAL is kept from here on at most: the start, or where received layers end.
    pub wal_base: Lsn,
    /// Where it forks off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ancestor: Option<Position>,
    /// What it was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportFacts>,
    /// The positions that can be read here, where history was dropped; none when all can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readable: Option<Spans>,
}

/// Of an import, what its id was derived from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportFacts {
    /// Start of the shutdown checkpoint record, which ends where the timeline begins.
    pub prev_record: Lsn,
    /// BLAKE3 of the canonical (key, page) in key order, 64 hex digits.
    pub digest: String,
    /// TLI of the imported cluster.
    pub tli: u32,
}

impl ImportFacts {
    /// Returns the id of the timeline of that import, none when its digest is not one.
    pub(crate) fn timeline_id(&self, system_id: u64, lsn: Lsn) -> Option<TimelineId> {
        let digest: ObjectId = self.digest.parse().ok()?;
        Some(import::timeline_id(system_id, self.tli, lsn, &digest.to_bytes()))
    }
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    // TOML integers are signed.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What all timelines of a cluster have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// `system_identifier`
    pub system_id: u64,
    /// Postgres version.
    pub version: PgVersion,
    /// Bytes in a WAL segment.
    pub segment_size: u32,
    /// Hint bits are WAL-logged.
    pub hints_logged: bool,
}

impl TimelineState {
    pub(crate) fn new(
        id: TimelineId,
        writer: RepoId,
        tli: u32,
        start: Lsn,
        cluster: ClusterFacts,
    ) -> TimelineState {
        TimelineState {
            format: FORMAT,
            id,
            writer,
            branch: None,
            provisional: false,
            published_end: start,
            tli,
            start,
            system_id: cluster.system_id,
            version: cluster.version,
            segment_size: cluster.segment_size,
            hints_logged: cluster.hints_logged,
            layer_map: None,
            sealed: start,
            significant: Some(start),
            wal_base: start,
            ancestor: None,
            import: None,
            readable: None,
        }
    }

    /// Returns what all timelines of its cluster have in common.
    pub fn cluster(&self) -> ClusterFacts {
        ClusterFacts {
            system_id: self.system_id,
            version: self.version,
            segment_size: self.segment_size,
            hints_logged: self.hints_logged,
        }
    }

    /// Returns what a peer needs beside id, ancestor, TLI, writer and start to make the same timeline: TOML.
    pub fn facts(&self) -> Vec<u8> {
        let facts = Facts {
            format: FORMAT,
            system_id: self.system_id,
            version: self.version,
            segment_size: self.segment_size,
            hints_logged: self.hints_logged,
            import: self.import.clone(),
        };
        toml_edit::ser::to_string(&facts).unwrap_or_default().into_bytes()
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let text = toml_edit::ser::to_string_pretty(self)
            .map_err(|error| PageStoreError::damaged("a timeline's state", error))?;
        Ok(with_checksum(&text).into_bytes())
    }

    pub(crate) fn decode(id: TimelineId, bytes: &[u8]) -> Result<TimelineState> {
        let damaged = |reason: String| PageStoreError::DamagedState { timeline: id, reason };
        let text = checked_text(bytes).map_err(|error| damaged(error.to_string()))?;
        let state: TimelineState =
            toml_edit::de::from_str(text).map_err(|error| damaged(error.to_string()))?;
        if state.format != FORMAT {
            return Err(damaged(format!(
                "its format is {}, this program reads {FORMAT}",
                state.format
            )));
        }
        if state.id != id {
            return Err(damaged(format!("it is that of timeline {}", state.id)));
        }
        let ordered = state.start <= state.sealed && state.start <= state.wal_base;
        let forks_here = state.ancestor.is_none_or(|ancestor| ancestor.lsn == state.start);
        let sound = state.readable.as_ref().is_none_or(Spans::is_sound);
        if !ordered
            || !sound
            || !forks_here
            || !neon_postgres::wal::segment::is_valid_size(state.segment_size)
        {
            return Err(damaged("its fields contradict each other".to_owned()));
        }
        Ok(state)
    }

    pub(crate) fn read(id: TimelineId, directory: &Path) -> Result<TimelineState> {
        let path = directory.join(STATE_FILE);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(PageStoreError::NoSuchTimeline(id));
            }
            result => result.map_err(PageStoreError::io("read", &path))?,
        };
        if bytes.len() > MAX_STATE {
            return Err(PageStoreError::DamagedState {
                timeline: id,
                reason: format!("it has {} bytes", bytes.len()),
            });
        }
        TimelineState::decode(id, &bytes)
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        Ok(durable::replace(
            &directory.join(STATE_FILE),
            &self.encode()?,
            0o600,
        )?)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    format: u32,
    #[serde(with = "decimal")]
    system_id: u64,
    version: PgVersion,
    segment_size: u32,
    hints_logged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<ImportFacts>,
}

/// A timeline that another repository made, as it describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedTimeline {
    /// Its id.
    pub id: TimelineId,
    /// Where it forks off; none for an import.
    pub ancestor: Option<Position>,
    /// Its number for Postgres.
    pub tli: u32,
    /// The repository that alone may extend it.
    pub writer: RepoId,
    /// Where it begins.
    pub start: Lsn,
    /// [`TimelineState::facts`] of the sender.
    pub facts: Vec<u8>,
    /// What its writer signed of it, as far as the sender says.
    pub attestations: Vec<Attestation>,
}

impl ReceivedTimeline {
    /// Checks that an import has the id that is made of what it says of itself, and that nobody writes it.
    pub fn check_import(&self) -> Result<()> {
        let state = self.state()?;
        let Some(import) = &state.import else {
            return Ok(());
        };
        let fits = import.timeline_id(state.system_id, self.start) == Some(self.id)
            && import.tli == self.tli
            && import.prev_record < self.start
            && self.writer == NOBODY;
        if fits {
            return Ok(());
        }
        Err(PageStoreError::Refused {
            timeline: self.id,
            reason: "its id is not that of the import that it says it is".to_owned(),
        })
    }

    /// Checks that this is what we know of the timeline.
    pub fn check_same(&self, ours: &TimelineState) -> Result<()> {
        let theirs = self.state()?;
        let differs = |what: &str| {
            Err(PageStoreError::Refused {
                timeline: self.id,
                reason: format!("{what} of it is another one here"),
            })
        };
        if theirs.writer != ours.writer {
            return differs("the writer");
        }
        if (theirs.ancestor, theirs.start) != (ours.ancestor, ours.start) {
            return differs("the start");
        }
        if theirs.tli != ours.tli {
            return differs("the number");
        }
        if theirs.cluster() != ours.cluster() {
            return differs("the cluster");
        }
        if theirs.import != ours.import {
            return differs("the import");
        }
        Ok(())
    }

    /// Checks that its writer signed that it reaches `to`, and nothing that the WAL which `timeline` keeps contradicts.
    pub(crate) fn check_signed(&self, timeline: &Timeline, to: Lsn) -> Result<()> {
        let refused = |reason: String| {
            Err(PageStoreError::Refused {
                timeline: self.id,
                reason,
            })
        };
        if to <= self.start {
            return Ok(());
        }
        if self.writer == NOBODY {
            return refused("an import is never written on".to_owned());
        }
        let forged = |attestation: &&Attestation| !attestation.is_by(self.writer, self.id);
        if let Some(attestation) = self.attestations.iter().find(forged) {
            return refused(format!(
                "the signature of {} is not its writer's",
                attestation.range
            ));
        }
        if !self
            .attestations
            .iter()
            .any(|attestation| attestation.range.end >= to)
        {
            return refused(format!("its writer has not signed that it reaches {to}"));
        }
        for attestation in self
            .attestations
            .iter()
            .filter(|attestation| attestation.range.end <= to)
        {
            let here = timeline.wal_digest(attestation.range)?;
            if here.is_some_and(|here| here != attestation.blake3) {
                return refused(format!(
                    "the WAL of {} is not the one that its writer signed",
                    attestation.range
                ));
            }
        }
        Ok(())
    }

    /// Returns the state of a timeline of which nothing is held yet.
    pub fn state(&self) -> Result<TimelineState> {
        let refused = |reason: String| PageStoreError::Refused {
            timeline: self.id,
            reason,
        };
        if self.facts.len() > MAX_STATE {
            return Err(refused(format!("its facts have {} bytes", self.facts.len())));
        }
        let text = std::str::from_utf8(&self.facts).map_err(|error| refused(error.to_string()))?;
        let facts: Facts = toml_edit::de::from_str(text).map_err(|error| refused(error.to_string()))?;
        if facts.format != FORMAT || !neon_postgres::wal::segment::is_valid_size(facts.segment_size) {
            return Err(refused(
                "its facts are not of a form that this program knows".to_owned(),
            ));
        }
        let forks_here = self.ancestor.is_none_or(|ancestor| ancestor.lsn == self.start);
        if !forks_here
            || self.ancestor.is_none() != facts.import.is_some()
            || !self.start.0.is_multiple_of(8)
            || !self.start.is_valid()
        {
            return Err(refused(
                "its start is not where it forks or was imported".to_owned(),
            ));
        }
        let cluster = ClusterFacts {
            system_id: facts.system_id,
            version: facts.version,
            segment_size: facts.segment_size,
            hints_logged: facts.hints_logged,
        };
        let mut state = TimelineState::new(self.id, self.writer, self.tli, self.start, cluster);
        state.ancestor = self.ancestor;
        state.import = facts.import;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::Span;

    fn sample() -> TimelineState {
        let cluster = ClusterFacts {
            system_id: u64::MAX,
            version: PgVersion::V17,
            segment_size: 16 << 20,
            hints_logged: true,
        };
        let mut state = TimelineState::new(
            TimelineId([0xab; 16]),
            RepoId([1; 16]),
            4097,
            Lsn(0x1_0000_0028),
            cluster,
        );
        state.branch = Some("main".to_owned());
        state.layer_map = Some(LayerMapId(neon_types::ObjectId::from_bytes([5; 32])));
        state.ancestor = Some(Position {
            timeline: TimelineId([2; 16]),
            lsn: state.start,
        });
        state
    }

    /// The format may not drift.
    const GOLDEN: &str = r#"format = 1
id = "abababababababababababababababab"
writer = "01010101010101010101010101010101"
branch = "main"
provisional = false
published_end = "1/28"
tli = 4097
start = "1/28"
system_id = "18446744073709551615"
version = 17
segment_size = 16777216
hints_logged = true
layer_map = "0505050505050505050505050505050505050505050505050505050505050505"
sealed = "1/28"
significant = "1/28"
wal_base = "1/28"

[ancestor]
timeline = "02020202020202020202020202020202"
lsn = "1/28"
"#;

    #[test]
    fn the_golden_state_is_read_and_written_the_same() {
        let text = String::from_utf8(sample().encode().unwrap()).unwrap();
        assert_eq!(text, with_checksum(GOLDEN));
        let id = sample().id;
        assert_eq!(TimelineState::decode(id, text.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn what_can_be_read_is_in_the_state() {
        let mut state = sample();
        state.readable = Some(
            [Span::since(Lsn(0x30)), Span::at(Lsn(0x18))]
                .into_iter()
                .collect(),
        );
        let text = String::from_utf8(state.encode().unwrap()).unwrap();
        assert!(
            text.contains("[[readable]]\nfrom = \"0/18\"\nto = \"0/18\"\n"),
            "{text}"
        );
        assert_eq!(TimelineState::decode(state.id, text.as_bytes()).unwrap(), state);
        let body = checked_text(text.as_bytes()).unwrap();
        let swapped = with_checksum(&body.replace("0/18", "0/50"));
        assert!(
            TimelineState::decode(state.id, swapped.as_bytes()).is_err(),
            "out of order"
        );
    }

    #[test]
    fn damage_is_named() {
        let bytes = sample().encode().unwrap();
        let id = sample().id;
        let refused = |bytes: &[u8]| {
            matches!(
                TimelineState::decode(id, bytes),
                Err(PageStoreError::DamagedState { .. })
            )
        };
        for at in 0..bytes.len() - 1 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(refused(&damaged), "byte {at}");
        }
        assert!(refused(b"") && refused(&bytes[..bytes.len() / 2]));
        assert!(
            TimelineState::decode(TimelineId([0; 16]), &bytes).is_err(),
            "another timeline's"
        );
    }

    #[test]
    fn facts_carry_what_a_peer_needs() {
        let state = sample();
        let received = ReceivedTimeline {
            id: state.id,
            ancestor: state.ancestor,
            tli: state.tli,
            writer: state.writer,
            start: state.start,
            facts: state.facts(),
            attestations: Vec::new(),
        };
        let made = received.state().unwrap();
        assert_eq!(made.cluster(), state.cluster());
        assert_eq!((made.layer_map, made.sealed), (None, state.start));
        for bad in [
            ReceivedTimeline {
                facts: b"format = 9".to_vec(),
                ..received.clone()
            },
            ReceivedTimeline {
                ancestor: None,
                ..received.clone()
            },
            ReceivedTimeline {
                start: Lsn(16),
                ..received
            },
        ] {
            assert!(bad.state().is_err());
        }
    }
}
