//! One buyer after the other, whatever happens to the server.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{OPTION, SEATS, Sales};
use crate::support::Answer;

/// Policy of a concert that has none of its own.
const RESERVATIONS_PER_USER: u32 = 4;

/// A request, kept so that it can be sent again.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

impl Call {
    pub fn new(method: &'static str, path: String, token: &str, body: Option<Value>) -> Self {
        Self { method, path, headers: vec![("Authorization", format!("Bearer {token}"))], body }
    }

    /// With a key of its own.
    fn keyed(mut self) -> Self {
        self.headers.push(("Idempotency-Key", uuid::Uuid::new_v4().to_string()));
        self
    }
}

/// Seats that somebody has paid for: what was asked, and the first answers.
#[derive(Clone, Debug)]
pub struct Sale {
    pub token: String,
    pub hold: (Call, Answer),
    pub confirm: (Call, Answer),
}

impl Sale {
    pub fn seats(&self) -> Vec<u64> {
        numbers(&self.hold.1)
    }
}

fn numbers(answer: &Answer) -> Vec<u64> {
    let body = answer.json();
    let seats = body["seats"].as_array().unwrap();
    seats.iter().map(|seat| seat["seatNo"].as_u64().unwrap()).collect()
}

/// How a purchase ended.
enum Purchase {
    Done,
    /// This user may not have more.
    Enough,
    SoldOut,
}

/// Buys until everything is sold, or the test is over.
pub fn shop(sales: &Sales, number: u64) {
    let mut wish = number;
    while serve(sales, &mut wish).is_some_and(|more| more) {}
}

/// One user. Whether there is anything left for the next; `None` when the test is over.
fn serve(sales: &Sales, wish: &mut u64) -> Option<bool> {
    let user = sales.users.fetch_add(1, Ordering::Relaxed);
    let wanted = json!({"userId": user, "role": "USER"});
    let call =
        Call { headers: Vec::new(), ..Call::new("POST", "/api/v1/dev/token".to_owned(), "", Some(wanted)) };
    let token = sales.ask(&call)?.json()["token"].as_str().unwrap().to_owned();
    for _ in 0..RESERVATIONS_PER_USER {
        *wish = wish.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut buyer = Buyer { sales, token: &token, wish: *wish >> 33 };
        match buyer.purchase()? {
            Purchase::Done => {}
            Purchase::Enough => break,
            Purchase::SoldOut => return Some(false),
        }
    }
    Some(true)
}

struct Buyer<'a> {
    sales: &'a Sales,
    token: &'a str,
    /// Which seats: a number that decides everything.
    wish: u64,
}

impl Buyer<'_> {
    fn purchase(&mut self) -> Option<Purchase> {
        let mut party = 1 + self.wish % 4;
        loop {
            let selected = self.select(party)?;
            if selected.status > 201 {
                match selected.code().as_str() {
                    "SEAT_TAKEN" => {}
                    "NO_SEATS_TOGETHER" => match selected.json()["longest"].as_u64() {
                        Some(longest @ 1..) => party = longest.min(party),
                        _ if self.is_sold_out()? => return Some(Purchase::SoldOut),
                        _ => {}
                    },
                    // Soft locks of selects whose answers were lost.
                    "LIMIT_REACHED" => self.release()?,
                    code => panic!("select was refused with {code}: {selected:?}"),
                }
                continue;
            }
            let path = format!("/api/v1/options/{OPTION}/holds");
            let hold =
                Call::new("POST", path, self.token, Some(json!({"seats": numbers(&selected)}))).keyed();
            let answer = self.sales.ask(&hold)?;
            match (answer.status, answer.code().as_str()) {
                (201, _) => return self.pay((hold, answer)),
                // The soft lock ended with the server that gave it, and somebody else may have the seat by now.
                (_, "NOT_SELECTED" | "SEAT_TAKEN") => {}
                (_, "LIMIT_REACHED") => {
                    self.release()?;
                    return Some(Purchase::Enough);
                }
                (_, code) => panic!("hold was refused with {code}: {answer:?}"),
            }
        }
    }

    /// One in four names seats; the others take what the server thinks best.
    fn select(&mut self, party: u64) -> Option<Answer> {
        self.wish += 1;
        let body = if self.wish.is_multiple_of(4) {
            let first = self.wish % (SEATS as u64 - party);
            json!({"seats": (first..first + party).collect::<Vec<u64>>()})
        } else {
            json!({"best": {"party": party}})
        };
        self.sales.ask(&Call::new("POST", selections(), self.token, Some(body)))
    }

    fn release(&self) -> Option<()> {
        let answer = self.sales.ask(&Call::new("DELETE", selections(), self.token, None))?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(())
    }

    /// Nothing is free now; something may come back.
    fn is_sold_out(&self) -> Option<bool> {
        thread::sleep(Duration::from_millis(50));
        let seats =
            self.sales.ask(&Call::new("GET", format!("/api/v1/options/{OPTION}/seats"), self.token, None))?;
        Some(seats.json()["counts"]["confirmed"] == json!(SEATS))
    }

    fn pay(&self, hold: (Call, Answer)) -> Option<Purchase> {
        let id = hold.1.json()["reservationId"].as_str().unwrap().to_owned();
        let confirm =
            Call::new("POST", format!("/api/v1/reservations/{id}/confirm"), self.token, None).keyed();
        let answer = self.sales.ask(&confirm)?;
        assert_eq!(answer.status, 200, "an acknowledged hold was not confirmed: {answer:?}");
        assert_eq!(answer.json()["status"], "CONFIRMED");
        let sale = Sale { token: self.token.to_owned(), hold, confirm: (confirm, answer) };
        self.sales.sold.fetch_add(sale.seats().len(), Ordering::Relaxed);
        self.sales.acknowledged.lock().unwrap().push(sale);
        Some(Purchase::Done)
    }
}

fn selections() -> String {
    format!("/api/v1/options/{OPTION}/selections")
}
