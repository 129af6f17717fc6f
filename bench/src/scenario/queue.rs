//! A crowd at the gate of a concert: a spike of arrivals, those who give up, reconnect storms.
//!
//! What a gate promises is proved from the instants at which requests were sent and answered; what cannot be proved is
//! reported as it was seen, and says so.
//!
//! Reading order: `wire` and `user` (what is said to whom, and what it means), `due` (when they come again), `crowd`, `stream`
//! and `watching` (those who listen), `gate` (as its operator has it); `order`, `windows`, `promises` (what follows from the
//! instants), `findings`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};

use self::crowd::{Crowd, Habits, Setting};
use self::findings::Findings;
use self::gate::Bounds;
use crate::args::{Common, duration, share};
use crate::command::{Outcome, headline};
use crate::limits;
use crate::live::Live;
use crate::recorder::Op;
use crate::report::model::{self, Audit, Headline, Queue};
use crate::report::{distribution, numbers};
use crate::run::{Plan, measure};
use crate::schedule::{Schedule, Shape};
use crate::target::{Introduced, Tokens};

mod crowd;
mod due;
mod findings;
mod gate;
mod order;
mod promises;
mod stream;
mod user;
mod watching;
mod windows;
mod wire;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

/// How long a run may take.
const TIME: Duration = Duration::from_secs(180);
/// Where nothing is said.
const PER_SECOND: u32 = 2_000;

#[derive(Args, Clone, Debug)]
pub struct QueueArgs {
    #[command(flatten)]
    pub common: Common,
    /// How many come
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub arrivals: u32,
    /// Within how long they come; --time is how long all of it may take
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub spike: Duration,
    /// How they come
    #[arg(long, value_enum, default_value_t)]
    pub arrive: Arrive,
    /// The gate admits so many a second; 2,000 where neither bound is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub per_second: Option<u32>,
    /// The gate admits while fewer than so many are inside
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_active: Option<u32>,
    /// Share of those who give up within 20 s: half say goodbye, half are not heard of any more
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", value_parser = share)]
    pub abandon: f64,
    /// So many of them listen to events, each over a connection of its own; the others ask when the server says so
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    pub watchers: u32,
    /// All who listen are dropped so often, and come back at once
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub storm: Option<Duration>,
    /// How long they stay inside
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub stay: Duration,
}

/// How arrivals are spread over the spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Arrive {
    /// Independently of each other.
    #[default]
    Poisson,
    /// Most of them at once, the last ones alone.
    Front,
}

/// # Errors
/// It could not begin.
pub async fn queue(args: &QueueArgs) -> anyhow::Result<Outcome> {
    let common = &args.common;
    ensure!(!common.null, "the null server has no gate");
    ensure!(
        common.rate.is_none(),
        "--arrivals and --spike say how many come how fast, --rate is for the other loads"
    );
    ensure!(
        common.repeat == 1 && common.warm_up.is_none(),
        "a line forms once: no --repeat and no --warm-up"
    );
    let span = common.time.unwrap_or(TIME);
    ensure!(span > args.spike, "--time is for all of it, the spike of {:?} included", args.spike);
    limits::make_room(u64::from(args.watchers.min(args.arrivals)) + u64::from(common.connections) + 8)?;
    let tokens = Tokens::new(common.secret.as_deref());
    let at = common.url.introduce(tokens, common.option, common.wait).await?;
    let admin = gate::operator(&at).await?;
    gate::open(&at, &admin, args.bounds()).await?;
    let found = once(args, &at, admin.clone(), span).await;
    let closed = gate::off(&at, &admin).await;
    let outcome = found?;
    // A server that died in the run is told by what failed.
    if let Err(error) = closed {
        eprintln!("the gate of concert {} may still be open: {error:#}", at.concert);
    }
    Ok(outcome)
}

