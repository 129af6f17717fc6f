//! What the ledger has granted to this process, and on which timeline. A fail-over may have lost the grant,
//! and whoever acquires next must not get an epoch that was in use.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::{Epoch, ShardId};

/// How far an epoch jumps behind a fail-over: over all that the lost end of the old timeline may have seen.
const JUMP: u64 = 1_000;

#[derive(Default)]
pub(super) struct Grants {
    last: Mutex<HashMap<ShardId, Grant>>,
}

#[derive(Clone, Copy)]
struct Grant {
    epoch: Epoch,
    /// Of the connector.
    generation: u64,
}

/// How to acquire a shard: the new epoch is the greater of the row's and `floor`, plus `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub floor: Epoch,
    pub step: u64,
    /// The row may be our own, of before a fail-over.
    pub mine: bool,
}

impl Grants {
    pub(super) fn granted(&self, shard: ShardId, epoch: Epoch, generation: u64) {
        self.lock().insert(shard, Grant { epoch, generation });
    }

    /// Whether an epoch of this process ended with an older timeline.
    pub(super) fn is_over(&self, shard: ShardId, epoch: Epoch, generation: u64) -> bool {
        self.lock().get(&shard).is_some_and(|last| last.generation < generation && epoch <= last.epoch)
    }

    pub(super) fn ask(&self, shard: ShardId, generation: u64) -> Ask {
        match self.lock().get(&shard) {
            Some(last) if last.generation < generation => Ask { floor: last.epoch, step: JUMP, mine: true },
            Some(last) => Ask { floor: last.epoch, step: 1, mine: false },
            None => Ask { floor: Epoch(0), step: 1, mine: false },
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, Grant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
