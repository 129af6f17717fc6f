//! A crowd buys an arena while the server is killed with -9 twenty times. After each restart the ledger is
//! audited beside the running server and old requests get their first answers; in the end every seat is sold,
//! once, to whom it was promised.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::buyer::{Call, Sale, shop};
use crate::support::{Answer, Place, Server, request, run_on};

mod buyer;

const KILLS: usize = 20;
const BUYERS: u64 = 16;
/// The demo's arena.
const OPTION: u32 = 2;
const SEATS: usize = 12_000;
/// Old requests asked again after each restart.
const ASKED_AGAIN: usize = 40;
/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the buyers share with the one who kills.
pub struct Sales {
    /// Where the server is now; it moves with each restart.
    api: Mutex<String>,
    pub users: AtomicU64,
    /// Seats whose confirmation was acknowledged.
    pub sold: AtomicUsize,
    /// In the order of their acknowledgement.
    pub acknowledged: Mutex<Vec<Sale>>,
    done: AtomicBool,
}

impl Sales {
    fn new(api: &str) -> Self {
        Self {
            api: Mutex::new(api.to_owned()),
            users: AtomicU64::new(1),
            sold: AtomicUsize::new(0),
            acknowledged: Mutex::new(Vec::new()),
            done: AtomicBool::new(false),
        }
    }

    /// Sends the same request until somebody answers it with something else than "not now". `None`: the test
    /// is over, badly.
    pub fn ask(&self, call: &Call) -> Option<Answer> {
        let started = Instant::now();
        while !self.done.load(Ordering::Relaxed) {
            let url = format!("{}{}", self.api.lock().unwrap(), call.path);
            let headers: Vec<(&str, &str)> =
                call.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match request(call.method, &url, &headers, call.body.as_ref()) {
                Ok(answer) if answer.status != 503 => return Some(answer),
                _ => thread::sleep(Duration::from_millis(20)),
            }
            assert!(started.elapsed() < PATIENCE, "no answer for {PATIENCE:?}: {call:?}");
        }
        None
    }
}

#[test]
fn twenty_kills_lose_nothing_and_sell_nothing_twice() {
    let place = Place::new();
    let server = Server::start(&place.data, &["--demo"]);
    let sales = Sales::new(&server.api);
    let server = thread::scope(|scope| {
        let mut server = server;
        let sales = &sales;
        // A failed assertion on this side must not leave the buyers waiting for a dead server.
        let _stop = StopOnPanic(&sales.done);
        let buyers: Vec<_> = (0..BUYERS).map(|number| scope.spawn(move || shop(sales, number))).collect();
        for kill in 1..=KILLS {
            wait_for_sold(sales, &buyers, kill * SEATS / (KILLS + 1));
            server.kill();
            server = Server::start(&place.data, &["--demo"]);
            sales.api.lock().unwrap().clone_from(&server.api);
            audit(&place.data);
            ask_again(sales);
        }
        for buyer in buyers {
            buyer.join().expect("a buyer met something impossible");
        }
        server
    });
    everything_is_sold_as_promised(&sales);
    audit(&place.data);
    server.stop();
    audit(&place.data);
}

/// Exit 0, beside the server or without it.
fn audit(data: &Path) {
    run_on(data, &["audit"]).success();
}

struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn wait_for_sold(sales: &Sales, buyers: &[thread::ScopedJoinHandle<'_, ()>], seats: usize) {
    let started = Instant::now();
    while sales.sold.load(Ordering::Relaxed) < seats {
        assert!(
            buyers.iter().any(|buyer| !buyer.is_finished()),
            "the buyers left before {seats} seats were sold"
        );
        assert!(started.elapsed() < PATIENCE, "{seats} seats are not sold after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The newest requests from before the kill: the same keys, the same content, the first answers.
fn ask_again(sales: &Sales) {
    let newest: Vec<Sale> = {
        let acknowledged = sales.acknowledged.lock().unwrap();
        acknowledged.iter().rev().take(ASKED_AGAIN).cloned().collect()
    };
    assert!(!newest.is_empty());
    for (call, first) in newest.iter().flat_map(|sale| [&sale.hold, &sale.confirm]) {
        let again = sales.ask(call).expect("only a failed test is over");
        assert!(again.has_header("idempotent-replay: true"), "{call:?} was done again: {again:?}");
        assert_eq!(again.status, first.status, "{call:?}");
        for field in ["reservationId", "status", "seats", "holdExpiresAt", "amount"] {
            assert_eq!(again.json()[field], first.json()[field], "{field} of {call:?}");
        }
    }
}

fn everything_is_sold_as_promised(sales: &Sales) {
    let get = |path: String, token: &str| -> Value {
        sales.ask(&Call::new("GET", path, token, None)).expect("only a failed test is over").json()
    };
    let acknowledged = sales.acknowledged.lock().unwrap().clone();
    let any = &acknowledged[0].token;
    let counts = json!({"available": 0, "selecting": 0, "hold": 0, "confirmed": SEATS});
    let sold_out = || get(format!("/api/v1/options/{OPTION}/seats"), any)["counts"] == counts;
    // The snapshot may be a tick old.
    let started = Instant::now();
    while !sold_out() {
        assert!(started.elapsed() < Duration::from_secs(5), "not sold out");
        thread::sleep(Duration::from_millis(20));
    }
    let mut owners = BTreeMap::new();
    for sale in &acknowledged {
        let held = sale.hold.1.json();
        let id = held["reservationId"].as_str().unwrap().to_owned();
        let read = get(format!("/api/v1/reservations/{id}"), &sale.token);
        assert_eq!(read["status"], "CONFIRMED", "{read}");
        assert_eq!(read["seats"], held["seats"], "{read}");
        for seat in sale.seats() {
            if let Some(other) = owners.insert(seat, id.clone()) {
                panic!("seat {seat} is in {other} and in {id}");
            }
        }
    }
    assert_eq!(owners.len(), SEATS, "every CONFIRMED seat was acknowledged to somebody");
}
