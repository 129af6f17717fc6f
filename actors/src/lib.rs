//! Thin ractor shells around the engine, and the ports they need.
//!
//! Nothing here decides about a seat. A shard's actor receives a message, brings the time, lets
//! [`engine::Shard::step`] decide, and performs the effects; everything else is about staying alive:
//! who owns the shard, what is durable yet, who still waits for an answer.
//!
//! Reading order: [`ports`] and [`row`] (what is needed from the world), [`handle`] (the door for the
//! edge; [`batch`] for several commands at once), `shard` (the loop around the engine), [`writer`] (group commit: first its pure
//! `machine`, then [`writer::seal`]), `supervisor` and `restore` (how a shard comes
//! back), `leases`, [`reach`] and [`clock`] (whose it is, and when), [`mirror`], [`feed`] and [`followers`]
//! (who is told), [`gates`] (waiting rooms),
//! [`observe`] (what is counted), [`ops`] (what operators see), [`system`] (start and stop).

pub mod ports;
pub mod row;

pub mod batch;
mod door;
mod forward;
pub mod handle;
mod inbox;
mod lock;
mod permits;

mod replies;
mod shard;
mod wake;

pub mod writer;

mod restore;
mod supervisor;

pub mod peers;

mod arrivals;
pub mod moves;
mod onward;
mod steward;

pub mod clock;
mod leases;
pub mod reach;

pub mod feed;
pub mod followers;
pub mod gates;
pub mod mirror;
pub mod resync;

pub mod observe;
pub mod ops;
pub mod system;

pub use gates::Gates;
pub use handle::Handle;
pub use steward::Rebalance;
pub use system::{LeaseSettings, Options, ShutdownReport, StartError, System};
