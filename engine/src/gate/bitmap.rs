//! One bit for each turn of a block.

use crate::limits::TURNS_PER_BLOCK;

const WORDS: usize = (TURNS_PER_BLOCK / 64) as usize;

/// The turns of one block that are still ahead of those behind them; bit `i` is the block's turn `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitmap(pub [u64; WORDS]);

impl Default for Bitmap {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Bitmap {
    #[must_use]
    pub const fn has(&self, bit: u32) -> bool {
        self.0[(bit / 64) as usize] & (1 << (bit % 64)) != 0
    }

    /// Sets the bit; whether it was clear.
    pub const fn set(&mut self, bit: u32) -> bool {
        let was = self.has(bit);
        self.0[(bit / 64) as usize] |= 1 << (bit % 64);
        !was
    }

    /// Clears the bit; whether it was set.
    pub const fn clear(&mut self, bit: u32) -> bool {
        let was = self.has(bit);
        self.0[(bit / 64) as usize] &= !(1 << (bit % 64));
        was
    }

    /// How many bits before `bit` are set.
    #[must_use]
    pub fn count_before(&self, bit: u32) -> u32 {
        let word = (bit / 64) as usize;
        let whole: u32 = self.0[..word].iter().map(|word| word.count_ones()).sum();
        let rest = self.0.get(word).map_or(0, |word| (word & ((1 << (bit % 64)) - 1)).count_ones());
        whole + rest
    }

    /// The first set bit at or after `bit`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "64 words")]
    pub fn next(&self, bit: u32) -> Option<u32> {
        let first = (bit / 64) as usize;
        let mut word = self.0.get(first)? & (u64::MAX << (bit % 64));
        let mut at = first;
        while word == 0 {
            at += 1;
            word = *self.0.get(at)?;
        }
        Some(at as u32 * 64 + word.trailing_zeros())
    }

    /// The set bits, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.next(0), |bit| self.next(bit + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::index::mix;

    #[test]
    fn agrees_with_a_set() {
        let (mut bits, mut set) = (Bitmap::default(), BTreeSet::new());
        for round in 0..20_000u64 {
            let draw = mix(round);
            let bit = u32::try_from(draw % u64::from(TURNS_PER_BLOCK)).unwrap();
            if draw >> 60 < 7 {
                assert_eq!(bits.set(bit), set.insert(bit));
            } else {
                assert_eq!(bits.clear(bit), set.remove(&bit));
            }
            assert_eq!(bits.has(bit), set.contains(&bit));
            assert_eq!(bits.count_before(bit) as usize, set.range(..bit).count());
            assert_eq!(bits.next(bit), set.range(bit..).next().copied());
        }
        assert!(bits.iter().eq(set.iter().copied()));
        assert_eq!(bits.count_before(TURNS_PER_BLOCK) as usize, set.len());
        assert_eq!(bits.next(TURNS_PER_BLOCK), None);
    }
}
