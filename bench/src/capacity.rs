//! How far a server goes: how throughput grows with users, and the highest rate that keeps an objective.
//!
//! Both are measured with clicks on any seats, each of which is decided for itself. The closed loop says where to look;
//! the answer is the open loop's.

mod objective;
mod search;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use tokio::time::sleep;

use self::objective::Objective;
use self::search::{Conclusion, Outcome, Search, Step};
use crate::args::Common;
use crate::command::{Started, begin};
use crate::history::{Proof, prove};
use crate::live::Live;
use crate::recorder::{Op, nanos};
use crate::report::model::{Capacity, ClosedPoint, Headline, OpenPoint, Verdict};
use crate::report::{self, numbers::rate};
use crate::run::{Measured, Plan, measure};
use crate::scenario::toggle::{Spread, Toggle};
use crate::schedule::Shape;
use crate::target::Introduced;
use crate::usl;

/// A rate is measured for so long, after this.
const SPAN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);
/// Between two rates: what waited is answered by then.
const PAUSE: Duration = Duration::from_millis(500);
/// The search begins at this part of what the closed loop predicts.
const START: f64 = 0.7;
/// A generator that releases later than this at its 99th percentile does not measure the server.
const SCHEDULE_ERROR_MAX: Duration = Duration::from_millis(5);
/// Nor does one that falls short of what it should offer though its connections are idle half of the time.
const OFFERED_MIN: f64 = 0.95;
const BUSY_MIN: f64 = 0.5;

#[derive(Args, Clone, Debug)]
pub struct CapacityArgs {
    #[command(flatten)]
    pub common: Common,
    /// What has to hold: a percentile of the latency of clicks, and its limit; nothing may fail besides
    #[arg(long, default_value = "p99=50ms", value_name = "OBJECTIVE")]
    pub objective: Objective,
    /// The closed loop goes from 1 user to so many
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u16).range(4..=4096))]
    pub users: u16,
    /// No higher rate is tried
    #[arg(long, default_value_t = 100_000, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_rate: u32,
}

/// Measures, prints, writes.
///
/// # Errors
/// It could not begin, or was broken off.
pub async fn command(args: &CapacityArgs, started: &Started) -> anyhow::Result<ExitCode> {
    let Explored { capacity, wrongs, interrupted } = explore(args).await?;
    let mut report = started.report(Vec::new(), headline(&capacity));
    report.verdict = match &wrongs[..] {
        [] => Verdict { passed: true, text: capacity.conclusion.clone() },
        wrongs => Verdict { passed: false, text: wrongs.join(", ") },
    };
    report.capacity = Some(capacity);
    started.end(&report, interrupted, args.common.out.as_deref())
}

/// The knee, measured and predicted.
pub fn headline(capacity: &Capacity) -> Vec<Headline> {
    let per_second = |value: f64| format!("{}/s", rate(value));
    let measured = capacity.knee.map_or("none found".to_owned(), per_second);
    let predicted =
        capacity.law.as_ref().map_or("no law fits".to_owned(), |law| per_second(law.peak_per_second));
    [("knee, measured", measured), ("knee, predicted", predicted)]
        .map(|(what, value)| Headline { what: what.to_owned(), value })
        .to_vec()
}

/// What was found.
pub struct Explored {
    pub capacity: Capacity,
    /// What the answers prove against the server.
    pub wrongs: Vec<String>,
    pub interrupted: bool,
}

/// # Errors
/// It could not begin, or was broken off.
pub async fn explore(args: &CapacityArgs) -> anyhow::Result<Explored> {
    let mut common = args.common.clone();
    if common.repeat > 1 {
        bail!("a search repeats what it has to: --repeat is for the other loads");
    }
    let Some(shape) = common.shape(Shape::Poisson { rate: 1.0 }) else {
        bail!("a capacity is a rate that was offered: --rate max offers none");
    };
    common.connections = common.connections.max(args.users);
    let at = begin(&common).await?;
    common.connections = args.common.connections;
    let span = common.time.unwrap_or(SPAN);
    let mut explorer = Explorer {
        at,
        shape,
        span,
        warm_up: common.warm_up.unwrap_or(WARM_UP.min(span)),
        objective: args.objective,
        common,
        measured: 0,
        null: args.common.null,
        proof: Proof::default(),
        interrupted: false,
    };
    let capacity = explorer.explore(args).await?;
    Ok(Explored { capacity, wrongs: wrongs(&explorer.proof), interrupted: explorer.interrupted })
}

struct Explorer {
    at: Introduced,
    common: Common,
    objective: Objective,
    /// Of arrivals, at any rate.
    shape: Shape,
    span: Duration,
    warm_up: Duration,
    /// Loads so far: each has other people.
    measured: u64,
    /// The null server grants everything to everybody.
    null: bool,
    proof: Proof,
    interrupted: bool,
}

impl Explorer {
    async fn explore(&mut self, args: &CapacityArgs) -> anyhow::Result<Capacity> {
        let closed = self.closed(args.users).await?;
        let points: Vec<usl::Point> =
            closed.iter().map(|point| (f64::from(point.users), point.per_second)).collect();
        let law = usl::fit(&points);
        let best = points.iter().map(|(_, per_second)| *per_second).fold(1.0, f64::max);
        // The law's limit may lie far beyond what anybody has seen.
        let predicted = law.as_ref().map_or(best, |law| law.peak_per_second.min(best * 1.5));
        let search = Search { start: predicted * START, max: f64::from(args.max_rate) };
        let (open, conclusion) = self.open(search).await?;
        let knee = match conclusion {
            Some(Conclusion::Knee(knee)) => Some(knee),
            _ => None,
        };
        let conclusion =
            conclusion.map_or("It was interrupted.".to_owned(), |found| sentence(found, predicted));
        Ok(Capacity { objective: self.objective.to_string(), closed, open, law, knee, conclusion })
    }

