//! The simulator: the shard in a small hostile world, seed by seed.
//!
//! Nothing in the engine imports this module. It runs the very code that production runs, with a fake
//! ledger, a fake mirror and a fake clock that do everything the real ones may do, only more often.
//! A seed decides everything: the same seed gives the same run, on every machine.
//!
//! Reading order: `options` (what a seed makes of its world), `world` (what happens), `workload` (what
//! clients ask), `shadow` (what must be answered: the naive twin), `auditor` (what must be true).
//! Around the shard: `clock`, `writer` → `ledger`, `pipe` → `mirror`. `cluster` is a simulator of its own: several
//! nodes with these parts, one ledger and the rules of ownership. `gate` is another: a waiting room and its crowd.

mod agenda;
pub mod auditor;
mod clock;
pub mod cluster;
pub mod coverage;
pub mod gate;
pub mod ledger;
mod mirror;
pub mod options;
mod pipe;
pub mod prng;
pub mod shadow;
pub mod trace;
pub mod workload;
mod world;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ledger::Ledger;
use options::{Canary, Options};
use trace::{Keep, Trace};
pub use world::Summary;

/// A seed that broke an invariant, with what is needed to see why. `O` are the options of its world.
#[derive(Clone, Debug)]
pub struct Failure<O> {
    pub options: O,
    pub why: String,
    pub trace: Vec<String>,
}

/// Runs one seed.
///
/// # Errors
/// The invariant it broke.
pub fn run(seed: u64, canary: Option<Canary>) -> Result<Summary, Box<Failure<Options>>> {
    explained(Options { canary, ..Options::of_seed(seed) }, 80, live)
}

/// Runs one seed and hands out its ledger, with the tape of everything the ledger was asked.
///
/// # Errors
/// The invariant it broke.
pub fn run_taped(seed: u64) -> Result<Ledger, String> {
    let mut trace = Trace::new(Keep::Nothing);
    world::World::new(Options::of_seed(seed), &mut trace).run_taped()
}

/// Runs one seed and keeps what happened. A panic of the shard is a failure like any other.
pub fn run_traced(seed: u64, canary: Option<Canary>, keep: Keep) -> (Result<Summary, String>, Vec<String>) {
    traced(keep, |trace| live(Options { canary, ..Options::of_seed(seed) }, trace))
}

fn live(options: Options, trace: &mut Trace) -> Result<Summary, String> {
    world::World::new(options, trace).run()
}

/// What came of a run; of one that failed, the last lines of its trace.
fn explained<O: Clone, S>(
    options: O,
    lines: usize,
    run: impl Fn(O, &mut Trace) -> Result<S, String>,
) -> Result<S, Box<Failure<O>>> {
    traced(Keep::Nothing, |trace| run(options.clone(), trace)).0.map_err(|why| {
        let (_, trace) = traced(Keep::Last(lines), |trace| run(options.clone(), trace));
        Box::new(Failure { options, why, trace })
    })
}

/// What came of a run, and what of its trace is kept. A panic is a failure like any other.
fn traced<S>(
    keep: Keep,
    run: impl FnOnce(&mut Trace) -> Result<S, String>,
) -> (Result<S, String>, Vec<String>) {
    let mut trace = Trace::new(keep);
    let run = AssertUnwindSafe(|| run(&mut trace));
    let outcome = catch_unwind(run).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(format!("panicked: {why}"))
    });
    (outcome, trace.lines().map(str::to_owned).collect())
}
