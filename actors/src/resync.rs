//! Resync: a shard's memory and mirror are rebuilt from the ledger while it sells.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::shard::Difference;
use engine::{ChainHead, OptionId, Shard, ShardId, Unavailable};
use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::handle::{Handle, odd};
use crate::peers::{Call, Returned};
use crate::shard::{Halt, Message, Order, Quiet};

/// Differences that are told; more are only counted.
const TOLD: usize = 1_000;

/// How long another node may take beside what it waits for its ledger.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// What a resync did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resynced {
    /// Memory is the ledger at this event now; this is what was different, the first thousand of it.
    Compared { head: ChainHead, differences: Vec<Difference>, counts: Counts },
    /// The ledger ends with another event than memory knew: there was nothing to compare, and the shard is being
    /// restored under a new epoch.
    Restored { memory: ChainHead, ledger: ChainHead },
}

/// How much was different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub all: usize,
    /// Of the options that had any. What is a concert's belongs to none.
    pub by_option: BTreeMap<OptionId, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResyncError {
    #[error("unavailable")]
    Unavailable(Unavailable),
    /// Memory was left as it is.
    #[error("the ledger contradicts itself: {0}")]
    Contradiction(String),
}

impl Counts {
    fn of(differences: &[Difference]) -> Self {
        let mut by_option = BTreeMap::new();
        for difference in differences {
            let option = match difference {
                Difference::Reservation { id, .. } => id.option(),
                Difference::Option { option, .. }
                | Difference::Seat { option, .. }
                | Difference::SoftLock { option, .. } => *option,
                Difference::Policy { .. } => continue,
            };
            *by_option.entry(option).or_default() += 1;
        }
        Self { all: differences.len(), by_option }
    }
}

/// Lets the shard go on with what was parked, however the resync ends.
struct Parking(ActorRef<Message>);

impl Drop for Parking {
    fn drop(&mut self) {
        // An actor that is gone has told those who waited.
        let _lives = self.0.send_message(Message::Resync(Order::Resume));
    }
}

impl Handle {
    /// Parks the shard's ledger commands, waits until what is on its way is durable, reads one consistent
    /// snapshot of the ledger, and puts it in the place of memory, on the node that serves the shard. Clicks go on, and soft locks stay where the
    /// ledger leaves room for them. The mirror's copies are rebuilt. Commands wait for at most the time after
    /// which their clients are told to retry.
    ///
    /// # Errors
    /// The shard is not serving, the ledger does not answer in time, or contradicts itself.
    pub async fn resync(&self, shard: ShardId) -> Result<Resynced, ResyncError> {
        let elsewhere = self.door(shard).and_then(|door| door.elsewhere());
        let Some((_, owner)) = elsewhere else { return self.resync_here(shard).await };
        let patience = self.inner.ledger_ack_timeout + ELSEWHERE;
        let called = self.call_within(&owner, Call::Resync(shard), patience).await;
        match called.map_err(ResyncError::Unavailable)? {
            Returned::Resynced(resynced) => Ok(resynced),
            Returned::Contradiction(why) => Err(ResyncError::Contradiction(why)),
            other => Err(ResyncError::Unavailable(odd(&other))),
        }
    }

    pub(crate) async fn resync_here(&self, shard: ShardId) -> Result<Resynced, ResyncError> {
        let _alone = self.inner.resyncs.lock().await;
        let actor = self.door(shard).and_then(|door| door.actor());
        let parking = Parking(actor.ok_or(ResyncError::Unavailable(Unavailable::Overloaded))?);
        let deadline = Instant::now() + self.inner.ledger_ack_timeout;
        let resynced = tokio::time::timeout_at(deadline, self.resync_parked(shard, &parking.0)).await;
        resynced.unwrap_or(Err(ResyncError::Unavailable(Unavailable::Ledger)))
    }

    async fn resync_parked(
        &self,
        shard: ShardId,
        actor: &ActorRef<Message>,
    ) -> Result<Resynced, ResyncError> {
        let mut apart = None;
        loop {
            let Quiet { epoch, head, now, settings } = order(actor, Order::Park).await?;
            let horizon = now - settings.idempotency_horizon;
            let restored = self.inner.ledger.load(shard, horizon).await.map_err(|error| {
                tracing::warn!(%shard, %error, "no resync");
                ResyncError::Unavailable(Unavailable::Ledger)
            })?;
            if restored.head != head {
                // Something may have fallen due meanwhile; twice the same is no accident.
                if apart == Some((head, restored.head)) {
                    let _lives = actor.send_message(Message::Halt(Halt::Resync));
                    return Ok(Resynced::Restored { memory: head, ledger: restored.head });
                }
                apart = Some((head, restored.head));
                continue;
            }
            // A stadium takes long enough to be in the way of other shards.
            let built = tokio::task::spawn_blocking(move || {
                let mut ledger = Box::new(Shard::new(shard, epoch, settings));
                ledger.restore(now, restored).map(|()| ledger)
            });
            let ledger = match built.await {
                Ok(built) => built.map_err(|error| ResyncError::Contradiction(error.to_string()))?,
                Err(error) => {
                    tracing::error!(%shard, %error, "no resync");
                    return Err(ResyncError::Unavailable(Unavailable::Overloaded));
                }
            };
            let adopt = |reply| Order::Adopt { ledger, reply };
            if let Some(mut differences) = order(actor, adopt).await? {
                let counts = Counts::of(&differences);
                differences.truncate(TOLD);
                return Ok(Resynced::Compared { head, differences, counts });
            }
        }
    }
}

/// Gives an order and waits for its answer.
async fn order<T>(
    actor: &ActorRef<Message>,
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Result<T, ResyncError> {
    let gone = || ResyncError::Unavailable(Unavailable::Overloaded);
    let (reply, answer) = oneshot::channel();
    actor.send_message(Message::Resync(order(reply))).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}
