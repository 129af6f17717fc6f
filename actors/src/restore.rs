//! From nothing to a shard that can serve: acquire → load → the mirror's soft locks → restore.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use engine::entry::Restored;
use engine::shard::RestoreError;
use engine::{Epoch, OptionId, Settings, Shard, ShardId, SoftLock};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::LedgerClock;
use crate::leases::{Lease, Leases};
use crate::mirror::Mirroring;
use crate::observe::Metrics;
use crate::ports::{Ledger, LedgerError, MirrorError};

/// Shards that are restored at the same time.
pub const CONCURRENT: usize = 8;
/// Options of a shard whose soft locks are read from the mirror at the same time.
const MIRROR_READS: usize = 32;

const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_LAST: Duration = Duration::from_secs(5);

/// What a restore needs from the node.
#[derive(Clone)]
pub struct Restorer {
    pub ledger: Arc<dyn Ledger>,
    pub mirror: Mirroring,
    pub clock: LedgerClock,
    pub leases: Leases,
    pub settings: Settings,
    pub mirror_restore_timeout: Duration,
    pub metrics: Metrics,
    pub room: Arc<Semaphore>,
}

/// A shard with its memory, ready to serve under its lease.
pub struct Ready {
    pub shard: Box<Shard>,
    pub lease: Lease,
}

/// How this node comes by a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has it.
    Free,
    /// Its owner in this epoch is dead.
    FromDead(Epoch, u128),
    /// It is this node's already, in this epoch.
    Mine(Epoch),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreFailed {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the ledger contradicts itself: {0}")]
    Contradiction(#[from] RestoreError),
}

impl Restorer {
    /// Tries until the shard is restored, or turns out to be somebody else's: then nothing. `failures` says how
    /// often it has just failed.
    pub async fn bring_up(&self, shard: ShardId, mut claim: Claim, mut failures: u32) -> Option<Ready> {
        loop {
            if let Some(before) = failures.checked_sub(1) {
                tokio::time::sleep(back_off(before)).await;
            }
            match self.attempt(shard, &mut claim).await {
                Ok(ready) => {
                    self.leases.restored(None);
                    return ready;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.leases.restored(Some(error.to_string()));
                    tracing::error!(%shard, %error, failures, "cannot restore the shard; will try again");
                }
            }
        }
    }

    async fn attempt(&self, shard: ShardId, claim: &mut Claim) -> Result<Option<Ready>, RestoreFailed> {
        // The semaphore is never closed; without a permit there is only less order.
        let _room = self.room.acquire().await;
        let sent = Instant::now();
        let Some(epoch) = self.acquire(shard, *claim).await? else { return Ok(None) };
        let lease = self.leases.granted(shard, epoch, sent);
        *claim = Claim::Mine(epoch);
        let mut restored = self.load(shard).await?;
        restored.soft_locks = self.soft_locks(&restored, epoch).await;
        Ok(Some(Ready { shard: self.build(shard, epoch, restored)?, lease }))
    }

    /// Under a new epoch also when the shard is this node's already: whatever its dead actor left in
    /// flight must come out fenced.
    async fn acquire(&self, shard: ShardId, claim: Claim) -> Result<Option<Epoch>, LedgerError> {
        let former = match claim {
            Claim::Free => return self.ledger.acquire(shard).await,
            Claim::FromDead(epoch, owner) => return self.ledger.take_from_dead(shard, epoch, owner).await,
            Claim::Mine(former) => former,
        };
        let again = self.ledger.acquire_again(shard, former).await?;
        if again.is_none() {
            tracing::error!(%shard, epoch = %former, "the epoch of the shard is over");
            self.metrics.lease_lost("taken");
            self.leases.forget(shard, former);
            // Not to another owner where the ledger failed over: what it granted before is over, and is taken anew.
            return self.ledger.acquire(shard).await;
        }
        Ok(again)
    }

    /// What the ledger has of a shard.
    pub(crate) async fn load(&self, shard: ShardId) -> Result<Restored, LedgerError> {
        let horizon = self.clock.now() - self.settings.idempotency_horizon;
        self.ledger.load(shard, horizon).await
    }

    /// The shard as it will be in that epoch.
    pub(crate) fn build(
        &self,
        shard: ShardId,
        epoch: Epoch,
        restored: Restored,
    ) -> Result<Box<Shard>, RestoreFailed> {
        let mut memory = Box::new(Shard::new(shard, epoch, self.settings));
        memory.restore(self.clock.now(), restored)?;
        Ok(memory)
    }

    /// Fences lower epochs off the mirror and reads what it has, as far as it comes in time.
    async fn soft_locks(&self, restored: &Restored, epoch: Epoch) -> Vec<SoftLock> {
        let mut options: VecDeque<OptionId> = restored.options.iter().map(|option| option.option).collect();
        let mut reads: JoinSet<Result<Vec<SoftLock>, MirrorError>> = JoinSet::new();
        let deadline = Instant::now() + self.mirror_restore_timeout;
        let mut locks = Vec::new();
        loop {
            while reads.len() < MIRROR_READS
                && let Some(option) = options.pop_front()
            {
                let (mirror, clock) = (self.mirror.clone(), self.clock.clone());
                reads.spawn(async move { mirror.take_over(option, epoch, clock.now()).await });
            }
            match tokio::time::timeout_at(deadline, reads.join_next()).await {
                Ok(None) => return locks,
                Ok(Some(Ok(Ok(read)))) => locks.extend(read),
                Ok(Some(Ok(Err(error)))) => tracing::warn!(%error, "restoring without some soft locks"),
                Ok(Some(Err(error))) => tracing::error!(%error, "a read of the mirror broke off"),
                Err(_) => {
                    tracing::warn!(
                        "the mirror did not answer in {:?}: restoring without its soft locks",
                        self.mirror_restore_timeout
                    );
                    return locks;
                }
            }
        }
    }
}

fn back_off(failures: u32) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACK_OFF_LAST)
}
