//! Whether the ledger is away for everybody, so that owners whose renewals fail may go on with clicks.
//!
//! Past its deadline a shard may have another owner. Nobody can have become one while no node of the
//! cluster reaches the ledger, because only the ledger gives leases away. To *reach* it is to have a
//! renewal answered: a ledger that answers but takes no writes (a full disk, a standby) gives a lease to
//! nobody either, and is as far away as one that is gone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// What a configured, not released node last said about the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing yet: it counts as able to reach the ledger.
    Silent,
    Reaches,
    /// Its renewal failed, at this instant.
    Away(Instant),
}

/// Until when clicks go on although leases may have run out: for `within` after the oldest report, while
/// every node says that the ledger is away.
#[must_use]
pub fn clicks_until(reports: &[Report], within: Duration) -> Option<Instant> {
    let away = |report: &Report| match report {
        Report::Silent | Report::Reaches => None,
        Report::Away(at) => Some(*at + within),
    };
    reports.iter().map(away).min().flatten()
}

/// A ledger that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAway {
    /// When that was first noticed.
    pub since: Instant,
    /// What the last renewal said.
    pub why: String,
}

/// What this node knows of the ledger.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Instants are counted from here.
    base: Instant,
    /// How old a report may be.
    within: Duration,
    /// [`clicks_until`] in microseconds after the base; 0 while the ledger answers.
    until: AtomicU64,
    /// Since when there has been no gap between such reports.
    since: AtomicU64,
    away: Mutex<Option<LedgerAway>>,
}

impl Reach {
    pub fn new(base: Instant, within: Duration) -> Self {
        Self { base, within, until: AtomicU64::new(0), since: AtomicU64::new(0), away: Mutex::default() }
    }

    /// Whether clicks go on at `now` under a lease that ran out at `deadline`, in microseconds after the base. The
    /// reports must have come without a gap since before that: in a gap somebody else may have taken the shard, and
    /// lost the ledger since.
    pub fn lets_clicks_go_on(&self, now: Instant, deadline: u64) -> bool {
        micros(now.saturating_duration_since(self.base)) < self.until.load(Ordering::Acquire)
            && self.since.load(Ordering::Relaxed) <= deadline
    }

    /// A renewal failed at `now`; this is what the other nodes say. Whether it is news.
    pub fn failed(&self, now: Instant, why: String, others: &[Report]) -> bool {
        let reports = [others, &[Report::Away(now)]].concat();
        let until = clicks_until(&reports, self.within);
        let until = until.map_or(0, |until| micros(until.saturating_duration_since(self.base)));
        let at = micros(now.saturating_duration_since(self.base));
        let before = self.until.load(Ordering::Relaxed);
        // Without others there is nobody who could have taken anything.
        if others.is_empty() {
            self.since.store(0, Ordering::Relaxed);
        } else if at >= before {
            self.since.store(at, Ordering::Relaxed);
        }
        self.until.store(until, Ordering::Release);
        let mut away = lock(&self.away);
        let since = away.as_ref().map_or(now, |away| away.since);
        away.replace(LedgerAway { since, why }).is_none()
    }

    /// The ledger answered. Since when it had not.
    pub fn answered(&self) -> Option<Instant> {
        self.until.store(0, Ordering::Relaxed);
        lock(&self.away).take().map(|away| away.since)
    }

    /// `None` while the ledger answers.
    pub fn away(&self) -> Option<LedgerAway> {
        lock(&self.away).clone()
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Report::{Away, Reaches, Silent};
    use super::*;

    const RENEW: Duration = Duration::from_millis(1_500);

    #[test]
    fn clicks_go_on_while_every_node_has_just_said_that_the_ledger_is_away() {
        let base = Instant::now();
        let at = |millis| base + Duration::from_millis(millis);
        let rows: [(&str, &[Report], Option<u64>); 9] = [
            ("nobody is configured", &[], None),
            ("alone, silent", &[Silent], None),
            ("alone, well", &[Reaches], None),
            ("alone: itself", &[Away(at(100))], Some(1_600)),
            ("all", &[Away(at(100)), Away(at(700)), Away(at(300))], Some(1_600)),
            ("the oldest report counts", &[Away(at(700)), Away(at(50))], Some(1_550)),
            ("one reaches it", &[Away(at(100)), Reaches], None),
            ("one is silent", &[Silent, Away(at(100)), Away(at(100))], None),
            ("nobody says so", &[Silent, Reaches], None),
        ];
        for (what, reports, expected) in rows {
            assert_eq!(clicks_until(reports, RENEW), expected.map(at), "{what}");
        }
    }

    #[test]
    fn a_report_goes_stale_and_an_answer_ends_it() {
        let base = Instant::now();
        let at = |millis| base + Duration::from_millis(millis);
        let reach = Reach::new(base, RENEW);
        assert!(!reach.lets_clicks_go_on(at(0), 0));
        assert!(reach.failed(at(1_000), "refused".into(), &[]));
        assert!(reach.lets_clicks_go_on(at(2_499), 0) && !reach.lets_clicks_go_on(at(2_500), 0));
        assert!(!reach.failed(at(2_000), "no answer".into(), &[]), "it is known");
        assert!(reach.lets_clicks_go_on(at(3_499), 0) && !reach.lets_clicks_go_on(at(3_500), 0));
        assert_eq!(reach.away(), Some(LedgerAway { since: at(1_000), why: "no answer".into() }));
        assert_eq!(reach.answered(), Some(at(1_000)));
        assert!(!reach.lets_clicks_go_on(at(3_000), 0));
        assert_eq!((reach.away(), reach.answered()), (None, None));
    }

    #[test]
    fn a_lease_that_ran_out_in_a_gap_stays_so() {
        let base = Instant::now();
        let at = |millis| base + Duration::from_millis(millis);
        let reach = Reach::new(base, RENEW);
        let away = |now| [Away(at(now))];
        let deadline = 2_000_000;
        // A peer still reaches the ledger while this node does not, and may take what runs out.
        reach.failed(at(1_000), "gone".into(), &[Reaches]);
        assert!(!reach.lets_clicks_go_on(at(2_500), deadline));
        // Then it does not reach it either: what it took is its own all the same.
        reach.failed(at(3_000), "gone".into(), &away(3_000));
        assert!(!reach.lets_clicks_go_on(at(3_100), deadline));
        assert!(reach.lets_clicks_go_on(at(3_100), 3_500_000), "a lease that has not run out by then");
        reach.failed(at(4_000), "gone".into(), &away(3_900));
        assert!(reach.lets_clicks_go_on(at(4_100), 3_500_000), "without a gap");
        reach.failed(at(6_000), "gone".into(), &away(6_000));
        assert!(!reach.lets_clicks_go_on(at(6_100), 3_500_000), "nobody said anything for a while");
    }
}
