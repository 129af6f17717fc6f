//! Concerts, options and plans: what is for sale, as opposed to who owns it.

use std::sync::Arc;

use async_trait::async_trait;
use engine::option::OptionStatus;
use engine::{ConcertId, OptionId, ShardId, Time};

pub use self::plan::{Plan, PlanError};
pub use self::read::{ReadOptions, Warning, read_plan};

pub mod demo;
pub mod directory;
pub mod intake;
pub mod natural;
pub mod plan;
mod pretix;
mod read;
mod short;
pub mod stored;
mod stretches;
#[cfg(test)]
mod tests;

/// A concert: the unit of ownership. All its options live in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concert {
    pub concert: ConcertId,
    pub title: String,
    pub shard: ShardId,
    pub created_at: Time,
    /// Whether its sale needs a pass of its gate; its shard's to set.
    pub gated: bool,
}

/// A dated performance of a concert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcertOption {
    pub option: OptionId,
    pub concert: ConcertId,
    pub starts_at: Time,
    /// `None` until its shard has added it to the sale.
    pub status: Option<OptionStatus>,
    /// SHA-256 of the canonical plan JSON, in lower-case hex.
    pub plan_hash: String,
    pub seat_count: u32,
}

/// What an import brings.
#[derive(Clone, Debug)]
pub struct Import {
    pub title: String,
    pub starts_at: Time,
    pub plan: Arc<Plan>,
    /// Put the concert into a shard that has no other.
    pub own_shard: bool,
}

/// What an import made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub concert: Concert,
    pub option: ConcertOption,
}

/// Where the catalogue is kept. Written by imports only, never by a sale.
#[async_trait]
pub trait Catalogue: Send + Sync + 'static {
    /// Concerts by id, those above `after`, at most `limit`.
    async fn concerts(&self, after: Option<ConcertId>, limit: u32) -> Result<Vec<Concert>, CatalogueError>;

    /// Options by id, those above `after`, at most `limit`.
    async fn options(
        &self,
        after: Option<OptionId>,
        limit: u32,
    ) -> Result<Vec<ConcertOption>, CatalogueError>;

    /// A plan by its hash: its canonical JSON, in gzip, as [`Plan::to_gzip`] made it. The catalogue
    /// stores and serves plans without decoding them; [`stored::layout`] and
    /// [`stored::StoredPlan::read`] decode no more than is needed.
    async fn plan(&self, hash: &str) -> Result<Option<Vec<u8>>, CatalogueError>;

    /// Writes a concert (an existing one of the same title gets a further option) with its option
    /// and plan, in one transaction.
    async fn import(&self, import: &Import) -> Result<Imported, CatalogueError>;
}

/// A read or an import that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    #[error("the catalogue holds something this version cannot read: {0}")]
    Corrupt(String),
    /// The import contradicts what is there already.
    #[error("{0}")]
    Refused(String),
}
