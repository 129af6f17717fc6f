//! The simulator itself: it is deterministic, it meets every rule, and it can fail.

use engine::entry::Transition;
use engine::sim::coverage::Coverage;
use engine::sim::options::Canary;
use engine::sim::run;

#[test]
fn seeds_are_clean_and_meet_every_rule() {
    let mut coverage = Coverage::default();
    for seed in 0..400 {
        match run(seed, None) {
            Ok(outcome) => coverage.merge(&outcome.coverage),
            Err(failure) => {
                let trace = failure.trace.join("\n");
                panic!("{trace}\nseed {seed} fails: {}\n{}", failure.why, failure.options);
            }
        }
    }
    let transitions = (1..).map_while(Transition::from_number).map(Transition::name);
    let answers = [
        "OK",
        "OK, REPLAYED",
        "OPTION_UNKNOWN",
        "REQUEST_REUSED",
        "PASS_REQUIRED",
        "OPTION_CLOSED",
        "SEATS_INVALID",
        "LIMIT_REACHED",
        "SELECT_TOO_LONG",
        "SEAT_TAKEN",
        "NOT_SELECTED",
        "NO_SEATS_TOGETHER",
        "RESERVATION_UNKNOWN",
        "HOLD_EXPIRED",
        "RESERVATION_STATE",
        "OVERLOADED",
        "LEDGER_UNAVAILABLE",
        "CRASH",
        "HALT",
        "WAITING",
        "QUIESCENT",
        "LOCKS RESTORED",
    ];
    let missed: Vec<_> = transitions.chain(answers).filter(|came| coverage.of(came) == 0).collect();
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
        let found = (0..200).find_map(|seed| run(seed, Some(canary)).err());
        assert!(found.is_some(), "{} is not found in 200 seeds", canary.name());
    }
}
