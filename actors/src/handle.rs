//! The only door to the shards: permit, deadline, answer. (Scaffold: signatures are settled, bodies follow.)

use std::sync::Arc;

use engine::entry::ChainHead;
use engine::{
    Caller, Command, Epoch, OptionId, Outcome, RequestKey, Reservation, ReservationId, SeatState, ShardId,
    Unavailable,
};
use tokio::time::Instant;

pub use crate::feed::Snapshot;

/// Cheap to clone; one for the whole process.
#[derive(Clone)]
pub struct Handle {}

/// A command as the edge brings it. Where the reply goes is the handle's business.
#[derive(Clone, Debug)]
pub struct Ask {
    pub caller: Caller,
    pub key: Option<RequestKey>,
    /// Whether a live pass was shown.
    pub pass: bool,
    pub command: Command,
}

/// What the shard said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Outcome,
    /// The first answer to the key, again.
    pub replayed: bool,
}

/// A shard's memory at one point of its chain, for audits.
#[derive(Clone, Debug)]
pub struct Memory {
    pub shard: ShardId,
    pub epoch: Epoch,
    /// Memory is the ledger up to this event, plus soft locks and what is pending.
    pub head: ChainHead,
    pub digest: u64,
    pub pending: usize,
    pub reservations: Vec<Reservation>,
    pub options: Vec<(OptionId, Vec<SeatState>)>,
}

/// Whether a shard serves, for `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardStatus {
    Serving(Epoch),
    /// Being restored, or waiting for its lease.
    Starting,
    Stopped,
}

impl Handle {
    /// Asks a shard and waits for its answer, at most until `deadline`. A ledger command that the
    /// ledger has not answered by then is [`Unavailable::Ledger`]: it may still happen, and a retry with
    /// the same key learns what became of it. Transitions of reservations that left memory are
    /// answered from the ledger row.
    pub async fn ask(&self, _shard: ShardId, _ask: Ask, _deadline: Instant) -> Answer {
        todo!()
    }

    /// A reservation, from memory or, when it ended long ago, from the ledger.
    ///
    /// # Errors
    /// The shard or the ledger cannot say now.
    pub async fn reservation(
        &self,
        _shard: ShardId,
        _id: ReservationId,
    ) -> Result<Option<Reservation>, Unavailable> {
        todo!()
    }

    /// The seats of an option, at most one tick old; `None` while nobody serves it. Never work for
    /// the shard: the feed's hub keeps its own copy.
    #[must_use]
    pub fn snapshot(&self, _option: OptionId) -> Option<Arc<Snapshot>> {
        todo!()
    }

    /// A shard's memory, for audits.
    ///
    /// # Errors
    /// The shard is not serving.
    pub async fn memory(&self, _shard: ShardId) -> Result<Memory, Unavailable> {
        todo!()
    }

    /// Every shard's status, by shard.
    #[must_use]
    pub fn statuses(&self) -> Vec<(ShardId, ShardStatus)> {
        todo!()
    }
}
