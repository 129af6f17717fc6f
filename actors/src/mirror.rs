//! Keeps the mirror's copy of the soft locks close behind memory: one task per node, batches per option.
//!
//! A shard notes each change in its option's log and goes on. The task works in rounds: what has gathered
//! in every option while the previous round was on its way is cut and sent together, and of each option
//! only what is left of it: a select and its release inside one batch are nothing. Whatever goes wrong is
//! mended the same way: the shard hands over all soft locks of the option, and the mirror's copy is
//! replaced, beside the rounds, because that may take long. While the mirror is away nothing is noted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{Epoch, OptionId, SoftLock, Time};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::LedgerClock;
use crate::lock::lock;
use crate::observe::Metrics;
use crate::ports::{Mirror, MirrorBatch, MirrorError};

use self::option::Cut;
pub use self::option::OptionMirror;

pub mod check;
mod option;
mod seats;

/// How often an option without changes is asked whether the mirror still stands where it should.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// How long to wait before a mirror that failed is tried again: doubles from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A mirror that is silent for so long has failed. Adapters give up before, and say more about it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The same for a rebuild, which may be 100,000 soft locks.
const REBUILD_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a take-over looks whether a dead actor's last changes have been sent.
const SETTLE_POLL: Duration = Duration::from_millis(1);

/// Rebuilds that are under way at the same time.
const REBUILDS: usize = 8;

/// What the task wants of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Hand over the option's soft locks: [`OptionMirror::rebuild`].
    Rebuild(OptionId),
    /// Somebody with a higher epoch owns the option: halt.
    Fenced(OptionId),
}

/// Reaches the shard of an option. Must not block.
pub type CallShard = Arc<dyn Fn(Call) + Send + Sync>;

/// Why there is no mirror now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// Names the server and what it did.
    pub why: String,
    /// Whether this process has never reached it.
    pub since_start: bool,
}

/// The node's mirroring. Cheap to clone.
#[derive(Clone)]
pub struct Mirroring(Arc<Inner>);

struct Inner {
    port: Arc<dyn Mirror>,
    clock: LedgerClock,
    metrics: Metrics,
    options: Mutex<BTreeMap<OptionId, Arc<OptionMirror>>>,
    dirty: Mutex<Vec<Arc<OptionMirror>>>,
    wake: Notify,
    /// Rounds and rebuilds that are not answered.
    under_way: AtomicUsize,
    rebuilds: Semaphore,
    /// Options that the mirror failed, until it answers again.
    lost: Mutex<Vec<Arc<OptionMirror>>>,
    why: Mutex<Option<String>>,
    reached: AtomicBool,
}

impl Mirroring {
    #[must_use]
    pub fn new(port: Arc<dyn Mirror>, clock: LedgerClock, metrics: Metrics) -> Self {
        let (options, dirty, wake, under_way, lost, reached) = Default::default();
        let why = Mutex::new(Some("it has not answered yet".to_owned()));
        let rebuilds = Semaphore::new(REBUILDS);
        let inner =
            Inner { port, clock, metrics, options, dirty, wake, under_way, rebuilds, lost, why, reached };
        Self(Arc::new(inner))
    }

    /// Why the mirror does not follow; `None` while it does.
    #[must_use]
    pub fn away(&self) -> Option<Away> {
        let why = lock(&self.0.why).clone()?;
        Some(Away { why, since_start: !self.0.reached.load(Ordering::Relaxed) })
    }

