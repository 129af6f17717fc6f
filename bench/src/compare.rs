//! Ways of selling seats, side by side in one run over the same JSON.

mod bars;
pub mod contender;
mod load;
mod rounds;
mod sale;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use self::bars::{Table, bars};
use self::contender::{Contender, Running, Stores};
use self::load::{Load, Measure};
use crate::command::Started;
use crate::limits;
use crate::report::model::{self, Comparison, Headline, LoadResult, Verdict};
use crate::report::numbers;

/// The smallest hall that every load fits into.
const SEATS_MIN: i64 = 100;
/// Before a load: what the one before left behind is done by then.
const PAUSE: Duration = Duration::from_millis(200);
const WARM_UP_MAX: Duration = Duration::from_millis(500);

#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Some of the contenders, e.g. `pessimistic,hotseat`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub only: Vec<Contender>,
    /// Some of the loads: hot, renew, spread, parties, sale, race.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub loads: Vec<Load>,
    /// Each load is measured so often on each contender.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each time, in seconds.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = seconds)]
    pub time: f64,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(SEATS_MIN..=10_000_000))]
    pub seats: u32,
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: u16,
    /// The server's binary; beside this one or on the PATH unless told.
    #[arg(long, value_name = "PATH")]
    pub hotseat: Option<PathBuf>,
    /// Threads of the generator; without it one for each core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub cores: Option<u16>,
    /// What the wishes are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write report.html and report.json into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, 0.1 to 600".to_owned()),
    }
}

/// Somebody pressed Ctrl-C.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// What was found, and what hotseat did wrong: nothing, if all is well.
pub struct Compared {
    pub comparison: Comparison,
    pub wrongs: Vec<String>,
    pub interrupted: bool,
}

/// Measures, prints, writes.
///
/// # Errors
/// Somebody cannot be started, or breaks down.
pub async fn command(args: &CompareArgs, started: &Started) -> anyhow::Result<ExitCode> {
    let Compared { comparison, wrongs, interrupted } = compare(args).await?;
    let mut report = started.report(Vec::new(), headline(&comparison));
    report.verdict = verdict(&comparison, &wrongs);
    report.comparison = Some(comparison);
    started.end(&report, interrupted, args.out.as_deref())
}

/// Starts everybody, measures, stops everybody.
///
/// # Errors
/// Somebody cannot be started, or breaks down.
pub async fn compare(args: &CompareArgs) -> anyhow::Result<Compared> {
    let contenders = if args.only.is_empty() { Contender::all() } else { args.only.clone() };
    limits::make_room(u64::from(args.connections))?;
    let stores = Stores::start()?;
    let mut running = Vec::new();
    for contender in &contenders {
        eprintln!("starting {}, {} seats", contender.name(), args.seats);
        running.push(Running::start(*contender, args.hotseat.as_deref(), &stores, args.seats).await?);
    }
    let (mut loads, mut interrupted) = (Vec::new(), false);
    for load in Load::ALL.into_iter().filter(|load| args.loads.is_empty() || args.loads.contains(load)) {
        let mut rounds = vec![Vec::new(); running.len()];
        let measured = measure(load, args, &running, &stores, &mut rounds).await;
        loads.push((load, rounds.iter().map(|rounds| rounds::together(rounds)).collect()));
        match measured {
            // What was measured until now is shown.
            Err(error) if error.is::<Interrupted>() => {
                interrupted = true;
                break;
            }
            measured => measured?,
        }
    }
    let table = Table { contenders: &contenders, loads: &loads };
    let comparison = Comparison {
        seats: args.seats,
        connections: args.connections,
        rounds: args.rounds,
        facts: facts(&stores, &running)?,
        contenders: contenders
            .iter()
            .map(|contender| model::Contender {
                name: contender.name().to_owned(),
                idea: contender.sentence().to_owned(),
            })
            .collect(),
        bars: bars(&table),
        loads: loads
            .iter()
            .map(|(load, results)| model::Load {
                name: load.name().to_owned(),
                what: load.what(args.connections),
                results: results.clone(),
            })
            .collect(),
    };
    Ok(Compared { comparison, wrongs: wrongs(&table), interrupted })
}

