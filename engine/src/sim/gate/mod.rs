//! The gate's simulator: one waiting room, its crowd and its operator, seed by seed.
//!
//! It runs the very [`Gate`](crate::gate::Gate) that production runs, with a fake mirror that is late, goes away, forgets
//! everything and comes back; with crashes between any two steps, after which another owner goes on from
//! the mirror; and with a clock like the shard's.
//!
//! **What holds on every seed**
//! - Effects and state are those of a naive twin over plain vectors: order, ranks, ceilings, draws, everything.
//! - In no second are more admissions decided, or told, than the rate allows, across crashes.
//! - Nobody is admitted twice, and nobody who was told anything loses it in a crash; but for what was told while the
//!   mirror was away, and then it was said so.
//! - The rank somebody was shown never rises, across crashes.
//! - Viewers count from ticks what the owner counts.
//! - A draw has the order that follows from what was published.
//! - Rest: when the faults stop, the line empties, all passes end, every question is answered, and the mirror has
//!   what the gate has.
//!
//! Reading order: `options`, `workload`, `mirror`, `world` (what happens), `twin`, `auditor`.

mod auditor;
mod draws;
mod mirror;
pub mod options;
mod twin;
mod workload;
mod world;

use options::{Canary, Options};

use crate::sim::trace::{Keep, Trace};
use crate::sim::{Failure, Summary, explained, traced};

/// Runs one seed.
///
/// # Errors
/// The invariant it broke.
pub fn run(seed: u64, canary: Option<Canary>) -> Result<Summary, Box<Failure<Options>>> {
    explained(Options { canary, ..Options::of_seed(seed) }, 80, live)
}

/// Runs one seed and keeps what happened. A panic is a failure like any other.
pub fn run_traced(seed: u64, canary: Option<Canary>, keep: Keep) -> (Result<Summary, String>, Vec<String>) {
    traced(keep, |trace| live(Options { canary, ..Options::of_seed(seed) }, trace))
}

fn live(options: Options, trace: &mut Trace) -> Result<Summary, String> {
    world::World::new(options, trace).run()
}
