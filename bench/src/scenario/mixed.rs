//! A sale in its middle: some look, many poll for what changed, many click, some buy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::anyhow;

use super::rush::{Sale, Status};
use super::{FOR_EVER, GONE, HOLD, SOFT_LOCK, note_taken};
use crate::frames::{Frame, Position};
use crate::history::What;
use crate::lock::lock;
use crate::recorder::Op;
use crate::run::{Worker, Workload};
use crate::session::{Broken, Patience, Reply, Session, Via};
use crate::target::Introduced;
use crate::wire::{Reservation, numbers};
use crate::workload::Draws;

/// What an arrival does, in hundredths.
const LOOKS: u32 = 5;
const POLLS: u32 = 40;
const CLICKS: u32 = 45;
/// Of purchases, so many hundredths are paid for; the others are cancelled.
const PAID: u32 = 20;

pub struct Mixed {
    pub at: Introduced,
    pub via: Via,
    pub seed: u64,
    pub patience: Arc<Patience>,
    /// Numbers of users; each purchase is somebody else's, so that no limit is reached.
    pub users: AtomicU64,
    pub sales: Mutex<Vec<Sale>>,
}

impl Workload for Mixed {
    async fn work(self: Arc<Self>, worker: Worker) -> anyhow::Result<()> {
        let mut guest = Guest {
            session: Session::new(&self.at, self.via, self.patience.clone()),
            draws: Draws::new(self.seed, u64::from(worker.number) + 1),
            mixed: &self,
            worker: &worker,
            user: 0,
            position: None,
            mine: None,
            lost: None,
        };
        guest.session.record_on(worker.tape.clone());
        guest.next_user().await?;
        if worker.number == 0 {
            note_taken(&mut guest.session, &worker.journal).await?;
        }
        while let Some(arrival) = worker.pace.next().await {
            match guest.act(arrival.due).await {
                Ok(()) => guest.lost = None,
                Err(broken) if guest.lost.get_or_insert_with(Instant::now).elapsed() >= GONE => {
                    return Err(broken.into());
                }
                // It is recorded, and the next arrival is another chance.
                Err(_) => {}
            }
        }
        guest.leave().await;
        Ok(())
    }
}

struct Guest<'a> {
    mixed: &'a Mixed,
    worker: &'a Worker,
    session: Session,
    user: u64,
    draws: Draws,
    /// Of the map it has.
    position: Option<Position>,
    /// The seat it has selected.
    mine: Option<u32>,
    /// Since when there was no answer.
    lost: Option<Instant>,
}

