//! What a node knows of who owns each shard.
//!
//! These are hints. They come from anywhere (the ledger, a peer's broadcast, a `NotOwner` in an answer)
//! and in any order; what orders them is the epoch, which only the ledger increments. A wrong hint costs a
//! hop, never a seat: whoever is asked looks at its own lease.

use std::collections::BTreeMap;
use std::fmt;

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
    /// `None` when the owner of this epoch gave the shard back.
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

/// Two owners in one epoch: somebody has a bug, since the ledger counts a new epoch for each owner.
/// The route is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoOwners<O> {
    pub shard: ShardId,
    pub epoch: Epoch,
    pub known: O,
    pub claimed: O,
}

impl<O: fmt::Debug> fmt::Display for TwoOwners<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, epoch, known, claimed } = self;
        write!(f, "shard {shard} has two owners in epoch {epoch}: {known:?} and {claimed:?}")
    }
}

impl<O: fmt::Debug> std::error::Error for TwoOwners<O> {}

impl<O> Default for Routes<O> {
    fn default() -> Self {
        Self { shards: BTreeMap::new() }
    }
}

impl<O: Clone + Eq> Routes<O> {
    /// `owner` has, or had, the shard in `epoch`.
    ///
    /// # Errors
    /// Somebody else is known to have it in the same epoch.
    pub fn learn(&mut self, shard: ShardId, epoch: Epoch, owner: O) -> Result<Learned, TwoOwners<O>> {
        if let Some(hint) = self.shards.get(&shard).filter(|hint| hint.epoch >= epoch) {
            return match &hint.owner {
                Some(known) if hint.epoch == epoch && *known != owner => {
                    Err(TwoOwners { shard, epoch, known: known.clone(), claimed: owner })
                }
                Some(_) if hint.epoch == epoch => Ok(Learned::Known),
                _ => Ok(Learned::Stale),
            };
        }
        self.shards.insert(shard, Hint { epoch, owner: Some(owner) });
        Ok(Learned::News)
    }

    /// The owner of `epoch` has the shard no more, and nobody is known to have it since.
    pub fn released(&mut self, shard: ShardId, epoch: Epoch) -> Learned {
        match self.shards.get(&shard) {
            Some(hint) if hint.epoch > epoch => Learned::Stale,
            Some(hint) if hint.epoch == epoch && hint.owner.is_none() => Learned::Known,
            _ => {
                self.shards.insert(shard, Hint { epoch, owner: None });
                Learned::News
            }
        }
    }

    /// Whom to ask about the shard, and the epoch in which it was the owner.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> Option<(Epoch, &O)> {
        let hint = self.shards.get(&shard)?;
        Some((hint.epoch, hint.owner.as_ref()?))
    }

    /// Every shard whose owner is known.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, Epoch, &O)> + '_ {
        let known = self.shards.iter();
        known.filter_map(|(shard, hint)| Some((*shard, hint.epoch, hint.owner.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: ShardId = ShardId(3);

    #[test]
    fn the_newest_epoch_wins_whatever_comes_when() {
        let mut routes = Routes::default();
        assert_eq!(routes.owner(S), None);
        assert_eq!(routes.learn(S, Epoch(4), "a"), Ok(Learned::News));
        assert_eq!(routes.learn(S, Epoch(4), "a"), Ok(Learned::Known));
        assert_eq!(routes.learn(S, Epoch(6), "b"), Ok(Learned::News));
        assert_eq!(routes.learn(S, Epoch(5), "c"), Ok(Learned::Stale));
        assert_eq!(routes.learn(S, Epoch(4), "d"), Ok(Learned::Stale), "too old to be a contradiction");
        assert_eq!(routes.owner(S), Some((Epoch(6), &"b")));
        assert_eq!(routes.iter().collect::<Vec<_>>(), [(S, Epoch(6), &"b")]);
        assert_eq!(routes.owner(ShardId(4)), None);
    }

    #[test]
    fn what_was_given_back_is_not_revived_by_a_late_hint() {
        let mut routes = Routes::default();
        assert_eq!(routes.learn(S, Epoch(4), "a"), Ok(Learned::News));
        assert_eq!(routes.released(S, Epoch(3)), Learned::Stale);
        assert_eq!(routes.owner(S), Some((Epoch(4), &"a")));
        assert_eq!(routes.released(S, Epoch(4)), Learned::News);
        assert_eq!(routes.released(S, Epoch(4)), Learned::Known);
        assert_eq!(routes.learn(S, Epoch(4), "a"), Ok(Learned::Stale));
        assert_eq!(routes.owner(S), None);
        assert_eq!(routes.iter().count(), 0);
        assert_eq!(routes.learn(S, Epoch(5), "b"), Ok(Learned::News));
        // News of an end that comes before the news of its beginning.
        assert_eq!(routes.released(S, Epoch(8)), Learned::News);
        assert_eq!(routes.learn(S, Epoch(8), "c"), Ok(Learned::Stale));
    }

    #[test]
    fn two_owners_in_one_epoch_are_a_bug() {
        let mut routes = Routes::default();
        assert_eq!(routes.learn(S, Epoch(4), "a"), Ok(Learned::News));
        let bug = routes.learn(S, Epoch(4), "b").unwrap_err();
        assert_eq!(bug, TwoOwners { shard: S, epoch: Epoch(4), known: "a", claimed: "b" });
        assert_eq!(bug.to_string(), r#"shard 3 has two owners in epoch 4: "a" and "b""#);
        assert_eq!(routes.owner(S), Some((Epoch(4), &"a")));
    }
}
