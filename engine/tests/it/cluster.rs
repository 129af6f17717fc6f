//! The cluster's simulator: it is deterministic, it meets what it is there for, and it can fail.

use engine::sim::cluster::options::Canary;
use engine::sim::cluster::run;
use engine::sim::coverage::Coverage;

#[test]
fn seeds_are_clean_and_meet_every_misfortune() {
    let mut coverage = Coverage::default();
    for seed in 0..600 {
        match run(seed, None) {
            Ok(outcome) => coverage.merge(&outcome.coverage),
            Err(failure) => {
                let trace = failure.trace.join("\n");
                panic!("{trace}\ncluster seed {seed} fails: {}\n{}", failure.why, failure.options);
            }
        }
    }
    let met = [
        "ACQUIRED",
        "RAISED",
        "ORPHAN",
        "LEASE LOST",
        "FENCED",
        "HALT",
        "DECIDED WHILE AWAY",
        "MOVED",
        "LANDED",
        "RESUMED",
        "TAKE BACK",
        "TAKEN BACK",
        "PARKED",
        "PARKED FORWARDED",
        "NO ROOM",
        "FORWARDED",
        "REROUTED",
        "CRASH",
        "CRASH IN A MOVE",
        "PAUSE",
        "CUT",
        "OUTAGE",
        "WIPED",
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

/// Each with a seed that finds it, which `sim --cluster --canary all` tells: some are rare.
#[test]
fn every_planted_bug_is_found() {
    let seeds = [
        (Canary::FenceNotChecked, 71),
        (Canary::DeadlineNotChecked, 4),
        (Canary::DeadlineFromTheAnswer, 259),
        (Canary::AcquireDoesNotWait, 20),
        (Canary::AcquireAtOnce, 24),
        (Canary::SilenceIsAway, 77),
        (Canary::HandOverWithFreeWindow, 3),
        (Canary::UnknownIsFailure, 97),
        (Canary::StaleStateServed, 972),
        (Canary::AttemptsNotTold, 5_842),
        (Canary::ParkedDropped, 5),
        (Canary::ParkedReordered, 5),
        (Canary::RouteChangedEarly, 0),
    ];
    assert_eq!(seeds.map(|(canary, _)| canary), Canary::ALL);
    for (canary, seed) in seeds {
        assert!(run(seed, None).is_ok(), "seed {seed} is clean");
        assert!(run(seed, Some(canary)).is_err(), "{} is not found by seed {seed}", canary.name());
    }
}
