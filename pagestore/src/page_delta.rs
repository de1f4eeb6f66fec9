//! Page deltas: a full-page image as what differs from the page that it replaces.
//!
//! ```text
//! version u8 = 1 | base u64 | result u64 | steps: copy u16, from i16, new u16, bytes ...      (little-endian)
//! ```
//! `base` and `result` are the first 8 bytes of the BLAKE3 of the page before and of the page after. A step takes `copy` bytes of the
//! page before, which begin `from` bytes away from where they go, and `new` bytes that follow. Behind the last step
//! all is as it was. Pruning a page moves its tuples together: that is what `from` is for.

use neon_postgres::{BLCKSZ, Page};

const VERSION: u8 = 1;
const HEADER: usize = 17;
/// What is compared at once: Postgres aligns what it moves.
const WORD: usize = 8;
const WORDS: usize = BLCKSZ / WORD;
/// Words that are worth a step of their own.
const MIN_COPY: usize = 2;
/// Words that are copied without looking for more elsewhere.
const GOOD_COPY: usize = 16;
/// Differences, in words, that are not worth looking for what was moved.
const FEW: usize = 32;

type Words = [[u8; WORD]];

/// Bytes that both pages have: in the page after at `at`, in the page before at `from`.
#[derive(Clone, Copy, Debug)]
struct Copy {
    at: usize,
    from: usize,
    len: usize,
}

/// Returns what makes `result` of `base`.
pub(crate) fn encode(base: &Page, result: &Page) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&hash(base).to_le_bytes());
    out.extend_from_slice(&hash(result).to_le_bytes());
    let copies = copies(base.as_bytes(), result.as_bytes());
    let mut copies = copies.into_iter().peekable();
    let mut copy = copies.next_if(|copy| copy.at == 0).unwrap_or(Copy {
        at: 0,
        from: 0,
        len: 0,
    });
    loop {
        let next = copies.next();
        let begin = copy.at + copy.len;
        let end = next.map_or(BLCKSZ, |next| next.at);
        if begin == BLCKSZ && copy.from == copy.at {
            return out;
        }
        // A page has 8192 bytes.
        out.extend_from_slice(&(copy.len as u16).to_le_bytes());
        out.extend_from_slice(&(copy.from as u16).wrapping_sub(copy.at as u16).to_le_bytes());
        out.extend_from_slice(&((end - begin) as u16).to_le_bytes());
        out.extend_from_slice(result.as_bytes().get(begin..end).unwrap_or_default());
        match next {
            Some(next) => copy = next,
            None => return out,
        }
    }
}

/// Returns what can be copied, in the order of the page after.
fn copies(base: &[u8; BLCKSZ], result: &[u8; BLCKSZ]) -> Vec<Copy> {
    let (old, _) = base.as_chunks::<WORD>();
    let (new, _) = result.as_chunks::<WORD>();
    let different = old.iter().zip(new).filter(|(old, new)| old != new).count();
    let places = (different > FEW).then(|| Places::of(old));
    let mut copies: Vec<Copy> = Vec::new();
    let (mut at, mut moved) = (0, 0);
    while at < WORDS {
        let mut best = (common(old, new, at, at), at);
        if best.0 < GOOD_COPY
            && let Some(places) = &places
        {
            let as_before = at.wrapping_add(moved);
            let elsewhere = new.get(at).and_then(|word| places.find(word));
            for from in [Some(as_before), elsewhere].into_iter().flatten() {
                best = best.max_by_length((common(old, new, from, at), from));
            }
        }
        let (len, from) = best;
        if len < MIN_COPY {
            at += 1;
            continue;
        }
        moved = from.wrapping_sub(at);
        copies.push(Copy {
            at: at * WORD,
            from: from * WORD,
            len: len * WORD,
        });
        at += len;
    }
    widen(&mut copies, base, result);
    copies
}

trait Longest {
    /// Returns the longer one of two (length, place), the first one of equals.
    fn max_by_length(self, other: Self) -> Self;
}

impl Longest for (usize, usize) {
    fn max_by_length(self, other: Self) -> Self {
        if other.0 > self.0 { other } else { self }
    }
}