    /// Fences lower epochs off an option and reads what the mirror knows of it, the last changes of an actor that died
    /// in this process included.
    ///
    /// # Errors
    /// The mirror cannot be reached; the shard goes on without its soft locks.
    pub async fn take_over(
        &self,
        option: OptionId,
        epoch: Epoch,
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError> {
        // What an actor noted before it died is still on its way.
        while lock(&self.0.options).get(&option).is_some_and(|former| !former.is_settled()) {
            tokio::time::sleep(SETTLE_POLL).await;
        }
        self.0.port.take_over(option, epoch, now).await
    }

    /// Reads what the mirror has of an option, for its owner.
    ///
    /// # Errors
    /// The mirror cannot be reached, or somebody else owns the option.
    pub async fn read(&self, option: OptionId, epoch: Epoch) -> Result<Vec<SoftLock>, MirrorError> {
        let read = self.0.port.take_over(option, epoch, self.0.clock.now());
        let read = tokio::time::timeout(REBUILD_TIMEOUT, read).await;
        read.unwrap_or_else(|_| Err(MirrorError("it does not answer".into())))
    }

    /// Begins to mirror an option from the soft locks it has now.
    pub fn open(
        &self,
        option: OptionId,
        epoch: Epoch,
        locks: Vec<SoftLock>,
        shard: CallShard,
    ) -> Arc<OptionMirror> {
        let mirror = Arc::new(OptionMirror::new(option, epoch, shard, self.clone()));
        let before = lock(&self.0.options).insert(option, Arc::clone(&mirror));
        if let Some(before) = before {
            before.close();
        }
        mirror.rebuild(locks);
        mirror
    }

    /// Stops mirroring an option, unless somebody newer has opened it since.
    pub fn close(&self, option: OptionId, epoch: Epoch) {
        let mut options = lock(&self.0.options);
        if options.get(&option).is_some_and(|mirror| mirror.epoch() <= epoch)
            && let Some(mirror) = options.remove(&option)
        {
            mirror.close();
        }
    }

    /// Whether everything noted has been sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        lock(&self.0.dirty).is_empty() && self.0.under_way.load(Ordering::Relaxed) == 0
    }

