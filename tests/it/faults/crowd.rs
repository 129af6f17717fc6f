//! A crowd that clicks and buys whatever happens, and keeps a record of its own of everything it was promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::viewer::View;
use crate::support::server::post;
use crate::support::{Answer, PATIENCE, Server, request, run_on};

/// Seats of the hall: the buyers walk through the first, the clickers stay on the others.
pub const SEATS: u32 = 12_000;
const FOR_BUYERS: u32 = 10_000;
const BUYERS: u64 = 6;
const CLICKERS: u64 = 2;
/// Who confirms.
const CASHIER: u64 = 99;
/// Between two purchases, and between two clicks: a crowd, not a flood, or the faults would be about something else.
const PAUSE: Duration = Duration::from_millis(3);

/// The crowd at work.
pub struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    viewer: Option<JoinHandle<View>>,
}

/// What was there when everybody had left.
pub struct Left {
    /// Acknowledged holds.
    pub held: usize,
    /// Times that the viewer had to begin anew.
    pub snapshots: usize,
}

pub struct Shared {
    /// Where the server is now; it moves with each restart.
    api: Mutex<String>,
    tokens: BTreeMap<u64, String>,
    leaving: AtomicBool,
    next: AtomicU32,
    held: Mutex<Vec<Held>>,
    /// Purchases given up because the soft lock was gone when the hold came through.
    lapsed: AtomicUsize,
    granted: AtomicUsize,
    /// Clicks that were answered with "not now", and what was said.
    refused: Mutex<Vec<String>>,
    /// Clicks without an answer, because there was no server.
    unanswered: AtomicUsize,
}

/// A hold that a buyer was told is theirs.
#[derive(Clone, Debug)]
struct Held {
    user: u64,
    key: String,
    seats: [u32; 2],
    id: String,
    /// The buyer was told that it is paid.
    confirmed: bool,
}

impl Crowd {
    /// Comes to a server whose option 1 has [`SEATS`] seats, all free.
    pub fn come(server: &Server) -> Self {
        let token = |user: u64, role: &str| {
            let user = user.to_string();
            run_on(&server.data, &["token", "--role", role, "--user", &user]).success().trim().to_owned()
        };
        let mut tokens: BTreeMap<u64, String> =
            (1..=BUYERS + CLICKERS).map(|user| (user, token(user, "USER"))).collect();
        tokens.insert(CASHIER, token(CASHIER, "PAYMENT"));
        let shared = Arc::new(Shared {
            api: Mutex::new(server.api.clone()),
            tokens,
            leaving: AtomicBool::new(false),
            next: AtomicU32::new(0),
            held: Mutex::default(),
            lapsed: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            refused: Mutex::default(),
            unanswered: AtomicUsize::new(0),
        });
        let person = |user: u64| {
            let shared = shared.clone();
            thread::spawn(move || if user <= BUYERS { shared.buy(user) } else { shared.click(user) })
        };
        let threads = (1..=BUYERS + CLICKERS).map(person).collect();
        let watched = shared.clone();
        let viewer = thread::spawn(move || View::watch(&watched));
        Self { threads, viewer: Some(viewer), shared }
    }

    /// The server is elsewhere now.
    pub fn follow(&self, server: &Server) {
        self.shared.api.lock().unwrap().clone_from(&server.api);
    }

    /// Waits until so many further holds were acknowledged.
    #[track_caller]
    pub fn until_held(&self, further: usize) {
        let held = || self.shared.held.lock().unwrap().len();
        let wanted = held() + further;
        self.until(|| held() >= wanted, "no further holds");
    }

    /// Waits until so many further clicks were granted.
    #[track_caller]
    pub fn until_clicked(&self, further: usize) {
        let granted = || self.shared.granted.load(Ordering::Relaxed);
        let wanted = granted() + further;
        self.until(|| granted() >= wanted, "no further clicks");
    }

