//! So many of a kind in a while, and how many were left out. A decision without a clock.

/// How long a window is, in microseconds.
const WINDOW: i64 = 10_000_000;

/// Lets some through in each window of ten seconds and counts the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ration {
    each: u32,
    began: i64,
    taken: u32,
    left_out: u64,
}

impl Ration {
    /// Returns a ration of `each` in a window.
    pub fn new(each: u32) -> Ration {
        Ration {
            each,
            began: i64::MIN,
            taken: 0,
            left_out: 0,
        }
    }

    /// Takes one at `now` (microseconds); returns how many were left out since the last one that was let through, or nothing when this one
    /// is left out as well.
    pub fn take(&mut self, now: i64) -> Option<u64> {
        // A clock that was set back begins a window too.
        if !(0..WINDOW).contains(&now.saturating_sub(self.began)) {
            self.began = now;
            self.taken = 0;
        }
        if self.taken >= self.each {
            self.left_out += 1;
            return None;
        }
        self.taken += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_with_the_next_one() {
        let mut ration = Ration::new(2);
        let at = |ration: &mut Ration, second: i64| ration.take(second * 1_000_000);
        assert_eq!(at(&mut ration, 100), Some(0));
        assert_eq!(at(&mut ration, 101), Some(0));
        assert_eq!(at(&mut ration, 102), None);
        assert_eq!(at(&mut ration, 109), None);
        assert_eq!(at(&mut ration, 110), Some(2));
        assert_eq!(at(&mut ration, 50), Some(0), "the clock was set back");
        assert_eq!(at(&mut ration, 51), Some(0));
        assert_eq!(at(&mut ration, 52), None);
    }
}
