//! How many may be admitted now: a sliding count over one second.
//!
//! An admission counts from its decision until one second after it was *told*. So at most `per_second` are
//! decided, and at most as many are told, in any second whatever, also when the mirror keeps admissions waiting and
//! then lets all of them go at once. The price is that the rate falls short by as much as the mirror is slow:
//! with 2 ms from decision to telling it is 99.8 % of what was asked for.

use std::collections::VecDeque;

use crate::time::{Span, Time};

const WINDOW: Span = Span::from_secs(1);

#[derive(Debug, Default)]
pub struct Rate {
    /// Decided, not told.
    pending: u32,
    /// How many were told at what times, oldest first; no time twice.
    told: VecDeque<(Time, u32)>,
    told_count: u32,
}

impl Rate {
    /// How many more may be decided at `now`.
    pub fn room(&mut self, now: Time, per_second: u32) -> u32 {
        self.forget(now);
        per_second.saturating_sub(self.pending + self.told_count)
    }

    pub const fn decided(&mut self) {
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

    /// When there will be more room, unless something pending comes first.
    pub fn frees_at(&self) -> Option<Time> {
        self.told.front().map(|(at, _)| *at + WINDOW)
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
                rate.decided();
                decided.push(now);
            }
            let recent = |times: &[Time]| times.iter().rev().take_while(|at| **at + WINDOW > now).count();
            let most = if decided.last() == Some(&now) { per_second } else { 100 } as usize;
            assert!(recent(&decided) <= most && recent(&told) <= most);
        }
        assert!(told.len() > 5_000);
    }

    #[test]
    fn at_full_demand_the_rate_is_reached() {
        let mut rate = Rate::default();
        let (mut now, mut count) = (Time(0), 0);
        while now < Time(60_000_000) {
            for _ in 0..rate.room(now, 1_000) {
                rate.decided();
                rate.told(now);
                count += 1;
            }
            now = now + Span(1_000);
        }
        assert_eq!(count, 60_000);
    }
}
