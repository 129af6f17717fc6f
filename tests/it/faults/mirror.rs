//! Redis is killed, loses its data, hangs; and what a killed hotseat finds in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::json;
use servers::Redis;

use super::Scene;
use crate::support::{Place, Server, request, until};

/// Soft locks that outlive a test.
const PATIENT: (&str, &str) = ("HOTSEAT_SELECT_TTL", "2m");

/// Something done to a Redis.
type Act = fn(&mut Redis);

/// Somebody who selects seats of their own and stays.
struct Sitter {
    token: String,
    seats: Vec<u32>,
}

impl Sitter {
    /// Eight seats beyond those of the crowd.
    fn sit(server: &Server, number: u32) -> Self {
        let first = 11_000 + number * 8;
        let sitter =
            Self { token: server.token(u64::from(1_000 + number)), seats: (first..first + 8).collect() };
        let selected = select(server, &sitter.token, &sitter.seats);
        assert_eq!(selected, Some(201));
        sitter
    }

    fn is_mirrored(&self, redis: &Redis) -> bool {
        let score = |seat: &u32| redis.say(&["ZSCORE", "seats:{1}", &seat.to_string()]);
        self.seats.iter().all(|seat| score(seat).len() > "$-1\r\n".len())
    }
}

/// The status; `None` where nobody answered.
fn select(server: &Server, token: &str, seats: &[u32]) -> Option<u16> {
    let body = json!({ "seats": seats });
    server.post("/api/v1/options/1/selections", token, "-", Some(&body)).ok().map(|answer| answer.status)
}

#[test]
fn redis_killed_flushed_and_hanging_stops_nothing() {
    let mut redis = Redis::start();
    let url = redis.url();
    let scene = Scene::new(Place::new(), &[("HOTSEAT_MIRROR_URL", &url), PATIENT]);
    let (server, crowd) = scene.open();
    let mut sitters = vec![Sitter::sit(&server, 0)];
    until(|| sitters[0].is_mirrored(&redis));
    let faults: [(&str, Act, Act); 3] = [
        ("killed", Redis::kill, Redis::restart),
        ("hanging", |redis| redis.signal(Signal::SIGSTOP), |redis| redis.signal(Signal::SIGCONT)),
        ("flushed", |redis| redis.flush(), |_| {}),
    ];
    for (number, (fault, begin, end)) in (1..).zip(faults) {
        begin(&mut redis);
        if fault != "flushed" {
            until(|| server.metric("mirror_up") == 0.0);
            let warned = server.warnings();
            assert!(warned.contains("soft locks are not mirrored"), "{fault}: {warned}");
        }
        crowd.until_clicked(100);
        crowd.until_held(30);
        sitters.push(Sitter::sit(&server, number));
        end(&mut redis);
        // What was selected before and what was selected meanwhile.
        until(|| sitters.iter().all(|sitter| sitter.is_mirrored(&redis)));
        until(|| server.metric("mirror_up") == 1.0);
        assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0), "{fault}");
    }
    assert_eq!(server.metric("shard_halts_total"), 0.0);
    scene.close(server, crowd);
}

/// The seats of option 1 that somebody is selecting.
fn selecting(server: &Server) -> Vec<u32> {
    let seats = server.get("/api/v1/options/1/seats").json();
    let seats = (0..).zip(seats["seats"].as_array().unwrap().clone());
    seats.filter(|(_, seat)| seat["state"] == "SELECTING").map(|(number, _)| number).collect()
}

#[test]
fn a_kill_9_forgets_only_the_soft_locks_of_the_last_moment() {
    let redis = Redis::start();
    let url = redis.url();
    let further = [("HOTSEAT_MIRROR_URL", url.as_str()), ("HOTSEAT_MIRROR_RESTORE_TIMEOUT", "30s"), PATIENT];
    let scene = Scene::new(Place::new(), &further);
    let mut server = scene.start();
    scene.place.import_hall(2_000);
    server.until(|server| server.get("/api/v1/options/1/seats").status == 200);
    let tokens: Vec<String> = (1..=250).map(|user| server.token(user)).collect();

    // One click after the other, so that there is an order.
    let clicked = Arc::new(Mutex::new(Vec::new()));
    let is_over = Arc::new(AtomicBool::new(false));
    let clicker = {
        let (clicked, is_over, api, tokens) =
            (clicked.clone(), is_over.clone(), server.api.clone(), tokens.clone());
        thread::spawn(move || {
            for seat in 0..2_000_u32 {
                let bearer = format!("Bearer {}", tokens[usize::try_from(seat / 8).unwrap()]);
                let url = format!("{api}/api/v1/options/1/selections");
                let body = json!({ "seats": [seat] });
                match request("POST", &url, &[("Authorization", &bearer)], Some(&body)) {
                    Ok(answer) => assert_eq!(answer.status, 201, "{answer:?}"),
                    Err(_) => return,
                }
                clicked.lock().unwrap().push(seat);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        })
    };
    let count = || clicked.lock().unwrap().len();
    until(|| count() >= 100);
    let known = count();
    until(|| server.metric("mirror_backlog") == 0.0);
    until(|| count() >= known + 20);
    server.kill();
    is_over.store(true, Ordering::Relaxed);
    clicker.join().unwrap();

    server = scene.start();
    let clicked = clicked.lock().unwrap().clone();
    let left = selecting(&server);
    assert!(left.starts_with(&clicked[..known]), "{known} were mirrored, there are {}", left.len());
    // The mirror follows in order: whoever is forgotten, everybody after them is. The click whose answer never came
    // may be there.
    assert!(left.len() <= clicked.len() + 1 && clicked.iter().zip(&left).all(|(a, b)| a == b), "{left:?}");
    // They are still whose they were.
    let owner = &tokens[0];
    assert_eq!(select(&server, &tokens[200], &[0]), Some(409));
    let body = json!({ "seats": [0, 1] });
    assert_eq!(server.post("/api/v1/options/1/holds", owner, "k", Some(&body)).unwrap().status, 201);
    scene.audit();
    server.stop();
}
