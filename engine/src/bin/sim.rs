//! Runs the simulator: many seeds for a verdict and a rate, or one seed with its trace.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::sim::coverage::Coverage;
use engine::sim::prng::mix;
use engine::sim::trace::Keep;
use engine::sim::{self, Failure, Summary, cluster, gate};

const HELP: &str = "\
Runs the shard in a small hostile world and compares it with a naive twin; or a cluster of nodes
with leases, moves and one ledger in a larger one; or the gate of a concert and its crowd.

Usage: sim [--cluster | --gate] [--seeds N] [--start N] [--threads N] [--canary BUG] [--coverage]
       sim [--cluster | --gate] --seed N [--canary BUG]

  --cluster     the cluster instead of the shard
  --gate        the gate instead of the shard
  --seeds N     run this many seeds (default 10000); the combined digest is the same on every run
  --start N     begin with this seed (default 0)
  --threads N   use this many threads (default: one per core); the digest does not depend on it
  --seed N      run one seed and print its options and everything that happens
  --canary BUG  plant a known bug, which must be found; `list` names them, `all` tries each in turn
  --coverage    also print how often each command met each answer
  --help        print this

Exit: 0 when every seed is clean, 1 when a seed fails (with --canary all: when a bug is not found),
2 when the arguments make no sense.
";

/// What the command line asks for.
struct Args {
    seeds: u64,
    start: u64,
    threads: usize,
    seed: Option<u64>,
    canary: Option<String>,
    canaries: Option<Canaries>,
    coverage: bool,
    rig: &'static Rig,
}

/// What is simulated.
struct Rig {
    flag: &'static str,
    canaries: fn() -> Vec<&'static str>,
    run: fn(u64, Option<&str>) -> Result<Summary, Box<Failed>>,
    /// The options, the verdict, and everything that happened.
    replay: fn(u64, Option<&str>) -> Replay,
}

type Replay = (String, Result<Summary, String>, Vec<String>);

struct Failed {
    seed: u64,
    options: String,
    why: String,
    trace: Vec<String>,
}

/// The rigs have the same shape; their options are their own.
macro_rules! rig {
    ($flag:literal, $($rig:ident)::+) => {
        Rig {
            flag: $flag,
            canaries: || $($rig)::+::options::Canary::ALL.into_iter().map(|canary| canary.name()).collect(),
            run: |seed, canary| {
                let canary = canary.and_then($($rig)::+::options::Canary::from_name);
                $($rig)::+::run(seed, canary).map_err(|failure| {
                    let Failure { options, why, trace } = *failure;
                    Box::new(Failed { seed, options: options.to_string(), why, trace })
                })
            },
            replay: |seed, canary| {
                let canary = canary.and_then($($rig)::+::options::Canary::from_name);
                let options = $($rig)::+::options::Options { canary, ..$($rig)::+::options::Options::of_seed(seed) };
                let (outcome, lines) = $($rig)::+::run_traced(seed, canary, Keep::All);
                (options.to_string(), outcome, lines)
            },
        }
    };
}

static SHARD: Rig = rig!("", sim);
static CLUSTER: Rig = rig!(" --cluster", cluster);
static GATE: Rig = rig!(" --gate", gate);

enum Canaries {
    List,
    All,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("sim: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // A panic is reported once, with its seed; the run goes on in silence.
    std::panic::set_hook(Box::new(|_| {}));
    match (&args.canaries, args.seed) {
        (Some(Canaries::List), _) => {
            for canary in (args.rig.canaries)() {
                println!("{canary}");
            }
            ExitCode::SUCCESS
        }
        (Some(Canaries::All), _) => try_canaries(&args),
        (None, Some(seed)) => replay(&args, seed),
        (None, None) => run_many(&args),
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut parsed = Args {
        seeds: 10_000,
        start: 0,
        threads,
        seed: None,
        canary: None,
        canaries: None,
        coverage: false,
        rig: &SHARD,
    };
    while let Some(flag) = args.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        if flag == "--coverage" {
            parsed.coverage = true;
            continue;
        }
        if let Some(rig) = [&CLUSTER, &GATE].into_iter().find(|rig| rig.flag.trim_start() == flag) {
            parsed.rig = rig;
            continue;
        }
        let known = ["--seeds", "--start", "--threads", "--seed", "--canary"];
        if !known.contains(&flag.as_str()) {
            return Err(format!("`{flag}` is not an option"));
        }
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{flag} needs a number, not `{value}`"));
        match flag.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--start" => parsed.start = number()?,
            "--seed" => parsed.seed = Some(number()?),
            "--threads" => {
                parsed.threads = usize::try_from(number()?).unwrap_or(usize::MAX).clamp(1, 256);
            }
            _ => match value.as_str() {
                "all" => parsed.canaries = Some(Canaries::All),
                "list" => parsed.canaries = Some(Canaries::List),
                name => parsed.canary = Some(name.to_owned()),
            },
        }
    }
    if let Some(name) = &parsed.canary
        && !(parsed.rig.canaries)().contains(&name.as_str())
    {
        return Err(format!("no canary is called `{name}`"));
    }
    Ok(Some(parsed))
}

