//! Who may take a lease that has run out, or a dead node's: a node that has been on good terms with the ledger for a while.
//!
//! When the ledger was away for everybody, all leases have run out by the time it is back. Whoever comes
//! first would take shards from owners that are alive and well, and whose clicks have gone on all the
//! while. So a node takes nothing by expiry until its own heartbeats (a renewal, or the reading of the
//! ledger's clock) have succeeded for one ttl without a gap: owners renew first, since they try ten times
//! per renew interval while the ledger is away. What nobody ever had, or its owner gave back, has nobody to
//! wait for: it may be taken at once.
//!
//! A ledger that was away has no sessions of anybody either, when it is back: that one has none proves a death
//! ([`super::Evidence`]) only to a node that has given everybody as long to come back.

use super::Terms;
use crate::time::{Moment, Span};

/// The unbroken run of heartbeats that this node's ledger has answered.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats {
    run: Option<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The answer to the first.
    first: Moment,
    /// The answer to the newest.
    last: Moment,
}

impl Heartbeats {
    /// The ledger answered at `now`.
    pub fn answered(&mut self, now: Moment, terms: &Terms) {
        let first = self.run.filter(|run| !run.has_a_gap(now, terms)).map_or(now, |run| run.first);
        self.run = Some(Run { first, last: now });
    }

    /// The ledger did not answer in time.
    pub const fn failed(&mut self) {
        self.run = None;
    }

    /// Whether this node may take at `now` what the ledger finds expired, or whose owner is dead.
    #[must_use]
    pub fn may_take(&self, now: Moment, terms: &Terms) -> bool {
        let in_time = |run: &Run| !run.has_a_gap(now, terms) && now.since(run.first) >= terms.ttl;
        self.run.as_ref().is_some_and(in_time)
    }
}

impl Run {
    /// A heartbeat every renew interval, which is answered within less than another: whatever is longer
    /// than two was a pause of this process, in which nothing succeeded.
    fn has_a_gap(&self, now: Moment, terms: &Terms) -> bool {
        now.since(self.last) > Span(2 * terms.renew.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(beats: &[(i64, bool)], now: i64, expected: bool) {
        let terms = Terms::default();
        let at = |millis| Moment(0) + Span::from_millis(millis);
        let mut heartbeats = Heartbeats::default();
        for (millis, answered) in beats {
            if *answered {
                heartbeats.answered(at(*millis), &terms);
            } else {
                heartbeats.failed();
            }
        }
        assert_eq!(heartbeats.may_take(at(now), &terms), expected, "{beats:?} at {now}");
    }

    #[test]
    fn a_ttl_of_heartbeats_without_a_gap_earns_the_right_to_acquire() {
        let well: Vec<_> = (0..5).map(|beat| (beat * 1_500, true)).collect();
        check(&well, 6_000, true);
        check(&well, 9_000, true);
        check(&well, 9_001, false);
        check(&well[..4], 4_999, false);
        check(&well[..4], 5_000, true);
        check(&[], 0, false);
        check(&[&well[..], &[(7_500, false)]].concat(), 7_500, false);
        check(&[&well[..], &[(7_500, false), (7_600, true)]].concat(), 9_000, false);
        // A process that stood still has not failed, and knows nothing.
        check(&[&well[..], &[(60_000, true)]].concat(), 61_000, false);
        check(&[&well[..], &[(60_000, true), (62_500, true)]].concat(), 65_000, true);
    }
}
