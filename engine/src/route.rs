//! What a node knows of who owns each shard.
//!
//! It *hears* of owners from peers, who say what they serve or whom they gave a shard, and in the answers of
//! those who were asked in vain; that comes in any order, and what orders it is the epoch, which only the
//! ledger increments. And it *reads* the leases themselves, which alone say that one has ended, and that one
//! which had ended lives again: an owner that was late renews in the same epoch. Both are hints. A wrong one
//! costs a hop, never a seat: whoever is asked looks at its own lease.

use std::collections::BTreeMap;

use crate::ids::{Epoch, ShardId};

/// Who owns each shard, as far as is known. `O` is how a node is addressed.
#[derive(Clone, Debug)]
pub struct Routes<O> {
    shards: BTreeMap<ShardId, Hint<O>>,
}

/// The newest that is known of one shard.
#[derive(Clone, Debug)]
struct Hint<O> {
    epoch: Epoch,
    /// `None` once the lease of this epoch has ended.
    owner: Option<O>,
}

/// What a hint was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The route is another now.
    News,
    Known,
    /// Something newer is known.
    Stale,
}

impl<O> Default for Routes<O> {
    fn default() -> Self {
        Self { shards: BTreeMap::new() }
    }
}

impl<O: Eq> Routes<O> {
    /// Somebody says that `owner` has, or had, the shard in `epoch`. What was read of that epoch knows better.
    pub fn heard(&mut self, shard: ShardId, epoch: Epoch, owner: O) -> Learned {
        match self.shards.get(&shard) {
            Some(known) if known.epoch == epoch && known.owner.as_ref() == Some(&owner) => Learned::Known,
            Some(known) if known.epoch >= epoch => Learned::Stale,
            _ => self.turn(shard, epoch, Some(owner)),
        }
    }

    /// The ledger says that `owner` has the shard in `epoch`, by a lease that has not run out. Readings come in
    /// the order in which they were made.
    pub fn read(&mut self, shard: ShardId, epoch: Epoch, owner: O) -> Learned {
        self.reads(shard, epoch, Some(owner))
    }

    /// The ledger says that the newest lease of the shard is that of `epoch`, and it has run out, or was given
    /// back; or its owner is known to be dead. Nobody is to be asked.
    pub fn ended(&mut self, shard: ShardId, epoch: Epoch) -> Learned {
        self.reads(shard, epoch, None)
    }

    /// Whom to ask about the shard, and the epoch in which it was the owner.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> Option<(Epoch, &O)> {
        let hint = self.shards.get(&shard)?;
        Some((hint.epoch, hint.owner.as_ref()?))
    }

    fn reads(&mut self, shard: ShardId, epoch: Epoch, owner: Option<O>) -> Learned {
        match self.shards.get(&shard) {
            Some(known) if known.epoch > epoch => Learned::Stale,
            Some(known) if known.epoch == epoch && known.owner == owner => Learned::Known,
            _ => self.turn(shard, epoch, owner),
        }
    }

    fn turn(&mut self, shard: ShardId, epoch: Epoch, owner: Option<O>) -> Learned {
        self.shards.insert(shard, Hint { epoch, owner });
        Learned::News
    }
}

#[cfg(test)]
mod tests {
    use super::Learned::{Known, News, Stale};
    use super::*;

    const S: ShardId = ShardId(3);

    #[test]
    fn the_newest_epoch_wins_whatever_is_heard_when() {
        let mut routes = Routes::default();
        assert_eq!(routes.owner(S), None);
        assert_eq!(routes.heard(S, Epoch(4), "a"), News);
        assert_eq!(routes.heard(S, Epoch(4), "a"), Known);
        assert_eq!(routes.read(S, Epoch(4), "a"), Known);
        assert_eq!(routes.heard(S, Epoch(6), "b"), News);
        assert_eq!(routes.heard(S, Epoch(5), "c"), Stale);
        assert_eq!(routes.read(S, Epoch(4), "a"), Stale, "a reading from before");
        assert_eq!(routes.owner(S), Some((Epoch(6), &"b")));
        assert_eq!(routes.owner(ShardId(4)), None);
    }

    #[test]
    fn a_lease_that_ended_is_revived_by_a_reading_and_by_nothing_heard() {
        let mut routes = Routes::default();
        assert_eq!(routes.read(S, Epoch(4), "a"), News);
        assert_eq!(routes.ended(S, Epoch(3)), Stale);
        assert_eq!(routes.owner(S), Some((Epoch(4), &"a")));
        assert_eq!(routes.ended(S, Epoch(4)), News);
        assert_eq!(routes.ended(S, Epoch(4)), Known);
        assert_eq!(routes.heard(S, Epoch(4), "a"), Stale, "said before it ended");
        assert_eq!(routes.owner(S), None);
        assert_eq!(routes.read(S, Epoch(4), "a"), News, "it was late, and has renewed");
        assert_eq!(routes.owner(S), Some((Epoch(4), &"a")));
        assert_eq!(routes.ended(S, Epoch(4)), News);
        assert_eq!(routes.heard(S, Epoch(5), "b"), News);
        // The end of one whose beginning was never heard of.
        assert_eq!(routes.ended(S, Epoch(8)), News);
        assert_eq!(routes.heard(S, Epoch(8), "c"), Stale);
    }

    /// The ledger gives an epoch to one owner; one that failed over may have forgotten the first.
    #[test]
    fn of_two_owners_in_one_epoch_the_ledgers_counts() {
        let mut routes = Routes::default();
        assert_eq!(routes.heard(S, Epoch(4), "a"), News);
        assert_eq!(routes.heard(S, Epoch(4), "b"), Stale);
        assert_eq!(routes.read(S, Epoch(4), "b"), News);
        assert_eq!(routes.owner(S), Some((Epoch(4), &"b")));
    }
}
