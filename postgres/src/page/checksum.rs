//! The checksum that Postgres keeps in `pd_checksum`: 32 interleaved FNV-1a hashes over 32-bit words, folded to 16 bits.

use crate::BLCKSZ;

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;

/// Different start values, so that equal columns do not cancel out.
const SEEDS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The word that holds `pd_checksum` in its low half, which counts as zero.
const CHECKSUM_WORD: usize = 2;

fn mix(sum: u32, word: u32) -> u32 {
    let mixed = sum ^ word;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

/// Returns the checksum of `page` as block `block`, never 0.
pub(super) fn checksum(page: &[u8; BLCKSZ], block: u32) -> u16 {
    let (words, _) = page.as_chunks::<4>();
    let (rows, _) = words.as_chunks::<LANES>();
    let mut sums = SEEDS;
    for (row_number, row) in rows.iter().enumerate() {
        for (lane, (sum, word)) in sums.iter_mut().zip(row).enumerate() {
            let mut word = u32::from_le_bytes(*word);
            if row_number == 0 && lane == CHECKSUM_WORD {
                word &= 0xffff_0000;
            }
            *sum = mix(*sum, word);
        }
    }
    let folded = sums.iter().fold(0, |folded, sum| folded ^ mix(mix(*sum, 0), 0));
    ((folded ^ block) % 65535 + 1) as u16
}
