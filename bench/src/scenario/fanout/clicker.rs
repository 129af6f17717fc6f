//! Users whose clicks change the map.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::audience::Audience;
use super::board::Kind;
use super::hand::Hand;
use crate::history::What;
use crate::lock::lock;
use crate::pace::Arrival;
use crate::recorder::{Op, Sample, Verdict};
use crate::run::{Worker, Workload};
use crate::scenario::{GONE, SOFT_LOCK};
use crate::session::{Broken, Reply, Session, Via};
use crate::target::Introduced;

/// Longer than any run waits for an arrival.
const LONG: Duration = Duration::from_secs(3_600);

/// All of them.
pub struct Clickers {
    pub at: Introduced,
    pub via: Via,
    pub seed: u64,
    pub connections: u16,
    /// Nobody else clicks these.
    pub seats: Vec<u32>,
    pub audience: Audience,
    /// Those who have clicked for the last time, and what they have left.
    pub done: Mutex<Vec<(Session, Hand)>>,
}

struct Clicker<'a> {
    audience: &'a Audience,
    worker: &'a Worker,
    session: Session,
    user: u64,
    hand: Hand,
    /// Since when there was no answer.
    lost: Option<Instant>,
}

impl Workload for Clickers {
    async fn work(self: Arc<Self>, worker: Worker) -> anyhow::Result<()> {
        let user = self.at.user(self.seed, worker.number.into());
        let mut session = Session::new(&self.at, self.via, Arc::default());
        session.become_user(user).await?;
        let seats = self.seats.iter().skip(worker.number.into()).step_by(self.connections.into());
        let hand = Hand::new(seats.copied().collect());
        let mut clicker =
            Clicker { audience: &self.audience, worker: &worker, session, user, hand, lost: None };
        clicker.work().await?;
        self.done().push((clicker.session, clicker.hand));
        Ok(())
    }
}

impl Clickers {
    /// After the run: gives back what is left.
    ///
    /// # Errors
    /// No answer.
    pub async fn tidy(&self) -> anyhow::Result<()> {
        let done = std::mem::take(&mut *self.done());
        for (mut session, hand) in done {
            let seats: Vec<u32> = hand.held().collect();
            if !seats.is_empty() {
                seats.iter().for_each(|seat| self.audience.reference().board.tidy(*seat));
                session.release(&seats).await?;
            }
        }
        Ok(())
    }

    fn done(&self) -> MutexGuard<'_, Vec<(Session, Hand)>> {
        lock(&self.done)
    }
}

impl Clicker<'_> {
    /// Clicks when it is time to.
    async fn work(&mut self) -> anyhow::Result<()> {
        loop {
            let too_old = self.hand.too_old_at().unwrap_or_else(|| Instant::now() + LONG);
            tokio::select! {
                arrival = self.worker.pace.next() => match arrival {
                    Some(arrival) => self.take(arrival).await?,
                    None => return Ok(()),
                },
                () = sleep_until(too_old.into()) => self.tidy().await?,
            }
        }
    }

    async fn take(&mut self, arrival: Arrival) -> anyhow::Result<()> {
        let due = arrival.due;
        let click = {
            let board = &mut self.audience.reference().board;
            let choice = self.hand.choose(Instant::now(), |seat| board.is_clear(seat));
            // Before it is sent, so that it is there when it is seen.
            choice.map(|(kind, seat)| (kind, seat, board.click(seat, kind, due)))
        };
        let Some((kind, seat, number)) = click else {
            self.fail(Op::Select, due, "no seat whose last click was seen");
            return Ok(());
        };
        let op = match kind {
            Kind::Select => Op::Select,
            Kind::Release => Op::Release,
        };
        let reply = self.click(kind, seat).await;
        if !matches!(&reply, Ok(reply) if reply.said.is_ok()) {
            self.audience.reference().board.refuse(seat, number);
            self.hand.drop(seat);
        }
        match reply {
            Ok(reply) => {
                self.lost = None;
                self.worker.tape.record(&reply.sample(op, due));
            }
            Err(broken) if self.lost.get_or_insert_with(Instant::now).elapsed() >= GONE => {
                return Err(broken.into());
            }
            Err(_) => self.fail(op, due, "no answer"),
        }
        Ok(())
    }

    /// What became of it is noted for the audit.
    async fn click(&mut self, kind: Kind, seat: u32) -> Result<Reply<()>, Broken> {
        let (sent, seats) = (Instant::now(), [seat]);
        let reply = match kind {
            Kind::Select => self.session.select(&seats).await,
            Kind::Release => self.session.release(&seats).await,
        };
        let Worker { journal, .. } = self.worker;
        match (kind, &reply) {
            (Kind::Select, Ok(Reply { sent, answered, said: Ok(()) })) => {
                journal.granted(&seats, self.user, *sent, *answered, SOFT_LOCK);
            }
            (Kind::Select, Ok(Reply { sent, answered, said: Err(problem) }))
                if problem.code == "SEAT_TAKEN" =>
            {
                journal.note(&seats, self.user, *sent, Some(*answered), What::Refused);
            }
            (Kind::Select, _) => journal.note(&seats, self.user, sent, None, What::Unknown),
            (Kind::Release, Ok(Reply { sent, answered, said: Ok(()) })) => {
                journal.note(&seats, self.user, *sent, Some(*answered), What::Freed);
            }
            // It is free when its time is over, and who knows when that is.
            (Kind::Release, _) => {}
        }
        reply
    }

    /// Gives a seat back though no click was due.
    async fn tidy(&mut self) -> anyhow::Result<()> {
        if let Some(seat) = self.hand.give_back() {
            self.audience.reference().board.tidy(seat);
            self.click(Kind::Release, seat).await?;
        }
        Ok(())
    }

    fn fail(&self, op: Op, due: Instant, why: &str) {
        let now = Instant::now();
        let verdict = Verdict::Failed(why);
        self.worker.tape.record(&Sample { op, due, sent: now, answered: now, verdict });
    }
}
