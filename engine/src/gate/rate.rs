//! How many may be admitted now: a sliding count over one second, and no bursts within it.
//!
//! An admission counts from its decision until one second after it was *told*. So at most `per_second` are
//! decided, and at most as many are told, in any second whatever, also when the mirror keeps admissions waiting and
//! then lets all of them go at once. The price is that the rate falls short by as much as the mirror is slow:
//! with 2 ms from decision to telling it is 99.8 % of what was asked for.
//!
//! A count alone would let a full second's worth in at the opening and again a second later, for ever. So no twentieth of
//! a second gets more than a sixteenth of the rate. That is a quarter more than its share: it spreads the first second,
//! and the count keeps the others as they are spread, a late step included.

use std::collections::VecDeque;

use crate::time::{Span, Time};

const WINDOW: Span = Span::from_secs(1);
const SLICE: Span = Span::from_millis(50);

/// How many may be decided in one slice.
const fn share(per_second: u32) -> u32 {
    per_second.div_ceil(16)
}

#[derive(Debug, Default)]
pub struct Rate {
    /// Decided, not told.
    pending: u32,
    /// How many were told at what times, oldest first; no time twice.
    told: VecDeque<(Time, u32)>,
    told_count: u32,
    /// The slice of the last decision, and how many were decided in it.
    slice: i64,
    in_slice: u32,
}

impl Rate {
    /// How many more may be decided at `now`.
    pub fn room(&mut self, now: Time, per_second: u32) -> u32 {
        self.forget(now);
        let in_window = per_second.saturating_sub(self.pending + self.told_count);
        in_window.min(share(per_second).saturating_sub(self.decided_in_slice(now)))
    }

    pub fn decided(&mut self, now: Time) {
        self.in_slice = self.decided_in_slice(now) + 1;
        self.slice = slice(now);
        self.pending += 1;
    }

    /// One that was decided is told at `now`, or will never be.
    pub fn told(&mut self, now: Time) {
        self.forget(now);
        self.pending -= 1;
        self.told_count += 1;
        match self.told.back_mut() {
            Some((at, count)) if *at == now => *count += 1,
            _ => self.told.push_back((now, 1)),
        }
    }

    /// When there will be room for more than at `now`, unless the mirror must come first.
    pub fn frees_at(&self, now: Time, per_second: u32) -> Option<Time> {
        let spent = self.decided_in_slice(now) >= share(per_second);
        let next_slice = spent.then_some(Time((slice(now) + 1) * SLICE.0));
        if self.pending + self.told_count < per_second {
            return next_slice;
        }
        self.told.front().map(|(at, _)| (*at + WINDOW).max(next_slice.unwrap_or(*at)))
    }

    fn decided_in_slice(&self, now: Time) -> u32 {
        if self.slice == slice(now) { self.in_slice } else { 0 }
    }

    fn forget(&mut self, now: Time) {
        while let Some((at, count)) = self.told.front()
            && *at + WINDOW <= now
        {
            self.told_count -= count;
            self.told.pop_front();
        }
    }
}

const fn slice(now: Time) -> i64 {
    now.0.div_euclid(SLICE.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::mix;

    /// Whenever decisions are told, no second sees more than the rate of either.
    #[test]
    fn no_second_sees_more() {
        let (mut rate, mut now) = (Rate::default(), Time(0));
        let (mut decided, mut told) = (Vec::new(), Vec::new());
        for round in 0..20_000u64 {
            let draw = mix(round);
            now = now + Span(i64::try_from(draw % 40_000).unwrap());
            let per_second = if round < 10_000 { 100 } else { 7 };
            let pending = decided.len() - told.len();
            for _ in 0..if draw >> 62 == 0 { pending } else { 0 } {
                rate.told(now);
                told.push(now);
            }
            for _ in 0..rate.room(now, per_second) {
                rate.decided(now);
                decided.push(now);
            }
            let recent = |times: &[Time]| times.iter().rev().take_while(|at| **at + WINDOW > now).count();
            let most = if decided.last() == Some(&now) { per_second } else { 100 } as usize;
            assert!(recent(&decided) <= most && recent(&told) <= most);
        }
        assert!(told.len() > 5_000);
    }

    /// Steps when it says, and up to 5 ms late, as a loaded machine would.
    #[test]
    fn at_full_demand_the_rate_is_reached_without_bursts() {
        for per_second in [1, 7, 16, 1_000, 99_999] {
            let (mut rate, mut now) = (Rate::default(), Time(0));
            let mut decided: Vec<(Time, u32)> = Vec::new();
            while now < Time(60_000_000) {
                let room = rate.room(now, per_second);
                for _ in 0..room {
                    rate.decided(now);
                    rate.told(now);
                }
                decided.push((now, room));
                let late = i64::try_from(mix(now.0.cast_unsigned()) % 5_000).unwrap();
                now = rate.frees_at(now, per_second).unwrap() + Span(late);
            }
            let count: u32 = decided.iter().map(|(_, room)| room).sum();
            assert!(
                count <= 60 * per_second && count >= 60 * per_second * 99 / 100,
                "{count} at {per_second}"
            );
            let most = decided.iter().map(|(_, room)| *room).max().unwrap();
            assert!(most <= per_second.div_ceil(16), "{most} at once at {per_second}");
        }
    }
}
