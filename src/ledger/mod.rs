//! Ledgers: who owns which shard, and what was sold to whom, durable. One file per database.

use actors::gates::ports::GateLedger;
use actors::ports::{Ledger, LedgerError};
use async_trait::async_trait;
use uuid::Uuid;

use crate::audit::Events;
use crate::catalogue::Catalogue;

mod gates;
mod place;
mod plans;
pub mod postgres;
pub mod sqlite;

/// What a process opens a ledger for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is the server: brings the schema up to date and owns shards.
    Own,
    /// It brings concerts, beside a server where the database takes several writers.
    Import,
    /// It reads beside a running server; anything that writes answers `Unavailable`.
    Read,
}

/// Everything a ledger is.
#[async_trait]
pub trait Store: Ledger + Catalogue + Events + GateLedger {
    /// Which cluster it belongs to: random, drawn when a server first started on it.
    ///
    /// # Errors
    /// The ledger does not answer, or no server has ever started on it.
    async fn cluster_id(&self) -> Result<Uuid, LedgerError>;

    /// Clients reach this process there: what its leases say from now on, where the port was not known before. For once,
    /// and before any lease is taken.
    fn listens_at(&self, public_url: String);

    /// Whether it has a session under the name of a process that owns shards: then that one lives, or did a moment ago.
    ///
    /// # Errors
    /// The ledger does not answer.
    async fn has_session(&self, owner: u128) -> Result<bool, LedgerError>;

    /// Closes the connections. Without it nothing is lost: the next opening does the rest.
    async fn close(&self);
}

/// There are tables, and nobody's yet.
fn never_served() -> LedgerError {
    LedgerError::Unavailable("no server has started on it yet".to_owned())
}
