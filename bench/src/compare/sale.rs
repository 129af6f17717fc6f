//! People who buy: click a seat, hold it, pay. One seat after the other, or all at once for the same few.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::history::What;
use crate::lock::lock;
use crate::recorder::Op;
use crate::run::{Worker, Workload};
use crate::scenario::rush::{Sale, Status};
use crate::scenario::{FOR_EVER, HOLD, SOFT_LOCK};
use crate::session::{Broken, Patience, Reply, Session, Via};
use crate::target::Introduced;
use crate::wire::numbers;
use crate::workload::Draws;

/// Then somebody else comes: nobody buys a whole stadium.
const PURCHASES_PER_USER: u32 = 50;

/// Which seat is next.
pub trait Choice: Send + Sync + 'static {
    /// `None` when there is nothing left.
    fn next(&self, draws: &mut Draws) -> Option<Wish>;

    fn sold(&self, _seat: u32) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub seat: u32,
    /// Thinks better of it after the click.
    pub gives_back: bool,
}

/// Every seat once, in their order.
pub struct Queue {
    pub next: Arc<AtomicU32>,
    pub end: u32,
}

/// Everybody wants any of the few that are for sale now, until all of them are sold; then the next few are.
pub struct Fight {
    sold: Vec<AtomicBool>,
    count: AtomicU32,
    few: u32,
}

impl Choice for Queue {
    fn next(&self, _draws: &mut Draws) -> Option<Wish> {
        let seat = self.next.fetch_add(1, Ordering::Relaxed);
        (seat < self.end).then_some(Wish { seat, gives_back: false })
    }
}

impl Fight {
    /// For the first seats of the hall, a few at a time.
    pub fn new(seats: u32, few: u32) -> Self {
        let sold = (0..seats).map(|_| AtomicBool::new(false)).collect();
        Self { sold, count: AtomicU32::new(0), few }
    }

    fn is_sold(&self, seat: u32) -> bool {
        self.sold.get(seat as usize).is_none_or(|sold| sold.load(Ordering::Relaxed))
    }
}

impl Choice for Fight {
    /// One that nobody is known to have bought: the last ones are wanted by all.
    fn next(&self, draws: &mut Draws) -> Option<Wish> {
        loop {
            let (count, all) =
                (self.count.load(Ordering::Relaxed), u32::try_from(self.sold.len()).unwrap_or(u32::MAX));
            if count >= all {
                return None;
            }
            let first = count / self.few * self.few;
            let end = (first + self.few).min(all);
            let drawn = first + draws.below(end - first);
            let seat = (drawn..end).chain(first..drawn).find(|seat| !self.is_sold(*seat));
            if let Some(seat) = seat {
                return Some(Wish { seat, gives_back: draws.below(3) == 0 });
            }
            // The last was sold just now; whoever sold it is about to count it.
            std::hint::spin_loop();
        }
    }

