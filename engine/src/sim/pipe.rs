//! The world's way to the mirror: batches per option, pipelined, reordered, lost and doubled; whatever
//! goes wrong ends in a rebuild from memory.

use std::collections::BTreeMap;

use super::mirror::{Body, Message};
use super::options::Faults;
use super::prng::Prng;
use crate::effect::MirrorOp;
use crate::ids::{Epoch, OptionId};
use crate::shard::Shard;

/// What is on its way to the mirror, or back.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// `counted`: the owner learns what became of it.
    Arrives { message: Message, counted: bool },
    /// The owner notices that nothing came back.
    Missed { epoch: Epoch, option: OptionId },
}

/// Parcels with the pause before each arrives.
pub type Sent = Vec<(i64, Parcel)>;

/// The owner's side.
pub struct Pipe {
    pub epoch: Epoch,
    queue: Vec<MirrorOp>,
    /// The newest op number of each option.
    ops: BTreeMap<OptionId, u64>,
    /// Parcels whose fate the owner does not know yet.
    outstanding: usize,
}

impl Pipe {
    #[must_use]
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, queue: Vec::new(), ops: BTreeMap::new(), outstanding: 0 }
    }

    /// Whether the mirror has everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.outstanding == 0
    }

    /// Queues a change; `true` when a flush is due, because it is the first.
    pub fn push(&mut self, op: MirrorOp) -> bool {
        self.queue.push(op);
        self.queue.len() == 1
    }

    /// Sends what is queued, one batch per option.
    pub fn flush(&mut self, prng: &mut Prng, faults: &Faults, sent: &mut Sent) {
        let mut batches: BTreeMap<OptionId, Vec<MirrorOp>> = BTreeMap::new();
        for change in self.queue.drain(..) {
            batches.entry(option_of(&change)).or_default().push(change);
        }
        for (option, changes) in batches {
            let op = self.ops.entry(option).or_default();
            let previous = *op;
            *op += 1;
            let body = Body::Changes { previous, changes };
            self.send(Message { epoch: self.epoch, option, op: previous + 1, body }, prng, faults, sent);
        }
    }

    /// Sends an option's soft locks as they are; queued changes are among them.
    pub fn rebuild(
        &mut self,
        shard: &Shard,
        option: OptionId,
        prng: &mut Prng,
        faults: &Faults,
        sent: &mut Sent,
    ) {
        self.queue.retain(|change| option_of(change) != option);
        let op = self.ops.entry(option).or_default();
        *op += 1;
        let body = Body::Rebuild(shard.soft_locks(option).collect());
        let message = Message { epoch: self.epoch, option, op: *op, body };
        self.send(message, prng, faults, sent);
    }

    fn send(&mut self, message: Message, prng: &mut Prng, faults: &Faults, sent: &mut Sent) {
        self.outstanding += 1;
        let latency = |prng: &mut Prng| prng.between(0, faults.mirror_latency);
        if prng.chance(faults.mirror_doubled) {
            sent.push((10 * latency(prng), Parcel::Arrives { message: message.clone(), counted: false }));
        }
        if prng.chance(faults.mirror_lost) {
            let missed = Parcel::Missed { epoch: self.epoch, option: message.option };
            if prng.chance(500) {
                sent.push((latency(prng), Parcel::Arrives { message, counted: false }));
            }
            sent.push((latency(prng) + 1_000_000, missed));
        } else {
            sent.push((latency(prng), Parcel::Arrives { message, counted: true }));
        }
    }

    /// The owner knows what became of a parcel.
    pub fn settled(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// An idle option is checked every second: the owner will notice that the mirror is empty.
    pub fn check_later(&mut self, options: impl Iterator<Item = OptionId>, sent: &mut Sent) {
        for option in options {
            self.outstanding += 1;
            sent.push((1_000_000, Parcel::Missed { epoch: self.epoch, option }));
        }
    }
}

const fn option_of(change: &MirrorOp) -> OptionId {
    match change {
        MirrorOp::Lock(lock) => lock.option,
        MirrorOp::Unlock { option, .. } => *option,
    }
}
