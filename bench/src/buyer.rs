//! One user: look, click, try elsewhere, hold, pay, come back for more.

use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;
use tokio::time::sleep;

use crate::client::{Broken, Call, Connection};
use crate::recorder::{Op, Recorder};
use crate::rush::Run;
use crate::wire::{Problem, Reservation, SeatMap, Selection, State, Token, numbers};
use crate::workload::{Draws, choose};

/// Clicks lost to somebody faster before a user lets the server choose.
const MISSES_MAX: u32 = 3;
/// The seats that the server shows may be this old.
const PAUSE: Duration = Duration::from_millis(50);

/// A hold that the server acknowledged, and whether it acknowledged the sale as well.
#[derive(Clone, Debug)]
pub struct Sale {
    pub reservation: String,
    /// Ascending.
    pub seats: Vec<u32>,
    pub confirmed: bool,
}

/// How a purchase ended.
enum Purchase {
    Done,
    /// Nothing is free and nothing will be.
    SoldOut,
    /// This user may not have more.
    Enough,
}

pub struct Buyer<'a, 'c> {
    pub run: &'a Run,
    pub connection: &'a mut Connection<'c>,
    pub recorder: &'a mut Recorder,
    pub sales: &'a mut Vec<Sale>,
    pub draws: Draws,
    pub token: String,
    /// What the user sees: the free seats at the last look, without those that proved taken.
    pub free: Vec<u32>,
    pub looked: bool,
}

/// A token of the user, as a server for development hands out.
pub async fn token(connection: &mut Connection<'_>, user: u64, role: &str) -> Result<String, Broken> {
    let body = json!({"userId": user, "role": role});
    let answer = connection.call(&Call::post("/api/v1/dev/token".to_owned(), None, &body)).await?;
    if !answer.status.is_success() {
        return Err(Broken::Failed(anyhow!(
            "the server gives no dev tokens ({}); start it with `hotseat serve --demo`, or auth.dev_tokens = true",
            answer.status
        )));
    }
    Ok(answer.json::<Token>().map_err(Broken::Failed)?.token)
}

/// The seats of an option.
pub async fn look(connection: &mut Connection<'_>, option: u64) -> Result<(SeatMap, Duration), Broken> {
    let call =
        Call { accept: "application/octet-stream", ..Call::get(format!("/api/v1/options/{option}/seats")) };
    let answer = connection.call(&call).await?;
    if let Some(problem) = answer.problem().map_err(Broken::Failed)? {
        return Err(Broken::Failed(anyhow!("option {option}: {}: {}", problem.code, problem.detail)));
    }
    let not_a_map =
        || Broken::Failed(anyhow!("what the server sent for the seats is no seat map of version 1"));
    Ok((SeatMap::decode(&answer.body).ok_or_else(not_a_map)?, answer.took))
}

impl Buyer<'_, '_> {
    /// Buys until the user has enough. Whether there is anything left for the next one.
    pub async fn shop(&mut self) -> Result<bool, Broken> {
        self.recorder.users += 1;
        for _ in 0..self.run.purchases {
            match self.purchase().await? {
                Purchase::Done => {}
                Purchase::SoldOut => return Ok(false),
                Purchase::Enough => break,
            }
        }
        Ok(true)
    }

    async fn purchase(&mut self) -> Result<Purchase, Broken> {
        let mut party = self.draws.party(&self.run.party);
        let mut misses = 0;
        loop {
            if self.run.shared.stopped() {
                return Err(Broken::Stopped);
            }
            if self.free.is_empty() {
                if !self.look_for_seats().await? {
                    return Ok(Purchase::SoldOut);
                }
                continue;
            }
            let selected = if misses < MISSES_MAX {
                self.select(party).await?
            } else {
                misses = 0;
                self.select_best(&mut party).await?
            };
            let Some(seats) = selected else {
                misses += 1;
                continue;
            };
            match self.hold(&seats).await? {
                Ok(reservation) => return self.pay(&reservation).await,
                Err(problem) if problem.code == "LIMIT_REACHED" => {
                    self.release().await?;
                    return Ok(Purchase::Enough);
                }
                // The soft lock ran out, or a restarted server never knew it: click again.
                Err(problem) if matches!(problem.code.as_str(), "NOT_SELECTED" | "SEAT_TAKEN") => {}
                Err(problem) => return Err(unexpected("hold", &problem)),
            }
        }
    }

    /// False when everything is sold. Who has looked before waits for news first.
    async fn look_for_seats(&mut self) -> Result<bool, Broken> {
        if std::mem::replace(&mut self.looked, true) {
            sleep(PAUSE).await;
        }
        let (map, took) = look(self.connection, self.run.option).await?;
        self.recorder.time(Op::Look, took);
        self.run.progress.set_position(map.count(State::Confirmed) as u64);
        self.free = map.free();
        Ok(map.count(State::Confirmed) < map.seat_count())
    }

