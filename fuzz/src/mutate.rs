//! Changes to inputs that keep their structure.

use crate::case::{Block, Case};

/// libFuzzer's own mutation of `data[..size]` in place: returns the new size, at most the last argument.
pub type Mutate<'a> = &'a mut dyn FnMut(&mut [u8], usize, usize) -> usize;

/// Offsets and lengths at which page arithmetic turns.
const EDGES: [u16; 16] = [
    0, 1, 2, 3, 7, 8, 23, 24, 25, 28, 8160, 8176, 8184, 8191, 8192, 0xFFFF,
];

/// A small generator of numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    /// Returns an offset below `length`, of which the low ones come more often.
    fn place(&mut self, length: usize) -> usize {
        let near = self.roll(length) + 1;
        self.roll(near)
    }
}

/// Changes one to three parts of the case in `data[..size]`; now and then lets libFuzzer change all of its bytes.
pub fn case(data: &mut [u8], size: usize, max_size: usize, seed: u32, mutate: Mutate<'_>) -> usize {
    let mut dice = Dice(u64::from(seed) << 16 | 0x9E37);
    if dice.roll(16) == 0 {
        return mutate(data, size, max_size);
    }
    let mut case = Case::decode(&data[..size]);
    for _ in 0..=dice.roll(3) {
        change(&mut case, &mut dice, mutate);
    }
    let bytes = case.encode();
    let length = bytes.len().min(max_size);
    data[..length].copy_from_slice(&bytes[..length]);
    length
}

fn change(case: &mut Case, dice: &mut Dice, mutate: Mutate<'_>) {
    let which = dice.roll(case.blocks.len());
    match dice.roll(16) {
        0..4 => bytes(&mut case.main, 2048, dice, mutate),
        4..8 => match case.blocks.get_mut(which) {
            Some(block) => bytes(&mut block.data, 8192, dice, mutate),
            None => case.blocks.push(Block::default()),
        },
        8..12 => page(&mut case.page, dice, mutate),
        12 => header(case, dice),
        13 => match case.blocks.get_mut(which) {
            Some(block) => reference(block, dice),
            None => case.blocks.push(Block::default()),
        },
        14 => edge(&mut case.main, dice),
        _ => match case.blocks.get_mut(which) {
            Some(block) => edge(&mut block.data, dice),
            None => edge(&mut case.page, dice),
        },
    }
}

/// Lets libFuzzer change all of `bytes`, or a stretch of it.
fn bytes(bytes: &mut Vec<u8>, limit: usize, dice: &mut Dice, mutate: Mutate<'_>) {
    if dice.roll(2) == 0 {
        let size = bytes.len();
        bytes.resize(limit.max(size), 0);
        let limit = bytes.len();
        let size = mutate(bytes, size, limit);
        bytes.truncate(size);
    } else {
        let at = dice.place(bytes.len());
        stretch(bytes, at, 16, mutate);
    }
}

/// Lets libFuzzer change up to `length` bytes from `at` on; the others stay where they are.
fn stretch(bytes: &mut [u8], at: usize, length: usize, mutate: Mutate<'_>) {
    let end = bytes.len().min(at + length);
    if let Some(part) = bytes.get_mut(at..end).filter(|part| !part.is_empty()) {
        let mut copy = part.to_vec();
        let size = mutate(&mut copy, part.len(), part.len()).min(part.len());
        part[..size].copy_from_slice(&copy[..size]);
    }
}

/// Changes header, line pointers, an item, the special space, or any place of a page.
fn page(page: &mut Vec<u8>, dice: &mut Dice, mutate: Mutate<'_>) {
    if page.len() < 8192 {
        page.resize(8192, 0);
    }
    let word = |page: &[u8], at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
    let lower = word(page, 12).clamp(24, 8192);
    match dice.roll(8) {
        0 => stretch(page, 10, 14, mutate),
        1 | 2 => stretch(page, 24 + 4 * dice.roll((lower - 24) / 4), 8, mutate),
        3 | 4 => {
            let pointer = 24 + 4 * dice.roll((lower - 24) / 4);
            let at = (word(page, pointer.min(8188)) & 0x7FFF) % 8192;
            let within = dice.place(40);
            stretch(page, at + within, 16, mutate);
        }
        5 => {
            let at = word(page, 16).min(8191);
            stretch(page, at, 64, mutate);
        }
        6 => {
            let at = 12 + 2 * dice.roll(3);
            let value = match dice.roll(3) {
                0 => EDGES[dice.roll(EDGES.len())],
                1 => (word(page, at) as u16).wrapping_add(4),
                _ => (word(page, at) as u16).wrapping_sub(4),
            };
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        _ => stretch(page, dice.roll(8192), 64, mutate),
    }
}

fn header(case: &mut Case, dice: &mut Dice) {
    let byte = dice.roll(256) as u8;
    match dice.roll(7) {
        0 => case.version = byte % 5,
        1 => case.hints = byte & 1,
        2 => case.index = byte % 5,
        3 => case.kind = byte % 4,
        4 => case.info = byte & 0xF0,
        5 => case.xid = case.xid.wrapping_add(u32::from(byte)),
        _ => case.blocks.push(Block {
            id: case.blocks.last().map_or(0, |block| block.id.wrapping_add(1)),
            ..Block::default()
        }),
    }
}

fn reference(block: &mut Block, dice: &mut Dice) {
    match dice.roll(4) {
        0 => block.id = dice.roll(6) as u8,
        1 => block.flags ^= [1, 2, 0x40][dice.roll(3)],
        2 => block.block = [0, 1, 2, 32671, 32672, u32::MAX - 1, u32::MAX][dice.roll(7)],
        _ => block.block = block.block.wrapping_add(1),
    }
}

/// Writes a number that is an edge of something at an even offset.
fn edge(bytes: &mut [u8], dice: &mut Dice) {
    let at = 2 * dice.place(bytes.len() / 2);
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&EDGES[dice.roll(EDGES.len())].to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stay_within_their_limit() {
        let mut grow = |data: &mut [u8], size: usize, max: usize| {
            let size = (size + 1).min(max);
            data[..size].fill(0xEE);
            size
        };
        for seed in 0..5_000 {
            let mut data = vec![0x11; 600];
            let size = case(&mut data, 300, 600, seed, &mut grow);
            assert!(size <= 600, "seed {seed}");
        }
    }
}
