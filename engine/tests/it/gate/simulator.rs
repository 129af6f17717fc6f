//! The gate's simulator: it is deterministic, it meets what it is there for, and it can fail.

use engine::sim::coverage::Coverage;
use engine::sim::gate::options::Canary;
use engine::sim::gate::run;

#[test]
fn seeds_are_clean_and_meet_every_misfortune() {
    let mut coverage = Coverage::default();
    for seed in 0..600 {
        match run(seed, None) {
            Ok(outcome) => coverage.merge(&outcome.coverage),
            Err(failure) => {
                let trace = failure.trace.join("\n");
                panic!("{trace}\ngate seed {seed} fails: {}\n{}", failure.why, failure.options);
            }
        }
    }
    let met = [
        "WAITING",
        "ACTIVE",
        "REJECTED",
        "NONE",
        "LEFT",
        "POLICY SET",
        "POLICY AS BEFORE",
        "POLICY REFUSED",
        "RANKS_TOLD",
        "DRAW_UNDER_WAY",
        "DRAW TAKEN",
        "DRAW REFUSED",
        "FROZEN AGAIN",
        "OK",
        "NOT DURABLE",
        "GIVEN_BACK",
        "EXPIRED",
        "CRASH",
        "LOSSY CRASH",
        "HALT",
        "MIRROR AWAY",
        "MIRROR WIPED",
        "LINE RESTORED",
        "PASSES RESTORED",
        "VIEWED",
    ];
    let missed: Vec<_> = met.into_iter().filter(|came| coverage.of(came) == 0).collect();
    assert!(missed.is_empty(), "never met: {missed:?}");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in [3, 77, 1_000_003, u64::MAX] {
        assert_eq!(run(seed, None).unwrap(), run(seed, None).unwrap(), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    for canary in Canary::ALL {
        let found = (0..300).find_map(|seed| run(seed, Some(canary)).err());
        assert!(found.is_some(), "{} is not found in 300 seeds", canary.name());
    }
}
