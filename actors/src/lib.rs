//! Thin ractor shells around the engine, and the ports they need.
//!
//! Nothing here decides about a seat. A shard's actor receives a message, brings the time, lets
//! [`engine::Shard::step`] decide, and performs the effects; everything else is about staying alive:
//! who owns the shard, what is durable yet, who still waits for an answer.
//!
//! Reading order: [`ports`] and [`row`] (what is needed from the world), [`handle`] (the door for the
//! edge), [`writer`] (group commit), [`system`] (start and stop).

pub mod ports;
pub mod row;

pub mod clock;
pub mod feed;
pub mod handle;
pub mod mirror;
pub mod observe;
pub mod system;
pub mod writer;

pub use handle::Handle;
pub use system::{LeaseSettings, Options, ShutdownReport, StartError, System};
