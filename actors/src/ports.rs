//! What the actors need from the world, as narrow traits owned by their users.
//!
//! A ledger error says whether the thing surely did not happen. *Refused* means the ledger looked at
//! the entries and will never take them; *unknown* is everything else, also what was surely rolled
//! back for want of time or space: the same bytes are then written again until the answer is definite.

use std::time::Duration;

use async_trait::async_trait;
use engine::entry::Restored;
use engine::{
    ChainHead, Epoch, MirrorOp, OptionId, Reservation, ReservationId, ShardId, SoftLock, Time, UserId,
};

use crate::row::EventRow;

/// The durable truth: who owns which shard, and what was sold to whom.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// As whom this process owns shards.
    fn me(&self) -> Owner;

    /// The ledger's clock.
    async fn now(&self) -> Result<Time, LedgerError>;

    /// Takes a shard whose lease is free or has run out; `None` when somebody else holds it.
    async fn acquire(&self, shard: ShardId) -> Result<Option<Epoch>, LedgerError>;

    /// Raises the epoch of a shard this process owns, so that whatever its dead actor left in flight
    /// comes out fenced. `None`: the shard is lost.
    async fn acquire_again(&self, shard: ShardId, mine: Epoch) -> Result<Option<Epoch>, LedgerError>;

    /// Prolongs the leases; answers with the shards that are still this process's.
    async fn renew(&self, held: &[(ShardId, Epoch)]) -> Result<Vec<ShardId>, LedgerError>;

    /// Gives the leases back, so that the next owner need not wait.
    async fn release(&self, held: &[(ShardId, Epoch)]) -> Result<(), LedgerError>;

    /// Every shard's lease that there ever was, by shard, with the ledger's time of the reading.
    async fn leases(&self) -> Result<(Time, Vec<LeaseRow>), LedgerError>;

    /// Gives a shard of this process to another owner, with no moment between: epoch + 1, and its lease lives
    /// from now. `None`: it is not this process's any more. What was in flight is durable before, or comes out
    /// fenced. After an error the shard may be either's: [`acquire_again`](Self::acquire_again) with the old
    /// epoch settles it.
    async fn hand_over(&self, shard: ShardId, mine: Epoch, to: &Owner) -> Result<Option<Epoch>, LedgerError>;

    /// Takes note that another process has handed a shard over, and prolongs its lease. Before it the receiver must
    /// not serve: only from then on does the epoch end where the ledger fails over. `false`: it is not this
    /// process's at that epoch.
    async fn accepted(&self, shard: ShardId, epoch: Epoch) -> Result<bool, LedgerError>;

    /// Takes a shard from a process that is known to be dead, before its lease runs out: only where the
    /// lease is still exactly that epoch and owner, and no session of that owner is left at the ledger.
    async fn take_from_dead(
        &self,
        shard: ShardId,
        epoch: Epoch,
        owner: u128,
    ) -> Result<Option<Epoch>, LedgerError>;

    /// Writes a batch, all or nothing, behind the fence. One answer per shard of the batch.
    async fn append(&self, batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError>;

    /// Everything a shard needs to go on; events and ended reservations from `horizon` on.
    async fn load(&self, shard: ShardId, horizon: Time) -> Result<Restored, LedgerError>;

    /// One reservation, however old.
    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, LedgerError>;

    /// A user's reservations, newest (greatest id) first, those with an id below `before`, at most `limit`.
    async fn reservations_of(
        &self,
        user: UserId,
        before: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<Reservation>, LedgerError>;

    /// The newest event of every shard that has one.
    async fn heads(&self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError>;
}

/// A process as its leases name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Random per process.
    pub id: u128,
    /// The same over restarts.
    pub node: String,
    pub public_url: String,
    pub peer_url: String,
}

/// A shard's lease as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    pub shard: ShardId,
    pub epoch: Epoch,
    /// Of a released lease, who had it last.
    pub owner: Owner,
    pub expires_at: Time,
    pub is_released: bool,
}

/// Sealed events in order, and the epochs the writer believes in. Adapters set no column of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Every shard that has a row in the batch, ascending, once.
    pub fences: Vec<(ShardId, Epoch)>,
    /// By shard, then by `event_seq` without gaps.
    pub rows: Vec<EventRow>,
}

/// What became of one shard's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardAnswer {
    /// Durable now.
    Applied,
    /// Durable already: the very same rows had been written before.
    Duplicate,
    /// Not written, never will be: the shard has another owner or a newer epoch.
    Fenced,
}

/// Nothing of the batch was written (`Refused`, `OtherHash`), or nobody knows (`Unknown`).
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// A seat is taken, a version differs: memory and ledger disagree about some entry of the batch.
    #[error("the ledger refused the batch: {0}")]
    Refused(String),
    /// An event of that number exists with another content.
    #[error("the ledger holds another event in that place: {0}")]
    OtherHash(String),
    /// Time-out, lost connection, full disk, shutdown. The same bytes must be written again.
    #[error("the ledger did not answer: {reason}")]
    Unknown {
        reason: String,
        /// The ledger said that it rolled back, so that the batch may be cut smaller.
        rolled_back: bool,
    },
}

/// A read or a lease operation that failed; try again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// The data is not what this version writes: retrying does not help.
    #[error("the ledger holds something this version cannot read: {0}")]
    Corrupt(String),
}

/// The crash-recovery copy of the soft locks. It is never asked for a decision.
#[async_trait]
pub trait Mirror: Send + Sync + 'static {
    /// Whether the mirror can be reached; the error names the server and says why not.
    async fn ping(&self) -> Result<(), MirrorError>;

    /// Applies each batch if the mirror stands exactly at its (`epoch`, `previous`). At most one batch per
    /// option; one answer per batch, in their order.
    async fn apply(&self, batches: &[MirrorBatch]) -> Vec<Result<MirrorAnswer, MirrorError>>;

    /// Replaces an option's copy by `locks` and stands at (`epoch`, `op`) then.
    async fn rebuild(
        &self,
        option: OptionId,
        epoch: Epoch,
        op: u64,
        now: Time,
        locks: &[SoftLock],
    ) -> Result<MirrorAnswer, MirrorError>;

    /// Fences lower epochs off an option, and reads the soft locks that have not run out at `now`.
    async fn take_over(
        &self,
        option: OptionId,
        epoch: Epoch,
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError>;

    /// How far apart rounds begin at least: what changes meanwhile goes together, and costs the mirror less.
    fn spacing(&self) -> Duration;
}

/// Changes of one option since `previous`. One without changes asks whether the mirror stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorBatch {
    pub option: OptionId,
    pub epoch: Epoch,
    pub previous: u64,
    pub op: u64,
    /// When the batch was cut: what expired before is trimmed.
    pub now: Time,
    /// At most one per seat.
    pub changes: Vec<MirrorOp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorAnswer {
    Applied,
    /// The mirror stands elsewhere: rebuild the option.
    Gap,
    /// A higher epoch owns the option.
    Fenced,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("the mirror is unavailable: {0}")]
pub struct MirrorError(pub String);
