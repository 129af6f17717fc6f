//! The loads, and one of them on one contender.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use super::contender::{Running, Stores};
use super::sale::{Fight, Queue, Shop};
use crate::audit::sold_twice;
use crate::history::prove;
use crate::live::Live;
use crate::recorder::{Op, Recorder};
use crate::report::{self, model::LoadResult};
use crate::run::{Measured, Plan, Workload, measure};
use crate::scenario::rush::Status;
use crate::scenario::toggle::{Spread, Toggle};
use crate::servers::cpu_seconds;
use crate::session::Via;

/// Adjacent seats of a party.
const PARTY: u32 = 4;
/// Everybody fights for so many seats, and then for the next ones.
const FOUGHT_FOR: u32 = 200;
/// What servers do after they have answered is theirs as well.
const AFTERMATH: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Hot,
    Renew,
    Spread,
    Parties,
    Sale,
    Race,
}

/// The same for every contender.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub connections: u16,
    pub time: Duration,
    pub warm_up: Duration,
}

impl Load {
    /// Those that sell come last.
    pub const ALL: [Self; 6] = [Self::Hot, Self::Renew, Self::Spread, Self::Parties, Self::Sale, Self::Race];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Renew => "renew",
            Self::Spread => "spread",
            Self::Parties => "parties",
            Self::Sale => "sale",
            Self::Race => "race",
        }
    }

    pub fn what(self, connections: u16) -> String {
        match self {
            Self::Hot => format!("{connections} users click one seat; whoever gets it gives it back"),
            Self::Renew => {
                format!(
                    "one user clicks their own seat again over {connections} connections: every click writes"
                )
            }
            Self::Spread => format!("{connections} users click and give back any single seat"),
            Self::Parties => {
                format!("{connections} users click and give back {PARTY} adjacent seats, all or none")
            }
            Self::Sale => {
                format!("{connections} users click, hold and pay for a seat each, one after the other")
            }
            Self::Race => format!(
                "{connections} users fight for {FOUGHT_FOR} seats at a time: click, then hold and pay, or give back"
            ),
        }
    }

    /// Once is enough to find out who sells twice.
    pub fn rounds(self, rounds: u32) -> u32 {
        if self == Self::Race { 1 } else { rounds }
    }

    /// On one contender. `None`: a quick one has sold its hall in the rounds before.
    pub async fn run(
        self,
        on: &Running,
        stores: &Stores,
        how: &Measure,
        seed: u64,
    ) -> anyhow::Result<Option<LoadResult>> {
        let measured = match self {
            Self::Hot | Self::Renew | Self::Spread | Self::Parties => {
                self.clicks(on, how, seed).await.map(Some)
            }
            Self::Sale => self.sale(on, stores, how, seed).await,
            Self::Race => self.race(on, how, seed).await.map(Some),
        };
        measured.with_context(|| format!("the load {} on {}", self.name(), on.contender.name()))
    }

    async fn clicks(self, on: &Running, how: &Measure, seed: u64) -> anyhow::Result<LoadResult> {
        let hall = Hall::of(on.at.seat_count);
        let (spread, party) = match self {
            Self::Hot => (Spread::One(hall.hot), 1),
            Self::Renew => (Spread::Renew(hall.renewed), 1),
            Self::Parties => (Spread::All, PARTY),
            _ => (Spread::All, 1),
        };
        let toggle =
            Toggle { at: on.at.clone(), spread, party, via: Via::Http, seed, patience: Arc::default() };
        Ok(result(self.measured(how, seed, Arc::new(toggle)).await?))
    }

    async fn sale(
        self,
        on: &Running,
        stores: &Stores,
        how: &Measure,
        seed: u64,
    ) -> anyhow::Result<Option<LoadResult>> {
        let hall = Hall::of(on.at.seat_count);
        let pids = [on.pids(), stores.pids()].concat();
        if on.unsold.fetch_max(hall.fought_for, Ordering::Relaxed) >= hall.hot {
            return Ok(None);
        }
        let queue = Queue { next: on.unsold.clone(), end: hall.hot };
        let shop = Arc::new(Shop::new(on.at.clone(), seed, queue));
        let before = cpu_seconds(&pids);
        // All of it counts for the processor's time, so all of it is measured.
        let how = Measure { warm_up: Duration::ZERO, ..*how };
        let measured = self.measured(&how, seed, shop.clone()).await?;
        sleep(AFTERMATH).await;
        let spent = cpu_seconds(&pids) - before;
        let sales = shop.take_sales();
        let seats = sales
            .iter()
            .filter(|sale| sale.status == Status::Confirmed)
            .map(|sale| sale.seats.len())
            .sum::<usize>();
        if seats == 0 {
            let (refusals, failures) = (measured.recorder.refusals, measured.recorder.failures);
            bail!("no seat was sold; refusals: {refusals:?}, failures: {failures:?}");
        }
        let mut result = result(measured);
        result.double_sales = sold_twice(&sales).len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "fewer seats than 2^53")]
        let per_seat = spent / seats as f64;
        result.cpu_seconds_per_seat = Some(per_seat);
        Ok(Some(result))
    }

    async fn race(self, on: &Running, how: &Measure, seed: u64) -> anyhow::Result<LoadResult> {
        let hall = Hall::of(on.at.seat_count);
        let fight = Fight::new(hall.fought_for, FOUGHT_FOR);
        let shop = Arc::new(Shop::new(on.at.clone(), seed, fight));
        let how = Measure { warm_up: Duration::ZERO, ..*how };
        let mut result = result(self.measured(&how, seed, shop.clone()).await?);
        result.double_sales = sold_twice(&shop.take_sales()).len() as u64;
        Ok(result)
    }

    async fn measured<W: Workload>(
        self,
        how: &Measure,
        seed: u64,
        workload: Arc<W>,
    ) -> anyhow::Result<Measured> {
        let Measure { connections, time, warm_up } = *how;
        let plan = Plan { shape: None, span: time, after: Duration::ZERO, warm_up, connections, seed };
        let mut measured = measure(&plan, workload, &Live::hidden()).await?;
        if measured.interrupted {
            return Err(super::Interrupted.into());
        }
        match measured.failed.take() {
            Some(error) => Err(error),
            None => Ok(measured),
        }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|load| load.name() == text).ok_or_else(|| {
            format!("{text:?} is no load; these are: {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// Who gets which seats: what is sold for one load is not there for another.
struct Hall {
    /// Below it the race, from it on the sale.
    fought_for: u32,
    /// The sale ends before it.
    hot: u32,
    renewed: u32,
}

impl Hall {
    fn of(seats: u32) -> Self {
        Self { fought_for: seats / 4, hot: seats - 2, renewed: seats - 1 }
    }
}

fn result(measured: Measured) -> LoadResult {
    let Measured { recorder, events, seconds, .. } = measured;
    let clicks = recorder.together(Op::is_click);
    let latency = report::distribution(&clicks.latency);
    let proof = prove(events);
    let all = recorder.together(|_| true);
    LoadResult {
        clicks_per_second: rate(clicks.granted + clicks.refused, seconds),
        p50: latency.p50,
        p99: latency.p99,
        p999: latency.p999,
        holds_per_second: holds(&recorder, seconds),
        cpu_seconds_per_seat: None,
        refused: all.refused,
        failed: all.failed,
        double_grants: proof.double_grants.len() as u64,
        double_sales: 0,
        false_refusals: proof.false_refusals.len() as u64,
    }
}

fn holds(recorder: &Recorder, seconds: f64) -> Option<f64> {
    let holds = recorder.of(Op::Hold);
    (holds.count() > 0).then(|| rate(holds.granted, seconds))
}

#[expect(clippy::cast_precision_loss, reason = "fewer clicks than 2^53")]
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
