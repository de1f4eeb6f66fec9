//! The WAL and the control file with which a stock server starts at a position without replay.
//!
//! The server is told that it was stopped cleanly: `pg_control` names a shutdown checkpoint, and the only thing in `pg_wal`
//! is the segment (two, if the record crosses into the next) that holds it at the position. Before the position that
//! segment has valid page headers where the server reads them, and zeros elsewhere. Everything is a function of the
//! position, the state there and the timeline: no clock.

use neon_types::Lsn;

use crate::checkpoint::CheckpointState;
use crate::control::{CheckPoint, ControlError, DbState};
use crate::wal::segment::{self, PageHeader};
use crate::wal::{RecordBuilder, StreamParams, StreamWriter, rmgr};
use crate::{BLCKSZ, PgVersion};

/// What to put into a data directory for it to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootWal {
    /// Start of the shutdown checkpoint's record.
    pub checkpoint_lsn: Lsn,
    /// End of that record: where the server goes on.
    pub end: Lsn,
    /// Number and whole contents of each segment file; their names are [`segment::file_name`] with `boot_tli`.
    pub segments: Vec<(u64, Vec<u8>)>,
    /// `global/pg_control`, 8192 bytes.
    pub control: Vec<u8>,
}

/// Returns what makes a server start at `position`, the end of the record that `state` describes, on timeline `boot_tli`. If
/// that is not the timeline of `state`, a history file must say that it forks from it at `position`. Of `params`, the
/// timeline is not used.
pub fn boot_wal(
    params: &StreamParams,
    position: Lsn,
    state: &CheckpointState,
    boot_tli: u32,
) -> Result<BootWal, ControlError> {
    let params = StreamParams {
        tli: boot_tli,
        ..*params
    };
    let checkpoint_lsn = segment::skip_header(position, params.segment_size);
    let point = CheckPoint {
        redo: checkpoint_lsn,
        tli: boot_tli,
        prev_tli: state.checkpoint.tli,
        time: state.last_unix_time(),
        oldest_active_xid: 0,
        ..state.checkpoint
    };
    let mut stream = StreamWriter::new(params, position, state.last_record);
    let record = RecordBuilder::new(params.version, rmgr::XLOG, 0x00).main(&point.encode(params.version));
    let (_, end) = stream.push(record);
    Ok(BootWal {
        checkpoint_lsn,
        end,
        segments: segments(&params, position, &stream.into_bytes()),
        control: control(params.version, state, checkpoint_lsn, &point)?,
    })
}

/// Returns the segments that hold `stream`, whose first byte is at `position`.
fn segments(params: &StreamParams, position: Lsn, stream: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let size = u64::from(params.segment_size);
    let first = position.segment(size);
    let offset = position.segment_offset(size) as usize;
    let segment_start = Lsn(first * size);

    let mut bytes = vec![0; offset];
    let mut put_header = |page: Lsn| {
        let header = PageHeader::new(params, page, 0).to_bytes();
        let at = page.segment_offset(size) as usize;
        for (to, from) in bytes.iter_mut().skip(at).zip(header) {
            *to = from;
        }
    };
    if offset > 0 {
        put_header(segment_start);
        put_header(Lsn(position.0 - position.0 % BLCKSZ as u64));
    }
    bytes.extend_from_slice(stream);
    let whole = bytes.len().next_multiple_of(size as usize);
    bytes.resize(whole, 0);
    (first..)
        .zip(bytes.chunks(size as usize).map(<[u8]>::to_vec))
        .collect()
}

