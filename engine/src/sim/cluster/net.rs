//! The wires: who reaches whom, and what becomes of a message.

use std::collections::BTreeMap;

use super::options::Faults;
use crate::sim::prng::{Prng, Stream};

/// One end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Node(usize),
    Ledger,
}

/// All wires.
pub struct Net {
    prng: Prng,
    /// Until when nothing gets from one end to the other.
    cut: BTreeMap<(End, End), i64>,
}

impl Net {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { prng: Prng::new(seed, Stream::Network), cut: BTreeMap::new() }
    }

    /// When copies of a message arrive, as pauses from now: none, one or two.
    pub fn fates(&mut self, from: End, to: End, now: i64, faults: &Faults) -> Vec<i64> {
        let is_cut = self.cut.get(&(from, to)).is_some_and(|until| now < *until);
        if is_cut || self.prng.chance(faults.lost) {
            return Vec::new();
        }
        let between_nodes = matches!((from, to), (End::Node(_), End::Node(_)));
        let count = 1 + usize::from(between_nodes && self.prng.chance(faults.doubled));
        (0..count).map(|_| self.takes(between_nodes, faults)).collect()
    }

    /// Of a stream: it arrives once, or the stream has broken.
    pub fn fate(&mut self, from: End, to: End, now: i64, faults: &Faults) -> Option<i64> {
        self.fates(from, to, now, &Faults { doubled: 0, ..*faults }).first().copied()
    }

    fn takes(&mut self, between_nodes: bool, faults: &Faults) -> i64 {
        let latency = if between_nodes { faults.latency } else { faults.ledger_latency };
        let takes = self.prng.between(0, latency);
        if self.prng.chance(faults.slow) { takes + self.prng.between(0, 12_000_000) } else { takes }
    }

    /// A link fails for a while, one way or both; or a node is cut off from everything.
    pub fn cut(&mut self, nodes: usize, now: i64) -> String {
        let until = now + self.prng.between(100_000, 15_000_000);
        let node = End::Node(self.index(nodes));
        if self.prng.chance(250) {
            for other in (0..nodes).map(End::Node).chain([End::Ledger]) {
                self.cut_one(node, other, until);
            }
            return format!("-- {node:?} is cut off until {until}");
        }
        let other = End::Node(self.index(nodes));
        let other = if other == node { End::Ledger } else { other };
        let ways = self.index(3);
        if ways != 1 {
            self.cut.insert((node, other), until);
        }
        if ways != 2 {
            self.cut.insert((other, node), until);
        }
        let ways = ["both ways", "back", "out"][ways];
        format!("-- {node:?} and {other:?} are cut, {ways}, until {until}")
    }

    /// Nothing passes between the two until then.
    pub fn cut_one(&mut self, one: End, other: End, until: i64) {
        for link in [(one, other), (other, one)] {
            let cut = self.cut.entry(link).or_insert(until);
            *cut = until.max(*cut);
        }
    }

    /// Nobody reaches the ledger; mostly all at the same time.
    pub fn outage(&mut self, nodes: usize, now: i64) -> i64 {
        let until = now + self.prng.between(1_000_000, 25_000_000);
        for node in 0..nodes {
            let ragged = if self.prng.chance(500) { self.prng.between(0, 2_000_000) } else { 0 };
            self.cut.insert((End::Node(node), End::Ledger), until - ragged);
            self.cut.insert((End::Ledger, End::Node(node)), until - ragged);
        }
        until
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.prng.below(count as u64)).unwrap_or(0)
    }
}
