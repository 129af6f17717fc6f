//! A crowd that clicks and buys whatever happens, and keeps a record of its own of everything it was promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::person::Person;
use super::http::request_within;
use super::server::post_within;
use super::viewer::View;
use super::{Answer, PATIENCE};

mod person;

/// Seats of each hall: the buyers walk through the first, the clickers stay on the others.
pub const SEATS: u32 = 12_000;
const FOR_BUYERS: u32 = 10_000;
const BUYERS: u64 = 6;
const CLICKERS: u64 = 3;
/// Who confirms.
const CASHIER: u64 = 99;
/// Where a crowd comes to.
pub struct Visit<'a> {
    /// The servers' APIs, each of which sells everything.
    pub apis: Vec<String>,
    /// Each has [`SEATS`] seats, all free.
    pub options: Vec<u32>,
    /// Signs a token for a user in a role.
    pub token: &'a dyn Fn(u64, &str) -> String,
    /// How long an answer is waited for before the next server is tried.
    pub patience: Duration,
    /// Between two purchases, and between two clicks: a crowd, not a flood, or the faults would be about something else.
    pub pause: Duration,
}

/// The crowd at work.
pub struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    viewers: Vec<JoinHandle<View>>,
}

/// What was there when everybody had left.
pub struct Left {
    /// Acknowledged holds.
    pub held: Vec<Held>,
    /// Times that a viewer had to begin anew.
    pub snapshots: usize,
}

pub struct Shared {
    /// Where the servers are now; they move with each restart.
    apis: Mutex<Vec<String>>,
    patience: Duration,
    pause: Duration,
    tokens: BTreeMap<u64, String>,
    leaving: AtomicBool,
    /// By option, the next seat for buyers.
    next: BTreeMap<u32, AtomicU32>,
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
pub struct Held {
    pub user: u64,
    pub option: u32,
    pub key: String,
    pub seats: [u32; 2],
    pub id: String,
    /// The buyer was told that it is paid.
    pub confirmed: bool,
}

impl Crowd {
    pub fn come(visit: Visit<'_>) -> Self {
        let Visit { apis, options, token, patience, pause } = visit;
        let mut tokens: BTreeMap<u64, String> =
            (1..=BUYERS + CLICKERS).map(|user| (user, token(user, "USER"))).collect();
        tokens.insert(CASHIER, token(CASHIER, "PAYMENT"));
        let servers = apis.len();
        let shared = Arc::new(Shared {
            apis: Mutex::new(apis),
            patience,
            pause,
            tokens,
            leaving: AtomicBool::new(false),
            next: options.iter().map(|option| (*option, AtomicU32::new(0))).collect(),
            held: Mutex::default(),
            lapsed: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            refused: Mutex::default(),
            unanswered: AtomicUsize::new(0),
        });
        // Everybody wants one option. Who goes to a server is not who wants what is sold there.
        let of = |number: usize| options[number % options.len()];
        let person = |(number, user): (usize, u64)| {
            let (shared, option) = (shared.clone(), of(number));
            thread::spawn(move || {
                let person = Person::new(&shared, user, option);
                if user <= BUYERS { person.buy() } else { person.click() }
            })
        };
        let threads = (0..).zip(1..=BUYERS + CLICKERS).map(person).collect();
        let viewer = |server: usize| {
            let (shared, option) = (shared.clone(), of(server + 1));
            thread::spawn(move || View::watch(&shared, server, option))
        };
        let viewers = (0..servers).map(viewer).collect();
        Self { threads, viewers, shared }
    }

    /// The servers are elsewhere now.
    pub fn follow(&self, apis: Vec<String>) {
        *self.shared.apis.lock().unwrap() = apis;
    }

    /// Waits until so many further holds were acknowledged.
    #[track_caller]
    pub fn until_held(&self, further: usize) {
        self.until_held_where(further, |_| true);
    }

    /// Waits until so many further holds of an option were acknowledged.
    #[track_caller]
    pub fn until_held_of(&self, option: u32, further: usize) {
        self.until_held_where(further, |hold| hold.option == option);
    }

    #[track_caller]
    fn until_held_where(&self, further: usize, is_it: impl Fn(&Held) -> bool) {
        let held = || self.shared.held.lock().unwrap().iter().filter(|hold| is_it(hold)).count();
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
    /// with its seats and its payment; no seat is in two; a request sent again gets its first answer; and each viewer
    /// sees what is there. Every server must be up.
    pub fn leave(mut self) -> Left {
        self.shared.leaving.store(true, Ordering::Relaxed);
        for person in std::mem::take(&mut self.threads) {
            person.join().expect("somebody met something impossible");
        }
        let mut snapshots = 0;
        for viewer in std::mem::take(&mut self.viewers) {
            let view = viewer.join().expect("a viewer met something impossible");
            snapshots += view.snapshots;
            view.must_agree(&self.shared);
        }
        Left { held: self.shared.check(), snapshots }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // A failed assertion must not leave them waiting for a dead server.
        self.shared.leaving.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Looks every promise up; which there were.
    fn check(&self) -> Vec<Held> {
        let held = self.held.lock().unwrap().clone();
        let mut owners = BTreeMap::new();
        for hold in &held {
            for seat in hold.seats {
                let former = owners.insert((hold.option, seat), &hold.id);
                assert_eq!(former, None, "seat {seat} of {} was promised twice", hold.option);
            }
        }
        let mut unknown = 0;
        for user in 1..=BUYERS {
            let mut there = self.reservations(user);
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
        for (server, hold) in held.iter().rev().take(50).enumerate() {
            self.ask_again(server, hold);
        }
        held
    }

    fn ask_again(&self, server: usize, hold: &Held) {
        let body = json!({ "seats": hold.seats });
        let path = format!("/api/v1/options/{}/holds", hold.option);
        let again = self.post(server, hold.user, &path, &hold.key, Some(&body)).unwrap();
        assert!(again.has_header("idempotent-replay: true"), "{hold:?} was done again: {again:?}");
        assert_eq!(again.json()["reservationId"], hold.id);
    }

    /// A user's reservations, by id.
    fn reservations(&self, user: u64) -> BTreeMap<String, Value> {
        let bearer = format!("Bearer {}", self.tokens[&user]);
        let mut all = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/reservations?limit=200{cursor}");
            let server = usize::try_from(user).unwrap();
            let page = self.request(server, "GET", &path, &[("Authorization", &bearer)]).unwrap();
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

    fn post(
        &self,
        server: usize,
        user: u64,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> std::io::Result<Answer> {
        post_within(self.patience, &self.api(server), path, &self.tokens[&user], key, body)
    }

    /// A request without a body.
    pub fn request(
        &self,
        server: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Answer> {
        request_within(self.patience, method, &format!("{}{path}", self.api(server)), headers, None)
    }

    /// Where that server is now; the count goes round.
    fn api(&self, server: usize) -> String {
        let apis = self.apis.lock().unwrap();
        apis[server % apis.len()].clone()
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