fn control(
    version: PgVersion,
    state: &CheckpointState,
    checkpoint_lsn: Lsn,
    point: &CheckPoint,
) -> Result<Vec<u8>, ControlError> {
    let mut control = state.control_file()?;
    if control.version() != version {
        return Err(ControlError::Version {
            control: control.version().control_version(),
            catalog: control.version().catalog_version(),
        });
    }
    control.set_state(DbState::ShutDowned);
    control.set_time(point.time);
    control.set_checkpoint(checkpoint_lsn, point);
    control.clear_recovery();
    Ok(control.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ControlFile;
    use crate::control::tests::sample;
    use crate::records::xlog::XlogRecord;
    use crate::wal::{Record, WalDecoder};

    fn params(version: PgVersion) -> StreamParams {
        StreamParams {
            version,
            system_id: sample(version).system_id(),
            tli: 1,
            segment_size: 1 << 20,
        }
    }

    fn state(version: PgVersion) -> CheckpointState {
        let mut state = CheckpointState::from_control(&sample(version));
        state.last_time = 800_000_000_000_001;
        state.last_record = Lsn(0x100_0100);
        state
    }

    /// Places where page headers come in between: inside a page, at its start, at the start of a segment, 8 bytes before
    /// the end of a page and of a segment.
    const POSITIONS: [u64; 6] = [
        0x200_0378, 0x560_8000, 0x600_0000, 0x568_FFF8, 0x6FF_FFF8, 0x6FF_FFA0,
    ];

    #[test]
    fn the_record_decodes_at_every_kind_of_position() {
        for version in PgVersion::ALL {
            for position in POSITIONS.map(Lsn) {
                let (params, state) = (params(version), state(version));
                let boot = boot_wal(&params, position, &state, 0x5A1).unwrap();
                assert!(boot.segments.iter().all(|(_, bytes)| bytes.len() == 1 << 20));
                let crosses = boot.end.segment(1 << 20) != position.segment(1 << 20);
                assert_eq!(boot.segments.len(), 1 + usize::from(crosses), "{position}");

                let stream: Vec<u8> = boot
                    .segments
                    .iter()
                    .flat_map(|(_, bytes)| bytes.clone())
                    .collect();
                let from = position.segment_offset(1 << 20) as usize;
                let mut decoder = WalDecoder::new(
                    StreamParams { tli: 0x5A1, ..params },
                    position,
                    Some(state.last_record),
                );
                decoder.feed(&stream[from..]);
                let raw = decoder.next_record().unwrap().unwrap();
                assert_eq!((raw.start, raw.end), (boot.checkpoint_lsn, boot.end));
                assert_eq!(raw.bytes.len(), 114);
                let record = Record::decode(version, raw.bytes).unwrap();
                let Ok(XlogRecord::CheckpointShutdown(point)) = XlogRecord::decode(&record) else {
                    panic!("not a shutdown checkpoint");
                };
                assert_eq!(
                    (point.redo, point.tli, point.prev_tli),
                    (boot.checkpoint_lsn, 0x5A1, 1)
                );
                assert_eq!(point.time, 946_684_800 + 800_000_000);
                assert!(decoder.next_record().is_err(), "something follows the record");

                let control = ControlFile::parse(&boot.control).unwrap();
                assert_eq!(
                    (control.state(), control.checkpoint_lsn()),
                    (Some(DbState::ShutDowned), raw.start)
                );
                assert_eq!(control.checkpoint(), point);
            }
        }
    }

    #[test]
    fn the_prefix_is_zeros_but_for_the_headers_that_are_read() {
        let (params, state) = (params(PgVersion::V15), state(PgVersion::V15));
        let boot = boot_wal(&params, Lsn(0x200_4378), &state, 1).unwrap();
        let (number, bytes) = &boot.segments[0];
        assert_eq!(*number, 0x20);
        for (at, size) in [(0, 40), (0x4000, 24)] {
            let header = PageHeader::read(&bytes[at..at + size]).unwrap();
            assert_eq!(
                (header.address, header.remaining, header.tli),
                (Lsn(0x200_0000 + at as u64), 0, 1)
            );
        }
        assert!(
            bytes[40..0x4000]
                .iter()
                .chain(&bytes[0x4018..0x4378])
                .all(|byte| *byte == 0)
        );
        assert_eq!(boot, boot_wal(&params, Lsn(0x200_4378), &state, 1).unwrap());
    }
}
