//! The ledger of a cluster: PostgreSQL, 15 or later.
//!
//! A batch is one call of `append_batch_v1`, which is one transaction and one flush. Every connection of a
//! process carries its owner's name, so that a successor can see whether it lives, and end what of it is
//! stuck. What is decided is decided on the primary, by the server's clock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actors::ports::LedgerError;
use async_trait::async_trait;
use engine::Span;
use uuid::Uuid;

use self::connect::Connector;
pub use self::error::OpenError;
pub use self::open::{Migrated, migrate};
use self::sessions::Sessions;
use super::plans::PlanCache;
use super::{Access, Store};

mod append;
mod catalogue;
mod connect;
mod error;
mod gates;
mod lease;
mod load;
mod moves;
mod open;
mod port;
mod row;
mod sessions;
mod snapshot;

/// How to open a ledger.
#[derive(Clone)]
pub struct PgOptions {
    /// `postgres://user:password@host:port/database`. The password is never shown.
    pub url: String,
    /// How many shards the cluster has. Fixed when the database is first opened.
    pub shards: u16,
    /// Random per process.
    pub owner: u128,
    pub node: String,
    pub public_url: String,
    pub peer_url: String,
    /// How long a lease lives without renewal.
    pub lease_ttl: Span,
    pub access: Access,
}

/// The ledger, the catalogue and the source of audits, in one database.
pub struct PgLedger {
    options: PgOptions,
    connector: Arc<Connector>,
    /// One batch at a time.
    writer: Sessions,
    /// Nothing else may hold up a renewal.
    renewal: Sessions,
    /// Acquiring and releasing leases, imports.
    control: Sessions,
    readers: Sessions,
    plans: PlanCache,
    public_url: OnceLock<String>,
}

/// Restores read rows and log at once; the rest is for audits and requests.
const READERS: usize = 6;
/// As many as shards are restored at the same time.
const CONTROLS: usize = 8;

impl PgLedger {
    /// Opens the ledger. With [`Access::Own`] and [`Access::Import`] its schema is brought up to date where
    /// needed; with [`Access::Own`] leases of a former process of this node are freed, once that is dead.
    ///
    /// # Errors
    /// One variant per thing an operator can meet; its text says which server, and what to do.
    pub async fn open(options: PgOptions) -> Result<Arc<Self>, OpenError> {
        open::open(options).await.map(Arc::new)
    }

    fn new(options: PgOptions, connector: Connector) -> Self {
        let connector = Arc::new(connector);
        let sessions = |places| Sessions::new(connector.clone(), places);
        Self {
            writer: sessions(1),
            renewal: sessions(1),
            control: sessions(CONTROLS),
            readers: sessions(READERS),
            plans: PlanCache::default(),
            public_url: OnceLock::new(),
            connector,
            options,
        }
    }

    fn public_url(&self) -> &str {
        self.public_url.get().unwrap_or(&self.options.public_url)
    }

    fn may_write(&self) -> Result<(), LedgerError> {
        if self.options.access == Access::Read {
            return Err(LedgerError::Unavailable("it is open for reading only".to_owned()));
        }
        Ok(())
    }

    /// Half the time to live of a lease: no statement of a process holds a lease's row for longer.
    fn statement_limit(&self) -> Duration {
        connect::statement_limit(self.options.lease_ttl)
    }
}

#[async_trait]
impl Store for PgLedger {
    async fn cluster_id(&self) -> Result<Uuid, LedgerError> {
        self.stored_cluster_id().await
    }

    fn listens_at(&self, public_url: String) {
        // Listeners are bound once.
        let _first = self.public_url.set(public_url);
    }

    async fn has_session(&self, owner: u128) -> Result<bool, LedgerError> {
        self.lists_session(owner).await
    }

    async fn close(&self) {
        for sessions in [&self.writer, &self.renewal, &self.control, &self.readers] {
            sessions.close().await;
        }
    }
}
