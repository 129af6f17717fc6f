//! The rules of hotseat, pure.
//!
//! A [`Shard`] owns the seats of some concerts in memory and decides every click in order. It is a
//! synchronous state machine: [`Shard::step`] takes the time and one [`Input`], changes the state and
//! pushes [`Effect`]s into a buffer of the caller. It does no IO, reads no clock and draws no random
//! numbers, so the simulator runs the very code that production runs.
//!
//! A seat goes AVAILABLE → SELECTING by a *soft lock*, which lives in memory and in the mirror only and
//! runs out by itself. A *hold* turns soft locks into a [`reservation::Reservation`]: the seats are kept
//! from everybody while the entry is on its way to the ledger, and the reply waits until it is
//! durable. From there every change of a reservation is an [`Entry`] first and a fact second.
//! When the ledger refuses an entry that memory allowed, one of the two is wrong about the world, and
//! the ledger is right by definition: the shard halts and is restored.
//!
//! Reading order: `ids`, `time`, `limits`, `settings`; `plan` and `option` (what is sold);
//! `command` → `outcome` (what may be asked and answered); `reservation`, `entry`, `effect` (what is
//! written and done); then `shard` and its rules, one file each.
//!
//! A concert's waiting room is a machine of its own beside its shard: [`gate::Gate`], with the same shape.
//!
//! Beside the shard stand the rules of *ownership*, machines as pure as it is: `lease` (until when a node
//! may say that a shard is its own), `placement` (which node should have it), `route` (which node is
//! believed to have it) and `handoff` (how it changes hands while everybody lives). `sim` puts all of
//! them into worlds that are worse than any machine room.

pub mod ids;
pub mod limits;
pub mod settings;
pub mod time;

pub mod option;
pub mod plan;

pub mod command;
pub mod outcome;

pub mod effect;
pub mod entry;
pub mod reservation;

pub mod shard;

pub mod gate;

pub mod handoff;
pub mod lease;
pub mod placement;
pub mod route;

pub mod sim;

mod adjacency;
mod answered;
mod deadlines;
mod index;
mod pending;
mod reservations;
mod seat;
mod soft_locks;
mod users;

pub use command::{Authority, Caller, Command, Request, SeatList};
pub use effect::{Effect, Effects, Input, MirrorOp, Reason, SeatChange};
pub use entry::{ChainHead, Entry, Fact, Restored, SoftLock};
pub use ids::{
    ConcertId, EntryNo, Epoch, OpNo, OptionId, PassId, ReplyTo, RequestKey, ReservationId, SeatNo, ShardId,
    Turn, UserId,
};
pub use outcome::{Granted, Outcome, Refusal, SeatState, Unavailable};
pub use reservation::{Reservation, Status};
pub use settings::Settings;
pub use shard::Shard;
pub use time::{Moment, Span, Time};
