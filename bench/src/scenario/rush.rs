//! A sell-out: everybody wants the best seats at once.
//!
//! Users arrive, look, click on good free seats (the best are wanted most), try others when somebody was faster, let the
//! server choose when that does not help, hold, pay, and come back for more until they may not. Some give up on the
//! way. It is over when every seat is CONFIRMED.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::live::Progress;
use crate::lock::lock;
use crate::run::{Worker, Workload};
use crate::session::{Broken, Patience, Session, Via};
use crate::target::Introduced;

use self::buyer::Buyer;

mod buyer;

/// A soft lock that nobody cares for is gone after 30 s, and for others to see a little later.
const RUNS_OUT: Duration = Duration::from_secs(40);

/// A hold that the server acknowledged, and whether it acknowledged the sale as well.
#[derive(Clone, Debug)]
pub struct Sale {
    pub reservation: String,
    /// Ascending.
    pub seats: Vec<u32>,
    pub status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Held,
    Confirmed,
    Cancelled,
}

/// What users are like.
#[derive(Clone, Debug)]
pub struct Habits {
    pub purchases: u32,
    pub party: RangeInclusive<u32>,
    /// The exponent of Zipf's law over the free seats, best first.
    pub zipf: f64,
    /// Share of purchases that their users give up.
    pub abandon: f64,
}

pub struct Rush {
    pub at: Introduced,
    pub via: Via,
    pub seed: u64,
    pub habits: Habits,
    pub patience: Arc<Patience>,
    /// CONFIRMED when it began.
    pub sold_before: u64,
    pub sold: AtomicU64,
    pub abandoned: AtomicU64,
    users: AtomicU64,
    sales: Mutex<Vec<Sale>>,
    /// When the first user was due, and when the last sale so far was confirmed.
    times: Mutex<Option<(Instant, Instant)>>,
}

impl Rush {
    pub fn new(
        at: Introduced,
        via: Via,
        seed: u64,
        habits: Habits,
        patience: Arc<Patience>,
        sold_before: u64,
    ) -> Self {
        let (sold, abandoned, users, sales, times) = Default::default();
        Self { at, via, seed, habits, patience, sold_before, sold, abandoned, users, sales, times }
    }

    /// Everything that was acknowledged.
    pub fn take_sales(&self) -> Vec<Sale> {
        std::mem::take(&mut lock(&self.sales))
    }

    /// From the first arrival to the last confirmation.
    pub fn lasted(&self) -> Duration {
        let times = lock(&self.times);
        times.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }

    fn arrived(&self, due: Instant) {
        let mut times = lock(&self.times);
        let (first, last) = times.unwrap_or((due, due));
        *times = Some((first.min(due), last));
    }

    /// Whether these were the last seats.
    fn sell(&self, seats: u64, answered: Instant) -> bool {
        if let Some((_, last)) = &mut *lock(&self.times) {
            *last = answered.max(*last);
        }
        self.sold.fetch_add(seats, Ordering::Relaxed) + seats >= self.left_at_first()
    }

    fn left_at_first(&self) -> u64 {
        u64::from(self.at.seat_count) - self.sold_before
    }

    /// Whether somebody may still give up: at the end, nobody shall wait for seats that are given back late.
    fn may_give_up(&self) -> bool {
        let left = self.left_at_first().saturating_sub(self.sold.load(Ordering::Relaxed));
        left * 10 > u64::from(self.at.seat_count)
    }

    /// Whether a soft lock that is left alone runs out long before the sale is over, at its pace so far.
    fn may_walk_away(&self) -> bool {
        let sold = self.sold.load(Ordering::Relaxed);
        let left = self.left_at_first().saturating_sub(sold);
        let first = lock(&self.times).map(|(first, _)| first);
        let lasted = first.map_or(Duration::ZERO, |first| first.elapsed());
        // The first seconds say little about the pace.
        lasted > RUNS_OUT / 4
            && lasted.as_secs_f64() / sold as f64 * left as f64 > RUNS_OUT.as_secs_f64() * 2.0
    }
}

impl Workload for Rush {
    async fn work(self: Arc<Self>, worker: Worker) -> anyhow::Result<()> {
        let mut session = Session::new(&self.at, self.via, self.patience.clone());
        session.record_on(worker.tape.clone());
        let mut buyer = Buyer::new(&self, &worker, session);
        let result = buyer.serve_users().await;
        lock(&self.sales).append(&mut buyer.sales);
        match result {
            Ok(()) | Err(Broken::Stopped) => Ok(()),
            Err(Broken::Failed(error)) => {
                self.patience.stop.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn progress(&self) -> Option<Progress> {
        let done = self.sold_before + self.sold.load(Ordering::Relaxed);
        Some(Progress { what: "seats sold", done, all: u64::from(self.at.seat_count) })
    }
}
