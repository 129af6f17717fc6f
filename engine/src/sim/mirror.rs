//! A fake mirror: the soft locks of each option, and how far its owner has told it.

use std::collections::BTreeMap;

use crate::effect::MirrorOp;
use crate::entry::SoftLock;
use crate::ids::{Epoch, OptionId, SeatNo};
use crate::time::Time;

/// What the owner sends. Batches and rebuilds may arrive late, twice or never, in any order.
#[derive(Clone, Debug)]
pub struct Message {
    pub epoch: Epoch,
    pub option: OptionId,
    /// Where the mirror stands after this.
    pub op: u64,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    /// Applied only where the mirror stands at exactly `previous`.
    Changes {
        previous: u64,
        changes: Vec<MirrorOp>,
    },
    Rebuild(Vec<SoftLock>),
}

/// What the mirror says to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The mirror stands at the message's `op`, or beyond.
    Applied,
    Gap,
    Fenced,
}

#[derive(Default)]
struct Copy {
    epoch: Epoch,
    op: u64,
    locks: BTreeMap<SeatNo, SoftLock>,
}

/// The crash-recovery copy of the soft locks.
#[derive(Default)]
pub struct Mirror {
    options: BTreeMap<OptionId, Copy>,
    /// Epochs are raised even where there is no copy (yet).
    raised: Epoch,
}

impl Mirror {
    pub fn apply(&mut self, message: &Message) -> Answer {
        if message.epoch < self.raised {
            return Answer::Fenced;
        }
        match &message.body {
            Body::Rebuild(locks) => {
                let copy = self.options.entry(message.option).or_default();
                if (copy.epoch, copy.op) < (message.epoch, message.op) {
                    let locks = locks.iter().map(|lock| (lock.seat, *lock)).collect();
                    *copy = Copy { epoch: message.epoch, op: message.op, locks };
                }
            }
            Body::Changes { previous, changes } => {
                let Some(copy) = self.options.get_mut(&message.option) else { return Answer::Gap };
                if copy.epoch != message.epoch || copy.op < *previous {
                    return Answer::Gap;
                }
                if copy.op > *previous {
                    return if copy.op >= message.op { Answer::Applied } else { Answer::Gap };
                }
                copy.op = message.op;
                for change in changes {
                    copy.change(change);
                }
            }
        }
        Answer::Applied
    }

    /// Fences lower epochs off, and reads what has not run out.
    pub fn take_over(&mut self, epoch: Epoch, now: Time) -> Vec<SoftLock> {
        self.raised = self.raised.max(epoch);
        self.live(now)
    }

    /// The soft locks that have not run out, by option and seat.
    #[must_use]
    pub fn live(&self, now: Time) -> Vec<SoftLock> {
        let locks = self.options.values().flat_map(|copy| copy.locks.values());
        locks.filter(|lock| lock.expires_at > now).copied().collect()
    }

    /// Everything is lost, as when Redis restarts empty.
    pub fn crash(&mut self) {
        self.options.clear();
    }
}

impl Copy {
    fn change(&mut self, change: &MirrorOp) {
        match change {
            MirrorOp::Lock(lock) => self.locks.insert(lock.seat, *lock),
            MirrorOp::Unlock { seat, .. } => self.locks.remove(seat),
        };
    }
}
