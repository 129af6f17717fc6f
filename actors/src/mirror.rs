//! Keeps the mirror's copy of the soft locks close behind memory: one task per node, batches per option.
//!
//! A shard notes each change in its option's log and goes on. The task cuts what has gathered while the
//! previous batch was on its way, at most one per option, and sends what is left of it: a select and
//! its release inside one batch are nothing. Whatever goes wrong is mended the same way: the shard
//! hands over all soft locks of the option, and the mirror's copy is replaced.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{Epoch, MirrorOp, OptionId, SeatNo, SoftLock, Time};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::LedgerClock;
use crate::observe::Metrics;
use crate::ports::{Mirror, MirrorAnswer, MirrorBatch, MirrorError};

/// Changes an option's log holds. A mirror that is away longer than that is rebuilt from memory anyway.
const LOG_MAX: usize = 1 << 16;

/// How often an option without changes is asked whether the mirror still stands where it should.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// How long to wait after the mirror failed: doubles from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A mirror that is silent for so long has failed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// Whether the task has taken something and is not done with it.
    busy: AtomicBool,
}

/// One option's log. Its shard writes, the task reads.
pub struct OptionMirror {
    option: OptionId,
    epoch: Epoch,
    shard: CallShard,
    log: Mutex<Log>,
    node: Mirroring,
}

struct Log {
    work: Work,
    /// When the oldest unsent change was made.
    since: Option<Instant>,
    /// Where the mirror will stand once everything cut so far is applied.
    op: u64,
    /// Seats the mirror has a soft lock for.
    mirrored: HashSet<SeatNo>,
    queued: bool,
    closed: bool,
}

/// What the task has to do next for an option.
#[derive(Debug)]
enum Work {
    Changes(Vec<MirrorOp>),
    /// Replace the copy by these soft locks, then go on with changes.
    Rebuild(Vec<SoftLock>, Vec<MirrorOp>),
    /// Waiting for the shard to hand over its soft locks; changes made until then are in them.
    Asked,
}

/// What is sent in one go.
struct Cut {
    previous: u64,
    op: u64,
    since: Option<Instant>,
    locks: Option<Vec<SoftLock>>,
    changes: Vec<MirrorOp>,
}

impl Mirroring {
    #[must_use]
    pub fn new(port: Arc<dyn Mirror>, clock: LedgerClock, metrics: Metrics) -> Self {
        metrics.mirror_up().set(1);
        let (options, dirty, wake, busy) = Default::default();
        Self(Arc::new(Inner { port, clock, metrics, options, dirty, wake, busy }))
    }

    /// Fences lower epochs off an option and reads what the mirror knows of it.
    ///
    /// # Errors
    /// The mirror cannot be reached; the shard goes on without its soft locks.
    pub async fn take_over(
        &self,
        option: OptionId,
        epoch: Epoch,
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError> {
        self.0.port.take_over(option, epoch, now).await
    }

    /// Begins to mirror an option from the soft locks it has now.
    pub fn open(
        &self,
        option: OptionId,
        epoch: Epoch,
        locks: Vec<SoftLock>,
        shard: CallShard,
    ) -> Arc<OptionMirror> {
        let log = Log {
            work: Work::Asked,
            since: None,
            op: 0,
            mirrored: HashSet::new(),
            queued: false,
            closed: false,
        };
        let mirror =
            Arc::new(OptionMirror { option, epoch, shard, log: Mutex::new(log), node: self.clone() });
        let before = lock(&self.0.options).insert(option, Arc::clone(&mirror));
        if let Some(before) = before {
            lock(&before.log).closed = true;
        }
        mirror.rebuild(locks);
        mirror
    }

    /// Stops mirroring an option, unless somebody newer has opened it since.
    pub fn close(&self, option: OptionId, epoch: Epoch) {
        let mut options = lock(&self.0.options);
        if options.get(&option).is_some_and(|mirror| mirror.epoch <= epoch)
            && let Some(mirror) = options.remove(&option)
        {
            lock(&mirror.log).closed = true;
        }
    }

    /// Whether everything noted has been sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        lock(&self.0.dirty).is_empty() && !self.0.busy.load(Ordering::Relaxed)
    }

    /// The task. Runs until it is dropped.
    pub async fn run(self) {
        let mut back_off = BACK_OFF.0;
        let mut next_check = Instant::now() + IDLE_CHECK;
        loop {
            let checks = tokio::time::timeout_at(next_check, self.0.wake.notified()).await.is_err();
            self.0.busy.store(true, Ordering::Relaxed);
            let work = if checks {
                next_check = Instant::now() + IDLE_CHECK;
                lock(&self.0.options).values().cloned().collect()
            } else {
                // Whoever is ready to run may add to the batches: no timer, fuller batches under load.
                tokio::task::yield_now().await;
                std::mem::take(&mut *lock(&self.0.dirty))
            };
            let mut failed = Vec::new();
            for mirror in work {
                let flushed = tokio::time::timeout(FLUSH_TIMEOUT, self.flush(&mirror)).await;
                if let Err(error) = flushed.unwrap_or_else(|_| Err(MirrorError("time-out".into()))) {
                    tracing::warn!(option = mirror.option.0, %error, "the mirror is away");
                    failed.push(mirror);
                }
            }
            self.0.busy.store(false, Ordering::Relaxed);
            self.0.metrics.mirror_up().set(i64::from(failed.is_empty()));
            if failed.is_empty() {
                back_off = BACK_OFF.0;
                continue;
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF.1);
            // Whether the last batch arrived is unknown, and the mirror may come back empty.
            failed.iter().for_each(|mirror| mirror.ask_rebuild());
        }
    }

