//! The mirror of a single process: it survives a shard's actor, not the process. Only the copies of gates may be in files
//! as well, and survive both.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use actors::ports::{Mirror, MirrorAnswer, MirrorBatch, MirrorError};
use async_trait::async_trait;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use engine::{Epoch, MirrorOp, OptionId, SeatNo, SoftLock, Time};

mod gate;
mod log;
mod pen;

/// Soft locks by option and gates by concert, each copy standing at its own (epoch, op).
#[derive(Debug, Default)]
pub struct LocalMirror {
    copies: DashMap<OptionId, OptionCopy>,
    gates: gate::Gates,
    /// Keeps other processes off the directory.
    _lock: Option<File>,
}

type Locks = HashMap<SeatNo, SoftLock, BuildHasherDefault<SeatHasher>>;

#[derive(Debug)]
struct OptionCopy {
    epoch: Epoch,
    op: u64,
    /// Those that run out are unlocked by their shard. A shard that died unlocks nothing, but its
    /// successor reads only what has not run out, and rebuilds the copy.
    locks: Locks,
}

impl OptionCopy {
    fn at(epoch: Epoch, op: u64) -> Self {
        Self { epoch, op, locks: Locks::default() }
    }
}

/// What a batch of that epoch, from `previous` to `op`, comes to without being looked at, where a copy stands at
/// `at`; `None`: it is the next one.
fn known(at: (Epoch, u64), epoch: Epoch, previous: u64, op: u64) -> Option<MirrorAnswer> {
    if at.0 > epoch {
        Some(MirrorAnswer::Fenced)
    } else if at.0 == epoch && at.1 >= op {
        Some(MirrorAnswer::Applied)
    } else {
        (at != (epoch, previous)).then_some(MirrorAnswer::Gap)
    }
}

impl LocalMirror {
    /// In memory only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a file `<concertId>.log` for each gate in this directory, which is made when it is needed. No other process may
    /// use it.
    #[must_use]
    pub fn in_dir(dir: PathBuf) -> Self {
        Self { gates: gate::Gates::in_dir(dir), ..Self::default() }
    }

    /// Keeps a lock on its directory for as long as it lives.
    #[must_use]
    pub fn locked(self, lock: File) -> Self {
        Self { _lock: Some(lock), ..self }
    }

    fn apply_one(&self, batch: &MirrorBatch) -> MirrorAnswer {
        let Some(mut copy) = self.copies.get_mut(&batch.option) else {
            return MirrorAnswer::Gap;
        };
        if let Some(answer) = known((copy.epoch, copy.op), batch.epoch, batch.previous, batch.op) {
            return answer;
        }
        copy.op = batch.op;
        for change in &batch.changes {
            match change {
                MirrorOp::Lock(lock) => copy.locks.insert(lock.seat, *lock),
                MirrorOp::Unlock { seat, .. } => copy.locks.remove(seat),
            };
        }
        MirrorAnswer::Applied
    }
}

/// Spreads seat numbers, which are dense and nobody's choice.
#[derive(Debug, Default)]
struct SeatHasher(u64);

impl Hasher for SeatHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, seat: u32) {
        let mixed = (self.0 ^ u64::from(seat)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[async_trait]
impl Mirror for LocalMirror {
    async fn ping(&self) -> Result<(), MirrorError> {
        Ok(())
    }

    async fn apply(&self, batches: &[MirrorBatch]) -> Vec<Result<MirrorAnswer, MirrorError>> {
        batches.iter().map(|batch| Ok(self.apply_one(batch))).collect()
    }

    async fn rebuild(
        &self,
        option: OptionId,
        epoch: Epoch,
        op: u64,
        _: Time,
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
                // A rebuild that is there already, or was overtaken, is late and not wrong: nothing to do.
                if (there.get().epoch, there.get().op) < (epoch, op) {
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

    /// A batch costs more than a change, and what waits in the log survives the shard's actor as the copy does.
    fn spacing(&self) -> Duration {
        Duration::from_millis(1)
    }
}
