//! What waiters were told, against what happened: how many were ahead, and when they would be let in.

use super::order::Within;
use crate::history::Nanos;

/// A range in which somebody was to be let in, and when they were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub told: Within,
    /// From then on, in seconds.
    pub low: f64,
    pub high: f64,
    pub admitted: Within,
}

/// One in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    pub joined: Within,
    /// [`Nanos::MAX`] where nobody knows.
    pub gone: Within,
}

/// How many a user was told to be behind of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// In the list of stays.
    pub user: u32,
    pub at: Within,
    pub ahead: u64,
}

/// How many estimates were kept, as far as can be said: the range and the admission have an instant in common.
pub fn covered(estimates: &[Estimate]) -> u64 {
    let kept = |estimate: &&Estimate| {
        let from = estimate.told.from.saturating_add(nanos(estimate.low));
        let to = estimate.told.to.saturating_add(nanos(estimate.high));
        estimate.admitted.from <= to && estimate.admitted.to >= from
    };
    estimates.iter().filter(kept).count() as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9) as Nanos
}

/// By how many it lies outside of what the log allows: those who certainly came before and certainly were there still,
/// to those who may have come before and may have been there still.
pub fn rank_error(told: &Told, stays: &[Stay]) -> u64 {
    let mine = stays[told.user as usize].joined;
    let (mut certain, mut possible) = (0, 0);
    for (number, stay) in stays.iter().enumerate() {
        if number == told.user as usize {
            continue;
        }
        certain += u64::from(stay.joined.to < mine.from && stay.gone.from >= told.at.to);
        possible += u64::from(stay.joined.from <= mine.to && stay.gone.to >= told.at.from);
    }
    certain.saturating_sub(told.ahead) + told.ahead.saturating_sub(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn within(from: Nanos, to: Nanos) -> Within {
        Within { from, to }
    }

    #[test]
    fn an_estimate_is_kept_unless_it_certainly_was_not() {
        for (admitted, kept) in [
            (within(12, 14), true),
            (within(15, 30), true),
            (within(31, 40), false),
            (within(8, 10), false),
            (within(8, 11), true),
        ] {
            let estimate = Estimate {
                told: within(SECOND, 2 * SECOND),
                low: 10.0,
                high: 20.0,
                admitted: within(admitted.from * SECOND, admitted.to * SECOND),
            };
            assert_eq!(covered(&[estimate]) == 1, kept, "{admitted:?}");
        }
        let endless = Estimate { told: within(0, 1), low: 0.0, high: f64::INFINITY, admitted: within(5, 6) };
        assert_eq!(covered(&[endless]), 1);
    }

    #[test]
    fn a_rank_is_wrong_by_how_far_the_log_contradicts_it() {
        let stays = [
            // Certainly ahead.
            (within(0, 1), within(90, 95)),
            (within(1, 2), within(Nanos::MAX, Nanos::MAX)),
            // Perhaps: it may have gone, it may have come later.
            (within(2, 3), within(40, 60)),
            (within(9, 12), within(90, 95)),
            // The one who asks.
            (within(10, 11), within(99, 99)),
            // Gone; and later.
            (within(3, 4), within(20, 30)),
            (within(12, 13), within(90, 95)),
        ];
        let stays = stays.map(|(joined, gone)| Stay { joined, gone });
        for (ahead, error) in [(0, 2), (1, 1), (2, 0), (4, 0), (5, 1), (50, 46)] {
            let told = Told { user: 4, at: within(50, 51), ahead };
            assert_eq!(rank_error(&told, &stays), error, "{ahead}");
        }
    }
}