impl Guest<'_> {
    async fn next_user(&mut self) -> Result<(), Broken> {
        let number = self.mixed.users.fetch_add(1, Ordering::Relaxed);
        self.user = self.mixed.at.user(self.mixed.seed, number);
        self.session.become_user(self.user).await
    }

    async fn act(&mut self, due: Instant) -> Result<(), Broken> {
        match self.draws.below(100) {
            kind if kind < LOOKS => self.look(due).await,
            kind if kind < LOOKS + POLLS => self.poll(due).await,
            kind if kind < LOOKS + POLLS + CLICKS => self.click(due).await,
            _ => self.buy(due).await,
        }
    }

    async fn look(&mut self, due: Instant) -> Result<(), Broken> {
        let reply = self.session.look().await?;
        self.worker.tape.record(&reply.sample(Op::Look, due));
        if let Ok(map) = reply.said {
            self.position = Some(map.at);
        }
        Ok(())
    }

    async fn poll(&mut self, due: Instant) -> Result<(), Broken> {
        let Some(since) = self.position else { return self.look(due).await };
        let reply = self.session.changes(since).await?;
        self.worker.tape.record(&reply.sample(Op::Changes, due));
        if let Ok(frame) = reply.said {
            let not_a_frame = || Broken::Failed(anyhow!("what the server sent as changes is no frame"));
            self.position = Some(Frame::read(&frame).ok_or_else(not_a_frame)?.to());
        }
        Ok(())
    }

    async fn click(&mut self, due: Instant) -> Result<(), Broken> {
        match self.mine.take() {
            Some(seat) => self.release(seat, due).await,
            None => {
                let seat = self.draws.below(self.mixed.at.seat_count);
                self.mine = self.select(seat, due).await?.map(|_| seat);
                Ok(())
            }
        }
    }

    async fn release(&mut self, seat: u32, due: Instant) -> Result<(), Broken> {
        let reply = self.give_back(seat).await?;
        self.worker.tape.record(&reply.sample(Op::Release, due));
        Ok(())
    }

    async fn give_back(&mut self, seat: u32) -> Result<Reply<()>, Broken> {
        let sent = Instant::now();
        let reply = self.session.release(&[seat]).await;
        // Without a yes it is free, but nobody knows since when.
        let freed = reply.as_ref().ok().filter(|reply| reply.said.is_ok()).map(|reply| reply.answered);
        self.worker.journal.note(&[seat], self.user, sent, freed, What::Freed);
        reply
    }

    /// Not measured: the next run finds the seats as this one did, but for what was sold.
    async fn leave(&mut self) {
        if let Some(seat) = self.mine.take() {
            // Who cannot be told has gone.
            let _gone = self.give_back(seat).await;
        }
    }

    /// When the seat was granted.
    async fn select(&mut self, seat: u32, due: Instant) -> Result<Option<Instant>, Broken> {
        let (journal, user, sent) = (&self.worker.journal, self.user, Instant::now());
        let unknown = || journal.note(&[seat], user, sent, None, What::Unknown);
        let reply = self.session.select(&[seat]).await.inspect_err(|_| unknown())?;
        self.worker.tape.record(&reply.sample(Op::Select, due));
        let Reply { sent, answered, said } = reply;
        match said {
            Ok(()) => {
                journal.granted(&[seat], user, sent, answered, SOFT_LOCK);
                return Ok(Some(answered));
            }
            Err(problem) if problem.code == "SEAT_TAKEN" => {
                journal.note(&numbers(&problem.conflicts), user, sent, Some(answered), What::Refused);
            }
            Err(problem) if problem.is_decision() => {}
            Err(_) => unknown(),
        }
        Ok(None)
    }

    /// Selects a seat, holds it, and pays or thinks better of it.
    async fn buy(&mut self, due: Instant) -> Result<(), Broken> {
        if let Some(seat) = self.mine.take() {
            return self.release(seat, due).await;
        }
        let seat = self.draws.below(self.mixed.at.seat_count);
        let pays = self.draws.below(100) < PAID;
        let Some(selected) = self.select(seat, due).await? else { return Ok(()) };
        let reply = self.session.hold(&[seat]).await?;
        self.worker.tape.record(&reply.sample(Op::Hold, selected));
        let Reply { sent, answered, said } = reply;
        let Ok(held) = said else {
            let _gone = self.give_back(seat).await?;
            return self.next_user().await;
        };
        let (journal, user) = (&self.worker.journal, self.user);
        journal.granted(&[seat], user, sent, answered, HOLD);
        let status = if pays {
            self.confirm(seat, &held, answered).await
        } else {
            self.cancel(seat, &held, answered).await
        };
        let sale = Sale {
            seats: numbers(&held.seats),
            status: *status.as_ref().unwrap_or(&Status::Held),
            reservation: held.reservation_id,
        };
        lock(&self.mixed.sales).push(sale);
        status?;
        self.next_user().await
    }

    async fn confirm(&mut self, seat: u32, held: &Reservation, due: Instant) -> Result<Status, Broken> {
        let reply = self.session.confirm(&held.reservation_id).await?;
        self.worker.tape.record(&reply.sample(Op::Confirm, due));
        if reply.said.is_ok() {
            self.worker.journal.granted(&[seat], self.user, reply.sent, reply.answered, FOR_EVER);
        }
        Ok(reply.said.map_or(Status::Held, |_| Status::Confirmed))
    }

    async fn cancel(&mut self, seat: u32, held: &Reservation, due: Instant) -> Result<Status, Broken> {
        let sent = Instant::now();
        let reply = self.session.cancel(&held.reservation_id).await;
        let freed = reply.as_ref().ok().filter(|reply| reply.said.is_ok()).map(|reply| reply.answered);
        self.worker.journal.note(&[seat], self.user, sent, freed, What::Freed);
        let reply = reply?;
        self.worker.tape.record(&reply.sample(Op::Cancel, due));
        Ok(reply.said.map_or(Status::Held, |_| Status::Cancelled))
    }
}
