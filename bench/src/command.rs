//! From a command line to a report: what all loads have in common.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::args::{Common, MixedArgs, RushArgs, Task, ToggleArgs};
use crate::audit::{self, Expected};
use crate::limits;
use crate::live::Live;
use crate::lock::lock;
use crate::null;
use crate::report::model::{self, Headline, Report, Run, Scenario, Verdict};
use crate::report::{self, numbers};
use crate::run::{Measured, Plan, measure};
use crate::scenario::fanout::fanout;
use crate::scenario::mixed::Mixed;
use crate::scenario::queue::queue;
use crate::scenario::rush::{Habits, Rush, Sale, Status};
use crate::scenario::toggle::{Spread, Toggle};
use crate::schedule::Shape;
use crate::session::{Patience, Session, Via};
use crate::target::{Introduced, Tokens};
use crate::wire::{SeatMap, State};

/// As a shell reports a program that SIGINT ended.
pub const INTERRUPTED: u8 = 130;

/// Between two looks at a server that is not ready.
const PAUSE: Duration = Duration::from_millis(100);

/// Users a second of the canonical sale: about half of what two cores bear.
pub const CANONICAL_RUSH: f64 = 400.0;
/// A sale has at least so much time.
const RUSH_TIME: Duration = Duration::from_secs(120);

/// Milliseconds by which a generator may be late against a server that does nothing.
const GENERATOR_P99_MAX: f64 = 1.0;

/// Runs of one load that are over, and how they ended.
pub struct Outcome {
    pub scenario: Scenario,
    pub headline: Vec<Headline>,
    /// Where it is not the audit's.
    pub verdict: Option<Verdict>,
    pub interrupted: bool,
    pub failed: Option<anyhow::Error>,
}

/// A command while it lasts.
pub struct Started {
    at: Instant,
    clock: jiff::Timestamp,
    /// Prints the headline and the verdict, and no more.
    brief: bool,
}

impl Started {
    pub fn now(brief: bool) -> Self {
        Self { at: Instant::now(), clock: jiff::Timestamp::now(), brief }
    }

    /// Everything that was found.
    pub fn report(&self, scenarios: Vec<Scenario>, headline: Vec<Headline>) -> Report {
        let verdict = verdict(&scenarios);
        Report {
            version: model::VERSION,
            bench: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started_at: self.clock.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            seconds: self.at.elapsed().as_secs_f64(),
            machine: report::machine(),
            scenarios,
            capacity: None,
            comparison: None,
            headline,
            verdict,
        }
    }

    /// Prints one load's report, writes it where that was asked for, and says how it went.
    ///
    /// # Errors
    /// A run was broken off, or the report cannot be written.
    pub fn finish(&self, outcome: Outcome, out: Option<&Path>) -> anyhow::Result<ExitCode> {
        let Outcome { scenario, headline, verdict, interrupted, failed } = outcome;
        let mut report = self.report(vec![scenario], headline);
        report.verdict = verdict.unwrap_or(report.verdict);
        let code = self.end(&report, interrupted, out)?;
        match failed {
            Some(error) => Err(error.context("the run was broken off")),
            None => Ok(code),
        }
    }

    /// Prints a report, writes it where that was asked for, and says how it went.
    ///
    /// # Errors
    /// The report cannot be written.
    pub fn end(&self, report: &Report, interrupted: bool, out: Option<&Path>) -> anyhow::Result<ExitCode> {
        if self.brief {
            print!("{}", brief(report))
        } else {
            print!("{}", report::text(report))
        }
        if let Some(out) = out {
            for file in report::write(report, out)? {
                println!("wrote {}", file.display());
            }
        }
        Ok(match (report.verdict.passed, interrupted) {
            (false, _) => ExitCode::FAILURE,
            (true, true) => INTERRUPTED.into(),
            (true, false) => ExitCode::SUCCESS,
        })
    }
}

fn failed_checks(run: &Run) -> impl Iterator<Item = &str> {
    run.audit.checks.iter().filter(|check| !check.passed).map(|check| check.what.as_str())
}

/// What was read back, and whether anything was answered at all.
fn verdict(scenarios: &[Scenario]) -> Verdict {
    let runs = || scenarios.iter().flat_map(|scenario| &scenario.runs);
    if let Some(first) = runs().flat_map(failed_checks).next() {
        return Verdict { passed: false, text: format!("the audit found otherwise: {first}") };
    }
    if runs().any(|run| run.answered == 0) {
        return Verdict { passed: false, text: "nothing was answered".to_owned() };
    }
    let mut text = "what was read back is what had been answered".to_owned();
    let failed: u64 = runs().map(|run| run.failed).sum();
    if failed > 0 {
        text += &format!("; {} failed", numbers::counted(failed, "request"));
    }
    Verdict { passed: true, text }
}

