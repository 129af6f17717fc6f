//! The real server on a real Redis that dies, hangs and forgets.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use servers::Redis;

use crate::support::{Answer, Place, Server, request};

const SELECTIONS: &str = "/api/v1/options/1/selections";

fn select(api: &str, token: &str, seats: &[u32]) -> std::io::Result<Answer> {
    send("POST", api, token, seats)
}

fn release(api: &str, token: &str, seats: &[u32]) -> std::io::Result<Answer> {
    send("DELETE", api, token, seats)
}

fn send(method: &str, api: &str, token: &str, seats: &[u32]) -> std::io::Result<Answer> {
    let bearer = format!("Bearer {token}");
    let body = json!({ "seats": seats });
    request(method, &format!("{api}{SELECTIONS}"), &[("Authorization", &bearer)], Some(&body))
}

fn readiness(server: &Server) -> (u16, Value) {
    let answer = request("GET", &format!("{}/readyz", server.ops), &[], None).unwrap();
    (answer.status, answer.json())
}

/// Whether the server is ready, and with a word about the mirror or without.
fn is_ready(server: &Server, warned: bool) -> bool {
    let (status, said) = readiness(server);
    status == 200 && said["warnings"].to_string().contains("soft locks are not mirrored") == warned
}

/// The seats of option 1 that Redis has a soft lock for.
fn mirrored(redis: &Redis) -> BTreeSet<u32> {
    let said = redis.say(&["ZRANGE", "seats:{1}", "0", "-1"]);
    said.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// The seats of option 1 that the public sees as SELECTING.
fn selecting(server: &Server) -> BTreeSet<u32> {
    let seats = server.get("/api/v1/options/1/seats").json();
    let seats = seats["seats"].as_array().unwrap().iter().filter(|seat| seat["state"] == "SELECTING");
    seats.map(|seat| u32::try_from(seat["seatNo"].as_u64().unwrap()).unwrap()).collect()
}

fn left(redis: &Redis, seat: u32) -> i64 {
    redis.say(&["PTTL", &format!("seat:{{1}}:{seat}")])[1..].trim().parse().unwrap()
}

#[test]
fn a_killed_server_comes_back_with_its_soft_locks() {
    let redis = Redis::start();
    let place = Place::new();
    place.import_hall(200);
    let url = redis.url();
    let environment = [("HOTSEAT_MIRROR_URL", url.as_str()), ("HOTSEAT_SELECT_TTL", "3m")];
    let mut server = Server::start_with(&place.data, &[], &environment);
    let users: Vec<String> = (1..=12).map(|user| server.token(user)).collect();
    let seats =
        |user: usize| -> Vec<u32> { (0..8).map(|seat| u32::try_from(user * 8 + seat).unwrap()).collect() };
    for (user, token) in users[..10].iter().enumerate() {
        assert_eq!(select(&server.api, token, &seats(user)).unwrap().status, 201);
    }
    assert_eq!(release(&server.api, &users[0], &[0]).unwrap().status, 200);
    server.until(|_| mirrored(&redis) == (1..80).collect());
    let before = left(&redis, 79);

    // Two more click on while it dies.
    let late = AtomicU32::new(100);
    let api = server.api.clone();
    thread::scope(|scope| {
        for token in &users[10..] {
            let (api, late) = (&api, &late);
            scope.spawn(move || {
                loop {
                    let seat = 100 + late.fetch_add(1, Ordering::Relaxed) % 100;
                    let clicked = select(api, token, &[seat]).and_then(|_| release(api, token, &[seat]));
                    if clicked.is_err() {
                        return;
                    }
                }
            });
        }
        server.until(|_| late.load(Ordering::Relaxed) > 200);
        server.kill();
    });

    let server = Server::start_with(&place.data, &[], &environment);
    let after = left(&redis, 79);
    assert!((1..=before).contains(&after), "{before} ms were left, and now {after}");
    let taken = select(&server.api, &users[11], &[79]).unwrap();
    assert_eq!((taken.status, taken.code().as_str()), (409, "SEAT_TAKEN"));
    assert_eq!(select(&server.api, &users[11], &[0]).unwrap().status, 201, "what was released is free");
    for (user, token) in users[..10].iter().enumerate() {
        let mine: Vec<u32> = seats(user).into_iter().filter(|seat| *seat > 0).collect();
        let body = json!({ "seats": mine });
        let key = format!("hold-{user}");
        let held = server.post("/api/v1/options/1/holds", token, &key, Some(&body)).unwrap();
        assert_eq!(held.status, 201, "user {user}: {held:?}");
    }
}

/// Four who select and release for ever.
struct Clickers {
    ending: AtomicBool,
    clicks: AtomicU32,
}

impl Clickers {
    fn click(&self, api: &str, token: &str, first: u32) {
        for turn in 0.. {
            if self.ending.load(Ordering::Relaxed) {
                return;
            }
            let seat = first + turn % 100;
            let selected = select(api, token, &[seat]).unwrap();
            assert_eq!(selected.status, 201, "a click was refused: {selected:?}");
            if turn >= 5 {
                let released = release(api, token, &[first + (turn - 5) % 100]).unwrap();
                assert_eq!(released.status, 200, "a click was refused: {released:?}");
            }
            self.clicks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn sales_go_on_without_redis_and_it_is_whole_again() {
    let mut redis = Redis::start();
    let place = Place::new();
    place.import_hall(400);
    let url = redis.url();
    let environment = [("HOTSEAT_MIRROR_URL", url.as_str()), ("HOTSEAT_SELECT_TTL", "5m")];
    let mut server = Server::start_with(&place.data, &[], &environment);
    let users: Vec<String> = (1..=4).map(|user| server.token(user)).collect();
    let clickers = Clickers { ending: AtomicBool::new(false), clicks: AtomicU32::new(0) };
    let api = server.api.clone();
    thread::scope(|scope| {
        for (first, token) in (0..400).step_by(100).zip(&users) {
            let (clickers, api) = (&clickers, &api);
            scope.spawn(move || clickers.click(api, token, first));
        }
        // A failed assertion on this side must not leave the clickers clicking.
        let _ends = Ends(&clickers.ending);
        let go_on = |server: &mut Server| {
            let before = clickers.clicks.load(Ordering::Relaxed);
            server.until(|_| clickers.clicks.load(Ordering::Relaxed) > before + 100);
        };
        go_on(&mut server);
        redis.flush();
        server.until(|_| !mirrored(&redis).is_empty());

        redis.kill();
        server.until(|server| is_ready(server, true));
        let metrics = request("GET", &format!("{}/metrics", server.ops), &[], None).unwrap();
        let metrics = String::from_utf8(metrics.body).unwrap();
        assert!(metrics.lines().any(|line| line == "hotseat_mirror_up 0"), "{metrics}");
        go_on(&mut server);
        redis.restart();
        server.until(|server| is_ready(server, false));
        go_on(&mut server);

        redis.signal(Signal::SIGSTOP);
        server.until(|server| is_ready(server, true));
        go_on(&mut server);
        redis.signal(Signal::SIGCONT);
        server.until(|server| is_ready(server, false));
        go_on(&mut server);
    });
    server.until(|server| {
        let seats = selecting(server);
        seats.len() == 20 && mirrored(&redis) == seats
    });
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_that_never_met_its_redis_says_which_serves_and_is_not_ready() {
    let mut redis = Redis::start_with(&["--requirepass", "hunter2"]);
    redis.kill();
    let place = Place::new();
    place.import_hall(10);
    let url = format!("redis://:hunter2@127.0.0.1:{}", redis.port);
    let environment = [("HOTSEAT_MIRROR_URL", url.as_str())];
    let mut server = Server::start_unready(&place.data, &[], &environment);
    let reason = format!("soft locks are not mirrored ({}: ", redis.url());
    server.until(|server| {
        let (status, said) = readiness(server);
        assert_eq!(status, 503, "{said}");
        assert!(!said.to_string().contains("hunter2"), "{said}");
        let reasons = said["reasons"].as_array().unwrap();
        reasons.len() == 1 && reasons[0].as_str().unwrap().starts_with(&reason)
    });
    let token = server.token(1);
    assert_eq!(select(&server.api, &token, &[3]).unwrap().status, 201);
    assert!(server.log().contains(&redis.url()), "{}", server.log());
    assert!(!server.log().contains("hunter2"));
    redis.restart();
    server.until(Server::is_ready);
    let listed = || redis.say_as("hunter2", &["ZRANGE", "seats:{1}", "0", "-1"]);
    server.until(|_| listed() == "*1\r\n$1\r\n3\r\n");
}

/// The certificates in `tls/` are good for nothing else; their authority's key was thrown away.
#[test]
fn tls_is_spoken_with_whom_the_system_trusts() {
    let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mirror/tls");
    let file = |name: &str| format!("{tls}/{name}");
    let port = servers::free_port();
    let redis = Redis::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let place = Place::new();
    place.import_hall(10);
    let (url, authority) = (format!("rediss://localhost:{port}"), file("ca.pem"));
    let mut stranger = Server::start_unready(&place.data, &[], &[("HOTSEAT_MIRROR_URL", &url)]);
    stranger.until(|server| readiness(server).1["reasons"].to_string().contains("certificate"));
    stranger.stop();
    let environment = [("HOTSEAT_MIRROR_URL", url.as_str()), ("SSL_CERT_FILE", &authority)];
    let mut server = Server::start_with(&place.data, &[], &environment);
    let token = server.token(1);
    assert_eq!(select(&server.api, &token, &[3]).unwrap().status, 201);
    server.until(|_| mirrored(&redis) == BTreeSet::from([3]));
}
