//! The wall clock is wrong, and jumps while seats are sold.

use std::path::Path;

use servers::Postgres;

use super::Scene;
use crate::support::wrong_clock::{WrongClock, is_five_minutes_ahead};
use crate::support::{Place, run_on};

#[test]
fn a_wall_clock_that_jumps_ends_no_hold_and_starts_none_anew() {
    let place = Place::new();
    let clock = WrongClock::beside(&place);
    clock.set("+0");
    let mut scene = Scene::new(place, &[]);
    scene.environment.extend(clock.environment());
    let (mut server, crowd) = scene.open();
    let data = scene.place.data.clone();
    assert!(!is_five_minutes_ahead(&server, &of_a_minute(&data)));
    // As long as a hold lives. Were it asked, every hold so far would expire.
    clock.set("+5m");
    assert!(is_five_minutes_ahead(&server, &of_a_minute(&data)), "libfaketime does nothing");
    crowd.until_held(100);
    clock.set("-5m");
    crowd.until_held(100);
    assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
    assert_eq!(server.metric("expired_total{kind=\"HOLD\"}"), 0.0);
    // A start in the past goes on from the newest event.
    server.kill();
    server = scene.start();
    crowd.follow(vec![server.api.clone()]);
    crowd.until_held(100);
    scene.close(server, crowd);
}

/// Time is the ledger's: a hold lives for 300 s of PostgreSQL's clock, whatever the node's says.
#[test]
fn a_node_that_is_five_minutes_off_sells_by_the_ledgers_clock() {
    let url = Postgres::shared().database();
    let place = Place::new();
    let clock = WrongClock::beside(&place);
    let mut scene = Scene::new(place, &[("HOTSEAT_LEDGER_URL", &url)]);
    scene.environment.extend(clock.environment());
    let data = scene.place.data.clone();
    clock.set("+5m");
    let (mut server, crowd) = scene.open();
    assert!(is_five_minutes_ahead(&server, &of_a_minute(&data)), "libfaketime does nothing");
    for (number, off) in (0..).zip(["-5m", "+5m"]) {
        for seat in [11_000, 11_001].map(|seat| seat + 10 * number) {
            let held = server.hold(1, &[seat], &long_lived(&data), &format!("seat-{seat}")).json();
            let expires: jiff::Timestamp = held["holdExpiresAt"].as_str().unwrap().parse().unwrap();
            let left = expires.as_second() - jiff::Timestamp::now().as_second();
            assert!((200..=310).contains(&left), "a hold of 300 s ends in {left} s");
            // Then it jumps.
            clock.set(off);
        }
        crowd.until_held(50);
        server.kill();
        server = scene.start();
        crowd.follow(vec![server.api.clone()]);
    }
    assert_eq!(crowd.refused(), Vec::<String>::new());
    assert_eq!(server.metric("expired_total{kind=\"HOLD\"}"), 0.0);
    scene.close(server, crowd);
}

/// A token that is good on both sides of the jump.
fn long_lived(data: &Path) -> String {
    run_on(data, &["token", "--role", "USER", "--user", "51", "--ttl", "1h"]).success().trim().to_owned()
}

/// A token that a clock five minutes ahead finds ended.
fn of_a_minute(data: &Path) -> String {
    run_on(data, &["token", "--role", "USER", "--user", "50", "--ttl", "1m"]).success().trim().to_owned()
}
