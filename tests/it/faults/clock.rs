//! The wall clock is wrong, and jumps while seats are sold.

use std::fs;
use std::path::{Path, PathBuf};

use servers::Postgres;

use super::{Scene, metric};
use crate::support::{Place, Server, request, run_on};

/// A file that tells libfaketime, at every look at the wall clock, how far off it is.
struct WrongClock {
    file: PathBuf,
}

impl WrongClock {
    fn beside(place: &Place) -> Self {
        Self { file: place.data.with_extension("clock") }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", library().to_str().unwrap().to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn set(&self, off: &str) {
        // In one step: half of it would be another time.
        let half = self.file.with_extension("new");
        fs::write(&half, format!("{off}\n")).unwrap();
        fs::rename(half, &self.file).unwrap();
    }
}

fn library() -> PathBuf {
    let directories = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let directories = directories.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")]);
    directories
        .map(|directory| directory.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.is_file())
        .expect("libfaketime is not installed. On Debian: apt-get install faketime")
}

/// Tokens are judged by the wall clock: one of a minute tells whether the server's is ahead.
fn is_five_minutes_ahead(server: &Server, data: &Path) -> bool {
    let token = run_on(data, &["token", "--role", "USER", "--user", "50", "--ttl", "1m"]).success();
    let bearer = format!("Bearer {}", token.trim());
    let url = format!("{}/api/v1/reservations", server.api);
    match request("GET", &url, &[("Authorization", &bearer)], None).unwrap().status {
        200 => false,
        401 => true,
        status => panic!("{status}"),
    }
}

#[test]
fn a_wall_clock_that_jumps_ends_no_hold_and_starts_none_anew() {
    let place = Place::new();
    let clock = WrongClock::beside(&place);
    clock.set("+0");
    let mut scene = Scene::new(place, &[]);
    scene.environment.extend(clock.environment());
    let (mut server, crowd) = scene.open();
    let data = scene.place.data.clone();
    assert!(!is_five_minutes_ahead(&server, &data));
    // As long as a hold lives. Were it asked, every hold so far would expire.
    clock.set("+5m");
    assert!(is_five_minutes_ahead(&server, &data), "libfaketime does nothing");
    crowd.until_held(100);
    clock.set("-5m");
    crowd.until_held(100);
    assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
    assert_eq!(metric(&server, "expired_total{kind=\"HOLD\"}"), 0.0);
    // A start in the past goes on from the newest event.
    server.kill();
    server = scene.start();
    crowd.follow(&server);
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
    assert!(is_five_minutes_ahead(&server, &data), "libfaketime does nothing");
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
        crowd.follow(&server);
    }
    assert_eq!(crowd.refused(), Vec::<String>::new());
    assert_eq!(metric(&server, "expired_total{kind=\"HOLD\"}"), 0.0);
    scene.close(server, crowd);
}

/// A token that is good on both sides of the jump.
fn long_lived(data: &Path) -> String {
    run_on(data, &["token", "--role", "USER", "--user", "51", "--ttl", "1h"]).success().trim().to_owned()
}
