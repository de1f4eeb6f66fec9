//! Control files as initdb leaves them, and changes to them.

use super::*;

/// Returns a control file of that version as initdb would leave it, counters low, checksums on.
pub(crate) fn sample(version: PgVersion) -> ControlFile {
    let mut image = vec![0; crc_offset(version)];
    image[8..12].copy_from_slice(&version.control_version().to_le_bytes());
    image[12..16].copy_from_slice(&version.catalog_version().to_le_bytes());
    let mut control = ControlFile::from_image(&image).unwrap();
    control.set_system_id(0x1122_3344_5566_7788);
    for (at, value) in [
        (204, 8),
        (216, 8192),
        (220, RELSEG_BLOCKS),
        (224, 8192),
        (228, 16 << 20),
        (232, 64),
        (252, 1),
    ] {
        control.put(at, u32::to_le_bytes(value));
    }
    control.put(208, 1_234_567.0_f64.to_le_bytes());
    control.set_state(DbState::ShutDowned);
    let point = CheckPoint {
        redo: Lsn(0x100_0028),
        tli: 1,
        prev_tli: 1,
        full_page_writes: true,
        next_xid: 730,
        next_oid: 16384,
        next_multi: 1,
        next_multi_offset: 0,
        oldest_xid: 700,
        oldest_xid_db: 1,
        oldest_multi: 1,
        oldest_multi_db: 1,
        time: 1_700_000_000,
        ..CheckPoint::default()
    };
    control.set_checkpoint(Lsn(0x100_0028), &point);
    control
}

#[test]
fn files_round_trip_and_damage_is_seen() {
    for version in PgVersion::ALL {
        let control = sample(version);
        let file = control.encode();
        assert_eq!(file.len(), CONTROL_FILE_SIZE);
        assert_eq!(ControlFile::parse(&file), Ok(control.clone()));
        assert_eq!(ControlFile::from_image(control.image()), Ok(control.clone()));
        assert_eq!(control.check_layout(), Ok(()));
        assert_eq!(control.char_signed().is_some(), version == PgVersion::V18);
        for at in [0, 100, 287] {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(matches!(
                ControlFile::parse(&damaged),
                Err(ControlError::Crc { .. })
            ));
        }
        for length in 0..control.image().len() + 4 {
            assert!(ControlFile::parse(&file[..length]).is_err());
        }
    }
}

#[test]
fn another_layout_is_named() {
    let mut control = sample(PgVersion::V15);
    control.put(216, 32_768_u32.to_le_bytes());
    assert_eq!(
        control.check_layout(),
        Err(ControlError::Layout {
            what: "block size",
            found: 32_768,
            expected: 8192
        })
    );
}

#[test]
fn parameters_and_recovery_do_not_touch_their_neighbours() {
    let mut control = sample(PgVersion::V17);
    let before = control.clone();
    let mut parameters = control.parameters();
    parameters.max_connections = 101;
    parameters.track_commit_timestamp = true;
    control.set_parameters(&parameters);
    assert_eq!(control.parameters(), parameters);
    control.put(136, [0xff; 16]);
    control.put(152, [0xff; 17]);
    control.clear_recovery();
    parameters.max_connections = 0;
    parameters.track_commit_timestamp = false;
    control.set_parameters(&parameters);
    assert_eq!(control, before);
}
