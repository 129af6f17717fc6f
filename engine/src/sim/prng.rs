//! Randomness that is the same on every machine and in every version: our own generator.

/// What a stream of numbers is for. One more draw in one concern does not move the others, so that a
/// seed that found a bug still finds it after an unrelated change.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    Options = 1,
    Workload = 2,
    Ledger = 3,
    Mirror = 4,
    Clock = 5,
    Crash = 6,
    Audit = 7,
    Network = 8,
    Moves = 9,
}

/// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Prng {
    state: u64,
}

impl Prng {
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self { state: mix(mix(seed.wrapping_add(GAMMA)) ^ mix(stream as u64)) }
    }

    pub fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// 0..`bound`; 0 for a bound of 0. The bias of the multiplication is below 2^-32 for our bounds.
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound <= 1 << 32, "the high half of the product would overflow");
        ((self.word() >> 32) * bound) >> 32
    }

    /// `low..=high`.
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "small spans of small numbers")]
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low) as u64 + 1) as i64
    }

    /// True `per_mille` times out of a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// 0..`bound`, small numbers far more often: the best seats are the ones everybody wants.
    pub fn skewed(&mut self, bound: u64) -> u64 {
        let (first, second) = (self.below(bound), self.below(bound));
        if self.chance(600) { first * second / bound.max(1) } else { first }
    }

    /// One of the items, `None` of none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.below(items.len() as u64);
        usize::try_from(index).ok().and_then(|index| items.get(index))
    }

    /// An index, as often as its weight says; 0 when all weights are 0.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut draw = self.below(total);
        for (index, weight) in weights.iter().enumerate() {
            if draw < u64::from(*weight) {
                return index;
            }
            draw -= u64::from(*weight);
        }
        0
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit of `word` over all of the result. Also the hash of the run's digest.
#[must_use]
pub const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
