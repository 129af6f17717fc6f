//! The gate's simulator: it is deterministic, it meets what it is there for, and it can fail.

use engine::sim::gate::options::Canary;
use engine::sim::gate::run;

use crate::seeds;

#[test]
fn seeds_are_clean_and_meet_every_misfortune() {
    let coverage = seeds::clean("gate seed", 0..600, |seed| run(seed, None));
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
    seeds::meet(&coverage, met);
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    seeds::are_the_same_every_time(|seed| run(seed, None));
}

#[test]
fn every_planted_bug_is_found() {
    for canary in Canary::ALL {
        let found = (0..300).find_map(|seed| run(seed, Some(canary)).err());
        assert!(found.is_some(), "{} is not found in 300 seeds", canary.name());
    }
}
