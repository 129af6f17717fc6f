//! Ledger time on this node: sampled from the ledger, carried by the monotonic clock.
//!
//! Wall clocks have no say: a node whose clock is five minutes off behaves like any other.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use engine::{Span, Time};
use tokio::time::Instant;

/// A difference is worked off by running this much faster or slower: one part in twenty.
const SLEW: i64 = 20;

/// From here on a clock that is behind jumps ahead at once: the node was suspended, and every
/// deadline of the house has moved on without it. It never jumps back.
const JUMP_MICROS: i64 = 1_000_000;

/// Cheap to clone and to read. Never goes back.
#[derive(Clone, Debug)]
pub struct LedgerClock {
    origin: Instant,
    course: Arc<RwLock<Course>>,
}

/// How ledger time follows from the monotonic clock, in microseconds since `origin`: at `since` the
/// difference was `from`, and it moves towards `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Course {
    since: i64,
    from: i64,
    to: i64,
}

impl Course {
    const fn at(self, elapsed: i64) -> i64 {
        let allowed = (elapsed - self.since) / SLEW;
        let missing = self.to - self.from;
        let done = if missing > allowed {
            allowed
        } else if missing < -allowed {
            -allowed
        } else {
            missing
        };
        elapsed + self.from + done
    }

    /// The course after a sample. It is `elapsed` now.
    const fn corrected(self, elapsed: i64, sample: Sample) -> Self {
        if (sample.offset - self.to).abs() <= sample.slack {
            return self;
        }
        let from = self.at(elapsed) - elapsed;
        let to = sample.offset;
        if to - from >= JUMP_MICROS {
            Self { since: elapsed, from: to, to }
        } else {
            Self { since: elapsed, from, to }
        }
    }
}

/// What one answer of the ledger tells, in microseconds: how far it is ahead of the monotonic clock if the answer is of the middle
/// of its round trip, and by how much that may be wrong. A course within it is contradicted by nothing, and stays: one slow answer
/// does not move a clock that quick ones have set.
#[derive(Clone, Copy)]
struct Sample {
    offset: i64,
    slack: i64,
}

impl Sample {
    /// The ledger said `ledger` between `sent` and `received`, which are since `origin`.
    const fn new(sent: i64, received: i64, ledger: i64) -> Self {
        Self { offset: ledger - i64::midpoint(sent, received), slack: (received - sent) / 2 }
    }
}

impl LedgerClock {
    /// A clock from its first sample: the ledger said `ledger` between `sent` and `received`.
    #[must_use]
    pub fn new(sent: Instant, received: Instant, ledger: Time) -> Self {
        let to = Sample::new(0, micros(received - sent), ledger.0).offset;
        Self { origin: sent, course: Arc::new(RwLock::new(Course { since: 0, from: to, to })) }
    }

    /// The ledger's time, as well as this node knows it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.at(Instant::now())
    }

    /// The ledger's time at an instant that was just read.
    #[must_use]
    pub fn at(&self, now: Instant) -> Time {
        let course = *self.course.read().unwrap_or_else(PoisonError::into_inner);
        Time(course.at(micros(now - self.origin)))
    }

    /// Takes a further sample: the ledger said `ledger` between `sent` and `received`.
    pub fn sample(&self, sent: Instant, received: Instant, ledger: Time) {
        let sample = Sample::new(micros(sent - self.origin), micros(received - self.origin), ledger.0);
        let mut course = self.course.write().unwrap_or_else(PoisonError::into_inner);
        *course = course.corrected(self.elapsed(), sample);
    }

    fn elapsed(&self) -> i64 {
        micros(self.origin.elapsed())
    }
}

fn micros(duration: Duration) -> i64 {
    Span::from(duration).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    /// An answer within no time.
    fn exact(at: i64, ledger: i64) -> Sample {
        Sample::new(at, at, ledger)
    }

    #[test]
    fn a_difference_is_worked_off_slowly() {
        let course = Course { since: 0, from: 100 * S, to: 100 * S };
        assert_eq!(course.at(5 * S), 105 * S);
        // The ledger is 200 ms behind: the clock loses 50 ms a second, and never goes back.
        let course = course.corrected(5 * S, exact(5 * S, 105 * S - S / 5));
        assert_eq!(course.at(5 * S), 105 * S);
        assert_eq!(course.at(7 * S), 107 * S - S / 10);
        assert_eq!(course.at(9 * S), 109 * S - S / 5);
        assert_eq!(course.at(90 * S), 190 * S - S / 5);
        // And 200 ms ahead.
        let course = course.corrected(90 * S, exact(90 * S, 190 * S));
        assert_eq!(course.at(92 * S), 192 * S - S / 10);
        assert_eq!(course.at(94 * S), 194 * S);
    }

    #[test]
    fn a_suspended_node_catches_up_at_once_and_never_goes_back() {
        let course = Course { since: 0, from: 0, to: 0 };
        let ahead = course.corrected(10 * S, exact(10 * S, 70 * S));
        assert_eq!(ahead.at(10 * S), 70 * S);
        let behind = ahead.corrected(11 * S, exact(11 * S, 11 * S));
        assert_eq!(behind.at(11 * S), 71 * S);
        let mut last = behind.at(11 * S);
        for second in 12..100 {
            let now = behind.at(second * S);
            assert!(now > last);
            last = now;
        }
    }

    #[test]
    fn a_slow_answer_moves_a_clock_only_as_far_as_it_contradicts_it() {
        let course = Course { since: 0, from: 0, to: 0 };
        // Read at the beginning of 400 ms.
        let begun = Sample::new(S, S + 4 * S / 10, S);
        assert_eq!((begun.offset, begun.slack), (-S / 5, S / 5));
        assert_eq!(course.corrected(2 * S, begun), course);
        // And a millisecond before they began, by this clock.
        let contradicted = course.corrected(2 * S, Sample::new(S, S + 4 * S / 10, S - 1_000));
        assert_eq!(contradicted.to, -S / 5 - 1_000);
        // What it is on its way to counts, not where it is.
        let corrected = course.corrected(2 * S, exact(2 * S, 2 * S + S / 2));
        assert_eq!(
            corrected.corrected(3 * S, Sample::new(3 * S, 3 * S + 2_000, 3 * S + S / 2 + 1_900)),
            corrected
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_middle_of_the_round_trip_counts() {
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(10)).await;
        let clock = LedgerClock::new(sent, Instant::now(), Time(1_000 * S));
        assert_eq!(clock.now(), Time(1_000 * S + S / 200));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(clock.now(), Time(1_100 * S + S / 200));
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(4)).await;
        clock.sample(sent, Instant::now(), Time(2_000 * S));
        assert_eq!(clock.now(), Time(2_000 * S + S / 500));
    }
}
