//! The simulator itself: it is deterministic, it meets every rule, and it can fail.

use engine::entry::Transition;
use engine::sim::options::Canary;
use engine::sim::run;

use crate::seeds;

#[test]
fn seeds_are_clean_and_meet_every_rule() {
    let coverage = seeds::clean("seed", 0..400, |seed| run(seed, None));
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
    seeds::meet(&coverage, transitions.chain(answers));
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    seeds::are_the_same_every_time(|seed| run(seed, None));
}

#[test]
fn every_planted_bug_is_found() {
    for canary in Canary::ALL {
        let found = (0..200).find_map(|seed| run(seed, Some(canary)).err());
        assert!(found.is_some(), "{} is not found in 200 seeds", canary.name());
    }
}