    /// Sends what an option has gathered; asks an idle one where it stands.
    async fn flush(&self, mirror: &OptionMirror) -> Result<(), MirrorError> {
        let Some(cut) = mirror.cut() else { return Ok(()) };
        let Inner { port, clock, metrics, .. } = &*self.0;
        let (option, epoch) = (mirror.option, mirror.epoch);
        let mut position = cut.previous;
        if let Some(locks) = &cut.locks {
            position += 1;
            let answer = port.rebuild(option, epoch, position, locks).await?;
            if !mirror.accept(answer) {
                return Ok(());
            }
        }
        if cut.locks.is_none() || !cut.changes.is_empty() {
            metrics.mirror_backlog().inc_by(cut.changes.len().try_into().unwrap_or(i64::MAX));
            let sent = cut.changes.len();
            let batch =
                MirrorBatch { epoch, previous: position, op: cut.op, now: clock.now(), changes: cut.changes };
            let answer = port.apply(option, &batch).await;
            metrics.mirror_backlog().dec_by(sent.try_into().unwrap_or(i64::MAX));
            if !mirror.accept(answer?) {
                return Ok(());
            }
        }
        if let Some(since) = cut.since {
            metrics.mirror_lag_seconds().observe(since.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

impl OptionMirror {
    /// Notes a change of the shard. Changes come in the order in which they were made.
    pub fn push(self: &Arc<Self>, change: MirrorOp) {
        let mut log = lock(&self.log);
        let changes = match &mut log.work {
            Work::Changes(changes) | Work::Rebuild(_, changes) => changes,
            Work::Asked => return,
        };
        if changes.len() == LOG_MAX {
            drop(log);
            self.ask_rebuild();
            return;
        }
        changes.push(change);
        log.since.get_or_insert_with(Instant::now);
        self.queue(&mut log);
    }

    /// Takes all soft locks of the option as they are now, instead of the changes noted so far.
    pub fn rebuild(self: &Arc<Self>, locks: Vec<SoftLock>) {
        let mut log = lock(&self.log);
        log.work = Work::Rebuild(locks, Vec::new());
        log.since.get_or_insert_with(Instant::now);
        self.queue(&mut log);
    }

    /// Gives up on the changes noted so far.
    fn ask_rebuild(&self) {
        let mut log = lock(&self.log);
        if !log.closed && !matches!(log.work, Work::Asked) {
            log.work = Work::Asked;
            drop(log);
            (self.shard)(Call::Rebuild(self.option));
        }
    }

    fn queue(self: &Arc<Self>, log: &mut Log) {
        if !log.queued {
            log.queued = true;
            lock(&self.node.0.dirty).push(Arc::clone(self));
            self.node.0.wake.notify_one();
        }
    }

    /// Takes everything noted so far; `None` when there is nothing to say.
    fn cut(&self) -> Option<Cut> {
        let mut log = lock(&self.log);
        log.queued = false;
        if log.closed || matches!(log.work, Work::Asked) {
            return None;
        }
        let (locks, changes) = match std::mem::replace(&mut log.work, Work::Changes(Vec::new())) {
            Work::Rebuild(locks, changes) => (Some(locks), changes),
            Work::Changes(changes) => (None, changes),
            Work::Asked => return None,
        };
        if let Some(locks) = &locks {
            log.mirrored = locks.iter().map(|lock| lock.seat).collect();
        }
        let changes = coalesce(changes, &mut log.mirrored);
        let previous = log.op;
        log.op += u64::from(locks.is_some()) + u64::from(!changes.is_empty());
        Some(Cut { previous, op: log.op, since: log.since.take(), locks, changes })
    }

    /// Whether all is well; otherwise what to do about it is under way.
    fn accept(&self, answer: MirrorAnswer) -> bool {
        match answer {
            MirrorAnswer::Applied => return true,
            MirrorAnswer::Gap => self.ask_rebuild(),
            MirrorAnswer::Fenced => {
                lock(&self.log).closed = true;
                (self.shard)(Call::Fenced(self.option));
            }
        }
        false
    }
}

/// The last change of each seat, without those that undo what the mirror never saw.
fn coalesce(mut changes: Vec<MirrorOp>, mirrored: &mut HashSet<SeatNo>) -> Vec<MirrorOp> {
    let seat = |change: &MirrorOp| match change {
        MirrorOp::Lock(lock) => lock.seat,
        MirrorOp::Unlock { seat, .. } => *seat,
    };
    // Stable, so that of each seat's changes the last stays last; reversed, the first one is kept.
    changes.reverse();
    changes.sort_by_key(seat);
    changes.dedup_by_key(|change| seat(change));
    changes.retain(|change| match change {
        MirrorOp::Lock(lock) => {
            mirrored.insert(lock.seat);
            true
        }
        MirrorOp::Unlock { seat, .. } => mirrored.remove(seat),
    });
    changes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