/// A few numbers, and whether they are worth anything.
fn brief(report: &Report) -> String {
    let mut text: String =
        report.headline.iter().map(|line| format!("{:<16}{}\n", line.what, line.value)).collect();
    let word = if report.verdict.passed { "PASSED" } else { "FAILED" };
    text += &format!("{word}: {}\n", report.verdict.text);
    text
}

/// Runs a load; `None` for what is none.
///
/// # Errors
/// It could not begin.
pub async fn run(task: &Task) -> anyhow::Result<Option<Outcome>> {
    Ok(Some(match task {
        Task::Rush(args) => rush(args).await?,
        Task::Hotseat(args) => toggle(args, true).await?,
        Task::Toggle(args) => toggle(args, false).await?,
        Task::Fanout(args) => fanout(args).await?,
        Task::Mixed(args) => mixed(args).await?,
        Task::Queue(args) => queue(args).await?,
        Task::Capacity(_) | Task::Compare(_) | Task::Suite(_) | Task::Baseline(_) => return Ok(None),
    }))
}

/// Makes sure of the server, and of the room for connections to it.
///
/// # Errors
/// Says what is wrong.
pub async fn begin(common: &Common) -> anyhow::Result<Introduced> {
    // The null server is in this process: both ends of a connection are ours.
    let ends = if common.null { 2 } else { 1 };
    limits::make_room(u64::from(common.connections) * ends)?;
    let target = if common.null { null::start()? } else { common.url.clone() };
    let at = target.introduce(Tokens::new(common.secret.as_deref()), common.option, common.wait).await?;
    let map = look_when_ready(&at, common.wait).await?;
    let (option, free) = (at.option, map.count(State::Available));
    if map.count(State::Confirmed) == map.seat_count() {
        bail!(
            "option {option} is sold out already; start a server on an empty data directory to sell it again"
        );
    }
    if free == 0 {
        bail!("no seat of option {option} is free: those that are not sold are selected or held by others");
    }
    Ok(at)
}

/// A server that has just been started may serve its documents before its seats.
async fn look_when_ready(at: &Introduced, wait: Duration) -> anyhow::Result<SeatMap> {
    let started = Instant::now();
    loop {
        match look(at).await {
            Err(_) if started.elapsed() < wait => tokio::time::sleep(PAUSE).await,
            looked => return looked,
        }
    }
}

async fn look(at: &Introduced) -> anyhow::Result<SeatMap> {
    let map = Session::new(at, Via::Http, Arc::default()).look().await?.said;
    map.map_err(|problem| anyhow::anyhow!("option {}: {}: {}", at.option, problem.code, problem.detail))
}

pub fn plan(common: &Common, shape: Shape, span: Duration, warm_up: Duration) -> Plan {
    Plan {
        shape: common.shape(shape),
        span: common.time.unwrap_or(span),
        after: Duration::ZERO,
        warm_up: common.warm_up.unwrap_or(warm_up),
        connections: common.connections,
        seed: common.seed,
    }
}

