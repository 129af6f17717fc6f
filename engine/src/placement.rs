//! Which node should own which shard.
//!
//! Every node computes this for itself from what the ledger says, and every node gets the same answer,
//! so nobody has to lead. The answer is a *wish*: who owns a shard is decided by its lease row alone, and
//! two nodes that for a moment see different clusters at worst wish for different moves.
//!
//! **Where a shard would go if it were nowhere** is rendezvous hashing (Thaler and Ravishankar: "Using
//! name-based mappings to increase hit rates", 1998): each pair of a shard and a node *name* has a weight,
//! and the heaviest node wins. Names outlive restarts, so a node that comes back is wished the shards it
//! had. Hashing alone is uneven for so few shards, hence a bound on each node's load (Mirrokni, Thorup,
//! Zadimoghaddam: "Consistent hashing with bounded loads", 2016), as tight as it can be: every node gets
//! the even share, rounded down or up.
//!
//! **A shard that has an owner stays, unless its owner has more than its share.** The hash does not move
//! it. A move parks a sale for some milliseconds, and the bound makes hashes cascade: one node more would
//! shift shards between nodes that were there before. What balance needs is only that surplus goes where
//! there is room, which is the fewest moves there can be: when a node joins n others, at most
//! ceil(shards / (n + 1)). The price is that the assignment depends on history. Nothing depends on it
//! back, because routes are learned from leases and never computed; and it is at rest once it is even:
//! the wish for a balanced cluster is the cluster as it is.

use crate::ids::ShardId;
use crate::index::mix;

/// A shard that should change hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub shard: ShardId,
    /// The name of the node that owns it.
    pub from: String,
    /// The name of the node that should.
    pub to: String,
}

/// Where each shard belongs, given where it is: indices into `nodes`. Every node gets the even share,
/// rounded down or up, and as few shards as possible change hands. Empty without nodes.
fn assign(owners: &[Option<&str>], nodes: &[&str]) -> Vec<usize> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let mut shares = Shares::new(owners.len(), nodes);
    let mut places: Vec<Option<usize>> = owners
        .iter()
        .map(|owner| owner.and_then(|owner| nodes.iter().position(|node| *node == owner)))
        .collect();
    for node in shares.fullest_first(&places) {
        let mut held: Vec<usize> = (0..places.len()).filter(|shard| places[*shard] == Some(node)).collect();
        // It keeps those that it would also be wished first.
        held.sort_by_key(|shard| (std::cmp::Reverse(weight(*shard, nodes[node])), *shard));
        for shard in held {
            if !shares.take(node) {
                places[shard] = None;
            }
        }
    }
    let homeless = (0..places.len()).filter(|shard| places[*shard].is_none());
    let mut pairs: Vec<(u64, usize, usize)> = homeless
        .flat_map(|shard| (0..nodes.len()).map(move |node| (weight(shard, nodes[node]), shard, node)))
        .collect();
    // Equal weights by name, since an index means something else on another node.
    pairs.sort_by(|a, b| (b.0, a.1, nodes[a.2]).cmp(&(a.0, b.1, nodes[b.2])));
    for (_, shard, node) in pairs {
        if places[shard].is_none() && shares.take(node) {
            places[shard] = Some(node);
        }
    }
    places.into_iter().flatten().collect()
}

/// The shards that should change hands, by shard: those whose owner has more than its share, or is draining.
///
/// `owners[i]` is the name of the node with a live lease on shard i, and `nodes` are those that may own
/// shards. An owner that is not among them is draining: all its shards belong elsewhere.
#[must_use]
pub fn plan(owners: &[Option<&str>], nodes: &[&str]) -> Vec<Move> {
    let wished = (0..).zip(owners).zip(assign(owners, nodes));
    wished
        .filter_map(|((shard, owner), place)| {
            let (from, to) = ((*owner)?, nodes[place]);
            (from != to).then(|| Move { shard: ShardId(shard), from: from.to_owned(), to: to.to_owned() })
        })
        .collect()
}

/// The shards without an owner that `node` should take. The arguments are those of [`plan`].
#[must_use]
pub fn adopt(owners: &[Option<&str>], nodes: &[&str], node: &str) -> Vec<ShardId> {
    let wished = (0..).zip(owners).zip(assign(owners, nodes));
    wished
        .filter(|((_, owner), place)| owner.is_none() && nodes[*place] == node)
        .map(|((shard, _), _)| ShardId(shard))
        .collect()
}

/// How many shards each node may still take.
struct Shares<'a> {
    nodes: &'a [&'a str],
    /// The even share, rounded down.
    even: usize,
    /// How many nodes may have one more than that.
    extras: usize,
    loads: Vec<usize>,
}

impl<'a> Shares<'a> {
    fn new(shards: usize, nodes: &'a [&'a str]) -> Self {
        let (even, extras) = (shards / nodes.len(), shards % nodes.len());
        Self { nodes, even, extras, loads: vec![0; nodes.len()] }
    }

    /// Nodes that have more than the even share are first to get one more than that: it saves a move.
    fn fullest_first(&self, places: &[Option<usize>]) -> Vec<usize> {
        let held = |node: usize| places.iter().filter(|place| **place == Some(node)).count();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|node| (std::cmp::Reverse(held(*node)), self.nodes[*node]));
        order
    }

    /// One shard more for the node, if there is room.
    fn take(&mut self, node: usize) -> bool {
        let load = &mut self.loads[node];
        let takes_extra = *load == self.even && self.extras > 0;
        let takes = *load < self.even || takes_extra;
        self.extras -= usize::from(takes_extra);
        *load += usize::from(takes);
        takes
    }
}

