//! How fast the line moves, and when somebody's turn may be expected to come.
//!
//! Measured is how many turns the front of the line passes in each whole second: those who are admitted, and
//! those who are passed over because they are away. So a crowd of absent people ahead does not count as one
//! that must be let in first. Over the last minute that gives a mean `m` and a variance `v`.
//!
//! To pass `d` turns takes a time that is nearly normal, with mean `d / m` and variance `d v / m³`: the central
//! limit theorem of renewal theory (Feller, "An Introduction to Probability Theory and Its Applications",
//! vol. II, XI.1). That `m` itself is only estimated, from `n` seconds, adds `(d / m)² v / (n m²)`; and the quantile is
//! that of Student's distribution, `z + (z³ + z) / (4 (n − 1))` in first order. One second is added on both sides
//! because seconds are what is counted. The range is meant to hold [`COVERAGE_PER_MILLE`] of the time *while the line
//! goes on as it did in the last minute*. It knows nothing of those ahead who will give up, and then errs on the late
//! side, nor of a policy that will change.

use std::collections::VecDeque;

use super::effect::Eta;
use crate::time::{Span, Time};

/// How often a waiter is admitted within the range it was told, per mille.
pub const COVERAGE_PER_MILLE: u32 = 900;
/// Half of what is left lies on either side of this many standard deviations.
const QUANTILE: f64 = 1.645;
/// Seconds that are remembered.
const SECONDS_MOST: usize = 60;
/// Seconds without which nothing is said.
const SECONDS_LEAST: usize = 10;

const SECOND: i64 = Span::from_secs(1).0;

#[derive(Debug, Default)]
pub struct Speed {
    /// Turns passed in each of the last seconds, oldest first.
    passed: VecDeque<u32>,
    /// The second that is being counted, and what it has so far; none while nobody waits.
    counting: Option<(i64, u32)>,
    /// Of those, once there are enough: everybody who asks is told from the same.
    measured: Option<Pace>,
}

/// How fast the line moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Turns that the front passes in a second, on average.
    pub mean: f64,
    /// Of that number.
    pub variance: f64,
    /// Seconds that were counted; at least ten.
    pub seconds: u32,
}

impl Pace {
    /// How long until the front will have passed `turns` more.
    #[must_use]
    pub fn eta(&self, turns: u32) -> Eta {
        let n = f64::from(self.seconds);
        let time = f64::from(turns) / self.mean;
        let relative = self.variance / (self.mean * self.mean);
        let deviation = (time * relative + time * time * relative / n).sqrt();
        let quantile = QUANTILE + (QUANTILE * QUANTILE * QUANTILE + QUANTILE) / (4.0 * (n - 1.0));
        Eta {
            low: span((time - quantile * deviation - 1.0).max(0.0)),
            high: span(time + quantile * deviation + 1.0),
        }
    }
}

impl Speed {
    /// The line changes its pace: what was measured says nothing any more.
    pub fn restart(&mut self) {
        self.passed.clear();
        self.counting = None;
        self.measured = None;
    }

    /// Nobody is there to be admitted. The second is not counted, nor those until somebody is.
    pub const fn idle(&mut self) {
        self.counting = None;
    }

    /// People are there to be admitted at `now`.
    pub fn busy(&mut self, now: Time) {
        let second = now.0.div_euclid(SECOND);
        let Some((mut counting, mut count)) = self.counting else {
            // The rest of this second would be less than a second.
            self.counting = Some((second + 1, 0));
            return;
        };
        // Longer gaps than the memory leave it full of zeros, whatever they were.
        counting = counting.max(second - i64::try_from(SECONDS_MOST).unwrap_or(i64::MAX));
        if counting == second {
            return;
        }
        while counting < second {
            if self.passed.len() == SECONDS_MOST {
                self.passed.pop_front();
            }
            self.passed.push_back(count);
            counting += 1;
            count = 0;
        }
        self.counting = Some((counting, count));
        self.measured = self.measure();
    }

