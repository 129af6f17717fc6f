//! Start and stop of everything that serves shards on this node.

use std::sync::Arc;
use std::time::Duration;

use engine::Settings;

use crate::handle::Handle;
use crate::observe::Metrics;
use crate::ports::{Ledger, LedgerError, Mirror};

/// What the actors are given.
#[derive(Clone)]
pub struct Options {
    pub ledger: Arc<dyn Ledger>,
    pub mirror: Arc<dyn Mirror>,
    /// How many shards the cluster has; this node tries to own all that are free.
    pub shards: u16,
    pub settings: Settings,
    pub lease: LeaseSettings,
    /// How long a client waits for the ledger before it is told to retry its key.
    pub ledger_ack_timeout: Duration,
    /// How old a snapshot of an option's seats may be.
    pub feed_tick: Duration,
    /// How long a restore waits for the mirror's soft locks before it goes on without them.
    pub mirror_restore_timeout: Duration,
    pub metrics: Metrics,
}

/// How ownership is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a lease lives without renewal.
    pub ttl: Duration,
    /// How often the leases are renewed.
    pub renew: Duration,
    /// How long before a lease may have run out the shard stops deciding.
    pub margin: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            renew: Duration::from_millis(1_500),
            margin: Duration::from_secs(1),
        }
    }
}

/// Why the system did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("shards is 0: a cluster has at least one")]
    NoShards,
    #[error("lease renew ({renew:?}) must be shorter than ttl - margin ({ttl:?} - {margin:?})")]
    Lease { ttl: Duration, renew: Duration, margin: Duration },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the supervisor did not start: {0}")]
    Supervisor(String),
}

/// What a shutdown managed within its grace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Entries that the ledger had not answered; their clients were told to retry.
    pub unflushed: usize,
    /// Leases given back, so that the next owner need not wait.
    pub released: usize,
}

/// The running actors.
pub struct System {
    handle: Handle,
}

impl System {
    /// Starts to serve. Shards come up one after the other: [`Handle::statuses`] tells which.
    ///
    /// # Errors
    /// Settings that contradict each other, or a ledger that does not tell the time.
    pub async fn start(_options: Options) -> Result<Self, StartError> {
        todo!()
    }

    /// The door to the shards.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops deciding, flushes, answers what waits, gives the leases back. Takes at most about `grace`.
    pub async fn shutdown(self, _grace: Duration) -> ShutdownReport {
        todo!()
    }
}