/// Returns how many words of the page before from `from` on are those of the page after from `at` on.
fn common(old: &Words, new: &Words, from: usize, at: usize) -> usize {
    let old = old.get(from..).unwrap_or_default();
    let new = new.get(at..).unwrap_or_default();
    old.iter().zip(new).take_while(|(old, new)| old == new).count()
}

/// Lets copies begin and end at bytes, not at words.
fn widen(copies: &mut [Copy], base: &[u8; BLCKSZ], result: &[u8; BLCKSZ]) {
    let mut begin = 0;
    for number in 0..copies.len() {
        let end = copies.get(number + 1).map_or(BLCKSZ, |next| next.at);
        let Some(copy) = copies.get_mut(number) else {
            return;
        };
        let before = |distance: &usize| {
            let (at, from) = (copy.at.checked_sub(*distance), copy.from.checked_sub(*distance));
            at.is_some_and(|at| at >= begin) && from.is_some() && {
                let old = from.and_then(|from| base.get(from));
                old == at.and_then(|at| result.get(at))
            }
        };
        let more = (1..WORD).take_while(before).count();
        (copy.at, copy.from, copy.len) = (copy.at - more, copy.from - more, copy.len + more);
        let after = |distance: &usize| {
            let (at, from) = (copy.at + copy.len + distance, copy.from + copy.len + distance);
            at < end && from < BLCKSZ && base.get(from) == result.get(at)
        };
        copy.len += (0..WORD - 1).take_while(after).count();
        begin = copy.at + copy.len;
    }
}

/// Where each word of a page is, of equal ones one place.
struct Places<'a> {
    words: &'a Words,
    slots: Box<[u16; Places::SLOTS]>,
}

impl Places<'_> {
    const BITS: u32 = 12;
    const SLOTS: usize = 1 << Places::BITS;

    fn of(words: &Words) -> Places<'_> {
        let mut slots = Box::new([u16::MAX; Places::SLOTS]);
        for (word, place) in words.iter().zip(0..) {
            if let Some(slot) = slots.get_mut(Places::slot(word)) {
                *slot = place;
            }
        }
        Places { words, slots }
    }

    fn slot(word: &[u8; WORD]) -> usize {
        let mixed = u64::from_le_bytes(*word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> (u64::BITS - Places::BITS)) as usize
    }

    fn find(&self, word: &[u8; WORD]) -> Option<usize> {
        let place = usize::from(*self.slots.get(Places::slot(word))?);
        (self.words.get(place) == Some(word)).then_some(place)
    }
}

/// Turns the page before into the page after, or says what is wrong: the delta is none, or it was made of another page.
pub(crate) fn apply(delta: &[u8], page: &mut Page) -> Result<(), &'static str> {
    const CUT: &str = "it is cut";
    const BEYOND: &str = "it reaches beyond the page";
    let (header, mut steps) = delta.split_first_chunk::<HEADER>().ok_or(CUT)?;
    let (version, hashes) = header.split_first().ok_or(CUT)?;
    if *version != VERSION {
        return Err("its format is not known");
    }
    let (hashes, _) = hashes.as_chunks::<8>();
    let [expected_base, expected] = hashes else {
        return Err(CUT);
    };
    let base = page.clone();
    let mut rest = page.as_bytes_mut().as_mut_slice();
    while !steps.is_empty() {
        let (step, more) = steps.split_first_chunk::<6>().ok_or(CUT)?;
        let [copy0, copy1, from0, from1, new0, new1] = *step;
        let copy = usize::from(u16::from_le_bytes([copy0, copy1]));
        let from = isize::from(i16::from_le_bytes([from0, from1]));
        let new = usize::from(u16::from_le_bytes([new0, new1]));
        let begin = (BLCKSZ - rest.len()).checked_add_signed(from).ok_or(BEYOND)?;
        let old = base.as_bytes().get(begin..begin + copy).ok_or(BEYOND)?;
        let (new, more) = more.split_at_checked(new).ok_or(CUT)?;
        for bytes in [old, new] {
            let (place, beyond) = std::mem::take(&mut rest)
                .split_at_mut_checked(bytes.len())
                .ok_or(BEYOND)?;
            place.copy_from_slice(bytes);
            rest = beyond;
        }
        steps = more;
    }
    // A wrong base makes a wrong result, so one hash is enough where all is well.
    if hash(page).to_le_bytes() == *expected {
        Ok(())
    } else if hash(&base).to_le_bytes() == *expected_base {
        Err("it does not lead to the page that it says")
    } else {
        Err("it was made of another page than the one before")
    }
}

