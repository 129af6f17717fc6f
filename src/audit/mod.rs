//! Audits: derive who owns which seat from the events alone, and compare with what the ledger's rows and
//! the server's memory say. The derivation is pure; what it reads comes through the port [`Events`].
//!
//! The chain is checked on the way: every number, every hash, every transition. With a chain head that
//! was kept elsewhere, a clean audit proves that nothing was rewritten since.

use actors::ports::LedgerError;
use actors::row::EventRow;
use async_trait::async_trait;
use engine::option::{OptionStatus, Policy};
use engine::{ChainHead, ConcertId, OptionId, Reservation, ReservationId, SeatNo, ShardId};

pub use self::derive::Derivation;
pub use self::memory::ShardMemory;
pub use self::mirror::MirrorCheck;
pub use self::report::{Finding, Report};
pub use self::run::{Progress, run};

mod compare;
mod derive;
mod memory;
mod mirror;
mod report;
mod run;

/// Where an audit reads.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// One consistent view: what is written later does not show in it. Drop it soon, a database keeps
    /// old pages for as long as it lives.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, LedgerError>;
}

/// The ledger at one moment, in pages.
#[async_trait]
pub trait Snapshot: Send {
    /// The newest event of every shard that has one, by shard.
    async fn heads(&mut self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError>;

    /// Events of a shard behind `after`, in order, at most `limit`.
    async fn events(&mut self, shard: ShardId, after: u64, limit: u32) -> Result<Vec<EventRow>, LedgerError>;

    /// How many reservations there are, for a progress bar.
    async fn reservation_count(&mut self) -> Result<u64, LedgerError>;

    /// Reservations as stored, by id, those above `after`, at most `limit`.
    async fn reservations(
        &mut self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<StoredReservation>, LedgerError>;

    /// The options that have been added to the sale, by id.
    async fn options(&mut self) -> Result<Vec<StoredOption>, LedgerError>;

    /// Every policy, by concert.
    async fn policies(&mut self) -> Result<Vec<StoredPolicy>, LedgerError>;
}

/// A row of `reservations` with its rows of `reservation_seats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReservation {
    pub shard: ShardId,
    /// Its seats are those of the seat rows.
    pub reservation: Reservation,
    /// By seat.
    pub seats: Vec<StoredSeat>,
}

/// A row of `reservation_seats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSeat {
    pub option: OptionId,
    pub seat: SeatNo,
    /// Whether nobody else may own the seat.
    pub active: bool,
}

/// A row of `options` that its shard has added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredOption {
    pub shard: ShardId,
    pub option: OptionId,
    pub concert: ConcertId,
    pub status: OptionStatus,
    pub version: u32,
}

/// A row of `policies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    pub shard: ShardId,
    pub concert: ConcertId,
    pub policy: Policy,
    pub version: u32,
}
