//! The shell's part in a draw, with a hash that is good enough for a simulation.

use super::auditor::Verdict;
use crate::gate::draw::{Beacon, Digest, Tree, leaf, order, salt};
use crate::gate::{Gate, Snapshot};
use crate::ids::{ConcertId, Turn, UserId};
use crate::sim::prng::mix;

/// What was published of a draw. It stands, whoever crashes.
#[derive(Clone, Debug)]
pub struct Published {
    pub first: Turn,
    pub upto: Turn,
    pub entrants: Vec<(Turn, UserId)>,
    pub order: Vec<Turn>,
}

impl Published {
    pub fn of(gate: &Gate, first: Turn, upto: Turn, word: u64) -> Self {
        const CONCERT: ConcertId = ConcertId(1);
        let entrants: Vec<(Turn, UserId)> = gate.entrants().collect();
        let seed = hash(&[&word.to_be_bytes()]);
        let leaves = entrants
            .iter()
            .map(|(turn, user)| leaf(hash, CONCERT, *turn, *user, &salt(hash, &seed, CONCERT, *user)));
        let root = Tree::new(hash, leaves.collect()).root();
        let beacon = Beacon { round: word, value: hash(&[&seed, &root]) };
        let count = u32::try_from(entrants.len()).expect("fewer entrants than turns");
        let indexes = order(hash, CONCERT, &seed, &root, Some(&beacon), count);
        let order = indexes.into_iter().map(|index| entrants[index as usize].0).collect();
        Self { first, upto, entrants, order }
    }

    /// Whether this is what the gate means with these bounds. Nobody has a turn that another was published with, unless
    /// the mirror had forgotten everything, and turns began anew.
    pub fn stands(&self, gate: &Gate, first: Turn, upto: Turn) -> bool {
        let another = |(turn, user)| self.entrants.iter().any(|(was, of)| *was == turn && *of != user);
        (self.first, self.upto) == (first, upto) && !gate.entrants().any(another)
    }

    /// Whoever is still in line has the turn that the published order gives.
    pub fn check(&self, snapshot: &Snapshot) -> Verdict {
        for (place, was) in (self.first.0..).zip(&self.order) {
            let entrant = self.entrants.iter().find(|(turn, _)| turn == was).map(|(_, user)| *user);
            let now = snapshot.waiting.iter().find(|(turn, _)| turn.0 == place).map(|(_, user)| *user);
            if now.is_some() && now != entrant {
                return Err(format!("the draw gave turn {place} to {entrant:?}, and {now:?} has it"));
            }
        }
        Ok(())
    }
}

/// Not SHA-256: four lanes of the mixer. Collisions would show, not matter.
fn hash(parts: &[&[u8]]) -> Digest {
    let mut digest = Digest::default();
    for (lane, bytes) in (1u64..).zip(digest.chunks_exact_mut(8)) {
        let mut word = mix(lane);
        for byte in parts.iter().copied().flatten() {
            word = mix(word.rotate_left(5) ^ u64::from(*byte));
        }
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}
