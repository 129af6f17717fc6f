//! Which shards this node owns, and until when it may say so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::lease::{Heartbeats, Row, Terms};
use engine::{Epoch, Moment, ShardId, Span};
use ractor::ActorRef;
use tokio::time::Instant;

use crate::clock::LedgerClock;
use crate::lock::lock;
use crate::observe::Metrics;
use crate::peers::{News, Peers, Standing};
use crate::ports::{Ledger, LedgerError};
use crate::reach::{LedgerAway, Reach, Report, micros};
use crate::supervisor::Message;
use crate::system::LeaseSettings;

/// A deadline that is past for ever: the shard is lost, or raised to another epoch.
const LOST: u64 = 0;

/// A renewal that has no answer after this long has failed: law of the house, and what lets the reports
/// of a ledger that hangs follow each other within a renew interval.
const PATIENCE: Duration = Duration::from_secs(1);

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
    reach: Reach,
    heartbeats: Mutex<Heartbeats>,
    /// What the last restore that failed said.
    trouble: Mutex<Option<String>>,
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
    /// was *sent*, plus the lease's time to live, minus the margin; and after it for as long as the
    /// ledger is away and the shard is not known to be lost. Holds are decided then too: they wait for
    /// the ledger, whose fence has the last word about them.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        let deadline = self.deadline.load(Ordering::Relaxed);
        let in_time = micros(now.saturating_duration_since(self.shared.base)) < deadline;
        (in_time || (deadline != LOST && self.shared.reach.lets_clicks_go_on(now, deadline)))
            && !self.shared.stopping.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// The shard is somebody else's from now on.
    pub fn end(&self) {
        self.deadline.store(LOST, Ordering::Relaxed);
    }
}

