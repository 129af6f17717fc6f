//! Who wants what: draws from a seed, so that two runs want the same.

use std::ops::RangeInclusive;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for wishes.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// A stream of its own for each user of a run.
    pub fn new(seed: u64, user: u64) -> Self {
        let mut draws = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ user.rotate_left(32));
        draws.next();
        draws
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below a bound.
    #[expect(clippy::cast_possible_truncation, reason = "the bound is a u32")]
    pub fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound.max(1))) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "the range is a u32's")]
    pub fn party(&mut self, range: &RangeInclusive<u32>) -> u32 {
        range.start() + (self.next() % u64::from(range.end() - range.start() + 1)) as u32
    }

    /// A rank in `0..count`, small ones most often: the continuous form of Zipf's law, by inversion.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "ranks are small, and the result is clamped"
    )]
    pub fn rank(&mut self, count: usize, exponent: f64) -> usize {
        let (u, end) = (self.fraction(), count as f64 + 1.0);
        let power = 1.0 - exponent;
        let rank = if power.abs() < 1e-9 {
            end.powf(u)
        } else {
            ((end.powf(power) - 1.0) * u + 1.0).powf(1.0 / power)
        };
        (rank as usize).saturating_sub(1).min(count.saturating_sub(1))
    }
}

/// `party` seats of a list of free ones, by rank, next to each other in the list.
pub fn choose(draws: &mut Draws, free: &[u32], party: u32, exponent: f64) -> Vec<u32> {
    let party = (party as usize).min(free.len());
    let first = draws.rank(free.len() - party + 1, exponent);
    free[first..first + party].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_seats_are_wanted_most_and_every_seat_by_somebody() {
        let mut counts = [0u32; 100];
        let mut draws = Draws::new(1, 1);
        for _ in 0..100_000 {
            counts[draws.rank(100, 1.0)] += 1;
        }
        // The continuous law gives rank r the share ln((r + 2) / (r + 1)) / ln(101): 15 % for the first.
        assert!((14_000..16_000).contains(&counts[0]), "{counts:?}");
        assert!(counts[0] > 3 * counts[9] && counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn without_a_preference_all_seats_are_alike() {
        let mut counts = [0u32; 10];
        let mut draws = Draws::new(2, 7);
        for _ in 0..100_000 {
            counts[draws.rank(10, 0.0)] += 1;
        }
        assert!(counts.iter().all(|count| (9_000..11_000).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_choice_is_made_of_free_seats() {
        let mut draws = Draws::new(3, 1);
        let free = [2, 3, 5, 7, 11];
        for party in 1..=8 {
            for _ in 0..100 {
                let chosen = choose(&mut draws, &free, party, 1.0);
                assert_eq!(chosen.len(), (party as usize).min(5));
                assert!(chosen.iter().all(|seat| free.contains(seat)));
            }
        }
    }
}
