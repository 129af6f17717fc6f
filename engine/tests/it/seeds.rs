//! What every simulator must show: its seeds are clean and meet what they are there for, and a seed is one run.

use std::fmt::Display;
use std::ops::Range;

use engine::sim::coverage::Coverage;
use engine::sim::{Failure, Summary};

type Run<O> = Result<Summary, Box<Failure<O>>>;

/// What seeds met that are clean.
pub fn clean<O: Display>(what: &str, seeds: Range<u64>, run: impl Fn(u64) -> Run<O>) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds {
        match run(seed) {
            Ok(outcome) => coverage.merge(&outcome.coverage),
            Err(failure) => {
                let trace = failure.trace.join("\n");
                panic!("{trace}\n{what} {seed} fails: {}\n{}", failure.why, failure.options);
            }
        }
    }
    coverage
}

pub fn meet(coverage: &Coverage, all: impl IntoIterator<Item = &'static str>) {
    let missed: Vec<_> = all.into_iter().filter(|came| coverage.of(came) == 0).collect();
    assert!(missed.is_empty(), "never met: {missed:?}");
}

pub fn are_the_same_every_time<O: std::fmt::Debug>(run: impl Fn(u64) -> Run<O>) {
    for seed in [3, 77, 1_000_003, u64::MAX] {
        assert_eq!(run(seed).unwrap(), run(seed).unwrap(), "seed {seed}");
    }
}
