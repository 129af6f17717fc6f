//! The shard's clock: the world's time as a node sees it, which is to say roughly.

use super::options::Faults;
use super::prng::{Prng, Stream};
use crate::time::Time;

/// Runs ahead of the world after each jump, stands still at times, and is now and then read late.
pub struct Clock {
    prng: Prng,
    grain: i64,
    ahead: i64,
    stalled_until: i64,
    read_last: i64,
}

impl Clock {
    #[must_use]
    pub fn new(seed: u64, grain: i64) -> Self {
        Self { prng: Prng::new(seed, Stream::Clock), grain, ahead: 0, stalled_until: 0, read_last: 0 }
    }

    /// What the clock shows at `now` of the world.
    pub fn read(&mut self, now: i64, faults: &Faults) -> Time {
        let mut shown = now + self.ahead;
        if now < self.stalled_until {
            shown = self.read_last.max(now.min(shown));
        }
        self.read_last = self.read_last.max(shown);
        if self.prng.chance(faults.clock_back) {
            shown -= self.prng.between(1, 5_000_000);
        }
        Time(shown.div_euclid(self.grain) * self.grain)
    }

    /// When the world's time must be for the clock to show `time`.
    #[must_use]
    pub const fn when(&self, time: Time) -> i64 {
        time.0.saturating_sub(self.ahead)
    }

    /// How late a timer fires.
    pub fn late(&mut self, faults: &Faults) -> i64 {
        self.prng.between(0, faults.tick_late)
    }

    /// Draws what goes wrong next.
    pub fn disturb(&mut self, now: i64, faults: &Faults) {
        if self.prng.chance(faults.clock_jump) {
            let scale = *self.prng.pick(&[1_000, 1_000_000, 60_000_000, 900_000_000]).unwrap_or(&1);
            self.ahead += self.prng.between(1, 3) * scale;
        }
        if self.prng.chance(faults.clock_stall) {
            self.stalled_until = now + self.prng.between(1, 60) * 100_000;
        }
    }

    /// Another node's clock, which may be behind the one before.
    pub fn replace(&mut self) {
        if self.prng.chance(300) {
            self.ahead = self.ahead * self.prng.between(0, 3) / 3;
            self.read_last = 0;
        }
    }

    /// From now on it runs like any other, ahead as it may be.
    pub fn heal(&mut self) {
        self.stalled_until = 0;
    }
}
