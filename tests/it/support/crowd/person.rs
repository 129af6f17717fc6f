//! One of the crowd, who turns to the next server where one does not answer or says "not now".

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{BUYERS, CASHIER, FOR_BUYERS, Held, Shared};
use crate::support::{Answer, PATIENCE};

/// Before something is tried again.
const AGAIN: Duration = Duration::from_millis(20);

pub struct Person<'a> {
    shared: &'a Shared,
    user: u64,
    option: u32,
    /// The server that is asked.
    at: usize,
}

impl<'a> Person<'a> {
    pub fn new(shared: &'a Shared, user: u64, option: u32) -> Self {
        Self { shared, user, option, at: usize::try_from(user).unwrap() }
    }

    pub fn buy(mut self) {
        while !self.shared.is_leaving() {
            // Each purchase begins elsewhere, so that all servers are asked for everything.
            self.at += 1;
            let first = self.shared.next[&self.option].fetch_add(2, Ordering::Relaxed);
            assert!(first + 2 <= FOR_BUYERS, "the hall is too small for this test");
            let seats = [first, first + 1];
            if self.select(&seats).is_some() {
                self.hold(seats);
            }
            thread::sleep(self.shared.pause);
        }
    }

    pub fn click(mut self) {
        let mut seat = FOR_BUYERS + u32::try_from(self.user - BUYERS).unwrap() * 100;
        while !self.shared.is_leaving() {
            self.at += 1;
            if self.select(&[seat]).is_some() {
                self.release();
            }
            seat = if seat % 100 == 99 { seat - 99 } else { seat + 1 };
            thread::sleep(self.shared.pause);
        }
    }

    /// Clicks until it is granted; `None` when there is nothing to hold.
    fn select(&mut self, seats: &[u32]) -> Option<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.post(self.user, &self.selections(), "-", Some(&json!({ "seats": seats }))) {
                Ok(answer) if answer.status < 202 => {
                    self.shared.granted.fetch_add(1, Ordering::Relaxed);
                    return Some(());
                }
                Ok(answer) if answer.status == 503 => self.is_refused(&answer),
                // Soft locks of purchases that were given up.
                Ok(answer) if answer.code() == "LIMIT_REACHED" => self.release(),
                Ok(answer) => panic!("select {seats:?}: {answer:?}"),
                Err(_) => self.is_unanswered(),
            }
            if self.shared.is_leaving() {
                return None;
            }
            thread::sleep(AGAIN);
        }
        panic!("{seats:?} of {} could not be selected for {PATIENCE:?}", self.option);
    }

    fn release(&mut self) {
        let bearer = format!("Bearer {}", self.shared.tokens[&self.user]);
        let headers = [("Authorization", bearer.as_str())];
        match self.shared.request(self.at, "DELETE", &self.selections(), &headers) {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) if answer.status == 503 => self.is_refused(&answer),
            Ok(answer) => panic!("release: {answer:?}"),
            Err(_) => self.is_unanswered(),
        }
    }

    fn is_refused(&mut self, answer: &Answer) {
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        self.shared.refused.lock().unwrap().push(said);
        self.at += 1;
    }

    fn is_unanswered(&mut self) {
        self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
        self.at += 1;
    }

    /// Sends the same request until its outcome is known, as a good client does.
    fn hold(&mut self, seats: [u32; 2]) {
        let (user, option) = (self.user, self.option);
        let key = format!("hold-{option}-{}", seats[0]);
        let body = json!({ "seats": seats });
        let answer = self.insist(user, &format!("/api/v1/options/{option}/holds"), &key, Some(&body));
        match (answer.status, answer.code().as_str()) {
            (201, _) => {}
            (409, "NOT_SELECTED") => {
                self.shared.lapsed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            _ => panic!("hold {seats:?}: {answer:?}"),
        }
        let id = answer.json()["reservationId"].as_str().unwrap().to_owned();
        let place = {
            let mut held = self.shared.held.lock().unwrap();
            held.push(Held { user, option, key, seats, id: id.clone(), confirmed: false });
            held.len() - 1
        };
        if seats[0].is_multiple_of(4) {
            let path = format!("/api/v1/reservations/{id}/confirm");
            let answer = self.insist(CASHIER, &path, &format!("pay-{id}"), None);
            assert_eq!(answer.status, 200, "an acknowledged hold was not confirmed: {answer:?}");
            self.shared.held.lock().unwrap()[place].confirmed = true;
        }
    }

    fn insist(&mut self, user: u64, path: &str, key: &str, body: Option<&Value>) -> Answer {
        let started = Instant::now();
        loop {
            match self.post(user, path, key, body) {
                Ok(answer) if answer.status != 503 => return answer,
                _ => self.at += 1,
            }
            assert!(started.elapsed() < PATIENCE, "no answer for {PATIENCE:?}: {path} {key}");
            thread::sleep(AGAIN);
        }
    }

    fn post(&self, user: u64, path: &str, key: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        self.shared.post(self.at, user, path, key, body)
    }

    fn selections(&self) -> String {
        format!("/api/v1/options/{}/selections", self.option)
    }
}
