//! What nodes say of the ledger. What follows from it, [`engine::lease`] says.

use std::time::Duration;

use engine::{Moment, lease};
use tokio::time::Instant;

/// What a configured, not released node last said about the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing yet: it counts as able to reach the ledger.
    Silent,
    Reaches,
    /// Its renewal failed, at this instant.
    Away(Instant),
}

impl Report {
    /// The same in the moments of this node.
    pub(crate) fn counted(self, moment: impl Fn(Instant) -> Moment) -> lease::Report {
        match self {
            Self::Silent => lease::Report::Silent,
            Self::Reaches => lease::Report::Reaches,
            Self::Away(at) => lease::Report::Away(moment(at)),
        }
    }
}

/// A ledger that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAway {
    /// When that was first noticed.
    pub since: Instant,
    /// What the last renewal said.
    pub why: String,
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