async fn once(args: &QueueArgs, at: &Introduced, admin: Arc<str>, span: Duration) -> anyhow::Result<Outcome> {
    let common = &args.common;
    let shape = args.shape();
    let plan = Plan {
        shape: Some(shape),
        span: args.spike,
        after: span - args.spike,
        warm_up: Duration::ZERO,
        connections: common.connections,
        seed: common.seed,
    };
    let arrivals =
        Schedule::after_warm_up(shape, plan.warm_up, plan.span, plan.seed).map_err(anyhow::Error::msg)?;
    if arrivals.len() == 0 {
        bail!("nobody came in {:?}: try more --arrivals", args.spike);
    }
    let setting = Setting {
        at: at.clone(),
        seed: common.seed,
        habits: Habits { abandon: args.abandon, watchers: args.watchers, stay: args.stay },
        lasts: span,
        storm: args.storm,
        admin,
        connections: common.connections.into(),
    };
    let crowd = Arc::new(Crowd::new(setting, arrivals.len()));
    let mut outcome = Outcome::new("queue", at, args.settings(at, shape));
    let live = Live::new(&format!("queue at the gate of concert {} of {}", at.concert, at.target));
    let measured = measure(&plan, crowd.clone(), &live).await?;
    crowd.disperse().await;
    let join = distribution(&measured.recorder.of(Op::Join).latency);
    let refused = measured.recorder.of(Op::JoinRefused).refused;
    let Findings { queue, checks } = Findings::of(&crowd, args.bounds(), args.spike);
    outcome.add(measured, Audit { checks, ..Audit::default() });
    outcome.headline = figures(&queue, &join, refused);
    if let Some(run) = outcome.scenario.runs.last_mut() {
        run.queue = Some(queue);
    }
    Ok(outcome)
}

fn figures(queue: &Queue, join: &model::Distribution, refused: u64) -> Vec<Headline> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| numbers::NONE.to_owned());
    let target =
        queue.per_second.map_or(String::new(), |target| format!(" of {}", numbers::count(target.into())));
    let admitted = queue.admitted_per_second.map(|rate| format!("{}/s{target}", numbers::rate(rate)));
    let joined = format!("{} of {}", numbers::count(queue.joined), numbers::count(queue.arrived));
    let p99 = (join.count > 0).then(|| format!("{} ms", numbers::fixed(join.p99, 2)));
    let some = |what: &str, number: u64| (number > 0).then(|| headline(what, numbers::count(number)));
    let mut figures = vec![
        headline("joined in all", joined),
        headline("joined in the spike", format!("{}/s", numbers::rate(queue.joins_per_second))),
        headline("p99 of a join, from the arrival to the yes", or_none(p99)),
    ];
    figures.extend(some("joins refused", refused));
    figures.push(headline("admitted", or_none(admitted)));
    figures.extend(some("seconds left out of it, as nobody knows", queue.left_out_seconds));
    figures.push(headline(
        "order, τ",
        or_none(queue.tau_watchers.or(queue.tau).map(|tau| numbers::fixed(tau, 4))),
    ));
    figures
}

impl QueueArgs {
    fn bounds(&self) -> Bounds {
        let default = self.max_active.is_none().then_some(PER_SECOND);
        Bounds { per_second: self.per_second.or(default), max_active: self.max_active }
    }

    fn shape(&self) -> Shape {
        let rate = f64::from(self.arrivals) / self.spike.as_secs_f64().max(0.001);
        match self.arrive {
            Arrive::Poisson => Shape::Poisson { rate },
            Arrive::Front => Shape::Ramp { from: 2.0 * rate, to: 0.0 },
        }
    }

    fn settings(&self, at: &Introduced, shape: Shape) -> Vec<(String, String)> {
        let common = &self.common;
        let Bounds { per_second, max_active } = self.bounds();
        let bound =
            |bound: Option<u32>| bound.map_or("no bound".to_owned(), |bound| numbers::count(bound.into()));
        let pairs = [
            ("concert", at.concert.to_string()),
            ("admitted per second", bound(per_second)),
            ("inside at once", bound(max_active)),
            ("arrivals", format!("{shape} over {:?}", self.spike)),
            ("give up", format!("{} %, half without a word", numbers::fixed(self.abandon * 100.0, 0))),
            ("listen to events", numbers::count(self.watchers.min(self.arrivals).into())),
            ("storms", self.storm.map_or("none".to_owned(), |every| format!("every {every:?}"))),
            ("stay inside", format!("{:?}", self.stay)),
            ("connections", common.connections.to_string()),
            ("generator's threads", common.cores.map_or("one a core".to_owned(), |cores| cores.to_string())),
            ("seed", common.seed.to_string()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}