    fn measure(&self) -> Option<Pace> {
        let seconds = u32::try_from(self.passed.len()).ok()?;
        let n = f64::from(seconds);
        let mean = self.passed.iter().copied().map(f64::from).sum::<f64>() / n;
        if self.passed.len() < SECONDS_LEAST || mean <= 0.0 {
            return None;
        }
        let square = |count: f64| (count - mean) * (count - mean);
        let squares = self.passed.iter().copied().map(f64::from).map(square).sum::<f64>();
        Some(Pace { mean, variance: squares / (n - 1.0), seconds })
    }

    /// The front passed so many turns at `now`.
    pub fn passed(&mut self, now: Time, turns: u32) {
        let second = now.0.div_euclid(SECOND);
        if let Some((counting, count)) = &mut self.counting
            && *counting == second
        {
            *count += turns;
        }
    }

    /// What was measured, for those who estimate elsewhere; `None` before it says anything.
    pub const fn pace(&self) -> Option<Pace> {
        self.measured
    }
}

/// Casts saturate: an estimate of centuries is as good as none.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn span(seconds: f64) -> Span {
    Span((seconds * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::mix;

    /// Turns that the front passes to admit one who is there, where `present` of a thousand are.
    fn passed_for_one(draw: &mut u64, present: u64) -> u32 {
        let mut turns = 1;
        loop {
            *draw += 1;
            if mix(*draw) % 1_000 < present {
                return turns;
            }
            turns += 1;
        }
    }

    /// Simulates a line of which `present` of a thousand are there and one is admitted every `1 / rate` seconds, give
    /// or take `jitter` per mille of that; and counts how often somebody `distance` behind the front after `measured` seconds
    /// is admitted within the range.
    fn coverage(present: u64, rate: u32, jitter: i64, distance: u32, measured: i64) -> f64 {
        let trials = 2_000;
        let mut met = 0;
        let mut draw = 7;
        for _ in 0..trials {
            let (mut speed, mut now) = (Speed::default(), Time(0));
            let pause = SECOND / i64::from(rate);
            let mut step = |speed: &mut Speed, now: &mut Time| {
                draw += 1;
                let late = i64::try_from(mix(draw) % 2_001).unwrap() - 1_000;
                *now = *now + Span(pause + pause * jitter * late / 1_000_000);
                speed.busy(*now);
                let turns = passed_for_one(&mut draw, present);
                speed.passed(*now, turns);
                turns
            };
            while now < Time(measured * SECOND) {
                step(&mut speed, &mut now);
            }
            let (asked, eta) = (now, speed.pace().unwrap().eta(distance));
            let mut left = i64::from(distance);
            while left > 0 {
                left -= i64::from(step(&mut speed, &mut now));
            }
            let took = now.since(asked);
            met += i32::from(eta.low <= took && took <= eta.high);
        }
        f64::from(met) / f64::from(trials)
    }

    #[test]
    fn the_range_holds_as_often_as_it_says() {
        for (present, rate, jitter, distance, measured) in [
            (1_000, 50, 0, 500, 30),
            (1_000, 50, 1_000, 3_000, 30),
            (100, 20, 0, 2_000, 12),
            (100, 20, 0, 20_000, 60),
            (500, 10, 900, 1_000, 61),
            (30, 5, 0, 3_000, 30),
        ] {
            let held = coverage(present, rate, jitter, distance, measured);
            let stated = f64::from(COVERAGE_PER_MILLE) / 1_000.0;
            assert!(held > stated - 0.02, "{present} {rate} {jitter} {distance} {measured}: {held}");
        }
    }

    #[test]
    fn nothing_is_said_before_it_is_known() {
        let mut speed = Speed::default();
        let mut now = Time(300_000);
        for _ in 0..10 {
            speed.busy(now);
            speed.passed(now, 3);
            assert_eq!(speed.pace(), None);
            now = now + Span::from_secs(1);
        }
        speed.busy(now);
        speed.passed(now, 3);
        assert_eq!(speed.pace(), None, "the first second was cut short");
        speed.busy(now + Span::from_secs(1));
        let eta = speed.pace().unwrap().eta(30);
        assert_eq!((eta.low, eta.high), (Span::from_secs(9), Span::from_secs(11)));
        speed.busy(now + Span::from_secs(1_000_000));
        assert_eq!(speed.pace(), None, "it has stood still for a minute");
        speed.restart();
        assert_eq!(speed.pace(), None);
    }
}