/// How much a node is wished for a shard. Part of the protocol between nodes: never change.
///
/// FNV-1a (Fowler, Noll, Vo) over the name, then spread together with the shard: FNV alone leaves the
/// high bits of names that differ in their last letter nearly equal.
fn weight(shard: usize, node: &str) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let name = node.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    mix(mix(name) ^ shard as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 8] = ["a", "b", "c", "node-1", "node-2", "node-3", "berlin", "seoul"];

    /// Where each shard belongs when nobody owns any.
    fn place(shards: u16, nodes: &[&str]) -> Vec<usize> {
        assign(&vec![None; shards.into()], nodes)
    }

    fn loads(places: &[usize], nodes: usize) -> Vec<usize> {
        (0..nodes).map(|node| places.iter().filter(|place| **place == node).count()).collect()
    }

    fn moved(before: &[Option<&str>], after: &[usize], nodes: &[&str]) -> usize {
        before.iter().zip(after).filter(|(owner, place)| owner.is_some_and(|o| o != nodes[**place])).count()
    }

    /// What every cluster's nodes agree on: a change here is a change of protocol.
    #[test]
    fn the_wish_is_pinned() {
        assert_eq!(place(12, &["a", "b", "c"]), [1, 2, 1, 2, 1, 0, 0, 1, 0, 2, 2, 0]);
        assert_eq!(place(3, &[]), []);
        assert_eq!(place(2, &["a"]), [0, 0]);
    }

    #[test]
    fn a_node_that_joins_gets_its_share_and_nobody_else_gets_anything() {
        let three = ["a", "b", "c"];
        let before: Vec<Option<&str>> = place(64, &three).into_iter().map(|at| Some(three[at])).collect();
        let moves = plan(&before, &["a", "b", "c", "d"]);
        assert_eq!(moves.len(), 16);
        assert!(moves.iter().all(|m| m.to == "d"), "{moves:?}");
    }

    #[test]
    fn a_node_that_drains_gives_everything_and_nobody_else_gives_anything() {
        let owners = [Some("a"), Some("b"), Some("c"), Some("a"), None, Some("b")];
        let moves = plan(&owners, &["a", "b"]);
        assert_eq!(moves.iter().map(|m| (m.shard.0, m.from.as_str())).collect::<Vec<_>>(), [(2, "c")]);
        let adopted = [adopt(&owners, &["a", "b"], "a"), adopt(&owners, &["a", "b"], "b")].concat();
        assert_eq!(adopted, [ShardId(4)]);
        assert_eq!(plan(&owners, &[]), []);
    }

    #[test]
    fn a_balanced_cluster_is_at_rest_whatever_the_hash_says() {
        assert_eq!(plan(&[Some("b"), Some("b"), Some("a"), Some("a"), Some("a")], &["a", "b"]), []);
    }

    proptest! {
        #[test]
        fn every_assignment_is_even_complete_and_the_same_everywhere(
            owners in proptest::collection::vec(proptest::option::of(0..NAMES.len()), 0..80),
            nodes in proptest::sample::subsequence(NAMES.to_vec(), 1..=NAMES.len()).prop_shuffle(),
        ) {
            let owners: Vec<Option<&str>> = owners.into_iter().map(|o| o.map(|o| NAMES[o])).collect();
            let places = assign(&owners, &nodes);
            prop_assert_eq!(places.len(), owners.len());
            let loads = loads(&places, nodes.len());
            let (low, high) = (owners.len() / nodes.len(), owners.len().div_ceil(nodes.len()));
            prop_assert!(loads.iter().all(|load| (low..=high).contains(load)), "{:?}", loads);

            let mut sorted = nodes.clone();
            sorted.sort_unstable();
            let names = |nodes: &[&'static str], places: &[usize]| -> Vec<&'static str> {
                places.iter().map(|place| nodes[*place]).collect()
            };
            let again = assign(&owners, &sorted);
            prop_assert_eq!(names(&nodes, &places), names(&sorted, &again));

            // At rest: once everybody has what is wished, nothing is wished.
            let after: Vec<Option<&str>> = places.iter().map(|place| Some(nodes[*place])).collect();
            prop_assert_eq!(plan(&after, &nodes), []);

            // Surplus and drained shards move, and not one more.
            let held = |node: &str| owners.iter().filter(|owner| **owner == Some(node)).count();
            let mut held: Vec<usize> = nodes.iter().map(|node| held(node)).collect();
            held.sort_unstable_by_key(|held| std::cmp::Reverse(*held));
            let extras = owners.len() % nodes.len();
            let share = |index: usize| low + usize::from(index < extras);
            let kept: usize = held.iter().enumerate().map(|(index, held)| (*held).min(share(index))).sum();
            prop_assert_eq!(moved(&owners, &places, &nodes), owners.iter().flatten().count() - kept);
        }

        #[test]
        fn a_node_that_joins_moves_no_more_than_its_share(
            shards in 1u16..200,
            nodes in proptest::sample::subsequence(NAMES.to_vec(), 2..=NAMES.len()).prop_shuffle(),
        ) {
            let old = &nodes[1..];
            let before: Vec<Option<&str>> =
                place(shards, old).into_iter().map(|place| Some(old[place])).collect();
            let moves = plan(&before, &nodes);
            prop_assert!(moves.len() <= usize::from(shards).div_ceil(nodes.len()));
            prop_assert!(moves.iter().all(|m| m.to == nodes[0]));
        }
    }
}
