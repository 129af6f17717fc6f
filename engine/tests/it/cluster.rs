//! The cluster's simulator: it is deterministic, it meets what it is there for, and it can fail.

use engine::sim::cluster::options::Canary;
use engine::sim::cluster::run;

use crate::seeds;

#[test]
fn seeds_are_clean_and_meet_every_misfortune() {
    let coverage = seeds::clean("cluster seed", 0..600, |seed| run(seed, None));
    let met = [
        "ACQUIRED",
        "TAKEN FROM DEAD",
        "RECLAIMED",
        "TAKEN ANEW",
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
        "KNOWN DEAD",
        "LOOKALIKE",
        "LOOKS DEAD",
        "FAREWELL",
        "RELEASED",
        "UNFLUSHED",
        "FAIL-OVER",
        "FAIL-OVER WITH LOSS",
        "BEGINS ANEW",
        "DECIDED BEFORE IT KNEW",
    ];
    seeds::meet(&coverage, met);
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    seeds::are_the_same_every_time(|seed| run(seed, None));
}

/// Each with a seed that finds it, which `sim --cluster --canary all` tells: some are rare.
#[test]
fn every_planted_bug_is_found() {
    let seeds = [
        (Canary::FenceNotChecked, 64),
        (Canary::DeadlineNotChecked, 3),
        (Canary::DeadlineFromTheAnswer, 99),
        (Canary::AcquireDoesNotWait, 2),
        (Canary::AcquireAtOnce, 579),
        (Canary::SilenceIsAway, 14),
        (Canary::HandOverWithFreeWindow, 418),
        (Canary::UnknownIsFailure, 1),
        (Canary::StaleStateServed, 6_188),
        (Canary::AttemptsNotTold, 5_405),
        (Canary::ParkedDropped, 4),
        (Canary::ParkedReordered, 1),
        (Canary::RouteChangedEarly, 0),
        (Canary::ReadBeforeQuiet, 4),
        (Canary::RefusalsForgotten, 4),
        (Canary::SilenceIsDeath, 48),
        (Canary::OnePortIsDeath, 67),
        (Canary::SessionsNotCounted, 409),
        (Canary::SeenNotCompared, 3_463),
        (Canary::ReleasedWhileDeciding, 49),
        (Canary::FailOverUnnoticed, 120),
        (Canary::EpochsGivenAgain, 269),
        (Canary::DeadAtOnce, 6_135),
        (Canary::EndedForGood, 3),
    ];
    assert_eq!(seeds.map(|(canary, _)| canary), Canary::ALL);
    for (canary, seed) in seeds {
        assert!(run(seed, None).is_ok(), "seed {seed} is clean");
        assert!(run(seed, Some(canary)).is_err(), "{} is not found by seed {seed}", canary.name());
    }
}
