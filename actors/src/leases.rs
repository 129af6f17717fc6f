//! Which shards this node owns, and until when it may say so: the shell around [`engine::lease`], which has the rules.
//! Here are the instants, and for each lease a number beside its actor that says until when it lasts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::lease::{self, Heartbeats, LOST, Terms};
use engine::{Epoch, Moment, ShardId};
use ractor::ActorRef;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::LedgerClock;
use crate::lock::lock;
use crate::observe::Metrics;
use crate::peers::{Member, News, Peers, Standing};
use crate::ports::{Ledger, LedgerError};
use crate::reach::{LedgerAway, Report, micros};
use crate::supervisor::Message;
use crate::system::LeaseSettings;

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
    terms: Terms,
    /// Moments are counted from here.
    base: Instant,
    held: Mutex<Held>,
    heartbeats: Mutex<Heartbeats>,
    away: Mutex<Option<LedgerAway>>,
    /// What the last restore that failed said.
    trouble: Mutex<Option<String>>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Held {
    rules: lease::Leases,
    /// Until when each lease lasts, where its actor looks.
    shown: BTreeMap<ShardId, Arc<AtomicU64>>,
}

/// An actor's view of its shard's lease.
#[derive(Clone, Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    /// A [`Moment`].
    until: Arc<AtomicU64>,
}

impl Lease {
    /// Whether the shard may decide at `now`: before the instant at which the last successful renewal
    /// was *sent*, plus the lease's time to live, minus the margin; and after it for as long as the
    /// ledger is away and the shard is not known to be lost. Holds are decided then too: they wait for
    /// the ledger, whose fence has the last word about them.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        let until = Moment(self.until.load(Ordering::Relaxed));
        lease::allows(until, self.shared.moment(now)) && !self.shared.stopping.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn moment(&self, at: Instant) -> Moment {
        Moment(micros(at.saturating_duration_since(self.base)))
    }
}

impl Held {
    fn show(&self, shard: ShardId, until: Moment) {
        if let Some(shown) = self.shown.get(&shard) {
            shown.store(until.0, Ordering::Relaxed);
        }
    }

    /// The shard's actor, if it still looks, sees that it is over.
    fn hide(&mut self, shard: ShardId) {
        self.show(shard, LOST);
        self.shown.remove(&shard);
    }
}

