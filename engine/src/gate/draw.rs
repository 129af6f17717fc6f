//! The draw of a presale: an order that neither operator nor entrants can choose, and that anybody can check.
//!
//! 1. When the gate is created its operator publishes the [`commitment`] to a secret seed.
//! 2. At the opening the entrants are settled. Each is a [`leaf`], and the [`Tree`]'s root is published, together
//!    with the number of a round of a public beacon (drand, say) that comes *later*.
//! 3. When that round is out, the seed is revealed, and the [`order`] is a function of seed, root and round.
//!
//! Whoever knows the seed, the operator, does not know the round while entrants can still be invented or left out;
//! whoever could sway the beacon does not know the seed. Without a beacon only the operator's word stands against
//! trying roots until one pleases, and the verdict says [`Trust::Operator`]. What no draw can prove is that entrants
//! are people: who joins under a hundred names has a hundred chances.
//!
//! Leaves are salted, so that the published list does not tell who came: an entrant checks its own with the salt
//! that it alone is told.
//!
//! The tree is that of Certificate Transparency (RFC 9162, 2.1; before it RFC 6962): leaves and nodes are hashed under
//! different prefixes, 0 and 1, so that no node passes for a leaf. Everything else is hashed under a tag that begins
//! with `h`. The shuffle is that of Fisher and Yates (Knuth, "The Art of Computer Programming", 3.4.2, algorithm P) with
//! words of a hash over a counter; a word that would favour small numbers is thrown away. Numbers are big-endian.
//! `docs/draw.md` says the same in a page of Python, with numbers to compare.
//!
//! The engine depends on nothing, so the hash is an argument: whoever calls brings SHA-256.

use crate::ids::{ConcertId, Turn, UserId};

pub use merkle::{Tree, is_included};
pub use verify::{DrawRecord, Fault, Trust, verify};

mod merkle;
mod verify;

pub type Digest = [u8; 32];
pub type Seed = [u8; 32];
pub type Salt = [u8; 16];

/// SHA-256 of the parts, one behind the other.
pub type Sha256 = fn(&[&[u8]]) -> Digest;

/// A round of a public source of randomness. That `value` is what the source said in this round is for its own
/// verifiers to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    pub round: u64,
    pub value: [u8; 32],
}

/// What is published of the seed beforehand.
#[must_use]
pub fn commitment(sha256: Sha256, concert: ConcertId, seed: &Seed) -> Digest {
    sha256(&[b"hotseat-draw-seed-v1", &concert.0.to_be_bytes(), seed])
}

/// The salt of one entrant, from a `key` that is never revealed.
#[must_use]
pub fn salt(sha256: Sha256, key: &Seed, concert: ConcertId, user: UserId) -> Salt {
    let parts: [&[u8]; 4] = [b"hotseat-draw-salt-v1", key, &concert.0.to_be_bytes(), &user.0.to_be_bytes()];
    let mut salt = Salt::default();
    salt.copy_from_slice(&sha256(&parts)[..16]);
    salt
}

/// One entrant, as published.
#[must_use]
pub fn leaf(sha256: Sha256, concert: ConcertId, turn: Turn, user: UserId, salt: &Salt) -> Digest {
    let parts: [&[u8]; 5] =
        [&[merkle::LEAF], &concert.0.to_be_bytes(), &turn.0.to_be_bytes(), &user.0.to_be_bytes(), salt];
    sha256(&parts)
}

/// In which order the entrants are admitted, as indexes into the list of leaves whose root this is.
#[must_use]
pub fn order(
    sha256: Sha256,
    concert: ConcertId,
    seed: &Seed,
    root: &Digest,
    beacon: Option<&Beacon>,
    count: u32,
) -> Vec<u32> {
    let mut public = Vec::new();
    if let Some(beacon) = beacon {
        public.extend(beacon.round.to_be_bytes());
        public.extend(beacon.value);
    }
    let (concert, size) = (concert.0.to_be_bytes(), u64::from(count).to_be_bytes());
    let parts: [&[u8]; 6] = [b"hotseat-draw-order-v1", &concert, seed, root, &size, &public];
    let mut words = Words { sha256, key: sha256(&parts), next_block: 0, block: Digest::default(), used: 4 };
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, words.below(last as u64 + 1));
    }
    order
}

/// Words of SHA-256 over a counter.
struct Words {
    sha256: Sha256,
    key: Digest,
    next_block: u64,
    block: Digest,
    /// Words of the block that were given out.
    used: usize,
}

impl Words {
    fn word(&mut self) -> u64 {
        if self.used == 4 {
            let counter = self.next_block.to_be_bytes();
            self.block = (self.sha256)(&[b"hotseat-draw-block-v1", &self.key, &counter]);
            self.next_block += 1;
            self.used = 0;
        }
        let mut word = [0; 8];
        word.copy_from_slice(&self.block[self.used * 8..][..8]);
        self.used += 1;
        u64::from_be_bytes(word)
    }

    /// `0..bound`, each as likely as the others: words in the last, incomplete stretch of `bound` are passed over.
    #[expect(clippy::cast_possible_truncation, reason = "below a bound that is a length")]
    fn below(&mut self, bound: u64) -> usize {
        // 2^64 mod bound.
        let rest = (u64::MAX % bound + 1) % bound;
        loop {
            let word = self.word();
            if rest == 0 || word < rest.wrapping_neg() {
                return (word % bound) as usize;
            }
        }
    }
}
