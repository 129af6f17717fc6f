//! Whether the ledger is away for everybody, so that owners whose renewals fail may go on with clicks.
//!
//! Past its deadline a shard may have another owner. Nobody can have become one while no node of the
//! cluster reaches the ledger, because only the ledger gives leases away. To *reach* it is to have a
//! renewal answered: a ledger that answers but takes no writes (a full disk, a standby) gives a lease to
//! nobody either, and is as far away as one that is gone.
//!
//! A report is as old as the *question* it answers, not as its arrival: a message that lay in a queue for
//! ten seconds says nothing about now. So nodes ask each other and count from the asking, as leases do.
//! "The ledger is back" needs no question: it may be pushed, and only keeps the exception from going on.
//!
//! Why a report that is true when given stays good for a renew interval although the node that gave it may
//! reach the ledger a moment later: that node must then see a whole ttl of heartbeats succeed before it may
//! acquire anything by expiry ([`super::Heartbeats`]), and a ttl is longer than a renew interval. And why
//! only an unbroken chain of reports counts ([`super::Leases::go_on`]): they say that nobody can take the
//! shard now, not that nobody has. It is for the same reason that *every* node which may acquire must be
//! asked: the list is the configured one, never the one of those who happen to be seen.

use crate::time::{Moment, Span};

/// What a configured, not released node last said about the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing yet: it counts as able to reach the ledger.
    Silent,
    Reaches,
    /// Its renewals fail. The instant, here, at which it was asked; of this node itself, at which the
    /// renewal failed.
    Away(Moment),
}

/// Until when clicks go on although leases may have run out: for `within` (a renew interval) after the
/// oldest report, while every node says that the ledger is away.
pub(super) fn clicks_until(reports: &[Report], within: Span) -> Option<Moment> {
    let away = |report: &Report| match report {
        Report::Silent | Report::Reaches => None,
        Report::Away(at) => Some(*at + within),
    };
    reports.iter().map(away).min().flatten()
}

#[cfg(test)]
mod tests {
    use super::Report::{Away, Reaches, Silent};
    use super::*;

    const RENEW: Span = Span::from_millis(1_500);

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000)
    }

    #[test]
    fn clicks_go_on_while_every_node_has_just_said_that_the_ledger_is_away() {
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
}
