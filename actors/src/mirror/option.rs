//! One option's log: what its shard has noted and the mirror has not been told yet.

use std::sync::{Arc, Mutex};

use engine::{Epoch, MirrorOp, OptionId, SoftLock, Time};
use tokio::time::Instant;

use super::seats::{SeatSet, coalesce};
use super::{Call, CallShard, Mirroring};
use crate::lock::lock;
use crate::ports::{MirrorAnswer, MirrorBatch};

/// Changes an option's log holds. A mirror that is away longer than that is rebuilt from memory anyway.
pub(super) const LOG_MAX: usize = 1 << 16;

/// Changes sent in one go: some milliseconds in which a Redis answers nobody else.
const BATCH_MAX: usize = 1_024;

/// One option's log. Its shard writes, the task reads.
pub struct OptionMirror {
    pub(super) option: OptionId,
    epoch: Epoch,
    shard: CallShard,
    node: Mirroring,
    log: Mutex<Log>,
    /// Only the task looks here, so that the shard never waits for it.
    told: Mutex<Told>,
}

struct Log {
    work: Work,
    /// When the oldest unsent change was made.
    since: Option<Instant>,
    /// Whether the task knows that there is something to do.
    queued: bool,
    /// A batch is on its way.
    sending: bool,
    /// A rebuild is on its way: changes wait until it has arrived.
    rebuilding: bool,
    closed: bool,
}

/// What the task has to do next for an option.
enum Work {
    Changes(Vec<MirrorOp>),
    /// Replace the copy by these soft locks, then go on with changes.
    Rebuild(Vec<SoftLock>, Vec<MirrorOp>),
    /// The shard will hand over its soft locks; changes made until then are in them.
    Asked,
}

/// What the mirror has been told.
#[derive(Default)]
struct Told {
    /// Where the mirror will stand once everything cut so far is applied.
    op: u64,
    /// Seats the mirror has a soft lock for.
    mirrored: SeatSet,
    /// Scratch, empty between cuts.
    seen: SeatSet,
}

/// What is sent in one go.
pub(super) enum Cut {
    Changes(MirrorBatch),
    Rebuild { op: u64, locks: Vec<SoftLock> },
}

impl OptionMirror {
    pub(super) fn new(option: OptionId, epoch: Epoch, shard: CallShard, node: Mirroring) -> Self {
        let log = Log {
            work: Work::Asked,
            since: None,
            queued: false,
            sending: false,
            rebuilding: false,
            closed: false,
        };
        Self { option, epoch, shard, node, log: Mutex::new(log), told: Mutex::default() }
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

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

    /// Gives up on the changes noted so far, and asks the shard for all soft locks.
    pub(super) fn ask_rebuild(&self) {
        let mut log = lock(&self.log);
        if !log.closed && !matches!(log.work, Work::Asked) {
            log.work = Work::Asked;
            drop(log);
            (self.shard)(Call::Rebuild(self.option));
        }
    }

    /// Gives up on the changes noted so far: the mirror is away. [`Self::find_again`] ends that.
    pub(super) fn lose(&self) {
        lock(&self.log).work = Work::Asked;
    }

    /// Asks the shard for all soft locks, for a mirror that is back.
    pub(super) fn find_again(&self) {
        if !lock(&self.log).closed {
            (self.shard)(Call::Rebuild(self.option));
        }
    }

    pub(super) fn close(&self) {
        lock(&self.log).closed = true;
    }

    fn queue(self: &Arc<Self>, log: &mut Log) {
        if !log.queued && !log.rebuilding {
            log.queued = true;
            self.node.queue(self);
        }
    }

    /// Takes everything noted so far, and when the oldest of it was made. `None` when there is nothing to say.
    pub(super) fn cut(self: &Arc<Self>, now: Time) -> Option<(Cut, Option<Instant>)> {
        let mut log = lock(&self.log);
        log.queued = false;
        if log.closed || log.rebuilding {
            return None;
        }
        let since = log.since.take();
        match &mut log.work {
            Work::Asked => None,
            Work::Changes(changes) => {
                let rest = changes.split_off(changes.len().min(BATCH_MAX));
                let more = !rest.is_empty();
                let changes = std::mem::replace(changes, rest);
                if more {
                    log.since = since;
                    self.queue(&mut log);
                }
                log.sending = true;
                drop(log);
                Some((Cut::Changes(self.batch(now, changes)), since))
            }
            Work::Rebuild(locks, changes) => {
                let (locks, changes) = (std::mem::take(locks), std::mem::take(changes));
                log.since = since.filter(|_| !changes.is_empty());
                log.work = Work::Changes(changes);
                log.rebuilding = true;
                drop(log);
                let mut told = lock(&self.told);
                told.mirrored.clear();
                for lock in &locks {
                    told.mirrored.insert(lock.seat);
                }
                told.op += 1;
                Some((Cut::Rebuild { op: told.op, locks }, since))
            }
        }
    }

    fn batch(&self, now: Time, changes: Vec<MirrorOp>) -> MirrorBatch {
        let mut told = lock(&self.told);
        let told = &mut *told;
        let changes = coalesce(changes, &mut told.mirrored, &mut told.seen);
        let previous = told.op;
        told.op += u64::from(!changes.is_empty());
        MirrorBatch { option: self.option, epoch: self.epoch, previous, op: told.op, now, changes }
    }

    /// A batch has arrived or failed.
    pub(super) fn sent(&self) {
        lock(&self.log).sending = false;
    }

    /// Whether the mirror has everything that was noted, or never will.
    pub(super) fn is_settled(&self) -> bool {
        let log = lock(&self.log);
        let nothing_noted = match &log.work {
            Work::Changes(changes) => changes.is_empty(),
            Work::Rebuild(..) => false,
            Work::Asked => true,
        };
        log.closed || (nothing_noted && !log.sending && !log.rebuilding)
    }

    /// A rebuild has arrived or failed: changes may be sent again.
    pub(super) fn rebuilt(self: &Arc<Self>) {
        let mut log = lock(&self.log);
        log.rebuilding = false;
        match &log.work {
            Work::Changes(changes) if changes.is_empty() => {}
            Work::Changes(_) | Work::Rebuild(..) => self.queue(&mut log),
            Work::Asked => {}
        }
    }

    /// Whether all is well; otherwise what to do about it is under way.
    pub(super) fn accept(&self, answer: MirrorAnswer) -> bool {
        match answer {
            MirrorAnswer::Applied => return true,
            MirrorAnswer::Gap => self.ask_rebuild(),
            MirrorAnswer::Fenced => {
                self.close();
                (self.shard)(Call::Fenced(self.option));
            }
        }
        false
    }
}