/// What was asked for, in words.
pub fn settings(common: &Common, plan: &Plan) -> Vec<(String, String)> {
    let via = match common.via {
        Via::Http => "HTTP/1.1",
        Via::Ws => "WebSocket",
    };
    let schedule =
        plan.shape.map_or("closed loop: throughput, not latency".to_owned(), |shape| shape.to_string());
    let pairs = [
        ("connections", common.connections.to_string()),
        ("clicks travel by", via.to_owned()),
        ("schedule", schedule),
        ("time", format!("{:?}", plan.span)),
        ("warm-up", format!("{:?}", plan.warm_up)),
        ("generator's threads", common.cores.map_or("one a core".to_owned(), |cores| cores.to_string())),
        ("repetitions", common.repeat.to_string()),
        ("seed", common.seed.to_string()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

pub fn headline(what: &str, value: String) -> Headline {
    Headline { what: what.to_owned(), value }
}

/// Of the last run: its rate, and the slowest hundredth of its clicks.
fn figures(run: &Run, clicks_p99: f64) -> Vec<Headline> {
    vec![
        headline("answered", format!("{}/s", numbers::fixed(run.answered_per_second, 0))),
        headline("p99 of a click", format!("{} ms", numbers::fixed(clicks_p99, 2))),
    ]
}

fn clicks_p99(measured: &Measured) -> f64 {
    report::distribution(&measured.recorder.together(crate::recorder::Op::is_click).latency).p99
}

/// Click and give back.
///
/// # Errors
/// It could not begin.
async fn toggle(args: &ToggleArgs, hot: bool) -> anyhow::Result<Outcome> {
    let common = &args.common;
    let at = begin(common).await?;
    if at.seat_count < args.party {
        bail!("option {} has {} seats, too few for parties of {}", at.option, at.seat_count, args.party);
    }
    let plan =
        plan(common, Shape::Constant { rate: 2_000.0 }, Duration::from_secs(10), Duration::from_secs(1));
    let spread = if hot { Spread::One(first_free(&at).await?) } else { Spread::All };
    let name = if hot { "hotseat" } else { "toggle" };
    let mut outcome = Outcome::new(name, &at, settings(common, &plan));
    for repetition in 0..common.repeat {
        let seed = common.seed + u64::from(repetition);
        let patience = Arc::default();
        let toggle = Toggle { at: at.clone(), spread, party: args.party, via: common.via, seed, patience };
        let live = Live::new(&title(name, &at, repetition, common.repeat));
        let mut measured = measure(&Plan { seed, ..plan.clone() }, Arc::new(toggle), &live).await?;
        let audit = if common.null { model::Audit::default() } else { audit::of_answers(&mut measured) };
        outcome.add(measured, audit);
        if outcome.is_over() {
            break;
        }
    }
    Ok(outcome.of_generator(common.null))
}

/// The one that everybody wants.
async fn first_free(at: &Introduced) -> anyhow::Result<u32> {
    look(at).await?.free().first().copied().context("no seat is free any more")
}

/// A sale in its middle.
///
/// # Errors
/// It could not begin.
async fn mixed(args: &MixedArgs) -> anyhow::Result<Outcome> {
    let common = &args.common;
    let at = begin(common).await?;
    let plan =
        plan(common, Shape::Poisson { rate: 2_000.0 }, Duration::from_secs(10), Duration::from_secs(1));
    let mut outcome = Outcome::new("mixed", &at, settings(common, &plan));
    for repetition in 0..common.repeat {
        let seed = common.seed + u64::from(repetition);
        let confirmed_before = look(&at).await?.count(State::Confirmed);
        let (users, sales, patience) = Default::default();
        let mixed = Arc::new(Mixed { at: at.clone(), via: common.via, seed, patience, users, sales });
        let live = Live::new(&title("mixed", &at, repetition, common.repeat));
        let mut measured = measure(&Plan { seed, ..plan.clone() }, mixed.clone(), &live).await?;
        let sales = std::mem::take(&mut *lock(&mixed.sales));
        // Without an answer a payment may have been taken.
        let stopped = measured.interrupted || !measured.recorder.failures.is_empty();
        let expected = Expected { confirmed_before, sold_out: false, stopped };
        let audit = audit_of_sale(&mut measured, &at, sales, expected, common).await?;
        outcome.add(measured, audit);
        if outcome.is_over() {
            break;
        }
    }
    Ok(outcome.of_generator(common.null))
}

/// All of it. Ctrl-C cuts it short.
async fn audit_of_sale(
    measured: &mut Measured,
    at: &Introduced,
    sales: Vec<Sale>,
    expected: Expected,
    common: &Common,
) -> anyhow::Result<model::Audit> {
    // The null server grants everything to everybody.
    if common.null {
        return Ok(model::Audit::default());
    }
    let mut audit = audit::of_answers(measured);
    tokio::select! {
        done = audit::of_sales(&mut audit, at, sales, expected, common.connections.into()) => done?,
        _ = tokio::signal::ctrl_c() => measured.interrupted = true,
    }
    Ok(audit)
}

/// A sell-out.
///
/// # Errors
/// It could not begin.
async fn rush(args: &RushArgs) -> anyhow::Result<Outcome> {
    let common = &args.common;
    if common.repeat > 1 {
        bail!("a sale is sold out once: --repeat is for the other loads");
    }
    let at = begin(common).await?;
    let map = look(&at).await?;
    let (confirmed_before, left) =
        (map.count(State::Confirmed), map.seat_count() - map.count(State::Confirmed));
    let shape = Shape::Poisson { rate: CANONICAL_RUSH };
    let plan = plan(common, shape, rush_time(args, left), Duration::ZERO);
    let habits = Habits {
        purchases: args.purchases,
        party: args.party.clone(),
        zipf: args.zipf,
        abandon: args.abandon,
    };
    let patience = Arc::new(Patience { survive: args.survive, insists: true, ..Patience::default() });
    let sold_before = confirmed_before as u64;
    let rush =
        Arc::new(Rush::new(at.clone(), common.via, common.seed, habits, patience.clone(), sold_before));
    let mut outcome = Outcome::new("rush", &at, settings(common, &plan));
    let mut measured = measure(&plan, rush.clone(), &Live::new(&title("rush", &at, 0, 1))).await?;
    let seconds = rush.lasted().as_secs_f64();
    let (sales, sold) = (rush.take_sales(), rush.sold.load(Ordering::Relaxed));
    let sold_out = sold_before + sold == u64::from(at.seat_count);
    // Who was broken off in the middle of a purchase left something behind.
    let stopped = measured.interrupted || measured.failed.is_some() || !sold_out;
    let sale = model::Sale {
        seats: sold,
        reservations: sales.iter().filter(|sale| sale.status == Status::Confirmed).count() as u64,
        users: measured.recorder.users,
        abandoned: rush.abandoned.load(Ordering::Relaxed),
        seconds,
        sold_out,
    };
    // Who asked for a time did not ask for all seats.
    let all = common.time.is_none() && !measured.interrupted && measured.failed.is_none();
    let expected = Expected { confirmed_before, sold_out: all, stopped };
    let audit = audit_of_sale(&mut measured, &at, sales, expected, common).await?;
    again(&patience, &mut outcome);
    outcome.add(measured, audit);
    outcome.sold(sale);
    Ok(outcome.of_generator(common.null))
}

/// A sale that is not over then is broken off: several times what it should need.
fn rush_time(args: &RushArgs, seats: usize) -> Duration {
    let mean_party = f64::from(args.party.start() + args.party.end()) / 2.0;
    let users = seats as f64 / (mean_party * f64::from(args.purchases));
    match args.common.shape(Shape::Poisson { rate: CANONICAL_RUSH }) {
        None => RUSH_TIME * 5,
        Some(shape) => {
            let expected = Duration::from_secs_f64(users / shape.mean_rate());
            // A shape that moves is stretched over the time: it should be about the sale's.
            let moves = matches!(shape, Shape::Ramp { .. } | Shape::Spike { .. });
            if moves { expected * 2 } else { RUSH_TIME.max(expected * 3) }
        }
    }
}

/// How often requests were sent again, where they were.
fn again(patience: &Patience, outcome: &mut Outcome) {
    let counts = [
        ("lost connections", &patience.lost),
        ("times busy", &patience.busy),
        ("first answers repeated", &patience.replays),
    ];
    let counts: Vec<String> = counts
        .iter()
        .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    if !counts.is_empty() {
        outcome.scenario.settings.push(("asked again".to_owned(), counts.join(", ")));
    }
}

pub fn title(name: &str, at: &Introduced, repetition: u16, repeat: u16) -> String {
    let nth = if repeat > 1 { format!(", {} of {repeat}", repetition + 1) } else { String::new() };
    format!("{name} on option {} of {}{nth}", at.option, at.target)
}

impl Outcome {
    pub fn new(name: &str, at: &Introduced, settings: Vec<(String, String)>) -> Self {
        let scenario = Scenario { name: name.to_owned(), target: at.described(), settings, runs: Vec::new() };
        Self { scenario, headline: Vec::new(), verdict: None, interrupted: false, failed: None }
    }

    /// One run more.
    pub fn add(&mut self, mut measured: Measured, audit: model::Audit) {
        self.interrupted |= measured.interrupted;
        self.failed = self.failed.take().or(measured.failed.take());
        let p99 = clicks_p99(&measured);
        let run = measured.into_run(audit);
        self.headline = figures(&run, p99);
        self.scenario.runs.push(run);
    }

    /// Of the run that was added last.
    fn sold(&mut self, sale: model::Sale) {
        let per_second = numbers::fixed(sale.seats as f64 / sale.seconds, 0);
        let value =
            format!("{} in {} ({per_second}/s)", numbers::count(sale.seats), numbers::seconds(sale.seconds));
        self.headline[0] = headline("seats sold", value);
        if let Some(run) = self.scenario.runs.last_mut() {
            run.sale = Some(sale);
        }
    }

    /// Against the null server only the generator is measured.
    fn of_generator(mut self, null: bool) -> Self {
        let late = self.scenario.runs.iter().map(|run| run.generator.lateness.p99).fold(0.0, f64::max);
        if null {
            let text = format!(
                "the generator's own error, from due to sent, has a p99 of {} ms; {} ms is allowed",
                numbers::millis(late),
                numbers::millis(GENERATOR_P99_MAX)
            );
            self.verdict = Some(Verdict { passed: late <= GENERATOR_P99_MAX, text });
        }
        self
    }

    pub fn is_over(&self) -> bool {
        self.interrupted || self.failed.is_some()
    }
}