impl Leases {
    #[must_use]
    pub fn new(settings: LeaseSettings) -> Self {
        let LeaseSettings { ttl, renew, margin } = settings;
        let terms = Terms { ttl: ttl.into(), renew: renew.into(), margin: margin.into() };
        let shared = Shared {
            terms,
            base: Instant::now(),
            held: Mutex::new(Held { rules: lease::Leases::new(terms), shown: BTreeMap::new() }),
            heartbeats: Mutex::default(),
            away: Mutex::default(),
            trouble: Mutex::default(),
            stopping: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The ledger gave the shard to this node, asked at `sent`.
    #[must_use]
    pub fn granted(&self, shard: ShardId, epoch: Epoch, sent: Instant) -> Lease {
        let mut held = lock(&self.shared.held);
        let until = held.rules.granted(shard, epoch, self.shared.moment(sent));
        held.hide(shard);
        let until = Arc::new(AtomicU64::new(until.0));
        held.shown.insert(shard, until.clone());
        Lease { shared: self.shared.clone(), until }
    }

    /// The shard is not this node's any more.
    pub fn forget(&self, shard: ShardId, epoch: Epoch) {
        let mut held = lock(&self.shared.held);
        if held.rules.forget(shard, epoch) {
            held.hide(shard);
        }
    }

    /// Everything this node believes it owns.
    #[must_use]
    pub fn held(&self) -> Vec<(ShardId, Epoch)> {
        lock(&self.shared.held).rules.held()
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
        let mut held = lock(&self.shared.held);
        let lease::Renewed { kept, lost } = held.rules.renewed(self.shared.moment(sent), asked, still);
        for (shard, _, until) in kept {
            held.show(shard, until);
        }
        for (shard, _) in &lost {
            held.hide(*shard);
        }
        lost
    }

    /// Whether this node may take what the ledger finds expired, or whose owner is dead.
    #[must_use]
    pub fn may_take(&self) -> bool {
        let now = self.shared.moment(Instant::now());
        lock(&self.shared.heartbeats).may_take(now, &self.shared.terms)
    }

    /// A renewal failed at `now`; this is what the other nodes say. Whether it is news.
    fn ledger_failed(&self, now: Instant, why: String, others: &[Report]) -> bool {
        lock(&self.shared.heartbeats).failed();
        self.go_on_as_told(now, others);
        let mut away = lock(&self.shared.away);
        let since = away.as_ref().map_or(now, |away| away.since);
        away.replace(LedgerAway { since, why }).is_none()
    }

    /// The other nodes say something new of the ledger: it counts at once, between two renewals.
    fn told(&self, now: Instant, others: &[Report]) {
        let is_away = lock(&self.shared.away).is_some();
        if is_away {
            self.go_on_as_told(now, others);
        }
    }

    /// Of itself a node knows at any time whether a renewal was answered since the last one failed.
    fn go_on_as_told(&self, now: Instant, others: &[Report]) {
        let mine = lease::Report::Away(self.shared.moment(now));
        let others = others.iter().map(|report| report.counted(|at| self.shared.moment(at)));
        self.go_on(now, &std::iter::once(mine).chain(others).collect::<Vec<_>>());
    }

    /// The ledger answered. Since when it had not.
    fn ledger_answered(&self, now: Instant) -> Option<Instant> {
        lock(&self.shared.heartbeats).answered(self.shared.moment(now), &self.shared.terms);
        self.go_on(now, &[lease::Report::Reaches]);
        lock(&self.shared.away).take().map(|away| away.since)
    }

    fn go_on(&self, now: Instant, reports: &[lease::Report]) {
        let mut held = lock(&self.shared.held);
        for (shard, _, until) in held.rules.go_on(self.shared.moment(now), reports) {
            held.show(shard, until);
        }
    }

    /// Since when the ledger does not answer, and why; `None` while it does.
    #[must_use]
    pub fn ledger_away(&self) -> Option<LedgerAway> {
        lock(&self.shared.away).clone()
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
        let mut members = self.peers.members();
        loop {
            let began = Instant::now();
            let next = match self.hearing(&mut members, self.beat(patience, &supervisor)).await {
                Ok(()) => {
                    self.answers();
                    began + renew
                }
                Err(why) => {
                    self.fails(why);
                    Instant::now() + renew / 10
                }
            };
            self.hearing(&mut members, tokio::time::sleep_until(next)).await;
        }
    }

    /// Waits for something, and hears meanwhile what the other nodes say.
    async fn hearing<T>(
        &self,
        members: &mut watch::Receiver<Option<Arc<[Member]>>>,
        awaited: impl Future<Output = T>,
    ) -> T {
        let mut awaited = std::pin::pin!(awaited);
        loop {
            tokio::select! {
                done = &mut awaited => return done,
                // Without others nothing changes; the sender lives as long as the peers.
                Ok(()) = members.changed() => self.leases.told(Instant::now(), &self.others()),
            }
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
        self.peers.say(News::LedgerAway);
        tracing::debug!(why, "the leases were not renewed");
        if self.leases.ledger_failed(Instant::now(), why.clone(), &self.others()) {
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
        self.peers.say(News::LedgerReached);
        if let Some(since) = self.leases.ledger_answered(Instant::now()) {
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
        assert!(leases.ledger_failed(after(9_000), "gone".into(), &[]));
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

    #[test]
    fn a_report_goes_stale_and_an_answer_ends_it() {
        let leases = Leases::new(LeaseSettings::default());
        let at = |millis| leases.shared.base + Duration::from_millis(millis);
        // It runs out at once: only the reports let it go on.
        let lease = leases.granted(A, Epoch(1), leases.shared.base);
        let settled = |millis: u64| at(10_000 + millis);
        assert!(!lease.allows(settled(0)));
        assert!(leases.ledger_failed(settled(1_000), "refused".into(), &[]));
        assert!(lease.allows(settled(2_499)) && !lease.allows(settled(2_500)));
        assert!(!leases.ledger_failed(settled(2_000), "no answer".into(), &[]), "it is known");
        assert!(lease.allows(settled(3_499)) && !lease.allows(settled(3_500)));
        let away = LedgerAway { since: settled(1_000), why: "no answer".into() };
        assert_eq!(leases.ledger_away(), Some(away));
        assert_eq!(leases.ledger_answered(settled(2_500)), Some(settled(1_000)));
        assert!(!lease.allows(settled(3_000)));
        assert_eq!((leases.ledger_away(), leases.ledger_answered(settled(3_000))), (None, None));
    }

    #[test]
    fn what_others_say_counts_between_two_renewals() {
        let leases = Leases::new(LeaseSettings::default());
        let at = |millis| leases.shared.base + Duration::from_millis(millis);
        let told = |millis, asked| leases.told(at(millis), &[Report::Away(at(asked))]);
        let lease = leases.granted(A, Epoch(1), at(0));
        told(3_000, 3_000);
        assert!(!lease.allows(at(4_100)), "this node reaches the ledger");
        assert!(leases.ledger_failed(at(3_500), "gone".into(), &[Report::Away(at(2_600))]));
        assert!(lease.allows(at(4_099)) && !lease.allows(at(4_101)));
        told(3_900, 3_850);
        assert!(lease.allows(at(5_349)) && !lease.allows(at(5_351)), "as long as the peer's word is good");
        leases.told(at(4_500), &[Report::Reaches]);
        assert!(lease.allows(at(5_349)) && !lease.allows(at(5_351)), "time for a renewal of its own");
        assert_eq!(leases.ledger_answered(at(4_600)), Some(at(3_500)));
        assert!(!lease.allows(at(4_600)), "which has not brought this one");
    }

    #[test]
    fn a_lease_that_ran_out_in_a_gap_stays_so() {
        let leases = Leases::new(LeaseSettings::default());
        let at = |millis| leases.shared.base + Duration::from_millis(millis);
        let failed = |millis, report| leases.ledger_failed(at(millis), "gone".into(), &[report]);
        // They run out at 4.0 s and at 5.5 s.
        let early = leases.granted(A, Epoch(1), at(0));
        let late = leases.granted(B, Epoch(1), at(1_500));
        // A peer still reaches the ledger while this node does not, and may take what runs out.
        failed(3_000, Report::Reaches);
        assert!(!early.allows(at(4_500)));
        // Then it does not reach it either: what it took is its own all the same.
        failed(5_000, Report::Away(at(5_000)));
        assert!(!early.allows(at(5_100)));
        assert!(late.allows(at(5_100)), "a lease that has not run out by then");
        failed(6_000, Report::Away(at(5_900)));
        assert!(late.allows(at(6_100)), "without a gap");
        failed(8_000, Report::Away(at(8_000)));
        assert!(!late.allows(at(8_100)), "nobody said anything for a while");
    }
}