    fn sold(&self, seat: u32) {
        if self.sold.get(seat as usize).is_some_and(|sold| !sold.swap(true, Ordering::Relaxed)) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where they buy.
pub struct Shop<C> {
    at: Introduced,
    seed: u64,
    choice: C,
    users: AtomicU64,
    patience: Arc<Patience>,
    sales: Mutex<Vec<Sale>>,
}

impl<C: Choice> Shop<C> {
    pub fn new(at: Introduced, seed: u64, choice: C) -> Self {
        let (users, patience, sales) = Default::default();
        Self { at, seed, choice, users, patience, sales }
    }

    /// Everything that was acknowledged.
    pub fn take_sales(&self) -> Vec<Sale> {
        std::mem::take(&mut lock(&self.sales))
    }

    /// Users of another seed are other people.
    fn next_user(&self) -> u64 {
        (self.seed % (1 << 20)) * (1 << 32) + self.users.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl<C: Choice> Workload for Shop<C> {
    async fn work(self: Arc<Self>, worker: Worker) -> anyhow::Result<()> {
        let session = Session::new(&self.at, Via::Http, self.patience.clone());
        let mut buyer = Buyer { worker: &worker, session, user: 0, sales: Vec::new() };
        let mut draws = Draws::new(self.seed, u64::from(worker.number));
        let mut purchases = 0;
        buyer.become_user(self.next_user()).await?;
        let mut result = Ok(());
        while let Some(arrival) = worker.pace.next().await {
            let Some(wish) = self.choice.next(&mut draws) else {
                worker.pace.stop();
                break;
            };
            result = buyer.buy(wish, arrival.due).await.map(|paid| {
                if paid {
                    self.choice.sold(wish.seat);
                    purchases += 1;
                }
            });
            if result.is_ok() && purchases == PURCHASES_PER_USER {
                purchases = 0;
                result = buyer.become_user(self.next_user()).await;
            }
            if result.is_err() {
                break;
            }
        }
        lock(&self.sales).append(&mut buyer.sales);
        Ok(result?)
    }
}

struct Buyer<'a> {
    worker: &'a Worker,
    session: Session,
    user: u64,
    sales: Vec<Sale>,
}

impl Buyer<'_> {
    async fn become_user(&mut self, user: u64) -> Result<(), Broken> {
        self.user = user;
        self.session.become_user(user).await
    }

    /// Whether the seat was paid for.
    async fn buy(&mut self, wish: Wish, due: Instant) -> Result<bool, Broken> {
        let seats = [wish.seat];
        let Some(selected) = self.select(&seats, due).await? else { return Ok(false) };
        if wish.gives_back {
            self.give_back(&seats, selected).await?;
            return Ok(false);
        }
        let reply = self.session.hold(&seats).await?;
        self.worker.tape.record(&reply.sample(Op::Hold, selected));
        let Reply { sent, answered, said } = reply;
        let Ok(held) = said else { return Ok(false) };
        self.worker.journal.granted(&seats, self.user, sent, answered, HOLD);
        let reply = self.session.confirm(&held.reservation_id).await?;
        self.worker.tape.record(&reply.sample(Op::Confirm, answered));
        let paid = reply.said.is_ok();
        if paid {
            self.worker.journal.granted(&seats, self.user, reply.sent, reply.answered, FOR_EVER);
        }
        let status = if paid { Status::Confirmed } else { Status::Held };
        self.sales.push(Sale { reservation: held.reservation_id, seats: numbers(&held.seats), status });
        Ok(paid)
    }

    /// When the seat was granted.
    async fn select(&mut self, seats: &[u32], due: Instant) -> Result<Option<Instant>, Broken> {
        let reply = self.session.select(seats).await?;
        self.worker.tape.record(&reply.sample(Op::Select, due));
        let Reply { sent, answered, said } = reply;
        match said {
            Ok(()) => {
                self.worker.journal.granted(seats, self.user, sent, answered, SOFT_LOCK);
                return Ok(Some(answered));
            }
            Err(problem) if problem.code == "SEAT_TAKEN" => {
                let taken = numbers(&problem.conflicts);
                self.worker.journal.note(&taken, self.user, sent, Some(answered), What::Refused);
            }
            Err(_) => self.worker.journal.note(seats, self.user, sent, None, What::Unknown),
        }
        Ok(None)
    }

    async fn give_back(&mut self, seats: &[u32], selected: Instant) -> Result<(), Broken> {
        let reply = self.session.release(seats).await?;
        self.worker.tape.record(&reply.sample(Op::Release, selected));
        if reply.said.is_ok() {
            self.worker.journal.note(seats, self.user, reply.sent, Some(reply.answered), What::Freed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_every_seat_once() {
        let queue = Queue { next: Arc::new(AtomicU32::new(3)), end: 5 };
        let mut draws = Draws::new(1, 1);
        let seats: Vec<_> = std::iter::from_fn(|| queue.next(&mut draws)).map(|wish| wish.seat).collect();
        assert_eq!(seats, [3, 4]);
        assert_eq!(queue.next(&mut draws), None, "and stays empty");
    }

    #[test]
    fn a_fight_goes_on_until_every_seat_is_sold() {
        let fight = Fight::new(25, 10);
        let mut draws = Draws::new(1, 1);
        let (mut sold, mut given_back) = (Vec::new(), 0);
        while let Some(wish) = fight.next(&mut draws) {
            assert!(!sold.contains(&wish.seat));
            assert_eq!(wish.seat / 10, u32::try_from(sold.len()).unwrap() / 10, "the next few come later");
            if wish.gives_back {
                given_back += 1;
            } else {
                sold.push(wish.seat);
                fight.sold(wish.seat);
                fight.sold(wish.seat);
            }
        }
        sold.sort_unstable();
        assert_eq!(sold, (0..25).collect::<Vec<_>>());
        assert!(given_back > 0);
    }
}