    /// The seats, or `None` when somebody was faster.
    async fn select(&mut self, party: u32) -> Result<Option<Vec<u32>>, Broken> {
        let seats = choose(&mut self.draws, &self.free, party, self.run.zipf);
        match self.click(Op::Select, &json!({ "seats": seats })).await? {
            Ok(selection) => Ok(Some(numbers(&selection.seats))),
            Err(problem) if problem.code == "SEAT_TAKEN" => {
                let taken = numbers(&problem.conflicts);
                self.free.retain(|seat| !taken.contains(seat));
                Ok(None)
            }
            // Kept for too long while the server was away.
            Err(problem) if problem.code == "SELECT_TOO_LONG" => {
                self.free.retain(|seat| !seats.contains(seat));
                Ok(None)
            }
            Err(problem) => self.give_way(problem).await,
        }
    }

    /// Lets the server choose; a party that finds no seats together becomes smaller.
    async fn select_best(&mut self, party: &mut u32) -> Result<Option<Vec<u32>>, Broken> {
        match self.click(Op::Best, &json!({"best": {"party": *party}})).await? {
            Ok(selection) => Ok(Some(numbers(&selection.seats))),
            Err(problem) if problem.code == "NO_SEATS_TOGETHER" => {
                if problem.longest == 0 {
                    self.free.clear();
                } else {
                    *party = problem.longest.min(*party);
                }
                Ok(None)
            }
            Err(problem) => self.give_way(problem).await,
        }
    }

    async fn click(
        &mut self,
        op: Op,
        body: &serde_json::Value,
    ) -> Result<Result<Selection, Problem>, Broken> {
        let call =
            Call::post(format!("/api/v1/options/{}/selections", self.run.option), Some(&self.token), body);
        let answer = self.connection.call(&call).await?;
        self.recorder.time(op, answer.took);
        match answer.problem().map_err(Broken::Failed)? {
            None => Ok(Ok(answer.json().map_err(Broken::Failed)?)),
            Some(problem) => {
                self.recorder.refused(&problem.code);
                Ok(Err(problem))
            }
        }
    }

    /// Soft locks of an attempt whose answer was lost count against the user: give them back.
    async fn give_way(&mut self, problem: Problem) -> Result<Option<Vec<u32>>, Broken> {
        if problem.code != "LIMIT_REACHED" {
            return Err(unexpected("select", &problem));
        }
        self.release().await?;
        Ok(None)
    }

    async fn release(&mut self) -> Result<(), Broken> {
        let path = format!("/api/v1/options/{}/selections", self.run.option);
        let call = Call { method: hyper::Method::DELETE, token: Some(&self.token), ..Call::get(path) };
        let answer = self.connection.call(&call).await?;
        match answer.problem().map_err(Broken::Failed)? {
            None => Ok(()),
            Some(problem) => Err(unexpected("release", &problem)),
        }
    }

    async fn hold(&mut self, seats: &[u32]) -> Result<Result<Reservation, Problem>, Broken> {
        let path = format!("/api/v1/options/{}/holds", self.run.option);
        let call = Call::post(path, Some(&self.token), &json!({ "seats": seats })).keyed();
        let answer = self.connection.call(&call).await?;
        self.recorder.time(Op::Hold, answer.took);
        if let Some(problem) = answer.problem().map_err(Broken::Failed)? {
            self.recorder.refused(&problem.code);
            return Ok(Err(problem));
        }
        let reservation: Reservation = answer.json().map_err(Broken::Failed)?;
        self.free.retain(|seat| !seats.contains(seat));
        let (id, seats) = (reservation.reservation_id.clone(), numbers(&reservation.seats));
        self.sales.push(Sale { reservation: id, seats, confirmed: false });
        Ok(Ok(reservation))
    }

    /// The payment service says that the money is there.
    async fn pay(&mut self, reservation: &Reservation) -> Result<Purchase, Broken> {
        let path = format!("/api/v1/reservations/{}/confirm", reservation.reservation_id);
        let call = Call::post(path, Some(&self.run.payment_token), &serde_json::Value::Null).keyed();
        let answer = self.connection.call(&call).await?;
        self.recorder.time(Op::Confirm, answer.took);
        if let Some(problem) = answer.problem().map_err(Broken::Failed)? {
            self.recorder.refused(&problem.code);
            if problem.code != "HOLD_EXPIRED" {
                return Err(unexpected("confirm", &problem));
            }
            // The server was away for longer than the hold. It is not ours any more, and said so.
            self.sales.pop();
            return Ok(Purchase::Done);
        }
        let status = answer.json::<Reservation>().map_err(Broken::Failed)?.status;
        let sale = self.sales.last_mut().filter(|_| status == "CONFIRMED");
        let Some(sale) = sale else {
            return Err(Broken::Failed(anyhow!("confirm was answered with a reservation that is {status}")));
        };
        sale.confirmed = true;
        self.run.progress.inc(sale.seats.len() as u64);
        Ok(Purchase::Done)
    }
}

fn unexpected(what: &str, problem: &Problem) -> Broken {
    Broken::Failed(anyhow!("{what} was refused: {}: {}", problem.code, problem.detail))
}