/// By contender, in their order, round by round.
async fn measure(
    load: Load,
    args: &CompareArgs,
    running: &[Running],
    stores: &Stores,
    results: &mut [Vec<LoadResult>],
) -> anyhow::Result<()> {
    let time = Duration::from_secs_f64(args.time);
    let how = Measure { connections: args.connections, time, warm_up: (time / 4).min(WARM_UP_MAX) };
    let rounds = load.rounds(args.rounds);
    for round in 0..rounds {
        for at in rounds::order(running.len(), round as usize, rounds as usize) {
            sleep(PAUSE).await;
            // In every round other people, and the same ones for everybody.
            let seed = args.seed + u64::from(round) * Load::ALL.len() as u64 + load as u64;
            let result = load.run(&running[at], stores, &how, seed).await?;
            eprintln!("{}", line(load, round, rounds, running[at].contender, result.as_ref()));
            results[at].extend(result);
        }
    }
    Ok(())
}

/// For whoever waits.
fn line(load: Load, round: u32, rounds: u32, contender: Contender, result: Option<&LoadResult>) -> String {
    let mut line = format!("{:7} {}/{rounds} {:18} ", load.name(), round + 1, contender.name());
    let Some(result) = result else { return line + "has sold its hall: more --seats make more rounds" };
    let LoadResult { clicks_per_second, p99, double_sales, .. } = result;
    line += &format!("{clicks_per_second:9.0} clicks/s, p99 {p99:.2} ms");
    if let Some(holds) = result.holds_per_second {
        line += &format!(", {holds:.0} holds/s");
    }
    if let Some(cpu) = result.cpu_seconds_per_seat {
        line += &format!(", {:.3} ms of the processor per seat", cpu * 1_000.0);
    }
    if *double_sales > 0 {
        line += &format!(", {double_sales} sold twice");
    }
    line
}

fn facts(stores: &Stores, running: &[Running]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut facts = BTreeMap::from([
        ("PostgreSQL".to_owned(), stores.postgres.facts()?),
        ("Redis".to_owned(), stores.redis.facts()?),
        (
            "latency".to_owned(),
            "closed loop: from sending to the answer, everybody goes on when they are answered".to_owned(),
        ),
    ]);
    if let Some(version) = running.iter().find_map(Running::version) {
        facts.insert("hotseat".to_owned(), version.to_owned());
    }
    Ok(facts)
}

/// What no speed makes up for.
fn wrongs(table: &Table<'_>) -> Vec<String> {
    type Count = fn(&LoadResult) -> u64;
    let kinds: [(&str, Count); 3] = [
        ("seats sold twice", |result| result.double_sales),
        ("seats granted twice", |result| result.double_grants),
        ("false refusals", |result| result.false_refusals),
    ];
    let hotseats = table.contenders.iter().copied().filter(|contender| contender.is_hotseat());
    let counted =
        hotseats.flat_map(|contender| kinds.map(|(what, of)| (contender, what, table.sum(contender, of))));
    counted
        .filter(|(_, _, count)| *count > 0)
        .map(|(contender, what, count)| format!("{}: {count} {what}", contender.name()))
        .collect()
}

/// What is said in a line each: all bars, the missed ones with their numbers below.
pub fn headline(comparison: &Comparison) -> Vec<Headline> {
    let met = comparison.bars.iter().filter(|bar| bar.met).count();
    if comparison.bars.is_empty() {
        return Vec::new();
    }
    let value = format!("{met} of {}", comparison.bars.len());
    let missed = comparison.bars.iter().filter(|bar| !bar.met);
    let bars = Headline { what: "bars met".to_owned(), value };
    let missed = missed.map(|bar| Headline {
        what: format!("missed: {}", bar.what),
        value: format!("{}, not {}", bar.measured, bar.bar),
    });
    std::iter::once(bars).chain(missed).collect()
}

/// Of what was wrong, never of what was slow.
fn verdict(comparison: &Comparison, wrongs: &[String]) -> Verdict {
    let others = comparison.contenders.iter().enumerate().filter_map(|(at, contender)| {
        let results = comparison.loads.iter().filter_map(|load| load.results.get(at)?.as_ref());
        let twice: u64 = results.map(|result| result.double_sales).sum();
        (twice > 0).then(|| format!("{} sold {} twice", contender.name, numbers::counted(twice, "seat")))
    });
    let others: Vec<String> = others.collect();
    match wrongs {
        [] if others.is_empty() => Verdict { passed: true, text: "nobody sold a seat twice".to_owned() },
        [] => Verdict { passed: true, text: format!("hotseat did nothing wrong; {}", others.join(", ")) },
        wrongs => Verdict { passed: false, text: wrongs.join(", ") },
    }
}