    #[track_caller]
    fn until(&self, done: impl Fn() -> bool, what: &str) {
        let started = Instant::now();
        while !done() {
            assert!(
                self.threads.iter().all(|person| !person.is_finished()),
                "somebody met something impossible"
            );
            assert!(
                started.elapsed() < PATIENCE,
                "{what} in {PATIENCE:?}; {:?}",
                self.shared.refused.lock().unwrap()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Clicks that were answered with "not now" so far.
    pub fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().unwrap().clone()
    }

    /// Clicks that nobody answered so far.
    pub fn unanswered(&self) -> usize {
        self.shared.unanswered.load(Ordering::Relaxed)
    }

    /// Everybody ends what they are at and goes. Then every promise is looked up: each acknowledged hold is there,
    /// with its seats and its payment; no seat is in two; a request sent again gets its first answer; and the viewer
    /// sees what is there.
    pub fn leave(mut self, server: &Server) -> Left {
        self.shared.leaving.store(true, Ordering::Relaxed);
        for person in std::mem::take(&mut self.threads) {
            person.join().expect("somebody met something impossible");
        }
        let view = self.viewer.take().expect("they leave once").join();
        let view = view.expect("the viewer met something impossible");
        let snapshots = view.snapshots;
        view.must_agree(server);
        Left { held: self.shared.check(server), snapshots }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // A failed assertion must not leave them waiting for a dead server.
        self.shared.leaving.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Looks every promise up; how many there were.
    fn check(&self, server: &Server) -> usize {
        let held = self.held.lock().unwrap().clone();
        let mut owners = BTreeMap::new();
        for hold in &held {
            for seat in hold.seats {
                let former = owners.insert(seat, &hold.id);
                assert_eq!(former, None, "seat {seat} was promised twice");
            }
        }
        let mut unknown = 0;
        for user in 1..=BUYERS {
            let mut there = self.reservations(server, user);
            for hold in held.iter().filter(|hold| hold.user == user) {
                let found = there.remove(&hold.id).unwrap_or_else(|| panic!("{hold:?} is lost"));
                let seats: Vec<u64> = found["seats"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|seat| seat["seatNo"].as_u64().unwrap())
                    .collect();
                assert_eq!(seats, hold.seats.map(u64::from), "{hold:?}");
                let expected = if hold.confirmed { "CONFIRMED" } else { "HOLD" };
                assert_eq!(found["status"], expected, "{hold:?}");
            }
            unknown += there.len();
        }
        let lapsed = self.lapsed.load(Ordering::Relaxed);
        assert!(
            unknown <= lapsed,
            "{unknown} reservations that nobody asked for, {lapsed} that were given up"
        );
        for hold in held.iter().rev().take(50) {
            self.ask_again(server, hold);
        }
        held.len()
    }

    fn buy(&self, user: u64) {
        while !self.is_leaving() {
            let first = self.next.fetch_add(2, Ordering::Relaxed);
            assert!(first + 2 <= FOR_BUYERS, "the hall is too small for this test");
            let seats = [first, first + 1];
            if self.select(user, &seats).is_some() {
                self.hold(user, seats);
            }
            thread::sleep(PAUSE);
        }
    }

    fn click(&self, user: u64) {
        let mut seat = FOR_BUYERS + u32::try_from(user - BUYERS).unwrap() * 100;
        while !self.is_leaving() {
            if self.select(user, &[seat]).is_some() {
                self.release(user);
            }
            seat = if seat % 100 == 99 { seat - 99 } else { seat + 1 };
            thread::sleep(PAUSE);
        }
    }

    /// Clicks until it is granted; `None` when there is nothing to hold.
    fn select(&self, user: u64, seats: &[u32]) -> Option<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.post(user, "/api/v1/options/1/selections", "-", Some(&json!({ "seats": seats }))) {
                Ok(answer) if answer.status < 202 => {
                    self.granted.fetch_add(1, Ordering::Relaxed);
                    return Some(());
                }
                Ok(answer) if answer.status == 503 => {
                    let said = String::from_utf8_lossy(&answer.body).into_owned();
                    self.refused.lock().unwrap().push(said);
                }
                // Soft locks of purchases that were given up.
                Ok(answer) if answer.code() == "LIMIT_REACHED" => self.release(user),
                Ok(answer) => panic!("select {seats:?}: {answer:?}"),
                Err(_) => {
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                }
            }
            if self.is_leaving() {
                return None;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{seats:?} could not be selected for {PATIENCE:?}");
    }

    fn release(&self, user: u64) {
        let bearer = format!("Bearer {}", self.tokens[&user]);
        let url = format!("{}/api/v1/options/1/selections", self.api.lock().unwrap());
        match request("DELETE", &url, &[("Authorization", &bearer)], None) {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) if answer.status == 503 => {
                self.refused.lock().unwrap().push(String::from_utf8_lossy(&answer.body).into_owned());
            }
            Ok(answer) => panic!("release: {answer:?}"),
            Err(_) => {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Sends the same request until its outcome is known, as a good client does.
    fn hold(&self, user: u64, seats: [u32; 2]) {
        let key = format!("hold-{}", seats[0]);
        let body = json!({ "seats": seats });
        let answer = self.insist(user, "/api/v1/options/1/holds", &key, Some(&body));
        match (answer.status, answer.code().as_str()) {
            (201, _) => {}
            (409, "NOT_SELECTED") => {
                self.lapsed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            _ => panic!("hold {seats:?}: {answer:?}"),
        }
        let id = answer.json()["reservationId"].as_str().unwrap().to_owned();
        let place = {
            let mut held = self.held.lock().unwrap();
            held.push(Held { user, key, seats, id: id.clone(), confirmed: false });
            held.len() - 1
        };
        if seats[0].is_multiple_of(4) {
            let path = format!("/api/v1/reservations/{id}/confirm");
            let answer = self.insist(CASHIER, &path, &format!("pay-{id}"), None);
            assert_eq!(answer.status, 200, "an acknowledged hold was not confirmed: {answer:?}");
            self.held.lock().unwrap()[place].confirmed = true;
        }
    }

    fn insist(&self, user: u64, path: &str, key: &str, body: Option<&Value>) -> Answer {
        let started = Instant::now();
        loop {
            match self.post(user, path, key, body) {
                Ok(answer) if answer.status != 503 => return answer,
                _ => thread::sleep(Duration::from_millis(20)),
            }
            assert!(started.elapsed() < PATIENCE, "no answer for {PATIENCE:?}: {path} {key}");
        }
    }

    fn ask_again(&self, server: &Server, hold: &Held) {
        let body = json!({ "seats": hold.seats });
        let again = server.post("/api/v1/options/1/holds", &self.tokens[&hold.user], &hold.key, Some(&body));
        let again = again.unwrap();
        assert!(again.has_header("idempotent-replay: true"), "{hold:?} was done again: {again:?}");
        assert_eq!(again.json()["reservationId"], hold.id);
    }

    /// A user's reservations, by id.
    fn reservations(&self, server: &Server, user: u64) -> BTreeMap<String, Value> {
        let bearer = format!("Bearer {}", self.tokens[&user]);
        let mut all = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let url = format!("{}/api/v1/reservations?limit=200{cursor}", server.api);
            let page = request("GET", &url, &[("Authorization", &bearer)], None).unwrap();
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            for item in page["items"].as_array().unwrap() {
                all.insert(item["reservationId"].as_str().unwrap().to_owned(), item.clone());
            }
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    fn post(&self, user: u64, path: &str, key: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        let api = self.api();
        post(&api, path, &self.tokens[&user], key, body)
    }

    /// Where the server is now.
    pub fn api(&self) -> String {
        self.api.lock().unwrap().clone()
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
