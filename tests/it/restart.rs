//! What was acknowledged is there after every end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::server::post;
use crate::support::{Place, Server, run_on};

const SEATS: u32 = 4_000;
const BUYERS: u64 = 8;

/// A hold that a buyer was told is theirs.
struct Held {
    user: u64,
    key: String,
    seats: [u32; 2],
    answer: Value,
}

/// Buyers who hold pair after pair until the server is gone.
struct Rush {
    held: Mutex<Vec<Held>>,
    /// Requests that were begun before the end and got no answer.
    unanswered: Mutex<Vec<String>>,
    ending: AtomicBool,
    next: AtomicU32,
    api: String,
    tokens: Vec<String>,
}

impl Rush {
    fn start(server: &Server) -> (Arc<Self>, Vec<thread::JoinHandle<()>>) {
        let rush = Arc::new(Self {
            held: Mutex::default(),
            unanswered: Mutex::default(),
            ending: AtomicBool::new(false),
            next: AtomicU32::new(0),
            api: server.api.clone(),
            tokens: (1..=BUYERS).map(|user| server.token(user)).collect(),
        });
        let buyer = |user| {
            let rush = rush.clone();
            thread::spawn(move || rush.buy(user))
        };
        let buyers = (1..=BUYERS).map(buyer).collect();
        (rush, buyers)
    }

    fn buy(&self, user: u64) {
        loop {
            let first = self.next.fetch_add(2, Ordering::Relaxed);
            if first + 2 > SEATS {
                return;
            }
            let seats = [first, first + 1];
            let body = json!({ "seats": seats });
            let Some(status) = self.ask("/api/v1/options/1/selections", user, "-", &body).map(|(s, _)| s)
            else {
                return;
            };
            if status != 201 {
                continue;
            }
            let key = format!("hold-{first}");
            match self.ask("/api/v1/options/1/holds", user, &key, &body) {
                None => return,
                Some((201, answer)) => self.held.lock().unwrap().push(Held { user, key, seats, answer }),
                // Refused while the server goes down.
                Some((503, _)) => {}
                Some((status, answer)) => panic!("{status}: {answer}"),
            }
        }
    }

    fn ask(&self, path: &str, user: u64, key: &str, body: &Value) -> Option<(u16, Value)> {
        let token = &self.tokens[usize::try_from(user - 1).unwrap()];
        let before = !self.ending.load(Ordering::SeqCst);
        match post(&self.api, path, token, key, Some(body)) {
            Ok(answer) => Some((answer.status, answer.json())),
            Err(error) => {
                if before {
                    self.unanswered.lock().unwrap().push(format!("{path}: {error}"));
                }
                None
            }
        }
    }

    fn wait_for(&self, holds: usize) {
        let started = Instant::now();
        while self.held.lock().unwrap().len() < holds {
            assert!(started.elapsed() < Duration::from_secs(60), "the rush is slow");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Every acknowledged hold is there, and its retry gets the first answer.
    fn check(&self, server: &Server) {
        let held = self.held.lock().unwrap();
        let seats = server.get("/api/v1/options/1/seats").json();
        for Held { user, key, seats: pair, answer } in held.iter() {
            let token = &self.tokens[usize::try_from(user - 1).unwrap()];
            let body = json!({ "seats": pair });
            let again = server.post("/api/v1/options/1/holds", token, key, Some(&body)).unwrap();
            assert_eq!(again.status, 201, "{answer} and then {again:?}");
            assert!(again.has_header("idempotent-replay: true"), "{again:?}");
            assert_eq!(again.json()["reservationId"], answer["reservationId"]);
            for seat in pair {
                assert_eq!(seats["seats"][*seat as usize]["state"], "HOLD");
            }
        }
    }
}

/// A sale in which a buyer may hold as much as they like.
fn rush_hour() -> (Place, Server) {
    let place = Place::new();
    place.import_hall(SEATS);
    let server = start(&place);
    (place, server)
}

fn start(place: &Place) -> Server {
    Server::start_with(&place.data, &[], &[("HOTSEAT_SALES_RESERVATIONS_PER_USER", "100000")])
}

#[test]
fn sigterm_under_load_answers_everybody() {
    let (place, mut server) = rush_hour();
    let (rush, buyers) = Rush::start(&server);
    rush.wait_for(200);
    rush.ending.store(true, Ordering::SeqCst);
    server.signal("TERM");
    let asked = Instant::now();
    let status = server.ended(Duration::from_secs(12));
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(asked.elapsed() < Duration::from_secs(10));
    for buyer in buyers {
        buyer.join().unwrap();
    }
    assert_eq!(*rush.unanswered.lock().unwrap(), Vec::<String>::new());
    drop(server);

    run_on(&place.data, &["audit"]).success();
    let server = start(&place);
    rush.check(&server);
    server.stop();
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let (place, mut server) = rush_hour();
    for first in [0, SEATS / 2] {
        let (rush, buyers) = Rush::start(&server);
        rush.next.store(first, Ordering::Relaxed);
        rush.wait_for(100);
        rush.ending.store(true, Ordering::SeqCst);
        server.kill();
        for buyer in buyers {
            buyer.join().unwrap();
        }
        server = start(&place);
        rush.check(&server);
        run_on(&place.data, &["audit"]).success();
    }
    server.stop();
}

/// A request whose body never comes: it is in flight for as long as its client likes.
fn stuck(server: &Server) -> std::net::TcpStream {
    use std::io::Write as _;
    let host = server.api.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let token = server.token(7);
    let head = format!(
        "POST /api/v1/options/1/selections HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(200));
    stream
}

#[test]
fn who_never_ends_a_request_is_not_waited_for_longer_than_the_grace() {
    let place = Place::new();
    place.import_hall(10);
    let mut server = Server::start_with(&place.data, &[], &[("HOTSEAT_SHUTDOWN_GRACE", "1500ms")]);
    let _stuck = stuck(&server);
    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended(Duration::from_secs(10)).code(), Some(0), "{}", server.log());
    let took = asked.elapsed();
    assert!(took > Duration::from_millis(1_000) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    place.import_hall(10);
    let mut server = Server::start_with(&place.data, &[], &[("HOTSEAT_SHUTDOWN_GRACE", "1h")]);
    let _stuck = stuck(&server);
    server.signal("TERM");
    thread::sleep(Duration::from_millis(500));
    assert!(!server.has_ended());
    let ready = crate::support::request("GET", &format!("{}/readyz", server.ops), &[], None);
    assert!(ready.is_err() || ready.unwrap().status == 503);
    server.signal("TERM");
    assert_eq!(server.ended(Duration::from_secs(5)).code(), Some(1), "{}", server.log());
}