impl Leases {
    #[must_use]
    pub fn new(settings: LeaseSettings) -> Self {
        let base = Instant::now();
        let shared = Shared {
            settings,
            base,
            held: Mutex::default(),
            reach: Reach::new(base, settings.renew),
            heartbeats: Mutex::default(),
            trouble: Mutex::default(),
            stopping: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The ledger gave the shard to this node, asked at `sent`.
    #[must_use]
    pub fn granted(&self, shard: ShardId, epoch: Epoch, sent: Instant) -> Lease {
        let deadline = Arc::new(AtomicU64::new(self.deadline(sent)));
        let lease = Lease { shared: self.shared.clone(), deadline: deadline.clone() };
        if let Some(former) = lock(&self.shared.held).insert(shard, Held { epoch, deadline }) {
            former.deadline.store(LOST, Ordering::Relaxed);
        }
        lease
    }

    /// The shard is not this node's any more.
    pub fn forget(&self, shard: ShardId, epoch: Epoch) {
        let mut held = lock(&self.shared.held);
        if held.get(&shard).is_some_and(|held| held.epoch == epoch)
            && let Some(former) = held.remove(&shard)
        {
            former.deadline.store(LOST, Ordering::Relaxed);
        }
    }

    /// Everything this node believes it owns.
    #[must_use]
    pub fn held(&self) -> Vec<(ShardId, Epoch)> {
        lock(&self.shared.held).iter().map(|(shard, held)| (*shard, held.epoch)).collect()
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
            let held = lock(&self.shared.held)
                .get(&shard)
                .filter(|held| held.epoch == epoch)
                .map(|h| h.deadline.clone());
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

    /// Whether this node may take what has such a row, if the ledger finds it free.
    #[must_use]
    pub fn may_acquire(&self, row: Row) -> bool {
        let now = Moment(micros(self.shared.base.elapsed()));
        lock(&self.shared.heartbeats).may_acquire(row, now, &self.terms())
    }

    fn terms(&self) -> Terms {
        let LeaseSettings { ttl, renew, margin } = self.shared.settings;
        let span = |duration| Span(micros(duration).cast_signed());
        Terms { ttl: span(ttl), renew: span(renew), margin: span(margin) }
    }

    /// Since when the ledger does not answer, and why; `None` while it does.
    #[must_use]
    pub fn ledger_away(&self) -> Option<LedgerAway> {
        self.shared.reach.away()
    }

    /// How the last attempt to bring a shard up went.
    pub fn restored(&self, failed: Option<String>) {
        *lock(&self.shared.trouble) = failed;
    }

    /// Why shards do not come up; `None` when the last that tried did.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Nothing is decided on this node any more.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    fn deadline(&self, sent: Instant) -> u64 {
        let LeaseSettings { ttl, margin, .. } = self.shared.settings;
        micros(sent.saturating_duration_since(self.shared.base) + ttl.saturating_sub(margin))
    }
}

/// Renews the leases and samples the ledger's clock, for as long as the node lives.
pub struct Renewal {
    pub ledger: Arc<dyn Ledger>,
    pub leases: Leases,
    pub clock: LedgerClock,
    pub metrics: Metrics,
    pub peers: Arc<dyn Peers>,
}

impl Renewal {
    pub async fn run(self, settings: LeaseSettings, supervisor: ActorRef<Message>) {
        let LeaseSettings { renew, .. } = settings;
        let patience = PATIENCE.min(renew * 2 / 3);
        loop {
            let began = Instant::now();
            let next = match self.beat(patience, &supervisor).await {
                Ok(()) => {
                    self.answers();
                    began + renew
                }
                Err(why) => {
                    self.fails(why);
                    Instant::now() + renew / 10
                }
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Renews, stops what is lost, and samples the clock. An error says why the ledger did not answer;
    /// it loses nothing: the deadlines just do not move.
    async fn beat(&self, patience: Duration, supervisor: &ActorRef<Message>) -> Result<(), String> {
        for (shard, epoch) in self.renew(patience).await? {
            self.metrics.lease_lost("renewal");
            // The supervisor outlives this task.
            let _lives = supervisor.send_message(Message::Lost(shard, epoch));
        }
        let sent = Instant::now();
        let time = answer(patience, self.ledger.now()).await?;
        self.clock.sample(sent, Instant::now(), time);
        Ok(())
    }

    async fn renew(&self, patience: Duration) -> Result<Vec<(ShardId, Epoch)>, String> {
        let asked = self.leases.held();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let sent = Instant::now();
        let still = answer(patience, self.ledger.renew(&asked)).await;
        self.metrics.lease_renew_seconds().observe(sent.elapsed().as_secs_f64());
        Ok(self.leases.renewed(sent, &asked, &still?))
    }

    fn fails(&self, why: String) {
        self.metrics.ledger_up().set(0);
        lock(&self.leases.shared.heartbeats).failed();
        self.peers.say(News::LedgerAway);
        tracing::debug!(why, "the leases were not renewed");
        let others = self.others();
        if self.leases.shared.reach.failed(Instant::now(), why.clone(), &others) {
            tracing::warn!(why, "the ledger is away: clicks go on, holds wait for it");
        }
    }

    /// What the other nodes say of the ledger. The dead reach nothing.
    fn others(&self) -> Vec<Report> {
        let members = self.peers.members();
        let members = members.borrow();
        // Not yet looked for: they count as able to reach it.
        let Some(members) = &*members else { return vec![Report::Silent] };
        let living = members.iter().filter(|member| member.standing != Standing::Dead);
        living
            .map(|member| if member.standing == Standing::Up { member.ledger } else { Report::Silent })
            .collect()
    }

    fn answers(&self) {
        self.metrics.ledger_up().set(1);
        let now = Moment(micros(self.leases.shared.base.elapsed()));
        lock(&self.leases.shared.heartbeats).answered(now, &self.leases.terms());
        self.peers.say(News::LedgerReached);
        if let Some(since) = self.leases.shared.reach.answered() {
            tracing::info!(after = ?since.elapsed(), "the ledger is back");
        }
    }
}

/// What the ledger answered in time.
async fn answer<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, String> {
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {patience:?}")),
    }
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
    fn while_the_ledger_is_away_a_lease_goes_on_unless_it_is_lost() {
        let leases = Leases::new(LeaseSettings::default());
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let (kept, lost) = (leases.granted(A, Epoch(1), start), leases.granted(B, Epoch(1), start));
        assert!(leases.shared.reach.failed(after(9_000), "gone".into(), &[]));
        assert!(kept.allows(after(10_400)) && lost.allows(after(10_400)));
        assert!(!kept.allows(after(10_600)), "nobody said so lately");
        // It is back, and somebody else has B.
        assert_eq!(leases.renewed(after(9_500), &leases.held(), &[A]), [(B, Epoch(1))]);
        assert!(kept.allows(after(9_600)) && !lost.allows(after(9_600)));
        leases.stop();
        assert!(!kept.allows(after(9_600)));
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
