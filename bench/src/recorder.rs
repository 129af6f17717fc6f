//! What happened, counted: one recorder per connection, added up at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// What is timed, in the order of a user's day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Look,
    Select,
    Best,
    Hold,
    Confirm,
}

impl Op {
    pub const ALL: [Self; 5] = [Self::Look, Self::Select, Self::Best, Self::Hold, Self::Confirm];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Select => "select",
            Self::Best => "select best",
            Self::Hold => "hold",
            Self::Confirm => "confirm",
        }
    }
}

pub struct Recorder {
    /// Microseconds, from the send of the attempt that was answered to its last byte.
    times: [Histogram<u64>; 5],
    /// Refusals by code.
    pub refusals: BTreeMap<String, u64>,
    pub users: u64,
}

impl Recorder {
    pub fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, 120_000_000, 3)
                .expect("the bounds are in order and 3 digits are allowed")
        };
        Self { times: [(); 5].map(|()| histogram()), refusals: BTreeMap::new(), users: 0 }
    }

    pub fn time(&mut self, op: Op, took: Duration) {
        self.times[op as usize].saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn refused(&mut self, code: &str) {
        *self.refusals.entry(code.to_owned()).or_default() += 1;
    }

    pub fn of(&self, op: Op) -> &Histogram<u64> {
        &self.times[op as usize]
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.times.iter_mut().zip(&other.times) {
            mine.add(theirs).expect("both have the same bounds");
        }
        for (code, count) in &other.refusals {
            *self.refusals.entry(code.clone()).or_default() += count;
        }
        self.users += other.users;
    }
}
