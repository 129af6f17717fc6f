//! The gates that are here, for whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use engine::{ConcertId, Epoch, ShardId};
use ractor::ActorRef;
use tokio::sync::watch;

use super::actor::{Asked, Message};
use crate::inbox::Inbox;
use crate::permits::Pool;

#[derive(Default)]
pub(super) struct Here {
    known: RwLock<Known>,
    /// Changes when a gate begins to serve.
    opened: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    gates: BTreeMap<ConcertId, Arc<Entry>>,
    /// The shards whose gates are all here, in which epoch: a concert without one has none.
    whole: BTreeMap<ShardId, Epoch>,
}

/// The way into one.
pub(super) struct Entry {
    pub epoch: Epoch,
    pub actor: ActorRef<Message>,
    pub inbox: Arc<Inbox<Asked>>,
    pub room: Arc<Pool>,
}

/// What there is of a concert's gate.
pub(super) enum Found {
    Gate(Arc<Entry>),
    /// It is off, or nobody ever set it.
    None,
    /// Nobody knows: the gates of the shard are being restored.
    NotYet,
}

impl Here {
    pub fn find(&self, shard: ShardId, epoch: Epoch, concert: ConcertId) -> Found {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.gates.get(&concert).filter(|entry| entry.epoch == epoch) {
            Some(entry) => Found::Gate(entry.clone()),
            None if known.whole.get(&shard) == Some(&epoch) => Found::None,
            None => Found::NotYet,
        }
    }

    /// Whatever epoch it serves in.
    pub fn any(&self, concert: ConcertId) -> Option<Arc<Entry>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).gates.get(&concert).cloned()
    }

    pub fn opened(&self) -> watch::Receiver<u64> {
        self.opened.subscribe()
    }

    pub fn open(&self, concert: ConcertId, entry: Entry) {
        self.change(|known| known.gates.insert(concert, Arc::new(entry)));
        self.opened.send_modify(|opened| *opened += 1);
    }

    pub fn close(&self, concert: ConcertId, epoch: Epoch) {
        self.change(|known| {
            if known.gates.get(&concert).is_some_and(|entry| entry.epoch == epoch) {
                known.gates.remove(&concert);
            }
        });
    }

    pub fn set_whole(&self, shard: ShardId, epoch: Option<Epoch>) {
        self.change(|known| match epoch {
            Some(epoch) => known.whole.insert(shard, epoch),
            None => known.whole.remove(&shard),
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}
