//! The Merkle tree over the entrants (RFC 9162, 2.1).

use super::{Digest, Sha256};

/// Before what is hashed into a leaf.
pub(super) const LEAF: u8 = 0;
/// Before the two digests that are hashed into a node.
const NODE: u8 = 1;

/// All digests, level by level, the leaves first. The last of an odd level is its own parent, which gives the same
/// root as the RFC's split at the largest power of two.
#[derive(Clone, Debug)]
pub struct Tree {
    levels: Vec<Vec<Digest>>,
    empty: Digest,
}

impl Tree {
    /// Over leaves in their order. 64 bytes for each, until it is dropped.
    #[must_use]
    pub fn new(sha256: Sha256, leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let parent = |pair: &[Digest]| match pair {
                [left, right] => node(sha256, left, right),
                _ => pair[0],
            };
            let above = level.chunks(2).map(parent).collect();
            levels.push(above);
        }
        Self { levels, empty: sha256(&[]) }
    }

    /// What is published.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or(self.empty)
    }

    /// The digests that lead from the leaf with this index to the root; `None` when there is no such leaf.
    #[must_use]
    pub fn proof(&self, index: usize) -> Option<Vec<Digest>> {
        if index >= self.levels[0].len() {
            return None;
        }
        let beside = |(depth, level): (usize, &Vec<Digest>)| level.get((index >> depth) ^ 1).copied();
        Some(self.levels.iter().enumerate().filter_map(beside).collect())
    }
}

/// Whether `leaf` is the one with this index among `size` leaves under `root` (RFC 9162, 2.1.3.2).
#[must_use]
pub fn is_included(
    sha256: Sha256,
    root: &Digest,
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut digest) = (index, size - 1, *leaf);
    for beside in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            digest = node(sha256, beside, &digest);
            // A node without a brother is its own parent, however often.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            digest = node(sha256, &digest, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && digest == *root
}

fn node(sha256: Sha256, left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[NODE], left, right])
}
