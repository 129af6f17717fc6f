//! The mirror of a single process: it survives a shard's actor, not the process.

use std::collections::HashMap;

use actors::ports::{Mirror, MirrorAnswer, MirrorBatch, MirrorError};
use async_trait::async_trait;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use engine::{Epoch, MirrorOp, OptionId, SeatNo, SoftLock, Time};

/// Soft locks by option, each copy standing at its own (epoch, op).
#[derive(Debug, Default)]
pub struct LocalMirror {
    copies: DashMap<OptionId, OptionCopy>,
}

#[derive(Debug)]
struct OptionCopy {
    epoch: Epoch,
    op: u64,
    /// Those that run out are unlocked by their shard. A shard that died unlocks nothing, but its
    /// successor reads only what has not run out, and rebuilds the copy.
    locks: HashMap<SeatNo, SoftLock>,
}

impl OptionCopy {
    fn at(epoch: Epoch, op: u64) -> Self {
        Self { epoch, op, locks: HashMap::new() }
    }
}

impl LocalMirror {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Mirror for LocalMirror {
    async fn apply(&self, option: OptionId, batch: &MirrorBatch) -> Result<MirrorAnswer, MirrorError> {
        let Some(mut copy) = self.copies.get_mut(&option) else {
            return Ok(MirrorAnswer::Gap);
        };
        if copy.epoch > batch.epoch {
            return Ok(MirrorAnswer::Fenced);
        }
        if copy.epoch == batch.epoch && copy.op >= batch.op {
            return Ok(MirrorAnswer::Applied);
        }
        if (copy.epoch, copy.op) != (batch.epoch, batch.previous) {
            return Ok(MirrorAnswer::Gap);
        }
        copy.op = batch.op;
        for change in &batch.changes {
            match change {
                MirrorOp::Lock(lock) => copy.locks.insert(lock.seat, *lock),
                MirrorOp::Unlock { seat, .. } => copy.locks.remove(seat),
            };
        }
        Ok(MirrorAnswer::Applied)
    }

    async fn rebuild(
        &self,
        option: OptionId,
        epoch: Epoch,
        op: u64,
        locks: &[SoftLock],
    ) -> Result<MirrorAnswer, MirrorError> {
        let mut fresh = OptionCopy::at(epoch, op);
        fresh.locks = locks.iter().map(|lock| (lock.seat, *lock)).collect();
        match self.copies.entry(option) {
            Entry::Vacant(vacant) => {
                vacant.insert(fresh);
            }
            Entry::Occupied(mut there) => {
                if there.get().epoch > epoch {
                    return Ok(MirrorAnswer::Fenced);
                }
                // A rebuild that was overtaken by later changes is late, not wrong: nothing to do.
                if (there.get().epoch, there.get().op) <= (epoch, op) {
                    there.insert(fresh);
                }
            }
        }
        Ok(MirrorAnswer::Applied)
    }

    async fn take_over(
        &self,
        option: OptionId,
        epoch: Epoch,
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError> {
        // Only a rebuild may create a copy: an option that nobody mirrored has nothing to fence.
        let Some(mut copy) = self.copies.get_mut(&option) else {
            return Ok(Vec::new());
        };
        if copy.epoch > epoch {
            return Err(MirrorError(format!("option {option} belongs to epoch {} by now", copy.epoch)));
        }
        if copy.epoch < epoch {
            copy.epoch = epoch;
            copy.op = 0;
        }
        Ok(copy.locks.values().filter(|lock| lock.expires_at > now).copied().collect())
    }
}

#[cfg(test)]
#[path = "local/tests.rs"]
mod tests;