/// All seeds, on all threads. Digests are added up, so their order does not matter.
fn run_many(args: &Args) -> ExitCode {
    let started = now();
    let totals = Mutex::new(Totals::default());
    let (next, end) = (AtomicU64::new(args.start), args.start.saturating_add(args.seeds));
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                let mut mine = Totals::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || mine.failure.is_some() {
                        break;
                    }
                    mine.add(seed, (args.rig.run)(seed, args.canary.as_deref()));
                    if mine.failure.is_some() {
                        next.store(end, Ordering::Relaxed);
                    }
                }
                totals.lock().expect("no thread panics with the lock").merge(mine);
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let totals = totals.into_inner().expect("no thread panics with the lock");
    if let Some(failure) = totals.failure {
        report(args, &failure);
        return ExitCode::FAILURE;
    }
    if args.coverage {
        for (what, came, count) in totals.coverage.iter() {
            println!("{what:<18} {came:<20} {count:>9}");
        }
    }
    let rate = args.seeds as f64 / seconds;
    println!(
        "{} seeds from {}: {} steps, {} entries, {} crashes",
        args.seeds, args.start, totals.steps, totals.entries, totals.crashes
    );
    println!("{rate:.0} seeds/s on {} threads, {seconds:.1} s", args.threads);
    println!("digest {:016x}", totals.digest);
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Totals {
    digest: u64,
    steps: u64,
    entries: u64,
    crashes: u64,
    coverage: Coverage,
    failure: Option<Box<Failed>>,
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: Result<Summary, Box<Failed>>) {
        match outcome {
            Err(failure) => self.failure = Some(failure),
            Ok(outcome) => {
                self.digest = self.digest.wrapping_add(mix(outcome.digest ^ mix(seed)));
                self.steps += outcome.step_count;
                self.entries += outcome.entry_count;
                self.crashes += u64::from(outcome.crash_count);
                self.coverage.merge(&outcome.coverage);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.digest = self.digest.wrapping_add(other.digest);
        self.steps += other.steps;
        self.entries += other.entries;
        self.crashes += other.crashes;
        self.coverage.merge(&other.coverage);
        let failures = self.failure.take().into_iter().chain(other.failure);
        self.failure = failures.min_by_key(|failure| failure.seed);
    }
}

fn report(args: &Args, failure: &Failed) {
    let Failed { seed, options, why, trace } = failure;
    for line in trace {
        println!("{line}");
    }
    println!("\n{options}\nseed {seed} fails: {why}");
    let canary = args.canary.as_ref().map(|canary| format!(" --canary {canary}")).unwrap_or_default();
    let rig = args.rig.flag;
    println!("replay: cargo run -p engine --release --bin sim --{rig} --seed {seed}{canary}");
}

fn replay(args: &Args, seed: u64) -> ExitCode {
    let (options, outcome, lines) = (args.rig.replay)(seed, args.canary.as_deref());
    println!("{options}");
    for line in lines {
        println!("{line}");
    }
    match outcome {
        Ok(Summary { digest, step_count, entry_count, crash_count, .. }) => {
            println!(
                "\nseed {seed} is clean: {step_count} steps, {entry_count} entries, {crash_count} crashes"
            );
            println!("digest {digest:016x}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("\nseed {seed} fails: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Each planted bug must be found within the seeds.
fn try_canaries(args: &Args) -> ExitCode {
    let mut missed = 0;
    for canary in (args.rig.canaries)() {
        let mut seeds = args.start..args.start.saturating_add(args.seeds);
        match seeds.find_map(|seed| (args.rig.run)(seed, Some(canary)).err()) {
            Some(failure) => {
                let why = failure.why.lines().next().unwrap_or_default();
                println!("{canary}: found by seed {}: {why}", failure.seed);
            }
            None => {
                println!("{canary}: NOT FOUND in {} seeds", args.seeds);
                missed += 1;
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The one look at a real clock, for the rate.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures the simulator, not the shard"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
