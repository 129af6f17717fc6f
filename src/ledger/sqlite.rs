//! The ledger of a single node: one SQLite file in the data directory.
//!
//! One connection writes, a few read. Every write is one transaction (`BEGIN IMMEDIATE`), so what the
//! Postgres ledger needs row locks for is serial here; fence, counts and unique indexes are the same. An
//! exclusive lock on `DATA/lock` proves that every other owner of a lease is dead. The database itself
//! stays in WAL mode without exclusive locking, so that an audit reads beside a running server.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actors::ports::LedgerError;
use async_trait::async_trait;
use engine::{Span, Time};
use sqlx::SqlitePool;
use uuid::Uuid;

use self::checkpoint::Checkpointer;
pub use self::error::OpenError;
use self::load::body;
pub use self::open::{Migrated, migrate, take_lock};
use self::writer::Writer;
pub use super::Access;
use super::Store;
use super::plans::PlanCache;

mod append;
mod catalogue;
mod checkpoint;
mod error;
mod gates;
mod lease;
mod load;
mod open;
mod port;
mod row;
mod snapshot;
mod writer;

#[cfg(test)]
mod tests;

/// The database, inside the data directory.
pub const LEDGER_FILE: &str = "ledger.db";
/// The file whose lock says that the data directory is in use.
pub const LOCK_FILE: &str = "lock";

/// How to open a ledger.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The data directory; made where it is missing.
    pub dir: PathBuf,
    /// How many shards the cluster has. Fixed when the directory is first opened.
    pub shards: u16,
    /// Random per process.
    pub owner: u128,
    pub node: String,
    pub public_url: String,
    pub peer_url: String,
    /// How long a lease lives without renewal.
    pub lease_ttl: Span,
    pub durability: Durability,
    pub access: Access,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Each commit is flushed to the disk.
    #[default]
    Full,
    /// The operating system flushes when it likes: a power failure may lose the last commits, a crash
    /// of the process none. The file is never corrupted.
    Relaxed,
}

/// The ledger, the catalogue and the source of audits, in one file.
#[derive(Debug)]
pub struct SqliteLedger {
    options: SqliteOptions,
    clock: Clock,
    /// `None` with [`Access::Read`].
    writer: Option<Writer>,
    /// `None` with [`Access::Read`].
    checkpointer: Option<Checkpointer>,
    readers: SqlitePool,
    plans: PlanCache,
    public_url: OnceLock<String>,
    /// Held for as long as the ledger is open. Declared last: the database closes first.
    lock: Option<File>,
}

impl SqliteLedger {
    /// Opens the ledger of a data directory. With [`Access::Own`] and [`Access::Import`] the directory is made and its schema
    /// brought up to date where needed, and leases of other owners, who must be dead, become free.
    ///
    /// # Errors
    /// One variant per thing an operator can meet; its text says what to do.
    pub async fn open(options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        open::open(options).await.map(Arc::new)
    }

    fn public_url(&self) -> &str {
        self.public_url.get().unwrap_or(&self.options.public_url)
    }

    fn writer(&self) -> Result<&Writer, LedgerError> {
        self.writer.as_ref().ok_or_else(|| {
            LedgerError::Unavailable("it is open for reading only, beside a running server".to_owned())
        })
    }
}

#[async_trait]
impl Store for SqliteLedger {
    async fn cluster_id(&self) -> Result<Uuid, LedgerError> {
        self.stored_cluster_id().await
    }

    fn listens_at(&self, public_url: String) {
        // Listeners are bound once.
        let _first = self.public_url.set(public_url);
    }

    /// Whoever holds the lock of the data directory is alone.
    async fn has_session(&self, owner: u128) -> Result<bool, LedgerError> {
        Ok(owner == self.options.owner)
    }

    /// Folds the write-ahead log into the database, and gives the directory back.
    async fn close(&self) {
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.close().await;
        }
        // The last connection folds the log, and a reader cannot.
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        if let Some(lock) = &self.lock
            && let Err(error) = lock.unlock()
        {
            tracing::warn!(%error, "the data directory stays locked until this process ends");
        }
    }
}

/// Ledger time: the wall clock once, then the monotonic clock, never below the newest event.
#[derive(Clone, Copy, Debug)]
struct Clock {
    base: Time,
    started: Instant,
}

impl Clock {
    fn start(newest_event: Time) -> Self {
        Self { base: wall_clock().max(newest_event), started: Instant::now() }
    }

    fn now(&self) -> Time {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.base + Span(elapsed)
    }
}

fn wall_clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
