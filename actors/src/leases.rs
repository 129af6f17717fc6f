//! Which shards this node owns, and until when it may say so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{Epoch, ShardId};
use ractor::ActorRef;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::LedgerClock;
use crate::observe::Metrics;
use crate::ports::Ledger;
use crate::supervisor::Message;
use crate::system::LeaseSettings;

/// The leases of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: LeaseSettings,
    /// Deadlines are counted from here.
    base: Instant,
    held: Mutex<BTreeMap<ShardId, Held>>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Held {
    epoch: Epoch,
    deadline: Arc<AtomicU64>,
}

/// An actor's view of its shard's lease.
#[derive(Clone, Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    /// Microseconds after the base.
    deadline: Arc<AtomicU64>,
}

impl Lease {
    /// Whether the shard may decide at `now`: before the instant at which the last successful renewal
    /// was *sent*, plus the lease's time to live, minus the margin.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        let micros = micros(now.saturating_duration_since(self.shared.base));
        micros < self.deadline.load(Ordering::Relaxed) && !self.shared.stopping.load(Ordering::Relaxed)
    }
}

impl Leases {
    #[must_use]
    pub fn new(settings: LeaseSettings) -> Self {
        let shared = Shared {
            settings,
            base: Instant::now(),
            held: Mutex::default(),
            stopping: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The ledger gave the shard to this node, asked at `sent`.
    #[must_use]
    pub fn granted(&self, shard: ShardId, epoch: Epoch, sent: Instant) -> Lease {
        let deadline = Arc::new(AtomicU64::new(self.deadline(sent)));
        let lease = Lease { shared: self.shared.clone(), deadline: deadline.clone() };
        if let Some(former) = self.lock().insert(shard, Held { epoch, deadline }) {
            former.deadline.store(0, Ordering::Relaxed);
        }
        lease
    }

    /// The shard is not this node's any more.
    pub fn forget(&self, shard: ShardId, epoch: Epoch) {
        let mut held = self.lock();
        if held.get(&shard).is_some_and(|held| held.epoch == epoch)
            && let Some(former) = held.remove(&shard)
        {
            former.deadline.store(0, Ordering::Relaxed);
        }
    }

    /// Everything this node believes it owns.
    #[must_use]
    pub fn held(&self) -> Vec<(ShardId, Epoch)> {
        self.lock().iter().map(|(shard, held)| (*shard, held.epoch)).collect()
    }

    /// The answer to a renewal of `asked`, sent at `sent`. Those that are not in `still` are lost,
    /// unless their epoch was raised by this node meanwhile.
    #[must_use]
    pub fn renewed(
        &self,
        sent: Instant,
        asked: &[(ShardId, Epoch)],
        still: &[ShardId],
    ) -> Vec<(ShardId, Epoch)> {
        let deadline = self.deadline(sent);
        let mut lost = Vec::new();
        for &(shard, epoch) in asked {
            let held = self.lock().get(&shard).filter(|held| held.epoch == epoch).map(|h| h.deadline.clone());
            let Some(held) = held else { continue };
            if still.contains(&shard) {
                held.fetch_max(deadline, Ordering::Relaxed);
            } else {
                self.forget(shard, epoch);
                lost.push((shard, epoch));
            }
        }
        lost
    }

    /// Nothing is decided on this node any more.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    fn deadline(&self, sent: Instant) -> u64 {
        let LeaseSettings { ttl, margin, .. } = self.shared.settings;
        micros(sent.saturating_duration_since(self.shared.base) + ttl.saturating_sub(margin))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Held>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews the leases and samples the ledger's clock, for as long as the node lives.
pub struct Renewal {
    pub ledger: Arc<dyn Ledger>,
    pub leases: Leases,
    pub clock: LedgerClock,
    pub metrics: Metrics,
}

impl Renewal {
    pub async fn run(self, settings: LeaseSettings, supervisor: ActorRef<Message>) {
        let mut ticks = tokio::time::interval(settings.renew);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (shard, epoch) in self.renew(settings.renew).await {
                self.metrics.lease_lost("renewal");
                // The supervisor outlives this task.
                let _lives = supervisor.send_message(Message::Lost(shard, epoch));
            }
            self.sample(settings.renew).await;
        }
    }

    /// The shards that are lost. An error loses nothing: the deadlines just do not move.
    async fn renew(&self, patience: Duration) -> Vec<(ShardId, Epoch)> {
        let asked = self.leases.held();
        if asked.is_empty() {
            return Vec::new();
        }
        let sent = Instant::now();
        let answer = tokio::time::timeout(patience, self.ledger.renew(&asked)).await;
        self.metrics.lease_renew_seconds().observe(sent.elapsed().as_secs_f64());
        match answer {
            Ok(Ok(still)) => self.leases.renewed(sent, &asked, &still),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the leases were not renewed");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!("the leases were not renewed: no answer in {patience:?}");
                Vec::new()
            }
        }
    }

    async fn sample(&self, patience: Duration) {
        let sent = Instant::now();
        if let Ok(Ok(time)) = tokio::time::timeout(patience, self.ledger.now()).await {
            self.clock.sample(sent, Instant::now(), time);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(1);
    const B: ShardId = ShardId(2);

    #[test]
    fn a_lease_ends_a_margin_before_its_time_counted_from_the_sending() {
        let leases = Leases::new(LeaseSettings::default());
        let start = Instant::now();
        let lease = leases.granted(A, Epoch(1), start);
        let after = |millis| start + Duration::from_millis(millis);
        assert!(lease.allows(after(3_999)));
        assert!(!lease.allows(after(4_001)));
        assert_eq!(leases.renewed(after(1_500), &[(A, Epoch(1))], &[A]), []);
        assert!(lease.allows(after(5_499)) && !lease.allows(after(5_501)));
        // An answer that comes late does not take back what a later one gave.
        assert_eq!(leases.renewed(after(500), &[(A, Epoch(1))], &[A]), []);
        assert!(lease.allows(after(5_499)));
        leases.stop();
        assert!(!lease.allows(start));
    }

    #[test]
    fn what_is_not_renewed_is_lost_unless_it_was_taken_again() {
        let leases = Leases::new(LeaseSettings::default());
        let now = Instant::now();
        let (a, b) = (leases.granted(A, Epoch(1), now), leases.granted(B, Epoch(1), now));
        let asked = leases.held();
        let again = leases.granted(B, Epoch(2), now);
        assert!(!b.allows(now), "the dead actor's lease ends with its epoch");
        assert_eq!(leases.renewed(now, &asked, &[]), [(A, Epoch(1))]);
        assert!(!a.allows(now) && again.allows(now));
        assert_eq!(leases.held(), [(B, Epoch(2))]);
    }
}
