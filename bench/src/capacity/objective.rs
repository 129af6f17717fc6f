//! What has to hold for a rate to count.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::args::duration;
use crate::recorder::{Times, nanos};

/// A percentile of latency, at most so long. Nothing may fail besides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    percentile: f64,
    at_most: Duration,
}

impl Objective {
    /// Whether it was kept. Where nothing was answered, nothing was kept.
    pub fn is_kept(&self, times: &Times) -> bool {
        let latency = times.latency.value_at_quantile(self.percentile / 100.0);
        times.failed == 0 && !times.latency.is_empty() && latency <= nanos(self.at_most)
    }
}

impl Default for Objective {
    fn default() -> Self {
        Self { percentile: 99.0, at_most: Duration::from_millis(50) }
    }
}

impl FromStr for Objective {
    type Err = String;

    /// `p99=50ms`, `p99.9=1s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no objective; expected a percentile and a time, e.g. p99=50ms");
        let (percentile, at_most) =
            text.strip_prefix('p').and_then(|text| text.split_once('=')).ok_or_else(error)?;
        let percentile = percentile.parse().ok().filter(|percentile| (0.0..100.0).contains(percentile));
        let at_most = duration(at_most).ok().filter(|at_most| !at_most.is_zero());
        Ok(Self { percentile: percentile.ok_or_else(error)?, at_most: at_most.ok_or_else(error)? })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{} ≤ {:?}, errors 0", self.percentile, self.at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_percentiles_and_times() {
        assert_eq!("p99=50ms".parse(), Ok(Objective::default()));
        assert_eq!("p99.9=2s".parse::<Objective>().unwrap().to_string(), "p99.9 ≤ 2s, errors 0");
        for text in ["", "p99", "99=50ms", "p100=1s", "p-1=1s", "pNaN=1s", "p99=50", "p99=0ms", "p99=fast"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_objective_is_broken_by_one_failure_or_by_a_slow_hundredth() {
        let mut times = Times::default();
        assert!(!Objective::default().is_kept(&times), "nothing was answered");
        for _ in 0..990 {
            times.latency.record(nanos(Duration::from_millis(10))).unwrap();
        }
        for _ in 0..10 {
            times.latency.record(nanos(Duration::from_millis(90))).unwrap();
        }
        assert!(Objective::default().is_kept(&times));
        assert!(!"p99.9=50ms".parse::<Objective>().unwrap().is_kept(&times));
        times.failed = 1;
        assert!(!Objective::default().is_kept(&times));
    }
}
