//! What the fuzz targets share: inputs with a structure, ways to change them, and what must hold for every one.
//!
//! A target gets arbitrary bytes and must answer with a value or an error: no panic, no overflow, no hang, no allocation
//! beyond what the bytes are worth. Where a length, a CRC or a link would turn nearly all inputs away at the door, the
//! harness puts it right, so that what is behind the door is reached.

pub mod case;
pub mod image;
pub mod ingest;
pub mod layer;
pub mod map;
pub mod mutate;
pub mod push;
pub mod records;
pub mod redo;
pub mod scratch;
pub mod stream;

/// Makes the target of the redo functions of these resource managers: inputs are [`case::Case`]s.
#[macro_export]
macro_rules! redo_target {
    ($($rmid:ident),+) => {
        const RMIDS: &[u8] = &[$(neon_postgres::wal::rmgr::$rmid),+];
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::redo::run(RMIDS, data));
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate::case(data, size, max_size, seed, &mut libfuzzer_sys::fuzzer_mutate)
        });
    };
}
