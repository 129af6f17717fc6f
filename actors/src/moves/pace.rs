//! How long moves take here, and so how long those will take that have not ended.

use std::collections::VecDeque;
use std::time::Duration;

/// Of how many the middle one counts: enough that one slow shard does not, few enough that old times do not.
const REMEMBERED: usize = 9;

/// The last moves that came through.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Duration>);

impl Pace {
    pub fn note(&mut self, took: Duration) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// Until a move has ended: `before` must end first, `at_once` at a time, and it has been under way for
    /// `elapsed` itself. `None` while nothing is known.
    pub fn left(&self, before: usize, at_once: usize, elapsed: Duration) -> Option<Duration> {
        let rounds = u32::try_from(before / at_once.max(1)).unwrap_or(u32::MAX).saturating_add(1);
        Some(self.median()?.saturating_mul(rounds).saturating_sub(elapsed))
    }

    fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_the_middle_of_the_last_moves() {
        let second = Duration::from_secs;
        let mut pace = Pace::default();
        assert_eq!(pace.left(0, 4, Duration::ZERO), None, "nothing is known");
        for took in [2, 2, 90] {
            pace.note(second(took));
        }
        // (before it, at once, under way for) → left
        let rows = [
            (0, 4, 0, 2),
            (0, 4, 1, 1),
            (0, 4, 7, 0),
            (3, 4, 0, 2),
            (4, 4, 0, 4),
            (9, 4, 0, 6),
            (2, 0, 0, 6),
        ];
        for (before, at_once, elapsed, left) in rows {
            assert_eq!(
                pace.left(before, at_once, second(elapsed)),
                Some(second(left)),
                "{before} at {at_once}"
            );
        }
        for _ in 0..REMEMBERED {
            pace.note(second(5));
        }
        assert_eq!(pace.left(0, 1, Duration::ZERO), Some(second(5)), "what was long ago does not count");
    }
}
