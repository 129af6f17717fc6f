//! One user after the other on one connection: look, click, try elsewhere, hold, pay, come back for more.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::time::sleep;

use super::{Rush, Sale, Status};
use crate::history::What;
use crate::pace::Arrival;
use crate::recorder::Op;
use crate::run::Worker;
use crate::scenario::{FOR_EVER, HOLD, SOFT_LOCK, note_taken, unexpected};
use crate::session::{Broken, Reply, Session};
use crate::wire::{Problem, Reservation, State, numbers};
use crate::workload::{Draws, choose};

/// Clicks lost to somebody faster before a user lets the server choose.
const MISSES_MAX: u32 = 3;
/// Who finds nothing free looks again after this.
const PAUSE: Duration = Duration::from_millis(50);
/// Who has found nothing so often goes away.
const LOOKS_MAX: u32 = 4;

/// How a purchase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purchase {
    Done,
    /// Nothing is free and nothing will be.
    SoldOut,
    /// This user may not have more.
    Enough,
}

/// How a user thinks better of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GiveUp {
    /// Gives the selected seats back.
    Click,
    /// Goes away without a word; the soft locks run out.
    Leave,
    /// Cancels the hold.
    Hold,
}

pub struct Buyer<'a> {
    rush: &'a Rush,
    worker: &'a Worker,
    session: Session,
    pub sales: Vec<Sale>,
    user: u64,
    draws: Draws,
    /// From where the next answer's latency counts: when the user was due, or decided what to do next.
    due: Instant,
    /// What the user sees: the free seats at the last look, without those that proved taken.
    free: Vec<u32>,
    /// Since seats were last free.
    looks: u32,
}

impl<'a> Buyer<'a> {
    pub fn new(rush: &'a Rush, worker: &'a Worker, session: Session) -> Self {
        let (sales, free) = Default::default();
        let draws = Draws::new(0, 0);
        Self { rush, worker, session, sales, user: 0, draws, due: Instant::now(), free, looks: 0 }
    }

    /// One user after the other. The next one has a token before it is due: logging in is not what is measured.
    pub async fn serve_users(&mut self) -> Result<(), Broken> {
        self.next_user().await?;
        if self.worker.number == 0 {
            note_taken(&mut self.session, &self.worker.journal).await?;
        }
        while let Some(arrival) = self.worker.pace.next().await {
            self.rush.arrived(arrival.due);
            if !self.shop(arrival).await? {
                // Nothing is left for anybody.
                self.worker.pace.stop();
            }
            if !self.worker.pace.stopped() {
                self.next_user().await?;
            }
        }
        Ok(())
    }

    async fn next_user(&mut self) -> Result<(), Broken> {
        let number = self.rush.users.fetch_add(1, Ordering::Relaxed);
        self.user = self.rush.at.user(self.rush.seed, number);
        self.session.become_user(self.user).await
    }

    /// Buys until the user has enough. Whether there is anything left for the next one.
    async fn shop(&mut self, arrival: Arrival) -> Result<bool, Broken> {
        self.draws = Draws::new(self.rush.seed, arrival.number + 1);
        (self.due, self.looks) = (arrival.due, 0);
        self.free.clear();
        self.worker.tape.user(arrival.due);
        for _ in 0..self.rush.habits.purchases {
            match self.purchase().await? {
                Purchase::Done => {}
                Purchase::SoldOut => return Ok(false),
                Purchase::Enough => break,
            }
        }
        Ok(true)
    }

    async fn purchase(&mut self) -> Result<Purchase, Broken> {
        let mut party = self.draws.party(&self.rush.habits.party);
        let gives_up = self.gives_up();
        let mut misses = 0;
        loop {
            if self.rush.patience.stopped() || self.worker.pace.stopped() {
                return Err(Broken::Stopped);
            }
            if self.free.is_empty() {
                if self.looks == LOOKS_MAX {
                    return Ok(Purchase::Enough);
                }
                if !self.look_for_seats().await? {
                    return Ok(Purchase::SoldOut);
                }
                continue;
            }
            self.looks = 1;
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
            let gives_up = gives_up.filter(|_| self.rush.may_give_up());
            match gives_up {
                Some(GiveUp::Leave) if self.rush.may_walk_away() => return Ok(self.walk_away()),
                Some(GiveUp::Leave | GiveUp::Click) => return self.give_back(&seats).await,
                Some(GiveUp::Hold) | None => {}
            }
            let selected = self.due;
            match self.hold(&seats).await? {
                Ok(reservation) if gives_up.is_some() => return self.cancel(&reservation).await,
                Ok(reservation) => return self.pay(&reservation).await,
                Err(problem) if problem.code == "LIMIT_REACHED" => {
                    self.release(&seats).await?;
                    return Ok(Purchase::Enough);
                }
                // The soft lock ran out, or a restarted server never knew it: click again.
                Err(problem) if matches!(problem.code.as_str(), "NOT_SELECTED" | "SEAT_TAKEN") => {
                    self.worker.journal.note(&seats, self.user, selected, None, What::Freed);
                }
                Err(problem) => return Err(unexpected("hold", &problem)),
            }
        }
    }

