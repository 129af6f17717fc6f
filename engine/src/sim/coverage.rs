//! What a run has met. A rule that no seed ever reaches is a rule that nobody checks.

use std::collections::BTreeMap;

use crate::outcome::Outcome;

/// How often each thing happened: (what was done, what came of it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Coverage {
    pub fn count(&mut self, what: &'static str, came: &'static str) {
        *self.counts.entry((what, came)).or_default() += 1;
    }

    /// A reply to a command.
    pub fn reply(&mut self, op: &'static str, outcome: &Outcome, replayed: bool) {
        let came = match outcome {
            Outcome::Granted(_) if replayed => "OK, REPLAYED",
            Outcome::Granted(_) => "OK",
            Outcome::Refused(refusal) => refusal.code(),
            Outcome::Unavailable(unavailable) => unavailable.code(),
        };
        self.count(op, came);
    }

    /// How often `came` came of anything.
    #[must_use]
    pub fn of(&self, came: &str) -> u64 {
        self.counts.iter().filter(|((_, other), _)| *other == came).map(|(_, count)| count).sum()
    }

    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(*key).or_default() += count;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.counts.iter().map(|((what, came), count)| (*what, *came, *count))
    }
}