    /// The task. Runs until it is dropped.
    pub async fn run(self) {
        let mut checks = tokio::time::interval(IDLE_CHECK);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let spacing = self.0.port.spacing();
        let mut next_round = Instant::now();
        let mut rebuilds = JoinSet::new();
        let mut back_off = BACK_OFF.0;
        let mut retry = None;
        loop {
            let due = tokio::select! {
                () = self.0.wake.notified() => Due::Changes,
                _ = checks.tick() => Due::Check,
                () = until(retry) => Due::Retry,
            };
            while rebuilds.try_join_next().is_some() {}
            match due {
                Due::Changes => {
                    if Instant::now() < next_round {
                        tokio::time::sleep_until(next_round).await;
                    } else {
                        // Whoever is ready to run may add to the batches.
                        tokio::task::yield_now().await;
                    }
                    next_round = Instant::now() + spacing;
                    let dirty = std::mem::take(&mut *lock(&self.0.dirty));
                    self.round(dirty, &mut rebuilds).await;
                }
                Due::Check if retry.is_some() => {}
                Due::Check => {
                    self.check(&mut rebuilds).await;
                    if self.away().is_none() {
                        back_off = BACK_OFF.0;
                    }
                }
                Due::Retry => {
                    retry = None;
                    self.find_again().await;
                }
            }
            if retry.is_none() && self.away().is_some() {
                retry = Some(Instant::now() + back_off);
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
        }
    }

    fn queue(&self, mirror: &Arc<OptionMirror>) {
        lock(&self.0.dirty).push(Arc::clone(mirror));
        self.0.wake.notify_one();
    }

    /// Sends what these options have gathered, all together; asks those without changes where they stand.
    async fn round(&self, mirrors: Vec<Arc<OptionMirror>>, rebuilds: &mut JoinSet<()>) {
        let Inner { port, clock, metrics, under_way, .. } = &*self.0;
        let _under_way = UnderWay::begin(under_way);
        let now = clock.now();
        let (mut batches, mut sent) = (Vec::new(), Vec::new());
        for mirror in mirrors {
            match mirror.cut(now) {
                None => {}
                Some((Cut::Changes(batch), since)) => {
                    batches.push(batch);
                    sent.push((mirror, since));
                }
                Some((Cut::Rebuild { op, locks }, since)) => {
                    rebuilds.spawn(self.clone().rebuild(mirror, op, locks, since));
                }
            }
        }
        if batches.is_empty() {
            return;
        }
        let changes: usize = batches.iter().map(|batch: &MirrorBatch| batch.changes.len()).sum();
        let changes = i64::try_from(changes).unwrap_or(i64::MAX);
        metrics.mirror_backlog().inc_by(changes);
        let answers = tokio::time::timeout(ANSWER_TIMEOUT, port.apply(&batches)).await;
        metrics.mirror_backlog().dec_by(changes);
        let silent = || vec![Err(MirrorError("it does not answer".into())); sent.len()];
        let mut failed = None;
        for ((mirror, since), answer) in sent.iter().zip(answers.unwrap_or_else(|_| silent())) {
            match answer {
                Ok(answer) => self.answered(mirror.accept(answer), *since),
                Err(error) => {
                    self.lose(mirror);
                    failed = Some(error);
                }
            }
            mirror.sent();
        }
        match failed {
            Some(error) => self.failed(&error),
            None => self.follows(),
        }
    }

    fn answered(&self, well: bool, since: Option<Instant>) {
        if let Some(since) = since.filter(|_| well) {
            self.0.metrics.mirror_lag_seconds().observe(since.elapsed().as_secs_f64());
        }
    }

    /// Replaces an option's copy.
    async fn rebuild(self, mirror: Arc<OptionMirror>, op: u64, locks: Vec<SoftLock>, since: Option<Instant>) {
        let Inner { port, clock, under_way, rebuilds, .. } = &*self.0;
        let _under_way = UnderWay::begin(under_way);
        let _ends = Rebuilding(Arc::clone(&mirror));
        // The semaphore is never closed; without a permit there is only less order.
        let _turn = rebuilds.acquire().await;
        let (option, epoch, now) = (mirror.option, mirror.epoch(), clock.now());
        let rebuilt =
            tokio::time::timeout(REBUILD_TIMEOUT, port.rebuild(option, epoch, op, now, &locks)).await;
        match rebuilt.unwrap_or_else(|_| Err(MirrorError("a rebuild takes for ever".into()))) {
            Ok(answer) => {
                self.answered(mirror.accept(answer), since);
                self.follows();
            }
            Err(error) => {
                self.lose(&mirror);
                self.failed(&error);
            }
        }
    }

    /// Asks every option where the mirror stands, and a node without options whether there is a mirror.
    async fn check(&self, rebuilds: &mut JoinSet<()>) {
        let all: Vec<_> = lock(&self.0.options).values().cloned().collect();
        if all.is_empty() {
            self.find_again().await;
        } else {
            self.round(all, rebuilds).await;
        }
    }

    /// Whether the mirror is back: the options it failed are then rebuilt from memory. Whether their last
    /// batches arrived is unknown, and it may have come back empty.
    async fn find_again(&self) {
        let ping = tokio::time::timeout(ANSWER_TIMEOUT, self.0.port.ping()).await;
        match ping.unwrap_or_else(|_| Err(MirrorError("it does not answer".into()))) {
            Ok(()) => {
                let lost = std::mem::take(&mut *lock(&self.0.lost));
                lost.iter().for_each(|mirror| mirror.find_again());
                self.follows();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn lose(&self, mirror: &Arc<OptionMirror>) {
        mirror.lose();
        let mut lost = lock(&self.0.lost);
        if !lost.iter().any(|known| Arc::ptr_eq(known, mirror)) {
            lost.push(Arc::clone(mirror));
        }
    }

    fn failed(&self, error: &MirrorError) {
        self.0.metrics.mirror_up().set(0);
        let mut why = lock(&self.0.why);
        if why.as_ref() != Some(&error.0) {
            tracing::warn!(%error, "sales go on; soft locks are not mirrored");
            *why = Some(error.0.clone());
        }
        // The task may be waiting for something else than the next try.
        self.0.wake.notify_one();
    }

    /// The mirror answers for everything that it is asked for.
    fn follows(&self) {
        if lock(&self.0.lost).is_empty() && lock(&self.0.why).take().is_some() {
            tracing::info!("the mirror follows");
            self.0.reached.store(true, Ordering::Relaxed);
            self.0.metrics.mirror_up().set(1);
        }
    }
}

/// Why the task has woken up.
enum Due {
    Changes,
    Check,
    Retry,
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// However a rebuild ends, its option may send changes again: if it did not arrive, they find a gap.
struct Rebuilding(Arc<OptionMirror>);

impl Drop for Rebuilding {
    fn drop(&mut self) {
        self.0.rebuilt();
    }
}

/// Counts while it lives.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