    /// Drawn before anything happens, so that the same users give up in every run.
    fn gives_up(&mut self) -> Option<GiveUp> {
        let (gives_up, how) = (self.draws.fraction() < self.rush.habits.abandon, self.draws.below(3));
        gives_up.then_some(match how {
            0 => GiveUp::Click,
            1 => GiveUp::Leave,
            _ => GiveUp::Hold,
        })
    }

    /// Records an answer, and from here the next one counts.
    fn note<T>(&mut self, op: Op, reply: &Reply<T>) {
        self.worker.tape.record(&reply.sample(op, self.due));
        self.due = reply.answered;
    }

    /// False when everything is sold. Who has looked before waits for news first.
    async fn look_for_seats(&mut self) -> Result<bool, Broken> {
        self.looks += 1;
        if self.looks > 1 {
            sleep(PAUSE).await;
            self.due = Instant::now();
        }
        let reply = self.session.look().await?;
        self.note(Op::Look, &reply);
        let map = reply.said.map_err(|problem| unexpected("look", &problem))?;
        self.free = map.free();
        Ok(map.count(State::Confirmed) < map.seat_count())
    }

    /// The seats, or `None` when somebody was faster.
    async fn select(&mut self, party: u32) -> Result<Option<Vec<u32>>, Broken> {
        let mut seats = choose(&mut self.draws, &self.free, party, self.rush.habits.zipf);
        seats.sort_unstable();
        let sent = Instant::now();
        let reply = self.session.select(&seats).await.inspect_err(|_| self.lost(&seats, sent))?;
        self.note(Op::Select, &reply);
        let Reply { sent, answered, said } = reply;
        match said {
            Ok(()) => {
                self.worker.journal.granted(&seats, self.user, sent, answered, SOFT_LOCK);
                Ok(Some(seats))
            }
            Err(problem) if problem.code == "SEAT_TAKEN" => {
                let taken = numbers(&problem.conflicts);
                self.worker.journal.note(&taken, self.user, sent, Some(answered), What::Refused);
                self.free.retain(|seat| !taken.contains(seat));
                Ok(None)
            }
            // Kept for too long while the server was away.
            Err(problem) if problem.code == "SELECT_TOO_LONG" => {
                self.free.retain(|seat| !seats.contains(seat));
                Ok(None)
            }
            Err(problem) => self.give_way(problem, &seats).await,
        }
    }

    /// Lets the server choose; a party that finds no seats together becomes smaller.
    async fn select_best(&mut self, party: &mut u32) -> Result<Option<Vec<u32>>, Broken> {
        let reply = self.session.select_best(*party).await?;
        self.note(Op::Best, &reply);
        let Reply { sent, answered, said } = reply;
        match said {
            Ok(seats) => {
                self.worker.journal.granted(&seats, self.user, sent, answered, SOFT_LOCK);
                Ok(Some(seats))
            }
            Err(problem) if problem.code == "NO_SEATS_TOGETHER" => {
                if problem.longest == 0 {
                    self.free.clear();
                } else {
                    *party = problem.longest.min(*party);
                }
                Ok(None)
            }
            Err(problem) => self.give_way(problem, &[]).await,
        }
    }

    /// Soft locks of an attempt whose answer was lost count against the user: give them back.
    async fn give_way(&mut self, problem: Problem, seats: &[u32]) -> Result<Option<Vec<u32>>, Broken> {
        if problem.code != "LIMIT_REACHED" {
            return Err(unexpected("select", &problem));
        }
        self.release(seats).await?;
        Ok(None)
    }