fn hash(page: &Page) -> u64 {
    let hash = blake3::hash(page.as_bytes());
    hash.as_bytes()
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(changes: &[(usize, u8)]) -> Page {
        let mut page = Page::zeroed();
        for (at, byte) in changes {
            page.as_bytes_mut()[at % BLCKSZ] = *byte;
        }
        page
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let base = Page::zeroed();
        let result = page(&[(20, 1), (22, 2), (8191, 3)]);
        let delta = encode(&base, &result);
        assert_eq!(delta[..1], [1]);
        assert_eq!(delta[17..26], [20, 0, 0, 0, 3, 0, 1, 0, 2]);
        assert_eq!(delta[26..], [0xe8, 0x1f, 0, 0, 1, 0, 3]);
        assert_eq!(encode(&base, &base).len(), 17);
    }

    #[test]
    fn what_was_moved_is_not_repeated() {
        let mut base = Page::zeroed();
        let mut noise = 1_u64;
        for byte in base.as_bytes_mut().iter_mut().skip(1000) {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (noise >> 56) as u8;
        }
        let mut result = base.clone();
        result.as_bytes_mut().copy_within(1000..6000, 1240);
        result.as_bytes_mut()[3000] ^= 0xff;
        let delta = encode(&base, &result);
        assert!(delta.len() < 100, "{} bytes", delta.len());
        assert_eq!(delta[17..23], [0xd8, 0x04, 0, 0, 0, 0], "1240 bytes stay");
        assert_eq!(
            delta[23..30],
            [0xe0, 0x06, 0x10, 0xff, 1, 0, !base.as_bytes()[2760]],
            "1760 bytes come from 240 bytes below, 1 is new"
        );
        let mut made = base.clone();
        assert_eq!(apply(&delta, &mut made), Ok(()));
        assert!(made == result);
    }

    #[test]
    fn another_base_and_damage_are_told() {
        let (base, result) = (page(&[(5, 5)]), page(&[(5, 5), (100, 7)]));
        let delta = encode(&base, &result);
        assert_eq!(
            apply(&delta, &mut Page::zeroed()),
            Err("it was made of another page than the one before")
        );
        for len in 0..delta.len() {
            assert!(apply(&delta[..len], &mut base.clone()).is_err());
        }
        let mut wrong = delta.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(
            apply(&wrong, &mut base.clone()),
            Err("it does not lead to the page that it says")
        );
        let mut beyond = delta;
        beyond[17..19].copy_from_slice(&8192u16.to_le_bytes());
        assert_eq!(
            apply(&beyond, &mut base.clone()),
            Err("it reaches beyond the page")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_delta_leads_from_one_page_to_the_other(
            old in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..200),
            new in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..200),
        ) {
            let (base, result) = (page(&old), page(&new));
            let mut made = base.clone();
            prop_assert_eq!(apply(&encode(&base, &result), &mut made), Ok(()));
            prop_assert!(made == result);
        }

        #[test]
        fn and_so_it_does_where_bytes_were_moved(
            old in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..2000),
            moves in proptest::collection::vec((0..BLCKSZ, 0..BLCKSZ, 0..BLCKSZ), 0..20),
            new in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..20),
        ) {
            let base = page(&old);
            let mut result = base.clone();
            for (from, to, len) in moves {
                let len = len.min(BLCKSZ - from.max(to));
                result.as_bytes_mut().copy_within(from..from + len, to);
            }
            for (at, byte) in new {
                result.as_bytes_mut()[at % BLCKSZ] = byte;
            }
            let mut made = base.clone();
            prop_assert_eq!(apply(&encode(&base, &result), &mut made), Ok(()));
            prop_assert!(made == result);
        }

        #[test]
        fn any_bytes_are_an_error_or_a_page(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut delta = vec![VERSION];
            delta.extend(bytes);
            prop_assert!(apply(&delta, &mut Page::zeroed()).is_err());
        }
    }
}
