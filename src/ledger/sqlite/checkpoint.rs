//! Folds the write-ahead log into the database beside the writer.
//!
//! Left to itself, SQLite does that inside some commit, and everybody in that batch waits for all of it.
//! Here a connection of its own does most of the work without locking anybody out; what is left to the
//! writer, when the log has grown to `CHECKPOINT_PAGES`, is the short rest behind which it can begin
//! the log anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

/// Rows written before the log is worth folding: some tens of megabytes of it, twice a second under the heaviest sale.
const ROWS: usize = 16_384;

#[derive(Debug)]
pub(super) struct Checkpointer {
    task: Mutex<Option<JoinHandle<()>>>,
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct Signal {
    rows: AtomicUsize,
    due: Notify,
    end: Notify,
}

impl Checkpointer {
    pub(super) fn start(connection: SqliteConnection) -> Self {
        let signal = Arc::new(Signal::default());
        let task = tokio::spawn(fold(connection, Arc::clone(&signal)));
        Self { task: Mutex::new(Some(task)), signal }
    }

    /// Rows were committed.
    pub(super) fn wrote(&self, rows: usize) {
        if self.signal.rows.fetch_add(rows, Ordering::Relaxed) + rows >= ROWS {
            self.signal.rows.store(0, Ordering::Relaxed);
            self.signal.due.notify_one();
        }
    }

    /// Closes its connection.
    pub(super) async fn close(&self) {
        self.signal.end.notify_one();
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "the task that folds the ledger's log died");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

async fn fold(mut connection: SqliteConnection, signal: Arc<Signal>) {
    loop {
        tokio::select! {
            () = signal.due.notified() => {}
            () = signal.end.notified() => break,
        }
        let folded = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await;
        if let Err(error) = folded {
            // Nothing is lost: the log keeps what the database has not.
            tracing::warn!(%error, "the ledger's log could not be folded into the database");
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "a connection to the ledger was not closed cleanly");
    }
}
