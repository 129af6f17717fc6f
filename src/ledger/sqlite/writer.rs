//! The one connection that writes.

use std::time::Duration;

use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Transaction};
use tokio::sync::{Mutex, MutexGuard};

/// First come, first served. A connection that broke is opened anew by the next user.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    slot: Mutex<Slot>,
}

#[derive(Debug)]
enum Slot {
    Open(SqliteConnection),
    Broken,
    Closed,
}

/// How long to wait for a lock of another process, which nobody should hold for long.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl Writer {
    /// `options` open a further connection where this one breaks.
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        Self { options, slot: Mutex::new(Slot::Open(connection)) }
    }

    /// Waits for the turn.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, sqlx::Error> {
        let mut slot = self.slot.lock().await;
        if matches!(*slot, Slot::Broken) {
            *slot = Slot::Open(self.options.connect().await?);
        }
        Ok(Turn { slot })
    }

    pub(super) async fn close(&self) {
        let slot = std::mem::replace(&mut *self.slot.lock().await, Slot::Closed);
        if let Slot::Open(connection) = slot
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the ledger was not closed cleanly; the next start will recover it");
        }
    }
}

/// The right to write, until dropped.
pub(super) struct Turn<'a> {
    slot: MutexGuard<'a, Slot>,
}

impl Turn<'_> {
    /// Begins a transaction that nobody else can write beside. Dropped, it is rolled back.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
        match &mut *self.slot {
            Slot::Open(connection) => connection.begin_with("BEGIN IMMEDIATE").await,
            Slot::Broken | Slot::Closed => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Throws the connection away: nobody knows what state it is in.
    pub(super) fn discard(&mut self) {
        *self.slot = Slot::Broken;
    }
}
