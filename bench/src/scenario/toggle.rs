//! Click and give back, over and over: every arrival is one click of one connection's user.

use std::sync::Arc;
use std::time::Instant;

use super::{GONE, SOFT_LOCK, note_taken};
use crate::history::What;
use crate::recorder::{Op, Sample, Verdict};
use crate::run::{Worker, Workload};
use crate::session::{Broken, Patience, Reply, Session, Via};
use crate::target::Introduced;
use crate::wire::numbers;
use crate::workload::Draws;

/// Which seats are clicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Any, all alike.
    All,
    /// Everybody wants the same.
    One(u32),
    /// One user, who has it, clicks it again and again from every connection: each attempt writes.
    Renew(u32),
}

pub struct Toggle {
    pub at: Introduced,
    pub spread: Spread,
    /// Adjacent seats, all or none.
    pub party: u32,
    pub via: Via,
    pub seed: u64,
    pub patience: Arc<Patience>,
}

struct Clicker<'a> {
    toggle: &'a Toggle,
    worker: &'a Worker,
    session: Session,
    user: u64,
    draws: Draws,
    /// What is selected now, or may be: nobody knows after a click without an answer.
    mine: Vec<u32>,
    /// Since when there was no answer.
    lost: Option<Instant>,
}

impl Workload for Toggle {
    async fn work(self: Arc<Self>, worker: Worker) -> anyhow::Result<()> {
        let mut session = Session::new(&self.at, self.via, self.patience.clone());
        let number = if matches!(self.spread, Spread::Renew(_)) { 0 } else { u64::from(worker.number) };
        let user = self.at.user(self.seed, number);
        session.become_user(user).await?;
        if worker.number == 0 {
            note_taken(&mut session, &worker.journal).await?;
        }
        let draws = Draws::new(self.seed, u64::from(worker.number) + 1);
        let mut clicker =
            Clicker { toggle: &self, worker: &worker, session, user, draws, mine: Vec::new(), lost: None };
        while let Some(arrival) = worker.pace.next().await {
            clicker.click(arrival.due).await?;
        }
        clicker.leave().await;
        Ok(())
    }
}

impl Clicker<'_> {
    /// An error is for good.
    async fn click(&mut self, due: Instant) -> anyhow::Result<()> {
        let sent = Instant::now();
        let (op, reply) = if self.mine.is_empty() {
            self.mine = self.choose();
            let reply = self.session.select(&self.mine).await;
            self.note_select(sent, &reply);
            (Op::Select, reply)
        } else {
            let reply = self.session.release(&self.mine).await;
            self.note_release(sent, &reply);
            (Op::Release, reply)
        };
        let answered = Instant::now();
        match reply {
            Ok(reply) => {
                self.worker.tape.record(&reply.sample(op, due));
                self.lost = None;
            }
            Err(broken) if self.lost.get_or_insert(answered).elapsed() >= GONE => return Err(broken.into()),
            Err(_) => {
                let verdict = Verdict::Failed("no answer");
                self.worker.tape.record(&Sample { op, due, sent, answered, verdict });
            }
        }
        Ok(())
    }

    fn choose(&mut self) -> Vec<u32> {
        let Toggle { spread, party, at, .. } = self.toggle;
        let first = match *spread {
            Spread::All => self.draws.below(at.seat_count - party + 1),
            Spread::One(seat) | Spread::Renew(seat) => seat,
        };
        (first..first + party).collect()
    }

    /// What was said to a click on `mine`.
    fn note_select(&mut self, sent: Instant, reply: &Result<Reply<()>, Broken>) {
        let Self { worker, user, mine, .. } = self;
        match reply {
            Ok(Reply { sent, answered, said: Ok(()) }) => {
                worker.journal.granted(mine, *user, *sent, *answered, SOFT_LOCK);
            }
            Ok(Reply { sent, answered, said: Err(problem) }) if problem.is_decision() => {
                if problem.code == "SEAT_TAKEN" {
                    let taken = numbers(&problem.conflicts);
                    worker.journal.note(&taken, *user, *sent, Some(*answered), What::Refused);
                }
                mine.clear();
            }
            Ok(_) | Err(_) => worker.journal.note(mine, *user, sent, None, What::Unknown),
        }
        if let Spread::Renew(_) = self.toggle.spread {
            self.mine.clear();
        }
    }

    /// What was said to giving `mine` back.
    fn note_release(&mut self, sent: Instant, reply: &Result<Reply<()>, Broken>) {
        let Self { worker, user, mine, .. } = self;
        match reply {
            Ok(Reply { sent, answered, said: Ok(()) }) => {
                worker.journal.note(mine, *user, *sent, Some(*answered), What::Freed);
            }
            // It had run out, or an earlier attempt had done it: free since nobody knows when.
            Ok(Reply { said: Err(problem), .. }) if problem.is_decision() => {
                worker.journal.note(mine, *user, sent, None, What::Freed);
            }
            Ok(_) | Err(_) => {
                worker.journal.note(mine, *user, sent, None, What::Freed);
                // Once more, with the next click.
                return;
            }
        }
        mine.clear();
    }

    /// Not measured: the next run finds the seats as this one did.
    async fn leave(&mut self) {
        if let Spread::Renew(seat) = self.toggle.spread {
            self.mine = (seat..seat + self.toggle.party).collect();
        }
        if !self.mine.is_empty() {
            let sent = Instant::now();
            let reply = self.session.release(&self.mine).await;
            self.note_release(sent, &reply);
        }
    }
}
