//! The cluster's simulator: two to four nodes with one ledger, seed by seed.
//!
//! Each node runs the machines of ownership (`lease`, `placement`, `route`, `handoff`) and the very
//! [`Shard`] that production runs, around the shard simulator's ledger, mirror, writer, pipe and workload.
//! Wires lose, delay, double and overtake; they are cut one way or both, between nodes and to the ledger;
//! nodes stand still for longer than a lease, between two events or between two effects; their clocks run a
//! fifth too fast or too slow; they die between any two effects, and before any order of a move, and look dead
//! while they live; they say farewell; the ledger fails over.
//!
//! **What holds on every seed**
//! - *One owner.* Whenever a node decides a command or a Tick, the lease row names that node and that epoch
//!   at that moment of the ledger's time: so two nodes never decide for one shard at the same time. This
//!   needs clocks that drift less than the margin allows, and a check and a decision with no pause between.
//! - *The fence.* No entry becomes durable in an epoch that is over, whatever stood still and for how long.
//! - *Nothing told is lost.* What a client was told of a reservation the ledger has, and no seat is sold twice.
//! - *Order.* One session's commands are decided in the order they were sent, across moves and re-routing,
//!   but for those whose client was told that nobody knows what became of them.
//! - *A move loses nothing*: the shard that arrives is the one that left, and stands where the ledger stands.
//! - *A ledger that fails over* forgets nothing behind a synchronous standby. Behind another it may: then every
//!   chain that lost an event says so to whoever kept its head, what is left is in order, and no epoch is given
//!   to two processes all the same. Until its lease runs out somebody may decide clicks by a lease that was
//!   forgotten; the fence keeps what is sold.
//! - *Rest.* When the faults stop every shard has one owner, the shards are evenly spread, everybody's route
//!   leads to it, every command is answered, every hold has ended.
//!
//! **What it leaves out.** Clients' commands between nodes travel in streams: lost, late and cut, but never
//! doubled. Two processes never go by one name at the same time. The feed is checked by the shard's simulator.
//!
//! Reading order: `options`, `net`, `database`, `node`, `event` (the parts), `world` (what happens), then what nodes
//! do: `beats` (leases), `deaths`, `farewells`, `fail_overs`, `actors` (shards), `clients` (sessions), `moves`,
//! `faults`; and `audit` (what must be true).
//!
//! [`Shard`]: crate::shard::Shard

mod actors;
mod audit;
mod beats;
mod clients;
mod database;
mod deaths;
mod event;
mod fail_overs;
mod farewells;
mod faults;
mod moves;
mod net;
mod node;
pub mod options;
mod restores;
mod world;

use options::{Canary, Options};

use crate::sim::trace::{Keep, Trace};
use crate::sim::{Failure, Summary, explained, traced};
use crate::time::Span;

/// How long a node waits for the ledger's answer.
const PATIENCE: Span = Span::from_secs(1);

/// Runs one seed.
///
/// # Errors
/// The invariant it broke.
pub fn run(seed: u64, canary: Option<Canary>) -> Result<Summary, Box<Failure<Options>>> {
    explained(Options { canary, ..Options::of_seed(seed) }, 120, live)
}

/// Runs one seed and keeps what happened. A panic is a failure like any other.
pub fn run_traced(seed: u64, canary: Option<Canary>, keep: Keep) -> (Result<Summary, String>, Vec<String>) {
    traced(keep, |trace| live(Options { canary, ..Options::of_seed(seed) }, trace))
}

fn live(options: Options, trace: &mut Trace) -> Result<Summary, String> {
    world::World::new(options, trace).run()
}