    /// All of the user's; those named are free then.
    async fn release(&mut self, seats: &[u32]) -> Result<(), Broken> {
        let sent = Instant::now();
        let reply = self.session.release_all().await;
        // Without a yes nobody knows since when.
        let freed = reply.as_ref().ok().filter(|reply| reply.said.is_ok()).map(|reply| reply.answered);
        self.worker.journal.note(seats, self.user, sent, freed, What::Freed);
        let reply = reply?;
        self.note(Op::Release, &reply);
        reply.said.map_err(|problem| unexpected("release", &problem))
    }

    /// Nobody else shall count on these seats for a while.
    fn walk_away(&mut self) -> Purchase {
        self.rush.abandoned.fetch_add(1, Ordering::Relaxed);
        Purchase::Enough
    }

    async fn give_back(&mut self, seats: &[u32]) -> Result<Purchase, Broken> {
        self.rush.abandoned.fetch_add(1, Ordering::Relaxed);
        self.free.retain(|seat| !seats.contains(seat));
        self.release(seats).await?;
        Ok(Purchase::Done)
    }

    async fn hold(&mut self, seats: &[u32]) -> Result<Result<Reservation, Problem>, Broken> {
        let sent = Instant::now();
        let reply = self.session.hold(seats).await.inspect_err(|_| self.lost(seats, sent))?;
        self.note(Op::Hold, &reply);
        let Reply { sent, answered, said } = reply;
        let reservation = match said {
            Ok(reservation) => reservation,
            Err(problem) => return Ok(Err(problem)),
        };
        self.free.retain(|seat| !seats.contains(seat));
        let (id, seats) = (reservation.reservation_id.clone(), numbers(&reservation.seats));
        self.worker.journal.granted(&seats, self.user, sent, answered, HOLD);
        self.sales.push(Sale { reservation: id, seats, status: Status::Held });
        Ok(Ok(reservation))
    }

    /// The payment service says that the money is there.
    async fn pay(&mut self, reservation: &Reservation) -> Result<Purchase, Broken> {
        let reply = self.session.confirm(&reservation.reservation_id).await?;
        self.note(Op::Confirm, &reply);
        let Reply { sent, answered, said } = reply;
        match said {
            Ok(confirmed) => {
                let sale = self.sales.last_mut().filter(|_| confirmed.status == "CONFIRMED");
                let Some(sale) = sale else {
                    let status = confirmed.status;
                    return Err(Broken::Failed(anyhow!(
                        "confirm was answered with a reservation that is {status}"
                    )));
                };
                sale.status = Status::Confirmed;
                let seats = sale.seats.len() as u64;
                self.worker.journal.granted(&sale.seats, self.user, sent, answered, FOR_EVER);
                self.worker.tape.sold(self.due, seats);
                if self.rush.sell(seats, answered) {
                    return Ok(Purchase::SoldOut);
                }
            }
            // The server was away for longer than the hold. It is not ours any more, and said so.
            Err(problem) if problem.code == "HOLD_EXPIRED" => {
                if let Some(sale) = self.sales.pop() {
                    self.worker.journal.note(&sale.seats, self.user, sent, None, What::Freed);
                }
            }
            Err(problem) => return Err(unexpected("confirm", &problem)),
        }
        Ok(Purchase::Done)
    }

    /// Changed their mind after all.
    async fn cancel(&mut self, reservation: &Reservation) -> Result<Purchase, Broken> {
        self.rush.abandoned.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let reply = self.session.cancel(&reservation.reservation_id).await;
        let freed = reply.as_ref().ok().filter(|reply| reply.said.is_ok()).map(|reply| reply.answered);
        if let Some(sale) = self.sales.last_mut() {
            self.worker.journal.note(&sale.seats, self.user, sent, freed, What::Freed);
            if freed.is_some() {
                sale.status = Status::Cancelled;
            }
        }
        let reply = reply?;
        self.note(Op::Cancel, &reply);
        reply.said.map_err(|problem| unexpected("cancel", &problem))?;
        Ok(Purchase::Done)
    }

    /// Perhaps it happened.
    fn lost(&self, seats: &[u32], sent: Instant) {
        self.worker.journal.note(seats, self.user, sent, None, What::Unknown);
    }
}