    /// Users at once: 1, 2, 4, …
    async fn closed(&mut self, most: u16) -> anyhow::Result<Vec<ClosedPoint>> {
        let mut points = Vec::new();
        let doublings = std::iter::successors(Some(1u16), |users| users.checked_mul(2));
        for users in doublings.take_while(|users| *users <= most) {
            if self.interrupted {
                break;
            }
            let plan = self.plan(None, self.span * 2 / 3, users);
            let measured = self.measure(&plan, &format!("closed loop, {users} at once")).await?;
            let clicks = measured.recorder.together(Op::is_click);
            let latency = report::distribution(&clicks.latency);
            let per_second = per_second(clicks.granted + clicks.refused, measured.seconds);
            points.push(ClosedPoint { users: users.into(), per_second, p50: latency.p50, p99: latency.p99 });
        }
        Ok(points)
    }

    /// Until there is nothing left to try; `None` when it was interrupted.
    async fn open(&mut self, search: Search) -> anyhow::Result<(Vec<OpenPoint>, Option<Conclusion>)> {
        let (mut points, mut tried) = (Vec::new(), Vec::new());
        loop {
            let offered = match search.next(&tried) {
                Step::Try(rate) => rate,
                Step::Found(conclusion) => return Ok((points, Some(conclusion))),
            };
            if self.interrupted {
                return Ok((points, None));
            }
            sleep(PAUSE).await;
            let shape = self.shape.scaled(offered / self.shape.mean_rate());
            let plan = self.plan(Some(shape), self.span, self.common.connections);
            let measured = self.measure(&plan, &format!("{} offered per second", rate(offered))).await?;
            let (point, outcome) = judge(&measured, &plan, offered, &self.objective);
            points.push(point);
            tried.push((offered, outcome));
        }
    }

    fn plan(&self, shape: Option<Shape>, span: Duration, connections: u16) -> Plan {
        let seed = self.common.seed + self.measured;
        Plan { shape, span, after: Duration::ZERO, warm_up: self.warm_up, connections, seed }
    }

    async fn measure(&mut self, plan: &Plan, title: &str) -> anyhow::Result<Measured> {
        self.measured += 1;
        let (at, via, patience) = (self.at.clone(), self.common.via, Arc::default());
        let toggle = Toggle { at, spread: Spread::All, party: 1, via, seed: plan.seed, patience };
        let mut measured = measure(plan, Arc::new(toggle), &Live::new(title)).await?;
        self.interrupted |= measured.interrupted;
        let events = std::mem::take(&mut measured.events);
        if !self.null {
            let proof = prove(events);
            self.proof.refusals += proof.refusals;
            self.proof.false_refusals.extend(proof.false_refusals);
            self.proof.double_grants.extend(proof.double_grants);
        }
        match measured.failed.take() {
            Some(error) => Err(error.context(format!("{title}: the run was broken off"))),
            None => Ok(measured),
        }
    }
}

/// What a rate was like, and whose doing that was.
#[expect(clippy::cast_precision_loss, reason = "counts and times far below 2^53")]
fn judge(measured: &Measured, plan: &Plan, offered: f64, objective: &Objective) -> (OpenPoint, Outcome) {
    let clicks = measured.recorder.together(Op::is_click);
    let latency = report::distribution(&clicks.latency);
    let achieved = per_second(clicks.granted + clicks.refused, measured.seconds);
    let error = measured.schedule_error.as_ref().map_or(0, |error| error.value_at_quantile(0.99));
    let busy = clicks.service.mean() * clicks.service.len() as f64
        / (measured.seconds * 1e9 * f64::from(plan.connections));
    // Independent arrivals are a little off their rate.
    let due = per_second(measured.offered.unwrap_or(0), plan.span.as_secs_f64());
    let generator_limited = error > nanos(SCHEDULE_ERROR_MAX)
        || (achieved < OFFERED_MIN * due && busy < BUSY_MIN && clicks.failed == 0);
    let kept = !generator_limited && measured.dropped == 0 && objective.is_kept(&clicks);
    let outcome = match (generator_limited, kept) {
        (true, _) => Outcome::Limited,
        (false, true) => Outcome::Kept,
        (false, false) => Outcome::Broken,
    };
    let failed = clicks.failed + measured.dropped;
    let (p50, p99) = (latency.p50, latency.p99);
    (OpenPoint { offered, achieved, p50, p99, failed, kept, generator_limited }, outcome)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn sentence(conclusion: Conclusion, predicted: f64) -> String {
    let predicted = rate(predicted);
    match conclusion {
        Conclusion::Knee(knee) => {
            format!("The knee is at {}/s; the closed loop had predicted a peak of {predicted}/s.", rate(knee))
        }
        Conclusion::NeverBroke(kept) => {
            format!(
                "It kept the objective at {}/s, and nothing higher was to be tried: no knee is known.",
                rate(kept)
            )
        }
        Conclusion::GeneratorLimited(Some(kept)) => format!(
            "It kept the objective at {}/s, and the generator could offer no more: the server's knee is higher.",
            rate(kept)
        ),
        Conclusion::GeneratorLimited(None) => {
            "The generator could not offer what it should: nothing is known about the server.".to_owned()
        }
        Conclusion::BrokeAtOnce(broken) => format!("It broke the objective even at {}/s.", rate(broken)),
        Conclusion::TooNoisy => {
            "The same rates kept and broke the objective: this machine is too busy with other things."
                .to_owned()
        }
    }
}

fn wrongs(proof: &Proof) -> Vec<String> {
    let kinds =
        [("seats granted twice", proof.double_grants.len()), ("false refusals", proof.false_refusals.len())];
    kinds.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect()
}
