//! A crowd at a gate.

use super::*;

pub fn queue() -> Scenario {
    let joins = times(0.9, 0.3, 20_000, None);
    let second = |at: u64| GateSecond {
        at,
        admitted: (at != 7).then_some(1_999.0),
        waiting: Some(20_000 - at * 2_000),
        active: Some(9_995),
        learned: 1_900 + at,
    };
    let queue = Queue {
        per_second: Some(2_000),
        max_active: None,
        arrived: 20_000,
        joined: 19_990,
        joins_per_second: 19_990.0,
        rate_limited: 12,
        overloaded: 3,
        admitted: 18_000,
        left: 990,
        silent: 1_000,
        watchers: 200,
        storms: 2,
        admitted_per_second: Some(1_999.0),
        slowest_second: Some(1_996.0),
        full_seconds: 8,
        unread_seconds: 1,
        left_out_seconds: 1,
        most_counted: 1_998,
        most_told: 1_200,
        most_inside: 9_800,
        tau: Some(0.9871),
        tau_watchers: Some(0.9999),
        overtaken: 0,
        told_apart: 1_204_377,
        status_ranks: RankError { samples: 1_000, wrong: 0, worst: 0 },
        event_ranks: RankError { samples: 1_000, wrong: 41, worst: 7 },
        ranks_rose: 0,
        estimates: 18_000,
        estimates_kept: 16_434,
        bytes_per_waiter: 1_862.4,
        requests_per_waiter: 4.23,
        double_passes: 0,
        lost_places: 0,
        lost_passes: 0,
        seconds: (0..9).map(second).collect(),
    };
    let operations = vec![operation("join", [20_000, 0, 0], &joins, &joins)];
    let run = Run { queue: Some(queue), ..run(20.0, operations, vec![]) };
    Scenario { name: "queue".to_owned(), runs: vec![run], ..rush() }
}
